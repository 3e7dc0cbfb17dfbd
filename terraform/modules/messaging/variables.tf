variable "project" {
  description = "Id of the Google Cloud project that holds the topics and subscriptions."
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

variable "requests_name" {
  description = "Name of the request topic and of the worker's subscription to it. The dead-letter topic and its subscription are NAME-dead-letters."
  type        = string
  default     = "prediction-requests"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9._~+%-]{2,230}$", var.requests_name)) && !startswith(var.requests_name, "goog")
    error_message = "requests_name: expected 3 to 231 letters, digits or -._~+%, a letter first and not `goog`, got ${jsonencode(var.requests_name)}."
  }
}

variable "responses_name" {
  description = "Name of the response topic and of the consumers' subscription to it."
  type        = string
  default     = "prediction-responses"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9._~+%-]{2,230}$", var.responses_name)) && !startswith(var.responses_name, "goog")
    error_message = "responses_name: expected 3 to 231 letters, digits or -._~+%, a letter first and not `goog`, got ${jsonencode(var.responses_name)}."
  }

  validation {
    condition     = var.responses_name != var.requests_name
    error_message = "responses_name: it is the same as requests_name, and the worker would answer its own answers; choose another name."
  }
}

variable "existing_request_topic" {
  description = "Full name of a request topic that exists already (projects/P/topics/T). Null makes one. The subscription is made in either case."
  type        = string
  default     = null

  validation {
    condition     = var.existing_request_topic == null || can(regex("^projects/[^/]+/topics/[^/]+$", var.existing_request_topic))
    error_message = "existing_request_topic: expected projects/PROJECT/topics/TOPIC, got ${jsonencode(var.existing_request_topic)}."
  }
}

variable "existing_response_topic" {
  description = "Full name of a response topic that exists already (projects/P/topics/T). Null makes one."
  type        = string
  default     = null

  validation {
    condition     = var.existing_response_topic == null || can(regex("^projects/[^/]+/topics/[^/]+$", var.existing_response_topic))
    error_message = "existing_response_topic: expected projects/PROJECT/topics/TOPIC, got ${jsonencode(var.existing_response_topic)}."
  }

  validation {
    condition     = var.existing_response_topic == null || var.existing_response_topic != var.existing_request_topic
    error_message = "existing_response_topic: it is the request topic, and the worker would answer its own answers; name another topic."
  }
}

variable "response_subscription" {
  description = "Whether to make a pull subscription on the responses. Turn it off when consumers bring their own: nobody reading it, it keeps every response for message_retention."
  type        = bool
  default     = true
}

variable "ack_deadline_seconds" {
  description = "Seconds until an unanswered request is delivered again, for consumers that do not set their own. predictd sets its leases to 20 s and extends them while it works."
  type        = number
  default     = 20

  validation {
    condition     = var.ack_deadline_seconds >= 10 && var.ack_deadline_seconds <= 600
    error_message = "ack_deadline_seconds: expected 10 to 600, got ${var.ack_deadline_seconds}."
  }
}

variable "message_retention" {
  description = "How long unanswered requests and unread responses are kept, in seconds with an s: 10 minutes to 31 days."
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
  description = "How long Pub/Sub waits before it delivers a request again that the worker gave back: from minimum_backoff, growing to maximum_backoff; 0s to 600s each."
  type = object({
    minimum_backoff = optional(string, "1s")
    maximum_backoff = optional(string, "60s")
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
  description = "Deliveries after which a request becomes a dead letter, 5 to 100, approximate. Restarts count too: each gives back what it had in hand."
  type        = number
  default     = 10

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

variable "ordering" {
  description = "Whether requests of one ordering key are answered in order, which also needs inference.threads = 1. One message that fails holds up its key, so it costs throughput. Changing it replaces the subscriptions."
  type        = bool
  default     = false
}

variable "exactly_once" {
  description = "Whether Pub/Sub delivers each message id once, within one region. It lowers throughput; consumers that deduplicate by request_message_id do not need it."
  type        = bool
  default     = false
}

variable "schema" {
  description = "A schema that every request must fit: type (AVRO or PROTOCOL_BUFFER), its definition, and encoding (JSON or BINARY). Null: none. Publishing what does not fit then fails at the publisher."
  type = object({
    type       = string
    definition = string
    encoding   = optional(string, "JSON")
  })
  default = null

  validation {
    condition     = var.schema == null || contains(["AVRO", "PROTOCOL_BUFFER"], try(var.schema.type, ""))
    error_message = "schema.type: expected AVRO or PROTOCOL_BUFFER, got ${jsonencode(try(var.schema.type, null))}."
  }

  validation {
    condition     = var.schema == null || contains(["JSON", "BINARY"], try(var.schema.encoding, ""))
    error_message = "schema.encoding: expected JSON or BINARY, got ${jsonencode(try(var.schema.encoding, null))}."
  }

  validation {
    condition     = var.schema == null || var.existing_request_topic == null
    error_message = "schema: it belongs to the topic, and existing_request_topic is not this module's; set the schema where that topic is made."
  }
}

variable "kms_key" {
  description = "Full name of the Cloud KMS key that encrypts the topics. Null: Google's own keys. Pub/Sub's service agent is granted its use."
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
