# The topics are somebody else's: only the subscription, the dead letters, the bucket and the worker are made. Whoever owns the
# topics must let this caller attach a subscription (roles/pubsub.subscriber on the request topic) and set the response topic's
# policy, or grant the worker roles/pubsub.publisher on it themselves.

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "image" {
  description = "Container image of predictd."
  type        = string
}

variable "request_topic" {
  description = "Full name of the topic with the requests, projects/P/topics/T."
  type        = string
}

variable "response_topic" {
  description = "Full name of the topic for the responses, projects/P/topics/T."
  type        = string
}

module "predictd" {
  source = "../.."

  project                 = var.project
  image                   = var.image
  existing_request_topic  = var.request_topic
  existing_response_topic = var.response_topic
  response_subscription   = false # consumers bring their own
}

output "service_account" {
  description = "The worker's identity."
  value       = module.predictd.service_account
}
