variable "project" {
  description = "Id of the Google Cloud project that runs the worker."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9.:-]{2,61}[a-z0-9]$", var.project))
    error_message = "project: expected a project id such as my-project-123, got ${jsonencode(var.project)}; it is the id, not the number or the display name."
  }
}

variable "location" {
  description = "Region of the worker pool, such as europe-west1. GPUs are in some regions only."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.location))
    error_message = "location: expected a region such as europe-west1, got ${jsonencode(var.location)}; a zone or a multi-region will not do."
  }
}

variable "name" {
  description = "Name of the worker pool and of its service account."
  type        = string
  default     = "predictd"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.name))
    error_message = "name: expected 6 to 30 lower-case letters, digits and -, a letter first and no - last, got ${jsonencode(var.name)}."
  }
}

variable "image" {
  description = "Container image of predictd, best with its digest: REGION-docker.pkg.dev/P/R/predictd@sha256:…. With a GPU it must be the CUDA variant."
  type        = string

  validation {
    condition     = can(regex("^[^\\s:@]+(/[^\\s:@]+)*(:[A-Za-z0-9_.-]+(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image: expected NAME:TAG or NAME@sha256:DIGEST, got ${jsonencode(var.image)}; without either, or with `latest`, nobody could tell what runs."
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
  description = "Where the models are, as gs://BUCKET or gs://BUCKET/PREFIX."
  type        = string

  validation {
    condition     = can(regex("^gs://[a-z0-9][a-z0-9._-]+(/[^/\\s]+)*$", var.models_url))
    error_message = "models_url: expected gs://BUCKET or gs://BUCKET/PREFIX without a slash at its end, got ${jsonencode(var.models_url)}."
  }
}

variable "updates_subscription" {
  description = "Full name of the subscription with the bucket's notifications. Null: new versions are found by polling alone, once a minute."
  type        = string
  default     = null

  validation {
    condition     = var.updates_subscription == null || can(regex("^projects/[^/]+/subscriptions/[^/]+$", var.updates_subscription))
    error_message = "updates_subscription: expected projects/P/subscriptions/S, got ${jsonencode(var.updates_subscription)}."
  }
}

variable "default_model" {
  description = "The model that serves requests which name none. May be left empty when there is only one."
  type        = string
  default     = ""
}

variable "input_buckets" {
  description = "Buckets (BUCKET or BUCKET/PREFIX) that requests may refer to. The worker may read each bucket; predictd itself keeps to the prefix."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for input in var.input_buckets : can(regex("^[a-z0-9][a-z0-9._-]+(/[^,\\s]+)?$", input))])
    error_message = "input_buckets: expected BUCKET or BUCKET/PREFIX each, without gs://, commas or spaces, got ${jsonencode(var.input_buckets)}."
  }
}

variable "results_bucket" {
  description = "Bucket (BUCKET or BUCKET/PREFIX) that results too long for a message are written to; it exists already. Null: none, and such results are refused. settings[\"responses.inline_limit\"] says what too long is."
  type        = string
  default     = null

  validation {
    condition     = var.results_bucket == null || can(regex("^[a-z0-9][a-z0-9._-]+(/[^\\s]*[^/\\s])?$", var.results_bucket))
    error_message = "results_bucket: expected BUCKET or BUCKET/PREFIX, without gs:// and a slash at its end, got ${jsonencode(var.results_bucket)}."
  }
}

variable "batch" {
  description = "Batch predictions over files: full names of the subscription (projects/P/subscriptions/S) with jobs and their shards, and of its topic, which the worker publishes the shards to; buckets (BUCKET or BUCKET/PREFIX) that jobs may read, and those that they may write, which they may read too. Null: this worker takes none."
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

  validation {
    condition     = var.batch == null || try(var.batch.subscription, null) != var.request_subscription
    error_message = "batch: it is the subscription of the requests; name another."
  }
}

