# Everything that can be turned on: own keys, a schema, ordered requests, batches over files, autoscaling, predictd's own metrics, alerts by e-mail.

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "image" {
  description = "Container image of predictd."
  type        = string
}

variable "kms_key" {
  description = "Full name of the Cloud KMS key, in europe-west1."
  type        = string
}

variable "email" {
  description = "Who is called."
  type        = string
}

module "predictd" {
  source = "../.."

  project  = var.project
  image    = var.image
  location = "europe-west1"
  name     = "wine-predictd"
  labels   = { team = "cellar" }

  # Every request is {"instances": [[…], …]}; anything else is refused where it is published.
  schema = {
    type = "AVRO"
    definition = jsonencode({
      type   = "record"
      name   = "Request"
      fields = [{ name = "instances", type = { type = "array", items = { type = "array", items = "double" } } }]
    })
  }
  ordering       = true
  kms_key        = var.kms_key
  models_kms_key = var.kms_key

  default_model = "wine"
  input_buckets = ["${var.project}-inputs/photos"]
  settings      = { "batching.max_rows" = "256", "models.poll_interval" = "30s", "responses.inline_limit" = "1MiB" }

  # Longer results than inline_limit are written there; the response says where.
  results_bucket = "${var.project}-results/predictions"

  # A table that comes into the folder daily/ is predicted by itself. The buckets exist already.
  batch = {
    input_buckets  = ["${var.project}-tables"]
    output_buckets = ["${var.project}-predictions/batches"]
    notifications = {
      daily = { bucket = "${var.project}-tables", prefix = "daily/", model = "wine", output = "gs://${var.project}-predictions/batches/daily" }
    }
  }

  cpu         = "4"
  memory      = "8Gi"
  autoscaling = { min_instances = 2, max_instances = 20, requests_per_instance = 50000, target_utilisation = 0.7 }

  # Google's collector of Prometheus metrics for Cloud Run. A release after 1.8.0 tells the metrics of several pools apart.
  metrics_sidecar = "us-docker.pkg.dev/cloud-ops-agents-artifacts/cloud-run-gmp-sidecar/cloud-run-gmp-sidecar:1.2.0"
  alert_emails    = [var.email]

  # A collector in the project's network: one trace in a hundred, and all that their publishers sampled.
  otel = {
    OTEL_EXPORTER_OTLP_ENDPOINT = "http://collector.internal:4318"
    OTEL_TRACES_SAMPLER         = "parentbased_traceidratio"
    OTEL_TRACES_SAMPLER_ARG     = "0.01"
  }
}

output "config" {
  description = "The worker's configuration."
  value       = module.predictd.config
}

output "dashboard_url" {
  description = "The dashboard in the console."
  value       = module.predictd.dashboard_url
}
