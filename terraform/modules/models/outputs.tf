output "bucket" {
  description = "Name of the bucket with the models."
  value       = google_storage_bucket.models.name
}

output "url" {
  description = "Where versions go, as gs://BUCKET/PREFIX: `models.source` of predictd.yaml."
  value       = local.url
}

output "updates_topic" {
  description = "Full name of the topic of the bucket's notifications."
  value       = local.updates_topic
}

output "updates_subscription" {
  description = "Full name of the worker's subscription to them: `models.updates` of predictd.yaml."
  value       = "projects/${var.project}/subscriptions/${google_pubsub_subscription.updates.name}"
}

output "upload_command" {
  description = "Checks a model on this machine and uploads it as version 1; paste it with the model's own folder and name."
  value       = "predictd push ./my-model ${local.url}/my-model/1"
}
