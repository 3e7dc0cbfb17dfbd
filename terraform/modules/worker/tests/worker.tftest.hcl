# Against a mocked provider: configuration, grants, probes and limits of the pool, and refused values.

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = { email = "predictd@my-project.iam.gserviceaccount.com", name = "projects/my-project/serviceAccounts/predictd@my-project.iam.gserviceaccount.com" }
  }
}

variables {
  project              = "my-project"
  location             = "europe-west1"
  image                = "europe-west1-docker.pkg.dev/my-project/images/predictd:0.1.0"
  request_subscription = "projects/my-project/subscriptions/prediction-requests"
  response_topic       = "projects/my-project/topics/prediction-responses"
  models_url           = "gs://my-models/models"
}

run "defaults" {
  assert {
    condition = {
      for env in google_cloud_run_v2_worker_pool.worker.template[0].containers[0].env : env.name => env.value
      } == {
      PREDICTD_PROJECT                = "my-project"
      PREDICTD_REQUESTS__SUBSCRIPTION = "projects/my-project/subscriptions/prediction-requests"
      PREDICTD_RESPONSES__TOPIC       = "projects/my-project/topics/prediction-responses"
      PREDICTD_MODELS__SOURCE         = "gs://my-models/models"
      PREDICTD_HTTP__LISTEN           = "0.0.0.0:8080"
      PREDICTD_SHUTDOWN__GRACE        = "9s"
      PREDICTD_LOG                    = "info,ort=warn"
    }
    error_message = "the environment must be exactly the configuration"
  }
  assert {
    condition = yamldecode(output.config) == {
      project   = "my-project"
      requests  = { subscription = "projects/my-project/subscriptions/prediction-requests" }
      responses = { topic = "projects/my-project/topics/prediction-responses" }
      models    = { source = "gs://my-models/models" }
      http      = { listen = "0.0.0.0:8080" }
      shutdown  = { grace = "9s" }
    }
    error_message = "the YAML must say the same as the environment"
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.worker.deletion_protection && google_cloud_run_v2_worker_pool.worker.scaling[0].manual_instance_count == 1
    error_message = "one instance, protected"
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.worker.template[0].containers[0].startup_probe[0].http_get[0].path == "/health" && google_cloud_run_v2_worker_pool.worker.template[0].containers[0].liveness_probe[0].http_get[0].port == 8080
    error_message = "both probes must ask the port that predictd listens on"
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.worker.template[0].containers[0].resources[0].limits == tomap({ cpu = "2", memory = "2Gi" }) && length(google_cloud_run_v2_worker_pool.worker.template[0].node_selector) == 0
    error_message = "no GPU unless asked for"
  }
  assert {
    condition     = length(module.grants.grants) == 4 && length(google_project_iam_member.metrics) == 0
    error_message = "the worker needs four grants, none on the project"
  }
  assert {
    condition     = length(google_cloud_run_v2_worker_pool.worker.template[0].containers) == 1
    error_message = "no sidecar unless asked for"
  }
}

run "everything_on" {
  variables {
    gpu                  = "nvidia-l4"
    cpu                  = "8"
    memory               = "32Gi"
    updates_subscription = "projects/other/subscriptions/model-updates"
    input_buckets        = ["inputs/photos", "inputs/scans", "my-models/samples", "more"]
    results_bucket       = "results/predictions"
    default_model        = "007"
    batch = {
      subscription   = "projects/other/subscriptions/prediction-batches"
      topic          = "projects/other/topics/prediction-batches"
      input_buckets  = ["tables/daily", "results/predictions"]
      output_buckets = ["results/predictions", "batches"]
    }
    settings = {
      "batching.max_rows" = "256", "shutdown.grace" = "5s", "responses.inline_limit" = "0", "models.cache" = "/tmp/models",
      "models.cache_size" = "2GiB", "inference.threads" = "2", "models.poll_interval" = "1m30s"
    }
    otel                = { OTEL_EXPORTER_OTLP_ENDPOINT = "http://collector:4317", OTEL_EXPORTER_OTLP_PROTOCOL = "grpc", OTEL_EXPORTER_OTLP_COMPRESSION = "gzip" }
    instances           = null
    metrics_sidecar     = "example.com/collector:1"
    deletion_protection = false
  }

  assert {
    condition = yamldecode(output.config) == {
      project   = "my-project"
      requests  = { subscription = "projects/my-project/subscriptions/prediction-requests", allowed_buckets = ["inputs/photos", "inputs/scans", "my-models/samples", "more"] }
      responses = { topic = "projects/my-project/topics/prediction-responses", bucket = "gs://results/predictions", inline_limit = 0 }
      models    = { source = "gs://my-models/models", updates = "projects/other/subscriptions/model-updates", default = "007", cache = "/tmp/models", cache_size = "2GiB", poll_interval = "1m30s" }
      batching  = { max_rows = 256 }
      inference = { providers = ["cuda", "cpu"], threads = 2 }
      http      = { listen = "0.0.0.0:8080" }
      files     = { subscription = "projects/other/subscriptions/prediction-batches", allowed_buckets = ["tables/daily", "results/predictions", "batches"] }
      shutdown  = { grace = "5s" }
    }
    error_message = "every setting must reach the configuration"
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.worker.template[0].node_selector[0].accelerator == "nvidia-l4" && google_cloud_run_v2_worker_pool.worker.template[0].containers[0].resources[0].limits["nvidia.com/gpu"] == "1"
    error_message = "a GPU is a node selector and a limit"
  }
  assert {
    condition = length(setsubtract([
      "roles/pubsub.subscriber on projects/other/subscriptions/model-updates", "roles/storage.objectViewer on gs://inputs",
      "roles/storage.objectViewer on gs://more", "roles/storage.objectUser on gs://results",
      "roles/pubsub.subscriber on projects/other/subscriptions/prediction-batches", "roles/pubsub.publisher on projects/other/topics/prediction-batches",
      "roles/storage.objectViewer on gs://tables", "roles/storage.objectUser on gs://batches",
    ], module.grants.grants)) == 0
    error_message = "notifications, inputs, results and batches need grants of their own"
  }
  assert {
    condition = {
      for env in google_cloud_run_v2_worker_pool.worker.template[0].containers[0].env : env.name => env.value if startswith(env.name, "OTEL_")
    } == { OTEL_EXPORTER_OTLP_ENDPOINT = "http://collector:4317", OTEL_EXPORTER_OTLP_PROTOCOL = "grpc", OTEL_EXPORTER_OTLP_COMPRESSION = "gzip" }
    error_message = "OpenTelemetry's variables must reach the worker"
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.worker.template[0].containers[1].image == "example.com/collector:1" && google_project_iam_member.metrics[0].role == "roles/monitoring.metricWriter"
    error_message = "the sidecar needs the right to write metrics"
  }
  assert {
    condition     = !google_cloud_run_v2_worker_pool.worker.deletion_protection
    error_message = "protection can be turned off"
  }
}

