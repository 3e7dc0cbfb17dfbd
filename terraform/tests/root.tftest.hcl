# Against a mocked provider: how the parts are connected, and the examples.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  mock_data "google_storage_project_service_account" {
    defaults = { email_address = "service-1@gs-project-accounts.iam.gserviceaccount.com" }
  }
  mock_resource "google_service_account" {
    defaults = { email = "predictd@my-project.iam.gserviceaccount.com", name = "projects/my-project/serviceAccounts/predictd@my-project.iam.gserviceaccount.com" }
  }
  mock_resource "google_parameter_manager_parameter" {
    defaults = { id = "projects/my-project/locations/global/parameters/predictd-autoscaler" }
  }
}

variables {
  project        = "my-project"
  image          = "europe-west1-docker.pkg.dev/my-project/images/predictd:0.1.0"
  kms_key        = null
  email          = "team@example.com"
  request_topic  = "projects/other/topics/in"
  response_topic = "projects/other/topics/out"
}

run "defaults" {
  assert {
    condition = yamldecode(output.config) == {
      project   = "my-project"
      requests  = { subscription = module.messaging.request_subscription }
      responses = { topic = module.messaging.response_topic }
      models    = { source = "gs://my-project-predictd-models/models", updates = module.models.updates_subscription }
      http      = { listen = "0.0.0.0:8080" }
      shutdown  = { grace = "9s" }
    }
    error_message = "the worker must be told of what the other modules made"
  }
  assert {
    condition     = length(module.batch) == 0 && output.batch_topic == null && output.batch_command == null
    error_message = "no batches unless asked for"
  }
  assert {
    condition     = length(module.autoscaling) == 0 && length(module.observability) == 1 && !contains(keys(google_project_service.api), "parametermanager.googleapis.com")
    error_message = "alerts by default, autoscaling only when asked for"
  }
  assert {
    condition     = toset(keys(module.observability[0].alerts)) == toset(["backlog", "dead-letters", "ends", "not-serving", "reload", "unfinished"])
    error_message = "without the sidecar no alert may rest on predictd's own metrics"
  }
  assert {
    condition     = alltrue([for api in ["cloudresourcemanager", "cloudbilling", "run"] : contains(keys(google_project_service.api), "${api}.googleapis.com")])
    error_message = "the provider's own look-ups need their APIs too"
  }
  assert {
    condition     = output.upload_command == "predictd push ./my-model gs://my-project-predictd-models/models/my-model/1"
    error_message = "what people paste next"
  }
}

run "autoscaling_alone" {
  variables {
    autoscaling   = { max_instances = 3, scale_down_delay_seconds = 60 }
    observability = false
    enable_apis   = false
    ordering      = true
  }

  assert {
    condition     = yamldecode(module.autoscaling[0].config).spec.scaledObjects[0].spec.maxReplicaCount == 3
    error_message = "the bounds must reach the autoscaler"
  }
  assert {
    condition     = yamldecode(module.autoscaling[0].config).spec.scaledObjects[0].spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds == 60 && yamldecode(module.autoscaling[0].config).spec.pollingInterval == 30
    error_message = "its delays too, and what is not given is the module's own"
  }
  assert {
    condition     = length(google_project_service.api) == 0 && output.dashboard_url == null
    error_message = "APIs and alerts can be left alone"
  }
  assert {
    condition     = yamldecode(output.config).inference.threads == 1
    error_message = "order needs one inference thread"
  }
}

run "a_second_one_in_the_project" {
  variables {
    name           = "second"
    requests_name  = "second-requests"
    responses_name = "second-responses"
    updates_name   = "second-updates"
    kms_key        = "projects/my-project/locations/europe-west1/keyRings/r/cryptoKeys/k"
  }
  assert {
    condition     = module.models.updates_topic == "projects/my-project/topics/second-updates" && module.models.updates_subscription == "projects/my-project/subscriptions/second-updates"
    error_message = "every topic and subscription must be able to have a name of its own"
  }
  assert {
    condition     = module.messaging.kms_key == var.kms_key
    error_message = "the notifications' topic must get the key once Pub/Sub may use it"
  }
}

run "wrong_values" {
  command = plan
  variables {
    project = "Predictd!"
    name    = "a-name-that-is-too-long"
  }
  expect_failures = [var.project, var.name]
}

run "utilisation_without_its_metrics" {
  command = plan
  variables {
    autoscaling = { target_utilisation = 0.7 }
  }
  expect_failures = [var.autoscaling]
}

