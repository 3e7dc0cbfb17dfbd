variable "project" {
  description = "Id of the Google Cloud project that holds the subscriptions, the logs and the alerts."
  type        = string
}

variable "name" {
  description = "What alerts, log-based metrics and the dashboard are named after; the worker's name."
  type        = string
  default     = "predictd"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "name: expected lower-case letters, digits and -, a letter first, got ${jsonencode(var.name)}."
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

variable "dead_letter_subscription" {
  description = "Full name of the subscription with the dead letters, projects/P/subscriptions/S."
  type        = string

  validation {
    condition     = can(regex("^projects/[^/]+/subscriptions/[^/]+$", var.dead_letter_subscription))
    error_message = "dead_letter_subscription: expected projects/P/subscriptions/S, got ${jsonencode(var.dead_letter_subscription)}."
  }
}

variable "batch" {
  description = "Full names of the subscription with batch jobs and their shards, and of that with their dead letters, projects/P/subscriptions/S. Null: the worker takes none."
  type = object({
    subscription             = string
    dead_letter_subscription = string
  })
  default = null

  validation {
    condition     = var.batch == null || alltrue([for name in values(coalesce(var.batch, {})) : can(regex("^projects/[^/]+/subscriptions/[^/]+$", name))])
    error_message = "batch: expected projects/P/subscriptions/S twice, got ${jsonencode(var.batch)}."
  }
}

variable "max_batch_age_seconds" {
  description = "How old the oldest unfinished shard may become before somebody is called, in seconds. All shards of a job come at once: more than the longest job takes."
  type        = number
  default     = 21600

  validation {
    condition     = var.max_batch_age_seconds >= 60
    error_message = "max_batch_age_seconds: expected 60 or more (the metric comes once a minute), got ${var.max_batch_age_seconds}."
  }
}

variable "worker_pool" {
  description = "Name of the Cloud Run worker pool, for the chart of its instances. Null: the worker runs elsewhere."
  type        = string
  default     = null
}

variable "log_filter" {
  description = "Selects the worker's lines in Cloud Logging. On GKE: resource.type=\"k8s_container\" AND resource.labels.container_name=\"predictd\"."
  type        = string

  validation {
    condition     = strcontains(var.log_filter, "resource.type=")
    error_message = "log_filter: expected a filter with resource.type=…, got ${jsonencode(var.log_filter)}."
  }
}

variable "own_metrics" {
  description = "Whether predictd's own metrics reach Cloud Monitoring (the worker's sidecar, or GKE's managed collection). They bring the alert on the error ratio and six charts."
  type        = bool
  default     = false
}

variable "metrics_matcher" {
  description = "PromQL's matcher of the worker's own metrics among all in the project. Null: those of worker_pool, or all without one. On GKE: namespace=\"NAMESPACE\"."
  type        = string
  default     = null

  validation {
    condition     = var.metrics_matcher == null || can(regex("^[a-z_]+(=|!=|=~|!~)\"[^\"]*\"(, *[a-z_]+(=|!=|=~|!~)\"[^\"]*\")*$", var.metrics_matcher))
    error_message = "metrics_matcher: expected LABEL=\"VALUE\" without braces, such as namespace=\"predictions\", got ${jsonencode(var.metrics_matcher)}."
  }
}

variable "max_request_age_seconds" {
  description = "How old the oldest unanswered request may become before somebody is called, in seconds."
  type        = number
  default     = 300

  validation {
    condition     = var.max_request_age_seconds >= 60
    error_message = "max_request_age_seconds: expected 60 or more (the metric comes once a minute), got ${var.max_request_age_seconds}."
  }
}

variable "max_error_ratio" {
  description = "Share of error responses over five minutes from which somebody is called, above 0 and below 1."
  type        = number
  default     = 0.05

  validation {
    condition     = var.max_error_ratio > 0 && var.max_error_ratio < 1
    error_message = "max_error_ratio: expected a share above 0 and below 1, such as 0.05, got ${var.max_error_ratio}."
  }
}

variable "emails" {
  description = "E-mail addresses to notify; a notification channel is made for each."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@\\s]+@[^@\\s]+$", email))])
    error_message = "emails: expected addresses such as team@example.com, got ${jsonencode(var.emails)}."
  }
}

variable "notification_channels" {
  description = "Full names of notification channels that exist already, projects/P/notificationChannels/N."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "notification_channels: expected projects/P/notificationChannels/N each, got ${jsonencode(var.notification_channels)}."
  }
}

variable "labels" {
  description = "Labels of the alerts and the dashboard."
  type        = map(string)
  default     = {}
}
