variable "project" {
  description = "Id of the Google Cloud project that holds the topic and the subscription."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9.:-]{2,61}[a-z0-9]$", var.project))
    error_message = "project: expected a project id such as my-project-123, got ${jsonencode(var.project)}; it is the id, not the number or the display name."
  }
}

variable "project_number" {
  description = "Number of the project, which names Pub/Sub's service agent. Looked up when null; give it where the caller may not read the project."
  type        = string
  default     = null

  validation {
    condition     = var.project_number == null || can(regex("^[0-9]+$", var.project_number))
    error_message = "project_number: expected digits only, such as 123456789012; `gcloud projects describe PROJECT --format='value(projectNumber)'` prints it."
  }
}

variable "name" {
  description = "Name of the topic of jobs and shards, and of the workers' subscription to it. The dead-letter topic and its subscription are NAME-dead-letters."
  type        = string
  default     = "prediction-batches"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9._~+%-]{2,230}$", var.name)) && !startswith(var.name, "goog")
    error_message = "name: expected 3 to 231 letters, digits or -._~+%, a letter first and not `goog`, got ${jsonencode(var.name)}."
  }
}

variable "notifications" {
  description = "Jobs that begin by themselves: each object that comes into `bucket` under `prefix` (a folder ends in a slash; empty: the whole bucket) is predicted by `model`, and the results go to a folder of its own in `output`, gs://BUCKET/PREFIX. `options` are further ones of a job, such as {key_field = \"id\", max_errors = \"100\"}; lists are separated by commas. The buckets exist already."
  type = map(object({
    bucket  = string
    prefix  = optional(string, "")
    model   = string
    output  = string
    options = optional(map(string), {})
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for it in values(var.notifications) : can(regex("^[a-z0-9][a-z0-9._-]+$", it.bucket)) && !startswith(it.prefix, "/") && it.model != "" && can(regex("^gs://[a-z0-9][a-z0-9._-]+/[^\\s]*[^/\\s]$", it.output))])
    error_message = "notifications: expected a bucket without gs://, a prefix without a slash at its start, a model, and gs://BUCKET/PREFIX without a slash at its end as the output, got ${jsonencode(var.notifications)}."
  }

  validation {
    condition     = alltrue([for it in values(var.notifications) : length(setsubtract(keys(it.options), ["model_version", "input_format", "output_format", "key_field", "include", "exclude", "max_errors"])) == 0])
    error_message = "notifications: expected options among model_version, input_format, output_format, key_field, include, exclude, max_errors, got ${jsonencode([for it in values(var.notifications) : keys(it.options)])}."
  }

  # predictd takes no object under a notification's own output for input, so a whole bucket may be watched; of another's it cannot know.
  validation {
    condition = alltrue(flatten([
      for to in values(var.notifications) : [
        for of in values(var.notifications) :
        (!startswith("${to.output}/", "gs://${of.bucket}/${of.prefix}") || startswith("${to.output}/", "${of.output}/")) &&
        !startswith("gs://${of.bucket}/${of.prefix}", "${to.output}/")
      ]
    ]))
    error_message = "notifications: one of them watches what another writes, and would take results for input, or watches its own output, and would take nothing; got ${jsonencode(var.notifications)}."
  }
}

variable "ack_deadline_seconds" {
  description = "Seconds until a message that nobody acknowledges is delivered again, for consumers that do not set their own. predictd sets its leases itself and extends them for as long as a shard takes."
  type        = number
  default     = 60

  validation {
    condition     = var.ack_deadline_seconds >= 10 && var.ack_deadline_seconds <= 600
    error_message = "ack_deadline_seconds: expected 10 to 600, got ${var.ack_deadline_seconds}."
  }
}

variable "message_retention" {
  description = "How long jobs and shards wait for a worker, in seconds with an s: 10 minutes to 31 days."
  type        = string
  default     = "604800s"

  validation {
    condition = can(regex("^[0-9]+s$", var.message_retention)) && try(
      tonumber(trimsuffix(var.message_retention, "s")) >= 600 && tonumber(trimsuffix(var.message_retention, "s")) <= 2678400, false
    )
    error_message = "message_retention: expected whole seconds from 600s to 2678400s (31 days), got ${jsonencode(var.message_retention)}."
  }
}

variable "retry" {
  description = "How long Pub/Sub waits before it delivers a shard again that a worker gave back or died of: from minimum_backoff, growing to maximum_backoff; 0s to 600s each."
  type = object({
    minimum_backoff = optional(string, "10s")
    maximum_backoff = optional(string, "600s")
  })
  default = {}

  validation {
    condition = alltrue([
      for backoff in [var.retry.minimum_backoff, var.retry.maximum_backoff] :
      can(regex("^[0-9]+s$", backoff)) && try(tonumber(trimsuffix(backoff, "s")) <= 600, false)
      ]) && try(
      tonumber(trimsuffix(var.retry.minimum_backoff, "s")) <= tonumber(trimsuffix(var.retry.maximum_backoff, "s")), false
    )
    error_message = "retry: expected whole seconds from 0s to 600s, the minimum no longer than the maximum, got ${jsonencode(var.retry)}."
  }
}

variable "max_delivery_attempts" {
  description = "Deliveries after which a shard becomes a dead letter, 5 to 100, approximate. Restarts count too, and workers that are scaled in: each gives back the shards that it computes."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.max_delivery_attempts >= 5 && var.max_delivery_attempts <= 100
    error_message = "max_delivery_attempts: expected 5 to 100, got ${var.max_delivery_attempts}."
  }
}

variable "dead_letter_retention" {
  description = "How long dead letters wait for somebody to look, in seconds with an s: 10 minutes to 31 days."
  type        = string
  default     = "2678400s"

  validation {
    condition = can(regex("^[0-9]+s$", var.dead_letter_retention)) && try(
      tonumber(trimsuffix(var.dead_letter_retention, "s")) >= 600 && tonumber(trimsuffix(var.dead_letter_retention, "s")) <= 2678400, false
    )
    error_message = "dead_letter_retention: expected whole seconds from 600s to 2678400s (31 days), got ${jsonencode(var.dead_letter_retention)}."
  }
}

variable "kms_key" {
  description = "Full name of the Cloud KMS key that encrypts the topics. Null: Google's own keys. Pub/Sub's service agent must be allowed to use it already, as it is that of the messaging module's output kms_key."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key: expected projects/P/locations/L/keyRings/R/cryptoKeys/K, got ${jsonencode(var.kms_key)}."
  }
}

variable "labels" {
  description = "Labels of every topic and subscription."
  type        = map(string)
  default     = {}
}