run "example_minimal" {
  providers = { google = google }
  module {
    source = "./examples/minimal"
  }
  variables {
    location = "us-central1"
  }
  assert {
    condition     = length(output.next) == 3
    error_message = "upload, publish, pull"
  }
  assert {
    condition     = module.predictd.location == "us-central1" && yamldecode(output.config).project == "my-project"
    error_message = "the region must be the given one"
  }
  assert {
    condition     = startswith(output.logs_command, "gcloud ") && startswith(output.dead_letter_command, "gcloud ") && startswith(output.dashboard_url, "https://")
    error_message = "what ALERTS.md tells to paste"
  }
}

run "batches" {
  variables {
    autoscaling = { min_instances = 0, shards_per_instance = 2 }
    kms_key     = "projects/my-project/locations/europe-west1/keyRings/r/cryptoKeys/k"
    batch = {
      input_buckets  = ["my-tables/in"]
      output_buckets = ["my-predictions"]
      notifications  = { daily = { bucket = "my-tables", prefix = "in/daily/", model = "wine", output = "gs://my-predictions/daily" } }
    }
  }
  assert {
    condition     = yamldecode(output.config).files == { subscription = "projects/my-project/subscriptions/prediction-batches", allowed_buckets = ["my-tables/in", "my-predictions"] }
    error_message = "the worker must be told of its batches"
  }
  assert {
    condition     = contains(keys(module.observability[0].alerts), "batch-dead-letters") && [for trigger in yamldecode(module.autoscaling[0].config).spec.scaledObjects[0].spec.triggers : trigger.metadata.threshold] == ["10000", "2"]
    error_message = "alerts and autoscaling must look at them"
  }
  assert {
    condition     = output.batch_topic == "projects/my-project/topics/prediction-batches" && strcontains(output.batch_command, output.batch_topic) && strcontains(output.batch_dead_letter_command, "prediction-batches-dead-letters")
    error_message = "what people paste next"
  }
}

run "a_notification_of_a_bucket_that_no_job_may_read" {
  command = plan
  variables {
    batch = {
      input_buckets  = ["my-tables/in"]
      output_buckets = ["my-predictions"]
      notifications  = { daily = { bucket = "my-tables", prefix = "inner/", model = "wine", output = "gs://my-predictions/daily" } }
    }
  }
  expect_failures = [var.batch]
}

run "a_notification_to_a_bucket_that_no_job_may_write" {
  command = plan
  variables {
    batch = {
      input_buckets  = ["my-tables"]
      output_buckets = ["my-predictions/daily"]
      notifications  = { daily = { bucket = "my-tables", model = "wine", output = "gs://my-predictions/weekly" } }
    }
  }
  expect_failures = [var.batch]
}

run "over_http_too" {
  variables {
    service = { invokers = ["serviceAccount:caller@other.iam.gserviceaccount.com"] }
  }
  assert {
    condition     = output.service_url != null && length(module.service) == 1 && strcontains(output.ask_command, "/predict")
    error_message = "a service beside the workers"
  }
}

run "example_vertex_ai" {
  providers = { google = google }
  variables {
    model = "gs://my-models/models/wine/2"
  }
  module {
    source = "./examples/vertex-ai"
  }
  assert {
    condition     = strcontains(output.next[0], "--container-args=serve") && strcontains(output.next[0], "--artifact-uri=gs://my-models/models/wine/2")
    error_message = "what uploads the model"
  }
}

run "example_regions" {
  providers = { google = google }
  variables {
    callers = ["serviceAccount:app@other.iam.gserviceaccount.com"]
  }
  module {
    source = "./examples/regions"
  }
  assert {
    condition     = toset(keys(output.urls)) == toset(["eu", "us"]) && length(google_pubsub_topic_iam_member.publisher) == 2 && length(google_pubsub_subscription_iam_member.consumer) == 2
    error_message = "everything once a region, and each caller's rights there"
  }
}

run "example_gpu" {
  providers = { google = google }
  module {
    source = "./examples/gpu"
  }
  assert {
    condition     = yamldecode(output.config).inference.providers == ["cuda", "cpu"]
    error_message = "a GPU worker must ask for CUDA first"
  }
}

run "example_existing_topics" {
  providers = { google = google }
  module {
    source = "./examples/existing-topics"
  }
  assert {
    condition     = output.service_account == "predictd@my-project.iam.gserviceaccount.com"
    error_message = "whom to grant the rights on the topics"
  }
}

run "example_complete" {
  providers = { google = google }
  variables {
    kms_key = "projects/my-project/locations/europe-west1/keyRings/r/cryptoKeys/k"
  }
  module {
    source = "./examples/complete"
  }
  assert {
    condition     = yamldecode(output.config).batching.max_rows == 256 && yamldecode(output.config).requests.allowed_buckets == ["my-project-inputs/photos"] && yamldecode(output.config).responses.bucket == "gs://my-project-results/predictions" && yamldecode(output.config).files.allowed_buckets == ["my-project-tables", "my-project-predictions/batches"]
    error_message = "the example's settings must reach the configuration"
  }
}
