# What the worker may do, wherever it runs: on Cloud Run (the worker module uses this one), on GKE as a Kubernetes service
# account, or as any other identity. Owns grants only, each on one topic, subscription or bucket.
#
# terraform/README.md says which call needs which of them; a test walks that table and takes each away.

locals {
  models_bucket  = split("/", trimprefix(var.models_url, "gs://"))[0]
  results_bucket = var.results_bucket == null ? null : split("/", var.results_bucket)[0]

  # Each bucket once, however many prefixes of it are named: two resources of one grant would take it from each other.
  batch_inputs  = var.batch == null ? [] : var.batch.input_buckets
  batch_outputs = toset([for place in(var.batch == null ? [] : var.batch.output_buckets) : split("/", place)[0] if split("/", place)[0] != local.results_bucket])
  input_buckets = toset([for place in concat(var.input_buckets, local.batch_inputs) : split("/", place)[0] if split("/", place)[0] != local.models_bucket])

  # Full names carry the project, since topics and subscriptions may be another one's.
  subscription = "^projects/(?P<project>[^/]+)/subscriptions/(?P<name>[^/]+)$"
  requests     = regex(local.subscription, var.request_subscription)
  responses    = regex("^projects/(?P<project>[^/]+)/topics/(?P<name>[^/]+)$", var.response_topic)
  updates      = var.updates_subscription == null ? null : regex(local.subscription, var.updates_subscription)
  batches      = var.batch == null ? null : regex(local.subscription, var.batch.subscription)
  shards       = var.batch == null ? null : regex("^projects/(?P<project>[^/]+)/topics/(?P<name>[^/]+)$", var.batch.topic)
}

# Receiving needs the subscriber's role; looking the subscription up, for /ready to tell the truth, the viewer's.
resource "google_pubsub_subscription_iam_member" "requests" {
  for_each = toset(["roles/pubsub.subscriber", "roles/pubsub.viewer"])

  project      = local.requests.project
  subscription = local.requests.name
  role         = each.value
  member       = var.member
}

resource "google_pubsub_topic_iam_member" "responses" {
  project = local.responses.project
  topic   = local.responses.name
  role    = "roles/pubsub.publisher"
  member  = var.member
}

resource "google_pubsub_subscription_iam_member" "updates" {
  count = var.updates_subscription == null ? 0 : 1

  project      = local.updates.project
  subscription = local.updates.name
  role         = "roles/pubsub.subscriber"
  member       = var.member
}

resource "google_storage_bucket_iam_member" "models" {
  bucket = local.models_bucket
  role   = "roles/storage.objectViewer"
  member = var.member
}

resource "google_storage_bucket_iam_member" "inputs" {
  for_each = local.input_buckets

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = var.member
}

# Jobs and their shards: the viewer's role shows the worker which topic the subscription has.
resource "google_pubsub_subscription_iam_member" "batches" {
  for_each = var.batch == null ? toset([]) : toset(["roles/pubsub.subscriber", "roles/pubsub.viewer"])

  project      = local.batches.project
  subscription = local.batches.name
  role         = each.value
  member       = var.member
}

# A worker that takes a job publishes its shards.
resource "google_pubsub_topic_iam_member" "shards" {
  count = var.batch == null ? 0 : 1

  project = local.shards.project
  topic   = local.shards.name
  role    = "roles/pubsub.publisher"
  member  = var.member
}

# Each file of the results is written once, but markers are written over and deleted, and what is there is looked for first.
resource "google_storage_bucket_iam_member" "batch_outputs" {
  for_each = local.batch_outputs

  bucket = each.value
  role   = "roles/storage.objectUser"
  member = var.member
}

# A redelivered request's result is written over the first one, which is deleting to Cloud Storage.
resource "google_storage_bucket_iam_member" "results" {
  count = var.results_bucket == null ? 0 : 1

  bucket = local.results_bucket
  role   = "roles/storage.objectUser"
  member = var.member
}
