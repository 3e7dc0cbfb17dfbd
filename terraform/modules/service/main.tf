# Predictions over HTTP: a Cloud Run service with a service account of its own, whom IAM lets call it. Alone it needs the models' bucket and
# nothing else; with a subscription and a topic it also does a worker's part.

locals {
  port      = 8080
  is_worker = var.request_subscription != null

  settings = merge(
    {
      "models.source"  = var.models_url
      "models.default" = var.default_model
      "http.listen"    = "0.0.0.0:${local.port}"
      # Cloud Run kills 10 seconds after SIGTERM; the last one is for what comes after the drain.
      "shutdown.grace" = "9s"
    },
    !local.is_worker ? {} : {
      "project"               = var.project
      "requests.subscription" = var.request_subscription
      "responses.topic"       = var.response_topic
    },
    var.settings,
  )
  environment = merge(
    { for key, value in local.settings : "PREDICTD_${upper(replace(key, ".", "__"))}" => value if value != "" },
    { PREDICTD_LOG = var.log },
  )
}

resource "google_service_account" "service" {
  project      = var.project
  account_id   = var.name
  display_name = "predictd service ${var.name}"
}

module "grants" {
  source = "../grants"
  count  = local.is_worker ? 1 : 0

  member               = "serviceAccount:${google_service_account.service.email}"
  request_subscription = var.request_subscription
  response_topic       = var.response_topic
  models_url           = var.models_url
}

resource "google_storage_bucket_iam_member" "models" {
  count = local.is_worker ? 0 : 1

  bucket = split("/", trimprefix(var.models_url, "gs://"))[0]
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_service_account.service.email}"
}

resource "google_cloud_run_v2_service" "service" {
  project             = var.project
  location            = var.location
  name                = var.name
  ingress             = var.ingress
  labels              = var.labels
  deletion_protection = var.deletion_protection

  template {
    service_account                  = google_service_account.service.email
    labels                           = var.labels
    max_instance_request_concurrency = var.concurrency
    # Longer than http.timeout, whose error says more.
    timeout = "60s"

    scaling {
      # A worker without an instance would receive nothing.
      min_instance_count = local.is_worker ? max(1, var.min_instances) : var.min_instances
      max_instance_count = var.max_instances
    }

    containers {
      name  = "predictd"
      image = var.image
      args  = [local.is_worker ? "run" : "serve"]

      ports {
        container_port = local.port
      }

      resources {
        limits = { cpu = var.cpu, memory = var.memory }
        # Requests of Pub/Sub, and new versions of models, come while no HTTP request does.
        cpu_idle          = !(local.is_worker || var.cpu_always)
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      # Requests are routed to an instance once it has started.
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 1
        failure_threshold = 120
        http_get {
          path = var.starts_without_models ? "/health" : "/ready"
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
  }

  # A revision that starts before its rights are there would fail its first calls.
  depends_on = [module.grants, google_storage_bucket_iam_member.models]
}

# Without any of them nobody may call: Cloud Run itself asks for a Google identity.
resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = toset(var.invokers)

  project  = var.project
  location = var.location
  name     = google_cloud_run_v2_service.service.name
  role     = "roles/run.invoker"
  member   = each.value
}
