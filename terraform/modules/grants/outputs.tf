output "grants" {
  description = "Every grant, as ROLE on projects/P/subscriptions/S, projects/P/topics/T or gs://BUCKET."
  # By the names given: the provider shows other forms of them once it has read the resources again.
  value = sort(concat(
    [for it in google_pubsub_subscription_iam_member.requests : "${it.role} on ${var.request_subscription}"],
    [for it in google_pubsub_subscription_iam_member.updates : "${it.role} on ${var.updates_subscription}"],
    ["${google_pubsub_topic_iam_member.responses.role} on ${var.response_topic}"],
    ["${google_storage_bucket_iam_member.models.role} on gs://${local.models_bucket}"],
    [for bucket, it in google_storage_bucket_iam_member.inputs : "${it.role} on gs://${bucket}"],
    [for it in google_pubsub_subscription_iam_member.batches : "${it.role} on ${var.batch.subscription}"],
    [for it in google_pubsub_topic_iam_member.shards : "${it.role} on ${var.batch.topic}"],
    [for bucket, it in google_storage_bucket_iam_member.batch_outputs : "${it.role} on gs://${bucket}"],
    [for it in google_storage_bucket_iam_member.results : "${it.role} on gs://${local.results_bucket}"],
  ))
}
