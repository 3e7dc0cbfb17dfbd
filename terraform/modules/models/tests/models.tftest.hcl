# Against a mocked provider: the bucket's protection, what the notification waits for and looks at, and refused values.

mock_provider "google" {
  mock_data "google_storage_project_service_account" {
    defaults = { email_address = "service-1@gs-project-accounts.iam.gserviceaccount.com" }
  }
}

variables {
  project  = "my-project"
  bucket   = "my-project-models"
  location = "europe-west1"
}

run "defaults" {
  assert {
    condition     = google_storage_bucket.models.uniform_bucket_level_access && google_storage_bucket.models.public_access_prevention == "enforced" && google_storage_bucket.models.versioning[0].enabled && !google_storage_bucket.models.force_destroy
    error_message = "the bucket must be private, versioned and safe from destroy"
  }
  assert {
    condition     = one(google_storage_bucket.models.lifecycle_rule[0].condition).days_since_noncurrent_time == 30
    error_message = "only noncurrent files may age"
  }
  assert {
    condition     = google_storage_bucket.models.soft_delete_policy[0].retention_duration_seconds == 604800
    error_message = "what is deleted can be restored for a week"
  }
  assert {
    condition     = google_storage_notification.updates.object_name_prefix == "models/" && google_storage_notification.updates.event_types == toset(["OBJECT_FINALIZE"])
    error_message = "only new objects below the prefix are news"
  }
  assert {
    condition     = google_pubsub_topic_iam_member.storage_agent.member == "serviceAccount:service-1@gs-project-accounts.iam.gserviceaccount.com" && google_pubsub_topic_iam_member.storage_agent.role == "roles/pubsub.publisher"
    error_message = "Cloud Storage's agent must be allowed to publish"
  }
  assert {
    condition     = output.url == "gs://my-project-models/models" && output.upload_command == "predictd push ./my-model gs://my-project-models/models/my-model/1"
    error_message = "the URL and the command must name bucket and prefix"
  }
  assert {
    condition     = length(google_storage_bucket.models.encryption) == 0
    error_message = "no key unless asked for"
  }
}

run "whole_bucket_with_key" {
  variables {
    prefix          = ""
    kms_key         = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    updates_kms_key = "projects/p/locations/l/keyRings/r/cryptoKeys/topics"
  }

  assert {
    condition     = google_storage_notification.updates.object_name_prefix == null && output.url == "gs://my-project-models"
    error_message = "without a prefix it is the whole bucket"
  }
  assert {
    condition     = google_storage_bucket.models.encryption[0].default_kms_key_name == var.kms_key && google_kms_crypto_key_iam_member.storage_agent[0].member == google_pubsub_topic_iam_member.storage_agent.member
    error_message = "the bucket must use the key, and Cloud Storage's agent be granted it"
  }
  assert {
    condition     = google_pubsub_topic.updates.kms_key_name == var.updates_kms_key
    error_message = "the notifications must be encrypted too"
  }
}

run "wrong_values" {
  command = plan
  variables {
    bucket           = "gs://models"
    location         = "europe west"
    prefix           = "/models/"
    updates_name     = "x"
    noncurrent_days  = 0
    soft_delete_days = 3
    kms_key          = "k"
    updates_kms_key  = "k"
  }
  expect_failures = [
    var.bucket, var.location, var.prefix, var.updates_name, var.noncurrent_days, var.soft_delete_days, var.kms_key,
    var.updates_kms_key,
  ]
}