run "wrong_values" {
  command = plan
  variables {
    location             = "europe-west1-b"
    name                 = "Predictd"
    image                = "predictd:latest"
    request_subscription = "prediction-requests"
    response_topic       = "prediction-responses"
    models_url           = "my-models"
    updates_subscription = "model-updates"
    input_buckets        = ["gs://inputs"]
    results_bucket       = "gs://results"
    otel                 = { OTEL_EXPORTER_OTLP_ENDPOINT = "collector:4318" }
    instances            = -1
    cpu                  = "3"
  }
  expect_failures = [
    var.location, var.name, var.image, var.request_subscription, var.response_topic, var.models_url, var.updates_subscription,
    var.input_buckets, var.results_bucket, var.otel, var.instances, var.cpu,
  ]
}

run "batches_without_full_names" {
  command = plan
  variables {
    batch = { subscription = "prediction-batches", topic = "prediction-batches", output_buckets = ["results"] }
  }
  expect_failures = [var.batch]
}

run "batches_that_are_written_nowhere" {
  command = plan
  variables {
    batch = { subscription = "projects/p/subscriptions/s", topic = "projects/p/topics/t", input_buckets = ["tables"], output_buckets = [] }
  }
  expect_failures = [var.batch]
}

run "batches_of_an_address" {
  command = plan
  variables {
    batch = { subscription = "projects/p/subscriptions/s", topic = "projects/p/topics/t", output_buckets = ["gs://results"] }
  }
  expect_failures = [var.batch]
}

run "batches_are_not_requests" {
  command = plan
  variables {
    batch = { subscription = "projects/my-project/subscriptions/prediction-requests", topic = "projects/p/topics/t", output_buckets = ["results"] }
  }
  expect_failures = [var.batch]
}

run "memory_in_another_unit" {
  command = plan
  variables {
    memory = "1GB"
  }
  expect_failures = [var.memory]
}

run "more_memory_than_the_processors_may_have" {
  command = plan
  variables {
    cpu    = "2"
    memory = "16Gi"
  }
  expect_failures = [var.memory]
}

run "less_memory_than_the_processors_must_have" {
  command = plan
  variables {
    cpu    = "6"
    memory = "4000Mi"
  }
  expect_failures = [var.memory]
}

run "the_most_memory" {
  command = plan
  variables {
    cpu    = "1"
    memory = "4096Mi"
  }
}

run "a_drain_that_cloud_run_would_cut_short" {
  command = plan
  variables {
    settings = { "shutdown.grace" = "0m9s1000ms" }
  }
  expect_failures = [var.settings]
}

run "no_drain" {
  command = plan
  variables {
    settings = { "shutdown.grace" = "0" }
  }
}

run "an_image_without_a_tag" {
  command = plan
  variables {
    image = "europe-west1-docker.pkg.dev/my-project/images/predictd"
  }
  expect_failures = [var.image]
}

run "an_image_by_its_digest" {
  command = plan
  variables {
    image = "europe-west1-docker.pkg.dev/my-project/images/predictd@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
}

run "a_gpu_needs_a_large_instance" {
  command = plan
  variables {
    gpu = "nvidia-l4"
  }
  expect_failures = [var.gpu]
}

run "a_setting_that_has_a_variable_of_its_own" {
  command = plan
  variables {
    settings = { "http.listen" = "0.0.0.0:1" }
  }
  expect_failures = [var.settings]
}

run "a_mistyped_setting" {
  command = plan
  variables {
    settings = { max_rows = "256" }
  }
  expect_failures = [var.settings]
}

run "a_value_of_the_wrong_form" {
  command = plan
  variables {
    settings = { "models.cache_size" = "10 gigabytes" }
  }
  expect_failures = [var.settings]
}

run "a_limit_without_a_bucket" {
  command = plan
  variables {
    settings = { "responses.inline_limit" = "1MiB" }
  }
  expect_failures = [var.settings]
}

run "a_variable_that_predictd_does_not_follow" {
  command = plan
  variables {
    otel = { OTEL_LOGS_EXPORTER = "otlp" }
  }
  expect_failures = [var.otel]
}

run "a_protocol_that_predictd_does_not_speak" {
  command = plan
  variables {
    otel = { OTEL_EXPORTER_OTLP_ENDPOINT = "http://collector:4318", OTEL_EXPORTER_OTLP_TRACES_PROTOCOL = "http/json" }
  }
  expect_failures = [var.otel]
}
