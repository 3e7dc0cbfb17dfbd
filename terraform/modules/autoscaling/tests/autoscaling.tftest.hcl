# Against a mocked provider: what CREMA is told, what it may do, and refused values.

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = { email = "predictd-autoscaler@my-project.iam.gserviceaccount.com" }
  }
  mock_resource "google_parameter_manager_parameter" {
    defaults = { id = "projects/my-project/locations/global/parameters/predictd-autoscaler" }
  }
}

variables {
  project                = "my-project"
  worker_pool            = "projects/my-project/locations/europe-west1/workerPools/predictd"
  worker_service_account = "projects/my-project/serviceAccounts/predictd@my-project.iam.gserviceaccount.com"
  request_subscription   = "projects/queues/subscriptions/prediction-requests"
}

run "defaults" {
  assert {
    condition     = yamldecode(output.config).spec.scaledObjects[0].spec.scaleTargetRef.name == var.worker_pool && yamldecode(output.config).spec.scaledObjects[0].spec.minReplicaCount == 1 && yamldecode(output.config).spec.scaledObjects[0].spec.maxReplicaCount == 10
    error_message = "the pool and its bounds"
  }
  assert {
    condition     = strcontains(yamldecode(output.config).spec.scaledObjects[0].spec.triggers[0].metadata.query, "subscription_id=\"prediction-requests\"") && strcontains(yamldecode(output.config).spec.scaledObjects[0].spec.triggers[0].metadata.serverAddress, "/projects/queues/")
    error_message = "the backlog is asked of the subscription's own project"
  }
  assert {
    condition     = yamldecode(output.config).spec.scaledObjects[0].spec.triggers[0].metadata.threshold == "10000" && length(yamldecode(output.config).spec.scaledObjects[0].spec.triggers) == 1
    error_message = "scalers take their numbers as text; the backlog alone decides"
  }
  assert {
    condition     = google_cloud_run_v2_service.autoscaler.scaling[0].manual_instance_count == 1 && google_cloud_run_v2_service.autoscaler.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" && !google_cloud_run_v2_service.autoscaler.template[0].containers[0].resources[0].cpu_idle
    error_message = "exactly one, always at work, reached by nobody"
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool_iam_member.scale.name == "predictd" && google_service_account_iam_member.act_as_worker.service_account_id == var.worker_service_account
    error_message = "it may change this pool and act as this worker"
  }
  assert {
    condition     = google_project_iam_member.autoscaler["roles/monitoring.viewer"].project == "queues" && google_project_iam_member.autoscaler["roles/parametermanager.parameterViewer"].project == "my-project" && length(google_project_iam_member.autoscaler) == 2
    error_message = "it reads metrics where the subscription is, and its configuration here"
  }
  assert {
    condition     = google_parameter_manager_parameter_version.config.parameter_data == output.config
    error_message = "the stored configuration is the shown one"
  }
}

run "utilisation" {
  variables {
    target_utilisation = 0.7
  }
  assert {
    condition     = [for trigger in yamldecode(output.config).spec.scaledObjects[0].spec.triggers : trigger.metadata.threshold] == ["10000", "0.7"]
    error_message = "the backlog and the utilisation, as text"
  }
  assert {
    condition     = yamldecode(output.config).spec.scaledObjects[0].spec.triggers[1].metadata.query == "sum(predictd_utilisation{namespace=~\"predictd|\"})" && strcontains(yamldecode(output.config).spec.scaledObjects[0].spec.triggers[1].metadata.serverAddress, "/my-project/")
    error_message = "the metrics of this pool, where the pool is"
  }
  assert {
    condition     = google_project_iam_member.autoscaler["roles/monitoring.viewer"].project == "queues" && google_project_iam_member.own_metrics[0].project == "my-project"
    error_message = "it reads the backlog where the subscription is, and the metrics where the pool is"
  }
}

run "batches" {
  variables {
    batch_subscription  = "projects/queues/subscriptions/prediction-batches"
    shards_per_instance = 8
    min_instances       = 0
  }
  assert {
    condition     = [for trigger in yamldecode(output.config).spec.scaledObjects[0].spec.triggers : [trigger.name, trigger.metadata.threshold]] == [["requests-waiting", "10000"], ["shards-waiting", "8"]]
    error_message = "requests and shards"
  }
  assert {
    condition     = strcontains(yamldecode(output.config).spec.scaledObjects[0].spec.triggers[1].metadata.query, "num_undelivered_messages{monitored_resource=\"pubsub_subscription\", subscription_id=\"prediction-batches\"}")
    error_message = "the backlog of the batches"
  }
}

run "batches_of_another_project" {
  command = plan
  variables {
    batch_subscription  = "projects/other/subscriptions/prediction-batches"
    shards_per_instance = 0
  }
  expect_failures = [var.batch_subscription, var.shards_per_instance]
}

run "wrong_values" {
  command = plan
  variables {
    name                     = "x"
    worker_pool              = "predictd"
    worker_service_account   = "predictd@my-project.iam.gserviceaccount.com"
    request_subscription     = "prediction-requests"
    min_instances            = -1
    requests_per_instance    = 0
    target_utilisation       = 1.5
    polling_interval_seconds = 1
    scale_down_delay_seconds = 7200
    base_image               = "java25"
  }
  expect_failures = [
    var.name, var.worker_pool, var.worker_service_account, var.request_subscription, var.min_instances, var.requests_per_instance, var.target_utilisation,
    var.polling_interval_seconds, var.scale_down_delay_seconds, var.base_image,
  ]
}

run "bounds_that_cross" {
  command = plan
  variables {
    min_instances = 5
    max_instances = 4
  }
  expect_failures = [var.max_instances]
}
