output "publish_command" {
  description = "Publishes a first request; paste it, with the model's own features."
  value       = module.messaging.publish_command
}

output "pull_command" {
  description = "Shows the responses and acknowledges them; null without a response subscription."
  value       = module.messaging.pull_command
}

output "upload_command" {
  description = "Checks a model on this machine and uploads it as version 1; paste it with the model's own folder and name."
  value       = module.models.upload_command
}

output "dead_letter_command" {
  description = "Shows dead letters without removing them."
  value       = module.messaging.dead_letter_command
}

output "batch_topic" {
  description = "Full name of the topic that batch jobs are published to; null without `batch`."
  value       = one(module.batch[*].topic)
}

output "batch_command" {
  description = "Publishes a first batch job; null without `batch`. Paste it, with the model's own name and your buckets."
  value       = one(module.batch[*].publish_command)
}

output "batch_dead_letter_command" {
  description = "Shows dead letters of batch jobs without removing them; null without `batch`."
  value       = one(module.batch[*].dead_letter_command)
}

output "logs_command" {
  description = "Shows the worker's warnings and errors of the last hour."
  value       = module.worker.logs_command
}

output "service_url" {
  description = "Address of predictions over HTTP; null without `service`."
  value       = one(module.service[*].url)
}

output "ask_command" {
  description = "Asks over HTTP; null without `service`. Paste it, with the model's own features."
  value       = one(module.service[*].ask_command)
}

output "models_url" {
  description = "Where model versions go, as gs://BUCKET/PREFIX."
  value       = module.models.url
}

output "config" {
  description = "The worker's configuration as predictd.yaml: `terraform output -raw config > predictd.yaml`."
  value       = module.worker.config
}

output "service_account" {
  description = "The worker's identity, as an e-mail address."
  value       = module.worker.service_account
}

output "request_topic" {
  description = "Full name of the topic that requests are published to."
  value       = module.messaging.request_topic
}

output "response_topic" {
  description = "Full name of the topic that the worker answers to."
  value       = module.messaging.response_topic
}

output "dashboard_url" {
  description = "The dashboard in the console; null without observability."
  value       = one(module.observability[*].dashboard_url)
}

output "location" {
  description = "Region of the worker and of the bucket."
  value       = var.location
}
