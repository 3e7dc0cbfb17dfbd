# The bucket with the models, and the news of it: uploading a version tells the worker within a second.
# Owns the bucket, its notifications, their topic and subscription, and Cloud Storage's grant to publish.
#
# Guarantees: nothing in the bucket can become public, an overwritten or deleted file can be brought back, and the
# notification is made only once Cloud Storage may publish it.

data "google_storage_project_service_account" "this" {
  project = var.project
}

locals {
  storage_agent = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
  updates_topic = "projects/${var.project}/topics/${google_pubsub_topic.updates.name}" # known to a plan, as an id is not
  url           = join("/", compact(["gs://${google_storage_bucket.models.name}", var.prefix]))
}

resource "google_kms_crypto_key_iam_member" "storage_agent" {
  count = var.kms_key == null ? 0 : 1

  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = local.storage_agent
}

resource "google_storage_bucket" "models" {
  project       = var.project
  name          = var.bucket
  location      = var.location
  storage_class = "STANDARD"
  labels        = var.labels
  force_destroy = var.force_destroy

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 24 * 3600
  }

  # Only what was overwritten or deleted ages; a model that nobody touches stays for ever.
  lifecycle_rule {
    condition {
      days_since_noncurrent_time = var.noncurrent_days
      with_state                 = "ARCHIVED"
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  dynamic "encryption" {
    for_each = google_kms_crypto_key_iam_member.storage_agent
    content {
      default_kms_key_name = encryption.value.crypto_key_id
    }
  }
}

resource "google_pubsub_topic" "updates" {
  project      = var.project
  name         = var.updates_name
  kms_key_name = var.updates_kms_key
  labels       = var.labels
}

# News of an hour ago says nothing that the worker's poll has not found: kept for the shortest time there is.
resource "google_pubsub_subscription" "updates" {
  project = var.project
  name    = var.updates_name
  topic   = local.updates_topic
  labels  = var.labels

  ack_deadline_seconds       = 20
  message_retention_duration = "600s"

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic_iam_member" "storage_agent" {
  project = var.project
  topic   = google_pubsub_topic.updates.name
  role    = "roles/pubsub.publisher"
  member  = local.storage_agent
}

resource "google_storage_notification" "updates" {
  bucket             = google_storage_bucket.models.name
  topic              = local.updates_topic
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = var.prefix == "" ? null : "${var.prefix}/"

  # Cloud Storage refuses a notification to a topic that it may not publish to.
  depends_on = [google_pubsub_topic_iam_member.storage_agent]
}
