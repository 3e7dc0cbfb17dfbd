# Batch predictions over files: jobs and their shards in, and a place for those that workers could not finish. Owns the topic, its
# subscription, the dead letters, the notifications of buckets, and the grants of Google's service agents; the worker's grants are the
# grants module's. The buckets are others'.
#
# Guarantees: no message expires with an idle subscription, none that is dead-lettered is lost for want of a subscription or a grant,
# no notification takes another's results for input, and each is made only once Cloud Storage may publish it.

data "google_project" "this" {
  count      = var.project_number == null ? 1 : 0
  project_id = var.project
}

data "google_storage_project_service_account" "this" {
  count   = length(var.notifications) == 0 ? 0 : 1
  project = var.project
}

locals {
  project_number = coalesce(var.project_number, one(data.google_project.this[*].number))
  pubsub_agent   = "serviceAccount:service-${local.project_number}@gcp-sa-pubsub.iam.gserviceaccount.com"

  # Put together from names instead of the resources' ids, which no plan knows.
  topic                    = "projects/${var.project}/topics/${google_pubsub_topic.batches.name}"
  subscription             = "projects/${var.project}/subscriptions/${google_pubsub_subscription.batches.name}"
  dead_letter_topic        = "projects/${var.project}/topics/${google_pubsub_topic.dead_letters.name}"
  dead_letter_subscription = "projects/${var.project}/subscriptions/${google_pubsub_subscription.dead_letters.name}"
}

resource "google_pubsub_topic" "batches" {
  project      = var.project
  name         = var.name
  kms_key_name = var.kms_key
  labels       = var.labels
}

resource "google_pubsub_topic" "dead_letters" {
  project      = var.project
  name         = "${var.name}-dead-letters"
  kms_key_name = var.kms_key
  labels       = var.labels
}

resource "google_pubsub_subscription" "batches" {
  project = var.project
  name    = var.name
  topic   = local.topic
  labels  = var.labels

  ack_deadline_seconds       = var.ack_deadline_seconds
  message_retention_duration = var.message_retention

  expiration_policy {
    ttl = "" # never: jobs may come once a month
  }

  retry_policy {
    minimum_backoff = var.retry.minimum_backoff
    maximum_backoff = var.retry.maximum_backoff
  }

  dead_letter_policy {
    dead_letter_topic     = local.dead_letter_topic
    max_delivery_attempts = var.max_delivery_attempts
  }
}

# Without this subscription the topic would lose every dead letter at once.
resource "google_pubsub_subscription" "dead_letters" {
  project = var.project
  name    = google_pubsub_topic.dead_letters.name
  topic   = local.dead_letter_topic
  labels  = var.labels

  message_retention_duration = var.dead_letter_retention

  expiration_policy {
    ttl = ""
  }
}

# Pub/Sub moves dead letters as its service agent, which may do so only with both of these.
resource "google_pubsub_topic_iam_member" "dead_letters" {
  project = var.project
  topic   = google_pubsub_topic.dead_letters.name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "dead_letters" {
  project      = var.project
  subscription = google_pubsub_subscription.batches.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

resource "google_pubsub_topic_iam_member" "storage_agent" {
  count = length(var.notifications) == 0 ? 0 : 1

  project = var.project
  topic   = google_pubsub_topic.batches.name
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${data.google_storage_project_service_account.this[0].email_address}"
}

# A job for each new object: Cloud Storage's own attributes say which object, these what to do with it.
resource "google_storage_notification" "jobs" {
  for_each = var.notifications

  bucket             = each.value.bucket
  topic              = local.topic
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = each.value.prefix == "" ? null : each.value.prefix
  custom_attributes  = merge(each.value.options, { model = each.value.model, output = each.value.output })

  # Cloud Storage refuses a notification to a topic that it may not publish to.
  depends_on = [google_pubsub_topic_iam_member.storage_agent]
}
