# Against a mocked provider: what is made when, and which values are refused.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  mock_data "google_storage_project_service_account" {
    defaults = { email_address = "service-1@gs-project-accounts.iam.gserviceaccount.com" }
  }
}

variables {
  project = "my-project"
}

run "defaults" {
  assert {
    condition     = output.topic == "projects/my-project/topics/prediction-batches" && google_pubsub_subscription.batches.topic == output.topic && output.subscription == "projects/my-project/subscriptions/prediction-batches"
    error_message = "one topic for jobs and shards, and the workers' subscription to it"
  }
  assert {
    condition     = google_pubsub_subscription.batches.expiration_policy[0].ttl == "" && google_pubsub_subscription.batches.retry_policy[0].minimum_backoff == "10s" && google_pubsub_subscription.batches.retry_policy[0].maximum_backoff == "600s"
    error_message = "it must never expire, and give workers time before a shard comes again"
  }
  assert {
    condition     = google_pubsub_subscription.batches.dead_letter_policy[0].max_delivery_attempts == 5 && google_pubsub_subscription.batches.dead_letter_policy[0].dead_letter_topic == "projects/my-project/topics/prediction-batches-dead-letters"
    error_message = "a shard that kills its workers must become a dead letter"
  }
  assert {
    condition     = google_pubsub_subscription.dead_letters.topic == output.dead_letter_topic && google_pubsub_subscription.dead_letters.expiration_policy[0].ttl == ""
    error_message = "the dead-letter topic must have a subscription"
  }
  assert {
    condition = alltrue([for it in [google_pubsub_topic_iam_member.dead_letters, google_pubsub_subscription_iam_member.dead_letters] :
      it.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    ]) && google_pubsub_topic_iam_member.dead_letters.role == "roles/pubsub.publisher" && google_pubsub_subscription_iam_member.dead_letters.role == "roles/pubsub.subscriber"
    error_message = "Pub/Sub's agent needs both grants"
  }
  assert {
    condition     = length(google_storage_notification.jobs) == 0 && length(google_pubsub_topic_iam_member.storage_agent) == 0
    error_message = "no bucket may publish jobs unless asked for"
  }
}

run "everything_on" {
  variables {
    project_number        = "42"
    name                  = "night-batches"
    max_delivery_attempts = 20
    kms_key               = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    labels                = { team = "cellar" }
    notifications = {
      daily = { bucket = "tables", prefix = "daily/", model = "wine", output = "gs://predictions/daily", options = { key_field = "id" } }
      all   = { bucket = "photos", model = "resnet", output = "gs://predictions/photos" }
    }
  }

  assert {
    condition     = google_storage_notification.jobs["daily"].custom_attributes == tomap({ model = "wine", output = "gs://predictions/daily", key_field = "id" }) && google_storage_notification.jobs["daily"].object_name_prefix == "daily/" && google_storage_notification.jobs["daily"].bucket == "tables"
    error_message = "a notification must carry the options of its jobs"
  }
  assert {
    condition     = google_storage_notification.jobs["all"].object_name_prefix == null && alltrue([for it in values(google_storage_notification.jobs) : it.topic == output.topic && toset(it.event_types) == toset(["OBJECT_FINALIZE"])])
    error_message = "new objects alone are jobs; without a prefix, those of the whole bucket"
  }
  assert {
    condition     = google_pubsub_topic_iam_member.storage_agent[0].topic == "night-batches" && google_pubsub_topic_iam_member.storage_agent[0].member == "serviceAccount:service-1@gs-project-accounts.iam.gserviceaccount.com"
    error_message = "Cloud Storage must be allowed to publish"
  }
  assert {
    condition     = length(data.google_project.this) == 0 && google_pubsub_topic_iam_member.dead_letters.member == "serviceAccount:service-42@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "a given project number must not be looked up"
  }
  assert {
    condition     = alltrue([for topic in [google_pubsub_topic.batches, google_pubsub_topic.dead_letters] : topic.kms_key_name == var.kms_key && topic.labels.team == "cellar"])
    error_message = "every topic must have the key and the labels"
  }
  assert {
    condition     = startswith(output.publish_command, "gcloud pubsub topics publish projects/my-project/topics/night-batches ") && strcontains(output.dead_letter_command, "night-batches-dead-letters")
    error_message = "the commands must name what was made"
  }
}

run "wrong_values" {
  command = plan
  variables {
    project               = "My Project"
    project_number        = "my-project"
    name                  = "goog-batches"
    notifications         = { daily = { bucket = "gs://tables", model = "wine", output = "gs://predictions/daily" } }
    message_retention     = "7d"
    dead_letter_retention = "2678401s"
    ack_deadline_seconds  = 601
    max_delivery_attempts = 4
    kms_key               = "my-key"
    retry                 = { minimum_backoff = "60s", maximum_backoff = "10s" }
  }
  expect_failures = [
    var.project, var.project_number, var.name, var.notifications, var.message_retention, var.dead_letter_retention,
    var.ack_deadline_seconds, var.max_delivery_attempts, var.kms_key, var.retry,
  ]
}

run "a_notification_without_a_folder_for_its_results" {
  command = plan
  variables {
    notifications = { daily = { bucket = "tables", model = "wine", output = "gs://predictions/" } }
  }
  expect_failures = [var.notifications]
}

run "an_option_that_no_job_has" {
  command = plan
  variables {
    notifications = { daily = { bucket = "tables", model = "wine", output = "gs://predictions/daily", options = { speed = "9" } } }
  }
  expect_failures = [var.notifications]
}

run "results_in_the_watched_bucket" {
  command = plan
  variables {
    notifications = { all = { bucket = "tables", model = "wine", output = "gs://tables/predictions" } }
  }
}

run "input_among_the_results" {
  command = plan
  variables {
    notifications = { all = { bucket = "tables", prefix = "out/in/", model = "wine", output = "gs://tables/out" } }
  }
  expect_failures = [var.notifications]
}

run "results_that_would_be_jobs_of_another" {
  command = plan
  variables {
    notifications = {
      first  = { bucket = "tables", prefix = "in/", model = "wine", output = "gs://tables/out" }
      second = { bucket = "tables", prefix = "out", model = "wine", output = "gs://predictions/x" }
    }
  }
  expect_failures = [var.notifications]
}

run "results_beside_the_input" {
  command = plan
  variables {
    notifications = { daily = { bucket = "tables", prefix = "in/", model = "wine", output = "gs://tables/inner" } }
  }
}
