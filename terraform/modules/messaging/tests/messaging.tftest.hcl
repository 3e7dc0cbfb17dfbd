# Against a mocked provider: what is made when, and which values are refused.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}

variables {
  project = "my-project"
}

run "defaults" {
  assert {
    condition     = google_pubsub_subscription.requests.dead_letter_policy[0].max_delivery_attempts == 10 && google_pubsub_subscription.requests.expiration_policy[0].ttl == ""
    error_message = "the requests' subscription must have a dead-letter policy and never expire"
  }
  assert {
    condition     = google_pubsub_subscription.requests.retry_policy[0].minimum_backoff == "1s" && google_pubsub_subscription.requests.retry_policy[0].maximum_backoff == "60s"
    error_message = "the requests' subscription must have a retry policy"
  }
  assert {
    condition     = google_pubsub_subscription.dead_letters.topic == output.dead_letter_topic && google_pubsub_subscription.requests.dead_letter_policy[0].dead_letter_topic == "projects/my-project/topics/prediction-requests-dead-letters"
    error_message = "the dead-letter topic must have a subscription"
  }
  assert {
    condition     = google_pubsub_topic_iam_member.dead_letters.role == "roles/pubsub.publisher" && google_pubsub_subscription_iam_member.dead_letters.role == "roles/pubsub.subscriber"
    error_message = "Pub/Sub's agent needs both grants"
  }
  assert {
    condition     = google_pubsub_topic_iam_member.dead_letters.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "the grants must go to Pub/Sub's agent of this project's number"
  }
  assert {
    condition     = length(google_kms_crypto_key_iam_member.pubsub_agent) == 0 && length(google_pubsub_schema.requests) == 0
    error_message = "no key and no schema unless asked for"
  }
  assert {
    condition     = length(google_pubsub_subscription.responses) == 1 && !google_pubsub_subscription.requests.enable_message_ordering && !google_pubsub_subscription.requests.enable_exactly_once_delivery
    error_message = "a subscription on the responses, without ordering and exactly-once unless asked for"
  }
  assert {
    condition     = startswith(output.publish_command, "gcloud pubsub topics publish projects/my-project/topics/prediction-requests ")
    error_message = "publish_command must name the topic"
  }
}

run "everything_on" {
  variables {
    project_number = "42"
    ordering       = true
    exactly_once   = true
    kms_key        = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    schema         = { type = "AVRO", definition = "{}" }
    labels         = { team = "cellar" }
  }

  assert {
    condition     = length(data.google_project.this) == 0 && google_kms_crypto_key_iam_member.pubsub_agent[0].member == "serviceAccount:service-42@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "a given project number must not be looked up, and the agent gets the key"
  }
  assert {
    condition = alltrue([
      for topic in [google_pubsub_topic.requests[0], google_pubsub_topic.responses[0], google_pubsub_topic.dead_letters] :
      topic.kms_key_name == var.kms_key && topic.labels.team == "cellar"
    ])
    error_message = "every topic must have the key and the labels"
  }
  assert {
    condition     = google_pubsub_topic.requests[0].schema_settings[0].encoding == "JSON" && google_pubsub_topic.requests[0].schema_settings[0].schema == google_pubsub_schema.requests[0].id
    error_message = "the request topic must have the schema"
  }
  assert {
    condition     = google_pubsub_subscription.requests.enable_message_ordering && google_pubsub_subscription.responses[0].enable_message_ordering && google_pubsub_subscription.requests.enable_exactly_once_delivery
    error_message = "ordering is for requests and responses, exactly-once for requests"
  }
}

run "existing_topics" {
  variables {
    existing_request_topic  = "projects/other/topics/in"
    existing_response_topic = "projects/other/topics/out"
    response_subscription   = false
  }

  assert {
    condition     = length(google_pubsub_topic.requests) == 0 && length(google_pubsub_topic.responses) == 0 && length(google_pubsub_subscription.responses) == 0
    error_message = "existing topics must not be made again"
  }
  assert {
    condition     = google_pubsub_subscription.requests.topic == "projects/other/topics/in" && output.response_topic == "projects/other/topics/out"
    error_message = "the existing topics must be used"
  }
  assert {
    condition     = output.pull_command == null && output.response_subscription == null
    error_message = "without a response subscription there is nothing to pull from"
  }
}

run "wrong_values" {
  command = plan
  variables {
    project               = "My Project"
    project_number        = "my-project"
    requests_name         = "goog-requests"
    message_retention     = "7d"
    dead_letter_retention = "2678401s"
    ack_deadline_seconds  = 5
    max_delivery_attempts = 4
    kms_key               = "my-key"
    retry                 = { minimum_backoff = "60s", maximum_backoff = "10s" }
  }
  expect_failures = [
    var.project, var.project_number, var.requests_name, var.message_retention, var.dead_letter_retention,
    var.ack_deadline_seconds, var.max_delivery_attempts, var.kms_key, var.retry,
  ]
}

run "answers_are_not_requests" {
  command = plan
  variables {
    requests_name           = "same"
    responses_name          = "same"
    existing_request_topic  = "projects/p/topics/t"
    existing_response_topic = "projects/p/topics/t"
  }
  expect_failures = [var.responses_name, var.existing_response_topic]
}

run "a_schema_belongs_to_the_topic" {
  command = plan
  variables {
    existing_request_topic = "projects/p/topics/t"
    schema                 = { type = "AVRO", definition = "{}" }
  }
  expect_failures = [var.schema]
}

# Apart from the others: a variable that looks at a refused one is not looked at.
run "more_wrong_values" {
  command = plan
  variables {
    responses_name = "r"
    schema         = { type = "JSON", definition = "{}" }
  }
  expect_failures = [var.responses_name, var.schema]
}
