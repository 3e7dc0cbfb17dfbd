# predictd in a project: topics, the models' bucket, the worker, alerts and, if asked for, autoscaling. Each part is a module
# that can be used alone; this file only connects them.

locals {
  bucket = coalesce(var.bucket, "${var.project}-${var.name}-models")
  labels = merge({ app = var.name }, var.labels)

  apis = concat(
    # The first two are the provider's own: it looks the project up, its billing with it, before it sets the project's policy.
    ["cloudresourcemanager", "cloudbilling", "iam", "logging", "monitoring", "pubsub", "run", "storage"],
    var.kms_key == null && var.models_kms_key == null ? [] : ["cloudkms"],
    var.autoscaling == null ? [] : ["parametermanager"],
  )
}

resource "google_project_service" "api" {
  for_each = var.enable_apis ? toset([for api in local.apis : "${api}.googleapis.com"]) : toset([])

  project            = var.project
  service            = each.value
  disable_on_destroy = false # others in the project may use it
}

module "messaging" {
  source = "./modules/messaging"

  project                 = var.project
  project_number          = var.project_number
  requests_name           = var.requests_name
  responses_name          = var.responses_name
  existing_request_topic  = var.existing_request_topic
  existing_response_topic = var.existing_response_topic
  response_subscription   = var.response_subscription
  message_retention       = var.message_retention
  ack_deadline_seconds    = var.ack_deadline_seconds
  retry                   = var.retry
  max_delivery_attempts   = var.max_delivery_attempts
  dead_letter_retention   = var.dead_letter_retention
  ordering                = var.ordering
  exactly_once            = var.exactly_once
  schema                  = var.schema
  kms_key                 = var.kms_key
  labels                  = local.labels

  depends_on = [google_project_service.api]
}

module "models" {
  source = "./modules/models"

  project          = var.project
  bucket           = local.bucket
  location         = var.location
  prefix           = var.models_prefix
  updates_name     = var.updates_name
  force_destroy    = var.force_destroy
  noncurrent_days  = var.noncurrent_days
  soft_delete_days = var.soft_delete_days
  kms_key          = var.models_kms_key
  # From the module that lets Pub/Sub use it: the topic is refused before that.
  updates_kms_key = module.messaging.kms_key
  labels          = local.labels

  depends_on = [google_project_service.api]
}

module "batch" {
  source = "./modules/batch"
  count  = var.batch == null ? 0 : 1

  project               = var.project
  project_number        = var.project_number
  name                  = var.batch.name
  notifications         = var.batch.notifications
  max_delivery_attempts = var.batch.max_delivery_attempts
  message_retention     = var.message_retention
  dead_letter_retention = var.dead_letter_retention
  # From the module that lets Pub/Sub use it: the topics are refused before that.
  kms_key = module.messaging.kms_key
  labels  = local.labels

  depends_on = [google_project_service.api]
}

module "worker" {
  source = "./modules/worker"

  project              = var.project
  location             = var.location
  name                 = var.name
  image                = var.image
  request_subscription = module.messaging.request_subscription
  response_topic       = module.messaging.response_topic
  models_url           = module.models.url
  updates_subscription = module.models.updates_subscription
  default_model        = var.default_model
  input_buckets        = var.input_buckets
  results_bucket       = var.results_bucket
  batch = var.batch == null ? null : {
    subscription   = module.batch[0].subscription
    topic          = module.batch[0].topic
    input_buckets  = var.batch.input_buckets
    output_buckets = var.batch.output_buckets
  }
  log                 = var.log
  otel                = var.otel
  settings            = merge(var.ordering ? { "inference.threads" = "1" } : {}, var.settings)
  instances           = var.autoscaling == null ? var.instances : null
  cpu                 = var.cpu
  memory              = var.memory
  gpu                 = var.gpu
  metrics_sidecar     = var.metrics_sidecar
  deletion_protection = var.deletion_protection
  labels              = local.labels

  depends_on = [google_project_service.api]
}

module "service" {
  source = "./modules/service"
  count  = var.service == null ? 0 : 1

  project               = var.project
  location              = var.location
  name                  = "${var.name}-http"
  image                 = var.image
  models_url            = module.models.url
  default_model         = var.default_model
  invokers              = var.service.invokers
  ingress               = var.service.ingress
  min_instances         = var.service.min_instances
  max_instances         = var.service.max_instances
  concurrency           = var.service.concurrency
  cpu                   = var.service.cpu
  memory                = var.service.memory
  settings              = var.service.settings
  starts_without_models = var.service.starts_without_models
  log                   = var.log
  deletion_protection   = var.deletion_protection
  labels                = local.labels

  depends_on = [google_project_service.api]
}

module "observability" {
  source = "./modules/observability"
  count  = var.observability ? 1 : 0

  project                  = var.project
  name                     = var.name
  request_subscription     = module.messaging.request_subscription
  dead_letter_subscription = module.messaging.dead_letter_subscription
  batch = var.batch == null ? null : {
    subscription             = module.batch[0].subscription
    dead_letter_subscription = module.batch[0].dead_letter_subscription
  }
  max_batch_age_seconds   = var.max_batch_age_seconds
  worker_pool             = module.worker.name
  log_filter              = module.worker.log_filter
  own_metrics             = var.metrics_sidecar != null
  max_request_age_seconds = var.max_request_age_seconds
  max_error_ratio         = var.max_error_ratio
  emails                  = var.alert_emails
  notification_channels   = var.notification_channels
  labels                  = local.labels

  depends_on = [google_project_service.api]
}

module "autoscaling" {
  source = "./modules/autoscaling"
  count  = var.autoscaling == null ? 0 : 1

  project                  = var.project
  name                     = "${var.name}-autoscaler"
  worker_pool              = module.worker.id
  worker_service_account   = module.worker.service_account_id
  request_subscription     = module.messaging.request_subscription
  batch_subscription       = one(module.batch[*].subscription)
  shards_per_instance      = var.autoscaling.shards_per_instance
  min_instances            = var.autoscaling.min_instances
  max_instances            = var.autoscaling.max_instances
  requests_per_instance    = var.autoscaling.requests_per_instance
  target_utilisation       = var.autoscaling.target_utilisation
  polling_interval_seconds = var.autoscaling.polling_interval_seconds
  scale_down_delay_seconds = var.autoscaling.scale_down_delay_seconds
  image                    = var.autoscaling.image
  base_image               = var.autoscaling.base_image
  labels                   = local.labels

  depends_on = [google_project_service.api]
}
