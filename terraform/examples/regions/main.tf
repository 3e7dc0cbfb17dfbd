# Workers and a service over HTTP in each of several regions, one bucket of models for all of them, and callers of other projects.
# docs/deploying.md says why the parts are cut this way.
#   terraform apply -var project=my-project -var image=REGION-docker.pkg.dev/P/R/predictd:TAG \
#     -var 'regions={eu="europe-west1",us="us-central1"}' -var 'callers=["serviceAccount:app@other-project.iam.gserviceaccount.com"]'

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "image" {
  description = "Container image of predictd."
  type        = string
}

variable "regions" {
  description = "The regions, each by a short name that ends the names of what is in it."
  type        = map(string)
  default     = { eu = "europe-west1", us = "us-central1" }
}

variable "models_location" {
  description = "Location of the models' bucket: a multi-region or a dual-region near all of them."
  type        = string
  default     = "EU"
}

variable "callers" {
  description = "Who may publish requests, read the responses and call over HTTP, such as serviceAccount:EMAIL of another project."
  type        = list(string)
  default     = []
}

locals {
  grants = { for pair in setproduct(keys(var.regions), var.callers) : "${pair[0]} ${pair[1]}" => { region = pair[0], caller = pair[1] } }
}

module "models" {
  source = "../../modules/models"

  project  = var.project
  bucket   = "${var.project}-predictd-models"
  location = var.models_location
}

# Requests stay in the region that they were published for.
module "messaging" {
  source   = "../../modules/messaging"
  for_each = var.regions

  project        = var.project
  requests_name  = "prediction-requests-${each.key}"
  responses_name = "prediction-responses-${each.key}"
}

module "worker" {
  source   = "../../modules/worker"
  for_each = var.regions

  project              = var.project
  location             = each.value
  name                 = "predictd-${each.key}"
  image                = var.image
  request_subscription = module.messaging[each.key].request_subscription
  response_topic       = module.messaging[each.key].response_topic
  models_url           = module.models.url
  # The notifications' one subscription would tell each fleet only some of the news.
  settings = { "models.poll_interval" = "15s" }
}

module "service" {
  source   = "../../modules/service"
  for_each = var.regions

  project               = var.project
  location              = each.value
  name                  = "predictd-http-${each.key}"
  image                 = var.image
  models_url            = module.models.url
  invokers              = var.callers
  settings              = { "models.poll_interval" = "15s" }
  starts_without_models = true
}

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = local.grants

  project = var.project
  topic   = module.messaging[each.value.region].request_topic
  role    = "roles/pubsub.publisher"
  member  = each.value.caller
}

resource "google_pubsub_subscription_iam_member" "consumer" {
  for_each = local.grants

  project      = var.project
  subscription = module.messaging[each.value.region].response_subscription
  role         = "roles/pubsub.subscriber"
  member       = each.value.caller
}

output "urls" {
  description = "Address of the service in each region: a caller takes the nearest."
  value       = { for name, _ in var.regions : name => module.service[name].url }
}

output "request_topics" {
  description = "Full name of each region's request topic, which callers of other projects publish to."
  value       = { for name, _ in var.regions : name => module.messaging[name].request_topic }
}
