variable "project" {
  description = "Id of the Google Cloud project that runs the autoscaler."
  type        = string
}

variable "name" {
  description = "Name of the autoscaler: its service, service account and parameter."
  type        = string
  default     = "predictd-autoscaler"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.name))
    error_message = "name: expected 6 to 30 lower-case letters, digits and -, a letter first and no - last, got ${jsonencode(var.name)}."
  }
}

variable "worker_pool" {
  description = "Full name of the pool to scale, projects/P/locations/L/workerPools/NAME. Its own instance count must be left to the autoscaler."
  type        = string

  validation {
    condition     = can(regex("^projects/[^/]+/locations/[^/]+/workerPools/[^/]+$", var.worker_pool))
    error_message = "worker_pool: expected projects/P/locations/L/workerPools/NAME, got ${jsonencode(var.worker_pool)}."
  }
}

variable "worker_service_account" {
  description = "Full name of the pool's service account, projects/P/serviceAccounts/EMAIL: changing the pool needs the right to act as it."
  type        = string

  validation {
    condition     = can(regex("^projects/[^/]+/serviceAccounts/[^/]+$", var.worker_service_account))
    error_message = "worker_service_account: expected projects/P/serviceAccounts/EMAIL, got ${jsonencode(var.worker_service_account)}."
  }
}

variable "request_subscription" {
  description = "Full name of the subscription whose backlog decides, projects/P/subscriptions/S."
  type        = string

  validation {
    condition     = can(regex("^projects/[^/]+/subscriptions/[^/]+$", var.request_subscription))
    error_message = "request_subscription: expected projects/P/subscriptions/S, got ${jsonencode(var.request_subscription)}."
  }
}

variable "min_instances" {
  description = "Instances at least. With 0 an idle pool costs nothing, and the first request waits for the metric's delay and a start: minutes."
  type        = number
  default     = 1

  validation {
    condition     = var.min_instances >= 0 && floor(var.min_instances) == var.min_instances
    error_message = "min_instances: expected a whole number, 0 or more, got ${var.min_instances}."
  }
}

variable "max_instances" {
  description = "Instances at most: the limit of the cost."
  type        = number
  default     = 10

  validation {
    condition     = var.max_instances >= 1 && var.max_instances >= var.min_instances
    error_message = "max_instances: expected at least 1 and at least min_instances (${var.min_instances}), got ${var.max_instances}."
  }
}

variable "requests_per_instance" {
  description = "Waiting requests for each instance that the autoscaler aims at: about what one answers in the time that a request may wait."
  type        = number
  default     = 10000

  validation {
    condition     = var.requests_per_instance >= 1
    error_message = "requests_per_instance: expected 1 or more, got ${var.requests_per_instance}."
  }
}

variable "batch_subscription" {
  description = "Full name of the subscription with batch jobs and their shards, projects/P/subscriptions/S, in the project of request_subscription: what waits there counts too, and with min_instances = 0 starts the pool. Null: the pool takes no batches."
  type        = string
  default     = null

  validation {
    condition     = var.batch_subscription == null || try(startswith(var.batch_subscription, "${regex("^projects/[^/]+/subscriptions/", var.request_subscription)}"), false)
    error_message = "batch_subscription: expected projects/P/subscriptions/S in the project of request_subscription, got ${jsonencode(var.batch_subscription)}."
  }
}

variable "shards_per_instance" {
  description = "Shards, waiting or at work, for each instance that the autoscaler aims at. An instance computes two at a time, and each takes a minute or two."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = var.shards_per_instance >= 1
    error_message = "shards_per_instance: expected 1 or more, got ${var.shards_per_instance}."
  }
}

variable "target_utilisation" {
  description = "Share of the time that an instance is to be at work, 0.7 for example: more instances when they are busier, minutes before the backlog shows it. Needs predictd's own metrics in Cloud Monitoring (the worker's metrics_sidecar). Null: the backlog alone."
  type        = number
  default     = null

  validation {
    condition     = var.target_utilisation == null ? true : var.target_utilisation > 0 && var.target_utilisation <= 1
    error_message = "target_utilisation: expected more than 0 and at most 1, or null, got ${jsonencode(var.target_utilisation)}."
  }
}

variable "polling_interval_seconds" {
  description = "How often the backlog is looked at, in seconds. The figure itself changes once a minute."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.polling_interval_seconds >= 10
    error_message = "polling_interval_seconds: expected 10 or more, got ${var.polling_interval_seconds}."
  }
}

variable "scale_down_delay_seconds" {
  description = "For how long fewer instances must have been enough before there are fewer, in seconds."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.scale_down_delay_seconds >= 0 && var.scale_down_delay_seconds <= 3600
    error_message = "scale_down_delay_seconds: expected 0 to 3600, got ${var.scale_down_delay_seconds}."
  }
}

variable "image" {
  description = "CREMA's image, as Google publishes it."
  type        = string
  default     = "us-central1-docker.pkg.dev/cloud-run-oss-images/crema-v1/autoscaler:1.2"
  nullable    = false
}

variable "base_image" {
  description = "The base image that Cloud Run puts under CREMA's and keeps patched. One of the service's own region is best, but Google has none in some regions, and any region's will do."
  type        = string
  default     = "us-central1-docker.pkg.dev/serverless-runtimes/google-24/runtimes/java25"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]+-docker\\.pkg\\.dev/serverless-runtimes/", var.base_image))
    error_message = "base_image: expected REGION-docker.pkg.dev/serverless-runtimes/…, got ${jsonencode(var.base_image)}."
  }
}

variable "labels" {
  description = "Labels of the service."
  type        = map(string)
  default     = {}
}
