# What is not validated here is validated by the module that takes it, with the same name.

variable "project" {
  description = "Id of the Google Cloud project that everything is made in."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9.:-]{2,61}[a-z0-9]$", var.project))
    error_message = "project: expected a project id such as my-project-123, got ${jsonencode(var.project)}; it is the id, not the number or the display name."
  }
}

variable "image" {
  description = "Container image of predictd with tag or digest, such as europe-west1-docker.pkg.dev/P/R/predictd@sha256:…; the Dockerfile builds it."
  type        = string
}

variable "location" {
  description = "Region of the worker and of the bucket."
  type        = string
  default     = "europe-west1"
}

variable "name" {
  description = "Name of the worker: its pool, service account, alerts; also the label `app` of everything. A second worker in one project also needs requests_name, responses_name and updates_name of its own."
  type        = string
  default     = "predictd"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,17}[a-z0-9]$", var.name))
    error_message = "name: expected 6 to 19 lower-case letters, digits and -, a letter first and no - last (the autoscaler's is longer by 11, of 30), got ${jsonencode(var.name)}."
  }
}

variable "project_number" {
  description = "Number of the project. Looked up when null; give it where the caller may not read the project."
  type        = string
  default     = null
}

variable "enable_apis" {
  description = "Whether to turn on the APIs that this needs. They stay on when it is destroyed."
  type        = bool
  default     = true
}

variable "labels" {
  description = "Labels of everything that takes labels, besides `app`."
  type        = map(string)
  default     = {}
}

# Messages

variable "requests_name" {
  description = "Name of the request topic and its subscription."
  type        = string
  default     = "prediction-requests"
}

variable "responses_name" {
  description = "Name of the response topic and its subscription."
  type        = string
  default     = "prediction-responses"
}

variable "existing_request_topic" {
  description = "Full name of a request topic that exists already (projects/P/topics/T). Null makes one."
  type        = string
  default     = null
}

variable "existing_response_topic" {
  description = "Full name of a response topic that exists already (projects/P/topics/T). Null makes one."
  type        = string
  default     = null
}

variable "response_subscription" {
  description = "Whether to make a pull subscription on the responses for consumers."
  type        = bool
  default     = true
}

variable "message_retention" {
  description = "How long unanswered requests and unread responses are kept, in seconds with an s: 600s to 2678400s."
  type        = string
  default     = "604800s"
}

variable "max_delivery_attempts" {
  description = "Deliveries after which a request becomes a dead letter, 5 to 100."
  type        = number
  default     = 10
}

variable "ack_deadline_seconds" {
  description = "Seconds until an unanswered request is delivered again, for consumers that do not set their own; predictd does."
  type        = number
  default     = 20
}

variable "retry" {
  description = "How long Pub/Sub waits before it delivers a request again that the worker gave back: from minimum_backoff, growing to maximum_backoff; 0s to 600s each."
  type = object({
    minimum_backoff = optional(string, "1s")
    maximum_backoff = optional(string, "60s")
  })
  default = {}
}

variable "dead_letter_retention" {
  description = "How long dead letters wait for somebody to look, in seconds with an s: 600s to 2678400s."
  type        = string
  default     = "2678400s"
}

variable "ordering" {
  description = "Whether requests of one ordering key are answered in order. The worker then runs one inference thread."
  type        = bool
  default     = false
}

variable "exactly_once" {
  description = "Whether Pub/Sub delivers each request's message id once, within one region."
  type        = bool
  default     = false
}

variable "schema" {
  description = "A schema that every request must fit: type (AVRO or PROTOCOL_BUFFER), definition, encoding (JSON or BINARY). Null: none."
  type = object({
    type       = string
    definition = string
    encoding   = optional(string, "JSON")
  })
  default = null
}

variable "kms_key" {
  description = "Full name of the Cloud KMS key for the topics, that of the bucket's notifications too. Null: Google's own keys."
  type        = string
  default     = null
}

# Models

variable "bucket" {
  description = "Name of the models' bucket. Null: PROJECT-NAME-models."
  type        = string
  default     = null
}

variable "updates_name" {
  description = "Name of the topic of the bucket's notifications, and of the worker's subscription to it."
  type        = string
  default     = "model-updates"
}

variable "models_prefix" {
  description = "Folder of the bucket with the models: PREFIX/MODEL/VERSION/model.onnx."
  type        = string
  default     = "models"
}

variable "models_kms_key" {
  description = "Full name of the Cloud KMS key for the bucket, in the bucket's location. Null: Google's own keys."
  type        = string
  default     = null
}

variable "noncurrent_days" {
  description = "Days after which an overwritten or deleted model file is really gone."
  type        = number
  default     = 30
}

variable "soft_delete_days" {
  description = "Days in which what was removed for good can still be restored: 0 (off), or 7 to 90."
  type        = number
  default     = 7
}

variable "force_destroy" {
  description = "Whether `terraform destroy` may delete the bucket with models in it. For trials only."
  type        = bool
  default     = false
}

variable "default_model" {
  description = "The model that serves requests which name none. May be left empty when there is only one."
  type        = string
  default     = ""
}

variable "input_buckets" {
  description = "Buckets (BUCKET or BUCKET/PREFIX) that requests may refer to."
  type        = list(string)
  default     = []
}

variable "results_bucket" {
  description = "Bucket (BUCKET or BUCKET/PREFIX) that results too long for a message are written to; it exists already. Null: none, and such results are refused."
  type        = string
  default     = null
}