# The keys of predictd's configuration that have no variable of their own, and how a value of each looks.
locals {
  count    = "^[0-9]+$"
  size     = "^[0-9]+(B|[KMGT]i?B)?$"
  duration = "^(0|([0-9]+(ms|s|m|h))+)$"
  setting_forms = {
    "requests.max_outstanding_messages" = local.count
    "requests.max_outstanding_bytes"    = local.size
    "responses.inline_limit"            = local.size
    "models.poll_interval"              = local.duration
    "models.load_timeout"               = local.duration
    "models.cache"                      = "^/"
    "models.cache_size"                 = local.size
    "batching.max_rows"                 = local.count
    "batching.max_wait"                 = local.duration
    "inference.library"                 = "^/"
    "inference.providers"               = "^(cpu|cuda)(,(cpu|cuda))?$"
    "inference.threads"                 = local.count
    "http.console"                      = "^(true|false)$"
    "http.predictions"                  = "^(true|false)$"
    "http.max_body"                     = local.size
    "http.timeout"                      = local.duration
    "http.tokens_file"                  = "^/"
    "shutdown.grace"                    = local.duration
  }
}

variable "settings" {
  description = "Further keys of predictd's configuration, such as {\"batching.max_rows\" = \"256\"}. config/predictd.yaml explains them all. models.cache is of little use on Cloud Run, whose disk is memory and goes with the instance."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.settings), keys(local.setting_forms))) == 0
    error_message = "settings: expected keys among ${join(", ", keys(local.setting_forms))} (subscription, topic, models, buckets and listening address have variables of their own: the grants and probes follow them), got ${join(", ", setsubtract(keys(var.settings), keys(local.setting_forms)))}."
  }

  validation {
    condition     = alltrue([for key, value in var.settings : can(regex(lookup(local.setting_forms, key, ""), value))])
    error_message = "settings: expected whole numbers, sizes such as 128MiB, durations such as 500ms, absolute paths, true or false, or cuda,cpu, got ${join(", ", [for key, value in var.settings : "${key} = ${jsonencode(value)}" if !can(regex(lookup(local.setting_forms, key, ""), value))])}."
  }

  validation {
    condition     = !contains(keys(var.settings), "responses.inline_limit") || var.results_bucket != null
    error_message = "settings: responses.inline_limit says what goes to results_bucket, which is not given."
  }

  validation {
    condition     = sum([for part in concat([["0", "s"]], try(regexall("([0-9]+)(ms|s|m|h)", var.settings["shutdown.grace"]), [])) : tonumber(part[0]) * { ms = 0.001, s = 1, m = 60, h = 3600 }[part[1]]]) < 10
    error_message = "settings: expected shutdown.grace to be shorter than the 10s after which Cloud Run kills, got ${jsonencode(try(var.settings["shutdown.grace"], ""))}."
  }
}

variable "otel" {
  description = "OpenTelemetry's variables, such as {OTEL_EXPORTER_OTLP_ENDPOINT = \"https://collector.example.com:4318\", OTEL_TRACES_SAMPLER = \"parentbased_traceidratio\", OTEL_TRACES_SAMPLER_ARG = \"0.01\"}. Nothing is exported without an endpoint. Headers with secrets would stand in the state and in the pool's description in plain text."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, _ in var.otel : can(regex("^OTEL_(EXPORTER_OTLP_((TRACES|METRICS)_)?(COMPRESSION|ENDPOINT|HEADERS|PROTOCOL|TIMEOUT)|(TRACES|METRICS)_EXPORTER|TRACES_SAMPLER(_ARG)?|METRIC_EXPORT_INTERVAL|SERVICE_NAME|RESOURCE_ATTRIBUTES|SDK_DISABLED|BSP_[A-Z_]+|SPAN_[A-Z_]+)$", key))])
    error_message = "otel: expected OpenTelemetry's variables that predictd follows, such as OTEL_EXPORTER_OTLP_ENDPOINT, got ${jsonencode(keys(var.otel))}."
  }

  validation {
    condition     = alltrue([for key, value in var.otel : can(regex("^https?://[^\\s/]+", value)) if endswith(key, "_ENDPOINT")])
    error_message = "otel: expected an endpoint as a URL such as https://collector.example.com:4318, got ${jsonencode([for key, value in var.otel : value if endswith(key, "_ENDPOINT")])}."
  }

  validation {
    condition     = alltrue([for key, value in var.otel : contains(["http/protobuf", "grpc"], value) if endswith(key, "_PROTOCOL")])
    error_message = "otel: expected the protocol http/protobuf (a collector's port 4318) or grpc (4317), got ${jsonencode([for key, value in var.otel : value if endswith(key, "_PROTOCOL")])}."
  }
}

