# Grants on single resources only. The one exception, writing metrics, exists for projects alone and comes with the sidecar.

locals {
  worker        = "serviceAccount:${google_service_account.worker.email}"
  models_bucket = split("/", trimprefix(var.models_url, "gs://"))[0]

  # Full names carry the project, since topics and subscriptions may be another one's.
  request_subscription = regex("^projects/(?P<project>[^/]+)/subscriptions/(?P<name>[^/]+)$", var.request_subscription)
  response_topic       = regex("^projects/(?P<project>[^/]+)/topics/(?P<name>[^/]+)$", var.response_topic)
  updates              = var.updates_subscription == null ? null : regex("^projects/(?P<project>[^/]+)/subscriptions/(?P<name>[^/]+)$", var.updates_subscription)
}

# Receiving needs the subscriber's role; looking the subscription up, for /ready to tell the truth, the viewer's.
resource "google_pubsub_subscription_iam_member" "requests" {
  for_each = toset(["roles/pubsub.subscriber", "roles/pubsub.viewer"])

  project      = local.request_subscription.project
  subscription = local.request_subscription.name
  role         = each.value
  member       = local.worker
}

resource "google_pubsub_topic_iam_member" "responses" {
  project = local.response_topic.project
  topic   = local.response_topic.name
  role    = "roles/pubsub.publisher"
  member  = local.worker
}

resource "google_pubsub_subscription_iam_member" "updates" {
  count = var.updates_subscription == null ? 0 : 1

  project      = local.updates.project
  subscription = local.updates.name
  role         = "roles/pubsub.subscriber"
  member       = local.worker
}

resource "google_storage_bucket_iam_member" "models" {
  bucket = local.models_bucket
  role   = "roles/storage.objectViewer"
  member = local.worker
}

resource "google_storage_bucket_iam_member" "inputs" {
  for_each = toset([for input in var.input_buckets : split("/", input)[0] if split("/", input)[0] != local.models_bucket])

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = local.worker
}

resource "google_project_iam_member" "metrics" {
  count = var.metrics_sidecar == null ? 0 : 1

  project = var.project
  role    = "roles/monitoring.metricWriter"
  member  = local.worker
}
