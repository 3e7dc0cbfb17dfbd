variable "member" {
  description = "Who gets the grants: serviceAccount:EMAIL, or on GKE principal://iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/PROJECT.svc.id.goog/subject/ns/NAMESPACE/sa/NAME."
  type        = string

  validation {
    condition     = can(regex("^(serviceAccount:[^@\\s]+@[^@\\s]+|principal://\\S+|principalSet://\\S+)$", var.member))
    error_message = "member: expected serviceAccount:EMAIL or principal://…, got ${jsonencode(var.member)}."
  }
}

variable "request_subscription" {
  description = "Full name of the subscription with the requests, projects/P/subscriptions/S."
  type        = string

  validation {
    condition     = can(regex("^projects/[^/]+/subscriptions/[^/]+$", var.request_subscription))
    error_message = "request_subscription: expected projects/P/subscriptions/S, got ${jsonencode(var.request_subscription)}."
  }
}

variable "response_topic" {
  description = "Full name of the topic for the responses, projects/P/topics/T."
  type        = string

  validation {
    condition     = can(regex("^projects/[^/]+/topics/[^/]+$", var.response_topic))
    error_message = "response_topic: expected projects/P/topics/T, got ${jsonencode(var.response_topic)}."
  }
}

variable "models_url" {
  description = "Where the models lie, gs://BUCKET or gs://BUCKET/PREFIX."
  type        = string

  validation {
    condition     = can(regex("^gs://[a-z0-9][a-z0-9._-]+(/[^/\\s]+)*$", var.models_url))
    error_message = "models_url: expected gs://BUCKET or gs://BUCKET/PREFIX without a slash at its end, got ${jsonencode(var.models_url)}."
  }
}

variable "updates_subscription" {
  description = "Full name of the subscription with the bucket's notifications, projects/P/subscriptions/S. Null: none is read."
  type        = string
  default     = null

  validation {
    condition     = var.updates_subscription == null || can(regex("^projects/[^/]+/subscriptions/[^/]+$", var.updates_subscription))
    error_message = "updates_subscription: expected projects/P/subscriptions/S, got ${jsonencode(var.updates_subscription)}."
  }
}

variable "input_buckets" {
  description = "Buckets (BUCKET or BUCKET/PREFIX) that requests may refer to."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for input in var.input_buckets : can(regex("^[a-z0-9][a-z0-9._-]+(/[^,\\s]+)?$", input))])
    error_message = "input_buckets: expected BUCKET or BUCKET/PREFIX each, without gs://, commas or spaces, got ${jsonencode(var.input_buckets)}."
  }
}

variable "results_bucket" {
  description = "Bucket (BUCKET or BUCKET/PREFIX) that results too long for a message are written to. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.results_bucket == null || can(regex("^[a-z0-9][a-z0-9._-]+(/[^\\s]*[^/\\s])?$", var.results_bucket))
    error_message = "results_bucket: expected BUCKET or BUCKET/PREFIX, without gs:// and a slash at its end, got ${jsonencode(var.results_bucket)}."
  }
}

variable "batch" {
  description = "Batch predictions over files: full names of the subscription (projects/P/subscriptions/S) with jobs and their shards, and of its topic, which the worker publishes the shards to; buckets (BUCKET or BUCKET/PREFIX) that jobs may read, and those that they may write, which they may read too. Null: none is taken."
  type = object({
    subscription   = string
    topic          = string
    input_buckets  = optional(list(string), [])
    output_buckets = list(string)
  })
  default = null

  validation {
    condition     = var.batch == null || can(regex("^projects/[^/]+/subscriptions/[^/]+$", var.batch.subscription)) && can(regex("^projects/[^/]+/topics/[^/]+$", var.batch.topic))
    error_message = "batch: expected a subscription projects/P/subscriptions/S and a topic projects/P/topics/T, got ${jsonencode(try([var.batch.subscription, var.batch.topic], null))}."
  }

  validation {
    condition     = var.batch == null || try(length(var.batch.output_buckets) > 0 && alltrue([for place in concat(var.batch.input_buckets, var.batch.output_buckets) : can(regex("^[a-z0-9][a-z0-9._-]+(/[^,\\s]+)?$", place))]), false)
    error_message = "batch: expected at least one of output_buckets, and BUCKET or BUCKET/PREFIX each, without gs://, commas or spaces, got ${jsonencode(try(concat(var.batch.input_buckets, var.batch.output_buckets), null))}."
  }
}
