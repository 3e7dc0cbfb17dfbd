# Against a mocked provider: exactly these grants, each on a single resource, and refused values.

mock_provider "google" {}

variables {
  member               = "serviceAccount:predictd@my-project.iam.gserviceaccount.com"
  request_subscription = "projects/my-project/subscriptions/prediction-requests"
  response_topic       = "projects/my-project/topics/prediction-responses"
  models_url           = "gs://my-models/models"
}

run "the_least" {
  assert {
    condition = output.grants == tolist([
      "roles/pubsub.publisher on projects/my-project/topics/prediction-responses",
      "roles/pubsub.subscriber on projects/my-project/subscriptions/prediction-requests",
      "roles/pubsub.viewer on projects/my-project/subscriptions/prediction-requests",
      "roles/storage.objectViewer on gs://my-models",
    ])
    error_message = "the worker needs these grants and no others"
  }
  assert {
    condition     = alltrue([for it in concat(values(google_pubsub_subscription_iam_member.requests), [google_pubsub_topic_iam_member.responses, google_storage_bucket_iam_member.models]) : it.member == var.member])
    error_message = "all of them are the worker's"
  }
}

run "everything_on" {
  variables {
    member               = "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/my-project.svc.id.goog/subject/ns/default/sa/predictd"
    request_subscription = "projects/other/subscriptions/in"
    response_topic       = "projects/other/topics/out"
    updates_subscription = "projects/third/subscriptions/model-updates"
    input_buckets        = ["inputs/photos", "inputs/scans", "my-models/samples", "more"]
    results_bucket       = "results/predictions"
  }
  assert {
    condition = output.grants == tolist([
      "roles/pubsub.publisher on projects/other/topics/out",
      "roles/pubsub.subscriber on projects/other/subscriptions/in",
      "roles/pubsub.subscriber on projects/third/subscriptions/model-updates",
      "roles/pubsub.viewer on projects/other/subscriptions/in",
      "roles/storage.objectUser on gs://results",
      "roles/storage.objectViewer on gs://inputs",
      "roles/storage.objectViewer on gs://more",
      "roles/storage.objectViewer on gs://my-models",
    ])
    error_message = "one grant for each bucket, none twice, and each in its own project"
  }
}

run "batches" {
  variables {
    input_buckets  = ["inputs/photos"]
    results_bucket = "results/predictions"
    batch = {
      subscription   = "projects/other/subscriptions/prediction-batches"
      topic          = "projects/third/topics/prediction-batches"
      input_buckets  = ["tables/daily", "tables/weekly", "inputs", "my-models/samples", "predictions"]
      output_buckets = ["predictions/daily", "predictions/weekly", "results/batches"]
    }
  }
  assert {
    condition = output.grants == tolist([
      "roles/pubsub.publisher on projects/my-project/topics/prediction-responses",
      "roles/pubsub.publisher on projects/third/topics/prediction-batches",
      "roles/pubsub.subscriber on projects/my-project/subscriptions/prediction-requests",
      "roles/pubsub.subscriber on projects/other/subscriptions/prediction-batches",
      "roles/pubsub.viewer on projects/my-project/subscriptions/prediction-requests",
      "roles/pubsub.viewer on projects/other/subscriptions/prediction-batches",
      "roles/storage.objectUser on gs://predictions",
      "roles/storage.objectUser on gs://results",
      "roles/storage.objectViewer on gs://inputs",
      "roles/storage.objectViewer on gs://my-models",
      "roles/storage.objectViewer on gs://predictions",
      "roles/storage.objectViewer on gs://tables",
    ])
    error_message = "inputs are read, outputs written too, and no grant is made twice"
  }
  assert {
    condition     = alltrue([for it in concat(values(google_pubsub_subscription_iam_member.batches), google_pubsub_topic_iam_member.shards, values(google_storage_bucket_iam_member.batch_outputs)) : it.member == var.member])
    error_message = "all of them are the worker's"
  }
}

run "batches_without_full_names" {
  command = plan
  variables {
    batch = { subscription = "prediction-batches", topic = "projects/p/topics/t", output_buckets = ["results"] }
  }
  expect_failures = [var.batch]
}

run "wrong_values" {
  command = plan
  variables {
    member               = "predictd@my-project.iam.gserviceaccount.com"
    request_subscription = "prediction-requests"
    response_topic       = "prediction-responses"
    models_url           = "my-models"
    updates_subscription = "model-updates"
    input_buckets        = ["gs://inputs"]
    results_bucket       = "gs://results/"
  }
  expect_failures = [
    var.member, var.request_subscription, var.response_topic, var.models_url, var.updates_subscription, var.input_buckets, var.results_bucket,
  ]
}
