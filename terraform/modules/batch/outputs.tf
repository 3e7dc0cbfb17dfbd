output "topic" {
  description = "Full name of the topic that jobs are published to; the workers publish their shards to it."
  value       = local.topic
}

output "subscription" {
  description = "Full name of the workers' subscription: `files.subscription` of predictd.yaml."
  value       = local.subscription
}

output "dead_letter_topic" {
  description = "Full name of the topic that jobs and shards go to which no worker could finish."
  value       = local.dead_letter_topic
}

output "dead_letter_subscription" {
  description = "Full name of the subscription that keeps them."
  value       = local.dead_letter_subscription
}

output "publish_command" {
  description = "Publishes a first job; paste it, with your own model and buckets."
  value       = "gcloud pubsub topics publish ${local.topic} --message='{\"model\": \"my-model\", \"input\": [\"gs://my-tables/*.jsonl\"], \"output\": \"gs://my-predictions/first\"}'"
}

output "dead_letter_command" {
  description = "Shows dead letters without removing them."
  value       = "gcloud pubsub subscriptions pull ${local.dead_letter_subscription} --limit=10 --format=json"
}
