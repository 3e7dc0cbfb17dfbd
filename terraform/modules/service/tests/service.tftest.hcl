# Against a mocked provider: HTTP alone, a worker's part besides, who may call, and refused values.

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = { email = "predictd-http@my-project.iam.gserviceaccount.com", name = "projects/my-project/serviceAccounts/predictd-http@my-project.iam.gserviceaccount.com" }
  }
  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://predictd-http-abc.a.run.app" }
  }
}

variables {
  project    = "my-project"
  location   = "europe-west1"
  image      = "europe-west1-docker.pkg.dev/my-project/images/predictd:0.1.0"
  models_url = "gs://my-models/models"
}

run "http_alone" {
  assert {
    condition = {
      for env in google_cloud_run_v2_service.service.template[0].containers[0].env : env.name => env.value
      } == {
      PREDICTD_MODELS__SOURCE  = "gs://my-models/models"
      PREDICTD_HTTP__LISTEN    = "0.0.0.0:8080"
      PREDICTD_SHUTDOWN__GRACE = "9s"
      PREDICTD_LOG             = "info,ort=warn"
    }
    error_message = "nothing of Pub/Sub where nothing is received"
  }
  assert {
    condition     = google_cloud_run_v2_service.service.template[0].containers[0].args == tolist(["serve"]) && google_cloud_run_v2_service.service.template[0].containers[0].resources[0].cpu_idle
    error_message = "`serve`, paid for by request"
  }
  assert {
    condition     = google_cloud_run_v2_service.service.template[0].containers[0].startup_probe[0].http_get[0].path == "/ready" && google_cloud_run_v2_service.service.template[0].containers[0].ports[0].container_port == 8080
    error_message = "no request may reach an instance without a model"
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.invoker) == 0 && google_cloud_run_v2_service.service.deletion_protection
    error_message = "nobody may call unless told so"
  }
  assert {
    condition     = google_storage_bucket_iam_member.models[0].bucket == "my-models" && google_storage_bucket_iam_member.models[0].role == "roles/storage.objectViewer" && length(module.grants) == 0
    error_message = "the right to read the models, and no other"
  }
  assert {
    condition     = output.url == "https://predictd-http-abc.a.run.app" && strcontains(output.ask_command, "${output.url}/predict")
    error_message = "what to paste"
  }
}

run "both" {
  variables {
    request_subscription  = "projects/my-project/subscriptions/prediction-requests"
    response_topic        = "projects/other/topics/prediction-responses"
    min_instances         = 0
    invokers              = ["serviceAccount:caller@other.iam.gserviceaccount.com", "group:team@example.com"]
    settings              = { "http.timeout" = "5s", "batching.max_rows" = "256" }
    starts_without_models = true
  }
  assert {
    condition     = google_cloud_run_v2_service.service.template[0].containers[0].args == tolist(["run"]) && !google_cloud_run_v2_service.service.template[0].containers[0].resources[0].cpu_idle
    error_message = "Pub/Sub's requests come while no HTTP request does"
  }
  assert {
    condition     = google_cloud_run_v2_service.service.template[0].scaling[0].min_instance_count == 1
    error_message = "without an instance nothing is received"
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.invoker) == 2 && google_cloud_run_v2_service_iam_member.invoker["group:team@example.com"].role == "roles/run.invoker"
    error_message = "callers, those of other projects too"
  }
  assert {
    condition     = contains(module.grants[0].grants, "roles/pubsub.publisher on projects/other/topics/prediction-responses") && length(google_storage_bucket_iam_member.models) == 0
    error_message = "a worker's grants"
  }
  assert {
    condition = length(setsubtract(["PREDICTD_HTTP__TIMEOUT=5s", "PREDICTD_BATCHING__MAX_ROWS=256", "PREDICTD_PROJECT=my-project"], [
      for env in google_cloud_run_v2_service.service.template[0].containers[0].env : "${env.name}=${env.value}"
    ])) == 0
    error_message = "settings must reach the service"
  }
  assert {
    condition     = google_cloud_run_v2_service.service.template[0].containers[0].startup_probe[0].http_get[0].path == "/health"
    error_message = "a first apply may come before the first model"
  }
}

run "wrong_values" {
  command = plan
  variables {
    location       = "europe-west1-b"
    image          = "predictd:latest"
    models_url     = "my-models"
    response_topic = "projects/p/topics/t"
    invokers       = ["caller@example.com"]
    ingress        = "all"
    settings       = { "http.listen" = "0.0.0.0:1" }
    concurrency    = 2000
    max_instances  = 0
    cpu            = "3"
  }
  expect_failures = [
    var.location, var.image, var.models_url, var.response_topic, var.invokers, var.ingress, var.settings, var.concurrency, var.max_instances, var.cpu,
  ]
}

run "a_mistyped_setting" {
  command = plan
  variables {
    settings = { timeout = "5s" }
  }
  expect_failures = [var.settings]
}
