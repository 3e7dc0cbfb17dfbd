# The worker: a service account of its own, grants on exactly the resources that it uses (the grants module), and a Cloud Run
# worker pool. Owns no topic, subscription or bucket; it is told which.

locals {
  port = 8080

  # predictd's configuration by key. The pool gets it as environment, the output as YAML: one source, so both agree.
  settings = merge(
    {
      "project"               = var.project
      "requests.subscription" = var.request_subscription
      "responses.topic"       = var.response_topic
      "models.source"         = var.models_url
      "models.updates"        = var.updates_subscription == null ? "" : var.updates_subscription
      "models.default"        = var.default_model
      "http.listen"           = "0.0.0.0:${local.port}"
      # Cloud Run kills 10 seconds after SIGTERM; the last one is for what comes after the drain.
      "shutdown.grace" = "9s"
    },
    length(var.input_buckets) == 0 ? {} : { "requests.allowed_buckets" = join(",", var.input_buckets) },
    var.results_bucket == null ? {} : { "responses.bucket" = "gs://${var.results_bucket}" },
    var.batch == null ? {} : {
      "files.subscription"    = var.batch.subscription
      "files.allowed_buckets" = join(",", distinct(concat(var.batch.input_buckets, var.batch.output_buckets)))
    },
    var.gpu == null ? {} : { "inference.providers" = "cuda,cpu" },
    var.settings,
  )
  given = { for key, value in local.settings : key => value if value != "" }
  # Only what is a number or a size: a model may be called 007.
  numbers  = { for key, value in local.given : key => tonumber(value) if contains([local.count, local.size], lookup(local.setting_forms, key, "")) && can(tonumber(value)) }
  lists    = ["requests.allowed_buckets", "inference.providers", "files.allowed_buckets"]
  sections = toset([for key, _ in local.given : split(".", key)[0] if key != "project"])
  config = merge({ project = var.project }, {
    for section in local.sections : section => merge(
      { for key, value in local.given : split(".", key)[1] => value if startswith(key, "${section}.") && !contains(concat(local.lists, keys(local.numbers)), key) },
      { for key, value in local.numbers : split(".", key)[1] => value if startswith(key, "${section}.") },
      { for key, value in local.given : split(".", key)[1] => split(",", value) if startswith(key, "${section}.") && contains(local.lists, key) },
    )
  })

  environment = merge(
    { for key, value in local.given : "PREDICTD_${upper(replace(key, ".", "__"))}" => value },
    { PREDICTD_LOG = var.log },
    var.otel,
  )
}

resource "google_service_account" "worker" {
  project      = var.project
  account_id   = var.name
  display_name = "predictd worker ${var.name}"
}

module "grants" {
  source = "../grants"

  member               = "serviceAccount:${google_service_account.worker.email}"
  request_subscription = var.request_subscription
  response_topic       = var.response_topic
  models_url           = var.models_url
  updates_subscription = var.updates_subscription
  input_buckets        = var.input_buckets
  results_bucket       = var.results_bucket
  batch                = var.batch
}

# The one right on the whole project: it exists for projects alone, and comes with the sidecar.
resource "google_project_iam_member" "metrics" {
  count = var.metrics_sidecar == null ? 0 : 1

  project = var.project
  role    = "roles/monitoring.metricWriter"
  member  = "serviceAccount:${google_service_account.worker.email}"
}

resource "google_cloud_run_v2_worker_pool" "worker" {
  project             = var.project
  location            = var.location
  name                = var.name
  labels              = var.labels
  deletion_protection = var.deletion_protection

  # Without this block Terraform leaves the count as it is, to whoever scales the pool.
  dynamic "scaling" {
    for_each = var.instances == null ? [] : [var.instances]
    content {
      scaling_mode          = "MANUAL"
      manual_instance_count = scaling.value
    }
  }

  template {
    service_account               = google_service_account.worker.email
    labels                        = var.labels
    gpu_zonal_redundancy_disabled = var.gpu == null ? null : true

    dynamic "node_selector" {
      for_each = var.gpu == null ? [] : [var.gpu]
      content {
        accelerator = node_selector.value
      }
    }

    containers {
      name  = "predictd"
      image = var.image
      args  = ["run"]

      resources {
        limits = merge(
          { cpu = var.cpu, memory = var.memory },
          var.gpu == null ? {} : { "nvidia.com/gpu" = "1" },
        )
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      # Alive, not ready: a project whose bucket is still empty must start, and waiting for a first model is no fault.
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 1
        failure_threshold = 60
        http_get {
          path = "/health"
          port = local.port
        }
      }

      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/health"
          port = local.port
        }
      }
    }

    dynamic "containers" {
      for_each = var.metrics_sidecar == null ? [] : [var.metrics_sidecar]
      content {
        name       = "metrics"
        image      = containers.value
        depends_on = ["predictd"]
      }
    }
  }

  # A revision that starts before its rights are there would fail its first calls.
  depends_on = [module.grants]
}
