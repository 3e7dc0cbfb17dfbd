output "request_topic" {
  description = "Full name of the topic that requests are published to."
  value       = local.request_topic
}

output "request_subscription" {
  description = "Full name of the worker's subscription: `requests.subscription` of predictd.yaml."
  value       = local.request_subscription
}

output "response_topic" {
  description = "Full name of the topic that the worker answers to: `responses.topic` of predictd.yaml."
  value       = local.response_topic
}

output "response_subscription" {
  description = "Full name of the consumers' subscription to the responses; null when it was not asked for."
  value       = local.response_subscription
}

output "dead_letter_topic" {
  description = "Full name of the topic that requests go to which could not be answered."
  value       = local.dead_letter_topic
}

output "dead_letter_subscription" {
  description = "Full name of the subscription that keeps them."
  value       = local.dead_letter_subscription
}

output "publish_command" {
  description = "Publishes a first request; paste it, with the model's own features."
  value       = "gcloud pubsub topics publish ${local.request_topic} --message='{\"instances\": [[1.0, 2.0, 3.0]]}'"
}

output "pull_command" {
  description = "Shows the responses and acknowledges them; null without a response subscription."
  value       = var.response_subscription ? "gcloud pubsub subscriptions pull ${local.response_subscription} --auto-ack --limit=10 --format=json" : null
}

output "dead_letter_command" {
  description = "Shows dead letters without removing them."
  value       = "gcloud pubsub subscriptions pull ${local.dead_letter_subscription} --limit=10 --format=json"
}

output "kms_key" {
  description = "The topics' key, once Pub/Sub's service agent may use it; null without one. Other topics can be given it."
  value       = one(google_kms_crypto_key_iam_member.pubsub_agent[*].crypto_key_id)
}