# Worker

variable "settings" {
  description = "Further keys of predictd's configuration, such as {\"batching.max_rows\" = \"256\"}; config/predictd.yaml explains them."
  type        = map(string)
  default     = {}
}

variable "log" {
  description = "What is logged, as PREDICTD_LOG says it: info, debug, or per module. The alerts need info or more."
  type        = string
  default     = "info,ort=warn"
}

variable "otel" {
  description = "OpenTelemetry's variables, such as {OTEL_EXPORTER_OTLP_ENDPOINT = \"https://collector.example.com:4318\"}: where traces and metrics are sent. Nothing is without an endpoint."
  type        = map(string)
  default     = {}
}

variable "instances" {
  description = "How many workers run, without autoscaling."
  type        = number
  default     = 1
}

variable "cpu" {
  description = "Processors of a worker: 1, 2, 4, 6 or 8."
  type        = string
  default     = "2"
}

variable "memory" {
  description = "Memory of a worker, such as 2Gi; it holds the models too."
  type        = string
  default     = "2Gi"
}

variable "gpu" {
  description = "Type of each worker's GPU, such as nvidia-l4. Null: none."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the worker pool. Set it to false and apply before a destroy."
  type        = bool
  default     = true
}

variable "service" {
  description = "Predictions over HTTP beside the workers: a Cloud Run service on the same models, which `invokers` may call (nobody by default). Its own variables say more. Null: none."
  type = object({
    invokers      = optional(list(string), [])
    ingress       = optional(string, "INGRESS_TRAFFIC_ALL")
    min_instances = optional(number, 1)
    max_instances = optional(number, 10)
    concurrency   = optional(number, 250)
    cpu           = optional(string, "2")
    memory        = optional(string, "2Gi")
    settings      = optional(map(string), {})
    # With true, a first apply needs no model in the bucket.
    starts_without_models = optional(bool, true)
  })
  default = null
}

variable "batch" {
  description = "Batch predictions over files: makes their topic and subscription, which the workers take jobs and shards from. Buckets (BUCKET or BUCKET/PREFIX) exist already: jobs may read all of these, and write to output_buckets. `notifications` are jobs that begin by themselves, one for each new object under a prefix of a bucket. Null: none."
  type = object({
    input_buckets  = optional(list(string), [])
    output_buckets = list(string)
    notifications = optional(map(object({
      bucket  = string
      prefix  = optional(string, "")
      model   = string
      output  = string
      options = optional(map(string), {})
    })), {})
    # Null, these are the module's own.
    name                  = optional(string)
    max_delivery_attempts = optional(number)
  })
  default = null

  # A folder below an allowed one is allowed, and a prefix that ends in the middle of a name is not.
  validation {
    condition = alltrue([
      for it in try(values(var.batch.notifications), []) :
      anytrue([for place in concat(var.batch.input_buckets, var.batch.output_buckets) : startswith("${it.bucket}/${it.prefix}", "${trimsuffix(place, "/")}/")]) &&
      anytrue([for place in var.batch.output_buckets : startswith("${trimprefix(it.output, "gs://")}/", "${trimsuffix(place, "/")}/")])
    ])
    error_message = "batch: expected each notification's bucket and prefix in input_buckets and its output in output_buckets, got ${jsonencode(try(var.batch.notifications, null))}."
  }
}

variable "autoscaling" {
  description = "Scales the workers on the requests that wait: between min_instances and max_instances, one for each requests_per_instance; with `batch` also one for each shards_per_instance; with target_utilisation also as many as are at work for that share of the time (needs metrics_sidecar). Null: `instances` of them. See the module's text for what it is and its limits."
  type = object({
    min_instances         = optional(number, 1)
    max_instances         = optional(number, 10)
    requests_per_instance = optional(number, 10000)
    target_utilisation    = optional(number)
    # Null, these are the module's own.
    shards_per_instance      = optional(number)
    polling_interval_seconds = optional(number)
    scale_down_delay_seconds = optional(number)
    image                    = optional(string)
    base_image               = optional(string)
  })
  default = null

  validation {
    condition     = try(var.autoscaling.target_utilisation, null) == null || var.metrics_sidecar != null
    error_message = "autoscaling.target_utilisation: expected a metrics_sidecar, which brings predictd's own metrics to Cloud Monitoring."
  }
}

# Alerts

variable "observability" {
  description = "Whether to make the dashboard and the alerts."
  type        = bool
  default     = true
}

variable "metrics_sidecar" {
  description = "Image of the collector that sends predictd's own metrics to Cloud Monitoring. Null: none; alerts then rest on Pub/Sub's metrics and the log."
  type        = string
  default     = null
}

variable "alert_emails" {
  description = "E-mail addresses that alerts notify."
  type        = list(string)
  default     = []
}

variable "notification_channels" {
  description = "Full names of existing notification channels that alerts notify, projects/P/notificationChannels/N."
  type        = list(string)
  default     = []
}

variable "max_request_age_seconds" {
  description = "How old the oldest unanswered request may become before somebody is called, in seconds."
  type        = number
  default     = 300
}

variable "max_batch_age_seconds" {
  description = "How old the oldest unfinished shard of a batch job may become before somebody is called, in seconds: more than the longest job takes."
  type        = number
  default     = 21600
}

variable "max_error_ratio" {
  description = "Share of error responses from which somebody is called; needs metrics_sidecar."
  type        = number
  default     = 0.05
}
