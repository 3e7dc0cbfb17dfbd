variable "project" {
  description = "Id of the Google Cloud project that holds the bucket and its notifications."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9.:-]{2,61}[a-z0-9]$", var.project))
    error_message = "project: expected a project id such as my-project-123, got ${jsonencode(var.project)}; it is the id, not the number or the display name."
  }
}

variable "bucket" {
  description = "Name of the bucket with the models. Bucket names are shared by everybody: begin it with the project's id."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$", var.bucket)) && !startswith(var.bucket, "goog")
    error_message = "bucket: expected 3 to 63 lower-case letters, digits, - or _, a letter or digit at both ends and no gs://, got ${jsonencode(var.bucket)}."
  }
}

variable "location" {
  description = "Where the bucket is: the worker's region (europe-west1) for speed, or a multi-region (EU)."
  type        = string

  validation {
    condition     = can(regex("^([A-Za-z]+-[A-Za-z]+[0-9]+|[A-Za-z]{2,4}[0-9]?)$", var.location))
    error_message = "location: expected a region such as europe-west1 or a multi-region such as EU, got ${jsonencode(var.location)}."
  }
}

variable "prefix" {
  description = "Folder of the bucket with the models: PREFIX/MODEL/VERSION/model.onnx. Empty: the whole bucket."
  type        = string
  default     = "models"

  validation {
    condition     = var.prefix == "" || can(regex("^[^/\\s][^\\s]*[^/\\s]$|^[^/\\s]$", var.prefix))
    error_message = "prefix: expected a folder without slashes at its ends and without spaces, such as models, got ${jsonencode(var.prefix)}."
  }
}

variable "updates_name" {
  description = "Name of the topic of the bucket's notifications, and of the worker's subscription to it."
  type        = string
  default     = "model-updates"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9._~+%-]{2,230}$", var.updates_name)) && !startswith(var.updates_name, "goog")
    error_message = "updates_name: expected 3 to 231 letters, digits or -._~+%, a letter first and not `goog`, got ${jsonencode(var.updates_name)}."
  }
}

variable "noncurrent_days" {
  description = "Days after which an overwritten or deleted model file is really gone."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days: expected a whole number of days, at least 1, got ${var.noncurrent_days}."
  }
}

variable "soft_delete_days" {
  description = "Days in which what was removed for good can still be restored: 0 (off), or 7 to 90."
  type        = number
  default     = 7

  validation {
    condition     = var.soft_delete_days == 0 || (var.soft_delete_days >= 7 && var.soft_delete_days <= 90)
    error_message = "soft_delete_days: expected 0 or 7 to 90, got ${var.soft_delete_days}."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` may delete the bucket with models in it. For trials only."
  type        = bool
  default     = false
}

variable "kms_key" {
  description = "Full name of the Cloud KMS key that encrypts the bucket, in the bucket's location. Null: Google's own keys. Cloud Storage's service agent is granted its use."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key: expected projects/P/locations/L/keyRings/R/cryptoKeys/K, got ${jsonencode(var.kms_key)}."
  }
}

variable "updates_kms_key" {
  description = "Full name of the Cloud KMS key that encrypts the notifications' topic: what it carries names the models. Null: Google's own keys. Pub/Sub's service agent must be allowed to use it already, as it is that of the messaging module's output kms_key."
  type        = string
  default     = null

  validation {
    condition     = var.updates_kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.updates_kms_key))
    error_message = "updates_kms_key: expected projects/P/locations/L/keyRings/R/cryptoKeys/K, got ${jsonencode(var.updates_kms_key)}."
  }
}

variable "labels" {
  description = "Labels of the bucket, the topic and the subscription."
  type        = map(string)
  default     = {}
}
