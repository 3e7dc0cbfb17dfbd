# Requests in, responses out, and a place for what could not be answered. Owns the topics and subscriptions and the grants
# that Pub/Sub's own service agent needs; the worker's grants are the worker module's.
#
# Guarantees: no message expires with an idle subscription, and none that is dead-lettered is lost for want of a
# subscription or a grant.

data "google_project" "this" {
  count      = var.project_number == null ? 1 : 0
  project_id = var.project
}

locals {
  project_number = coalesce(var.project_number, one(data.google_project.this[*].number))
  pubsub_agent   = "serviceAccount:service-${local.project_number}@gcp-sa-pubsub.iam.gserviceaccount.com"

  # Put together from names instead of the resources' ids, which no plan knows: what others count by must be known.
  topics                   = "projects/${var.project}/topics"
  subscriptions            = "projects/${var.project}/subscriptions"
  request_topic            = var.existing_request_topic != null ? var.existing_request_topic : "${local.topics}/${one(google_pubsub_topic.requests[*].name)}"
  response_topic           = var.existing_response_topic != null ? var.existing_response_topic : "${local.topics}/${one(google_pubsub_topic.responses[*].name)}"
  dead_letter_topic        = "${local.topics}/${google_pubsub_topic.dead_letters.name}"
  request_subscription     = "${local.subscriptions}/${google_pubsub_subscription.requests.name}"
  response_subscription    = var.response_subscription ? "${local.subscriptions}/${one(google_pubsub_subscription.responses[*].name)}" : null
  dead_letter_subscription = "${local.subscriptions}/${google_pubsub_subscription.dead_letters.name}"
}

resource "google_kms_crypto_key_iam_member" "pubsub_agent" {
  count = var.kms_key == null ? 0 : 1

  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = local.pubsub_agent
}

resource "google_pubsub_schema" "requests" {
  count = var.schema == null ? 0 : 1

  project    = var.project
  name       = "${var.requests_name}-schema"
  type       = var.schema.type
  definition = var.schema.definition
}

resource "google_pubsub_topic" "requests" {
  count = var.existing_request_topic == null ? 1 : 0

  project      = var.project
  name         = var.requests_name
  kms_key_name = var.kms_key
  labels       = var.labels

  dynamic "schema_settings" {
    for_each = google_pubsub_schema.requests
    content {
      schema   = schema_settings.value.id
      encoding = var.schema.encoding
    }
  }

  # A topic with a key is refused as long as the agent cannot use the key.
  depends_on = [google_kms_crypto_key_iam_member.pubsub_agent]
}

resource "google_pubsub_topic" "responses" {
  count = var.existing_response_topic == null ? 1 : 0

  project      = var.project
  name         = var.responses_name
  kms_key_name = var.kms_key
  labels       = var.labels

  depends_on = [google_kms_crypto_key_iam_member.pubsub_agent]
}

resource "google_pubsub_topic" "dead_letters" {
  project      = var.project
  name         = "${var.requests_name}-dead-letters"
  kms_key_name = var.kms_key
  labels       = var.labels

  depends_on = [google_kms_crypto_key_iam_member.pubsub_agent]
}

resource "google_pubsub_subscription" "requests" {
  project = var.project
  name    = var.requests_name
  topic   = local.request_topic
  labels  = var.labels

  ack_deadline_seconds         = var.ack_deadline_seconds
  message_retention_duration   = var.message_retention
  enable_message_ordering      = var.ordering
  enable_exactly_once_delivery = var.exactly_once

  expiration_policy {
    ttl = "" # never: an idle weekend must not delete the subscription
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

resource "google_pubsub_subscription" "responses" {
  count = var.response_subscription ? 1 : 0

  project = var.project
  name    = var.responses_name
  topic   = local.response_topic
  labels  = var.labels

  message_retention_duration = var.message_retention
  enable_message_ordering    = var.ordering

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
  subscription = google_pubsub_subscription.requests.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}