variable "log" {
  description = "What is logged, as PREDICTD_LOG says it: info, debug, or per module. The alerts need info or more."
  type        = string
  default     = "info,ort=warn"
}

variable "instances" {
  description = "How many instances run. Null leaves the count alone, for the autoscaling module (Terraform would undo its work otherwise)."
  type        = number
  default     = 1

  validation {
    condition     = var.instances == null || try(var.instances >= 0 && floor(var.instances) == var.instances, false)
    error_message = "instances: expected a whole number, 0 or more, or null for autoscaling, got ${jsonencode(var.instances)}."
  }
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

# What Cloud Run's worker pools allow together, in Gi.
locals {
  memory_of_cpu = {
    "1" = { least = 0.5, most = 4 }
    "2" = { least = 0.5, most = 8 }
    "4" = { least = 2, most = 16 }
    "6" = { least = 4, most = 24 }
    "8" = { least = 4, most = 32 }
  }
}

variable "memory" {
  description = "Memory of an instance, such as 2Gi. It holds the messages in hand (128 MiB at most by default), every model once a thread, and a new version's files while it is loaded: Cloud Run's disk is memory."
  type        = string
  default     = "2Gi"

  validation {
    condition     = can(regex("^[0-9]+(Mi|Gi)$", var.memory)) && try(tonumber(regex("^[0-9]+", var.memory)) * (endswith(var.memory, "Gi") ? 1024 : 1) >= 512, false)
    error_message = "memory: expected 512Mi or more, as Mi or Gi, got ${jsonencode(var.memory)}."
  }

  validation {
    condition = try(
      tonumber(regex("^[0-9]+", var.memory)) * (endswith(var.memory, "Gi") ? 1 : 1 / 1024) >= local.memory_of_cpu[var.cpu].least &&
      tonumber(regex("^[0-9]+", var.memory)) * (endswith(var.memory, "Gi") ? 1 : 1 / 1024) <= local.memory_of_cpu[var.cpu].most, true
    )
    error_message = "memory: with cpu ${var.cpu} Cloud Run gives ${try("${local.memory_of_cpu[var.cpu].least}Gi to ${local.memory_of_cpu[var.cpu].most}Gi", "none")}, got ${jsonencode(var.memory)}."
  }
}

variable "gpu" {
  description = "Type of the GPU, such as nvidia-l4; one for each instance. Null: none. It needs the CUDA image, 4 processors and 16Gi at least, and a region that has it."
  type        = string
  default     = null

  validation {
    condition     = var.gpu == null || can(regex("^nvidia-[a-z0-9-]+$", var.gpu))
    error_message = "gpu: expected a type such as nvidia-l4, got ${jsonencode(var.gpu)}."
  }

  validation {
    condition     = var.gpu == null || (contains(["4", "6", "8"], var.cpu) && try(tonumber(regex("^([0-9]+)Gi$", var.memory)[0]) >= 16, false))
    error_message = "gpu: Cloud Run gives a GPU only to instances with cpu 4 or more and memory 16Gi or more, got cpu ${var.cpu} and memory ${var.memory}."
  }
}

variable "metrics_sidecar" {
  description = "Image of the collector that sends predictd's own metrics to Cloud Monitoring; it reads port 8080, path /metrics. Null: none, and alerts on them stay silent."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the pool."
  type        = bool
  default     = true
}

variable "labels" {
  description = "Labels of the pool and its revisions."
  type        = map(string)
  default     = {}
}
