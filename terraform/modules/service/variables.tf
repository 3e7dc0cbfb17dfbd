variable "project" {
  description = "Id of the Google Cloud project that runs the service."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9.:-]{2,61}[a-z0-9]$", var.project))
    error_message = "project: expected a project id such as my-project-123, got ${jsonencode(var.project)}; it is the id, not the number or the display name."
  }
}

variable "location" {
  description = "Region of the service, such as europe-west1: near those who call it."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.location))
    error_message = "location: expected a region such as europe-west1, got ${jsonencode(var.location)}; a zone or a multi-region will not do."
  }
}

variable "name" {
  description = "Name of the service and of its service account."
  type        = string
  default     = "predictd-http"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.name))
    error_message = "name: expected 6 to 30 lower-case letters, digits and -, a letter first and no - last, got ${jsonencode(var.name)}."
  }
}

variable "image" {
  description = "Container image of predictd, best with its digest: REGION-docker.pkg.dev/P/R/predictd@sha256:…."
  type        = string

  validation {
    condition     = can(regex("^[^\\s:@]+(/[^\\s:@]+)*(:[A-Za-z0-9_.-]+(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image: expected NAME:TAG or NAME@sha256:DIGEST, got ${jsonencode(var.image)}; without either, or with `latest`, nobody could tell what runs."
  }
}

variable "models_url" {
  description = "Where the models are, as gs://BUCKET or gs://BUCKET/PREFIX."
  type        = string

  validation {
    condition     = can(regex("^gs://[a-z0-9][a-z0-9._-]+(/[^/\\s]+)*$", var.models_url))
    error_message = "models_url: expected gs://BUCKET or gs://BUCKET/PREFIX without a slash at its end, got ${jsonencode(var.models_url)}."
  }
}

variable "default_model" {
  description = "The model that serves requests which name none. May be left empty when there is only one."
  type        = string
  default     = ""
}

variable "request_subscription" {
  description = "Full name of a subscription with requests, projects/P/subscriptions/S: the service then also does a worker's part. Null: HTTP alone."
  type        = string
  default     = null

  validation {
    condition     = var.request_subscription == null || can(regex("^projects/[^/]+/subscriptions/[^/]+$", var.request_subscription))
    error_message = "request_subscription: expected projects/P/subscriptions/S, got ${jsonencode(var.request_subscription)}."
  }
}

variable "response_topic" {
  description = "Full name of the topic for the responses to these, projects/P/topics/T."
  type        = string
  default     = null

  validation {
    condition     = var.response_topic == null || can(regex("^projects/[^/]+/topics/[^/]+$", var.response_topic))
    error_message = "response_topic: expected projects/P/topics/T, got ${jsonencode(var.response_topic)}."
  }

  validation {
    condition     = (var.response_topic == null) == (var.request_subscription == null)
    error_message = "response_topic: expected a topic exactly where request_subscription is given."
  }
}

variable "invokers" {
  description = "Who may call the service, such as serviceAccount:EMAIL or group:EMAIL; also accounts of other projects. Nobody by default; allUsers would make it public."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.invokers : can(regex("^((user|serviceAccount|group|domain|principal|principalSet):\\S+|allUsers|allAuthenticatedUsers)$", member))])
    error_message = "invokers: expected serviceAccount:EMAIL, user:EMAIL, group:EMAIL or domain:NAME each, got ${jsonencode(var.invokers)}."
  }
}

variable "ingress" {
  description = "From where it may be called: INGRESS_TRAFFIC_ALL, INGRESS_TRAFFIC_INTERNAL_ONLY or INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER. IAM asks who calls in any case."
  type        = string
  default     = "INGRESS_TRAFFIC_ALL"

  validation {
    condition     = contains(["INGRESS_TRAFFIC_ALL", "INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"], var.ingress)
    error_message = "ingress: expected INGRESS_TRAFFIC_ALL, INGRESS_TRAFFIC_INTERNAL_ONLY or INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER, got ${jsonencode(var.ingress)}."
  }
}

variable "settings" {
  description = "Further keys of predictd's configuration, such as {\"http.timeout\" = \"5s\"}. config/predictd.yaml explains them all."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, _ in var.settings : can(regex("^(batching|http|inference|models|requests|responses|shutdown)\\.[a-z_]+$", key))])
    error_message = "settings: expected keys of predictd's configuration such as http.timeout, got ${jsonencode(keys(var.settings))}."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), ["http.listen", "http.predictions", "models.source", "models.default", "requests.subscription", "requests.allowed_buckets", "responses.topic", "responses.bucket"])) == 0
    error_message = "settings: expected no key that has a variable of its own or needs a grant, got ${jsonencode(keys(var.settings))}."
  }
}

variable "log" {
  description = "What is logged, as PREDICTD_LOG says it: info, debug, or per module."
  type        = string
  default     = "info,ort=warn"
}

variable "concurrency" {
  description = "Requests at a time that Cloud Run sends to one instance, 1 to 1000. They share calls of the model: many are good for throughput."
  type        = number
  default     = 250

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 1000 && floor(var.concurrency) == var.concurrency
    error_message = "concurrency: Cloud Run allows 1 to 1000, got ${jsonencode(var.concurrency)}."
  }
}

variable "min_instances" {
  description = "Instances that always run. With 0, a first request waits for a start and for its model."
  type        = number
  default     = 1

  validation {
    condition     = var.min_instances >= 0 && floor(var.min_instances) == var.min_instances
    error_message = "min_instances: expected a whole number, 0 or more, got ${jsonencode(var.min_instances)}."
  }
}

variable "max_instances" {
  description = "Most instances."
  type        = number
  default     = 10

  validation {
    condition     = var.max_instances >= max(1, var.min_instances)
    error_message = "max_instances: expected at least one and min_instances, got ${jsonencode(var.max_instances)}."
  }
}

variable "cpu_always" {
  description = "Whether instances have their processor between requests, too: new versions of models are then loaded before a request comes. With a subscription they always have it."
  type        = bool
  default     = false
}

variable "starts_without_models" {
  description = "Whether an instance counts as started without a model. With false, a first apply needs a model in the bucket; with true, requests get 503 until one is served."
  type        = bool
  default     = false
}

variable "cpu" {
  description = "Processors of an instance: 1, 2, 4, 6 or 8. predictd runs one inference thread fewer than there are, at least one."
  type        = string
  default     = "2"

  validation {
    condition     = contains(["1", "2", "4", "6", "8"], var.cpu)
    error_message = "cpu: Cloud Run has 1, 2, 4, 6 or 8, got ${jsonencode(var.cpu)}."
  }
}

variable "memory" {
  description = "Memory of an instance, such as 2Gi. It holds every model once a thread, a new version's files while it is loaded, and requests."
  type        = string
  default     = "2Gi"

  validation {
    condition     = can(regex("^[0-9]+(Mi|Gi)$", var.memory)) && try(tonumber(regex("^[0-9]+", var.memory)) * (endswith(var.memory, "Gi") ? 1024 : 1) >= 512, false)
    error_message = "memory: expected 512Mi or more, as Mi or Gi, got ${jsonencode(var.memory)}."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the service."
  type        = bool
  default     = true
}

variable "labels" {
  description = "Labels of the service and its revisions."
  type        = map(string)
  default     = {}
}
