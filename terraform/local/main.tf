# The messaging, batch, models and grants modules applied to local-gcp, which answers as Pub/Sub and Cloud Storage on one local port and
# holds the member below to what it is granted.
# scripts/local-apply starts it and fills this in.

variable "endpoint" {
  description = "Where local-gcp listens, such as http://127.0.0.1:8085."
  type        = string
}

variable "project" {
  description = "The project that local-gcp is told of; any id will do."
  type        = string
  default     = "demo"
}

variable "member" {
  description = "Who gets the worker's grants; local-gcp has a port for it."
  type        = string
  default     = "serviceAccount:predictd@demo.iam.gserviceaccount.com"
}

variable "max_delivery_attempts" {
  description = "Passed on to the messaging module: something to change between two applies."
  type        = number
  default     = 10
}

provider "google" {
  project      = var.project
  access_token = "local"
  # A universe of its own: the provider asks Google for the token's owner in its usual one.
  universe_domain                 = "local.test"
  pubsub_custom_endpoint          = "${var.endpoint}/v1/"
  storage_custom_endpoint         = "${var.endpoint}/storage/v1/"
  add_terraform_attribution_label = false
}

module "messaging" {
  source = "../modules/messaging"

  project               = var.project
  project_number        = "123456789012"
  ordering              = true
  max_delivery_attempts = var.max_delivery_attempts
  labels                = { app = "predictd" }
}

module "batch" {
  source = "../modules/batch"

  project        = var.project
  project_number = "123456789012"
  labels         = { app = "predictd" }
  notifications = {
    inputs = {
      bucket = google_storage_bucket.other["inputs"].name
      prefix = "batches/"
      model  = "wine"
      output = "gs://${google_storage_bucket.other["predictions"].name}/wine"
    }
  }
}

module "models" {
  source = "../modules/models"

  project       = var.project
  bucket        = "${var.project}-models"
  location      = "europe-west1"
  force_destroy = true
  labels        = { app = "predictd" }
}

resource "google_storage_bucket" "other" {
  for_each = toset(["inputs", "results", "predictions"])

  project                     = var.project
  name                        = "${var.project}-${each.value}"
  location                    = "europe-west1"
  force_destroy               = true
  uniform_bucket_level_access = true
}

module "grants" {
  source = "../modules/grants"

  member               = var.member
  request_subscription = module.messaging.request_subscription
  response_topic       = module.messaging.response_topic
  models_url           = module.models.url
  updates_subscription = module.models.updates_subscription
  input_buckets        = [google_storage_bucket.other["inputs"].name]
  results_bucket       = google_storage_bucket.other["results"].name
  batch = {
    subscription   = module.batch.subscription
    topic          = module.batch.topic
    input_buckets  = [google_storage_bucket.other["inputs"].name]
    output_buckets = [google_storage_bucket.other["predictions"].name]
  }
}

output "grants" {
  description = "What the worker may do."
  value       = module.grants.grants
}

output "inputs_bucket" {
  description = "requests.allowed_buckets"
  value       = google_storage_bucket.other["inputs"].name
}

output "results_bucket" {
  description = "responses.bucket, without gs://"
  value       = google_storage_bucket.other["results"].name
}

output "predictions_bucket" {
  description = "Where batch jobs write."
  value       = google_storage_bucket.other["predictions"].name
}

output "batch_topic" {
  description = "Where batch jobs and their shards are published."
  value       = module.batch.topic
}

output "batch_subscription" {
  description = "files.subscription"
  value       = module.batch.subscription
}

output "request_subscription" {
  description = "requests.subscription"
  value       = module.messaging.request_subscription
}

output "request_topic" {
  description = "Where requests are published."
  value       = module.messaging.request_topic
}

output "response_topic" {
  description = "responses.topic"
  value       = module.messaging.response_topic
}

output "response_subscription" {
  description = "Where responses are pulled."
  value       = module.messaging.response_subscription
}

output "models_url" {
  description = "models.source"
  value       = module.models.url
}

output "updates_subscription" {
  description = "models.updates"
  value       = module.models.updates_subscription
}
