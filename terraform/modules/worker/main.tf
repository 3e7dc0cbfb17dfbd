# The worker: a service account of its own, grants on exactly the resources that it uses, and a Cloud Run worker pool.
# Owns no topic, subscription or bucket; it is told which.
#
# terraform/README.md lists every call that predictd makes beside the grant here that covers it.

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
    var.gpu == null ? {} : { "inference.providers" = "cuda,cpu" },
    var.settings,
  )
  given    = { for key, value in local.settings : key => value if value != "" }
  lists    = ["requests.allowed_buckets", "inference.providers"]
  sections = toset([for key, _ in local.given : split(".", key)[0] if key != "project"])
  config = merge({ project = var.project }, {
    for section in local.sections : section => merge(
      { for key, value in local.given : split(".", key)[1] => try(tonumber(value), value) if startswith(key, "${section}.") && !contains(local.lists, key) },
      { for key, value in local.given : split(".", key)[1] => split(",", value) if startswith(key, "${section}.") && contains(local.lists, key) },
    )
  })

  environment = merge(
    { for key, value in local.given : "PREDICTD_${upper(replace(key, ".", "__"))}" => value },
    { PREDICTD_LOG = var.log },
  )
}

resource "google_service_account" "worker" {
  project      = var.project
  account_id   = var.name
  display_name = "predictd worker ${var.name}"
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
  depends_on = [
    google_pubsub_subscription_iam_member.requests,
    google_pubsub_topic_iam_member.responses,
    google_storage_bucket_iam_member.models,
  ]
}
