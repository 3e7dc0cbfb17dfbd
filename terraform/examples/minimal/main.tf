# A project and an image; everything else has a default. docs/deploying.md goes from a clone to predictions with this one.
#   terraform init && terraform apply -var project=my-project -var image=REGION-docker.pkg.dev/P/R/predictd@sha256:…

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "image" {
  description = "Container image of predictd."
  type        = string
}

variable "location" {
  description = "Region of the worker and of the bucket."
  type        = string
  default     = "europe-west1"
}

variable "alert_emails" {
  description = "E-mail addresses that alerts notify. Without any, alerts are seen in the console alone."
  type        = list(string)
  default     = []
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the worker pool. Set it to false and apply before a destroy."
  type        = bool
  default     = true
}

variable "force_destroy" {
  description = "Whether `terraform destroy` may delete the bucket with models in it. Set it to true and apply before such a destroy."
  type        = bool
  default     = false
}

module "predictd" {
  source = "../.."

  project             = var.project
  image               = var.image
  location            = var.location
  alert_emails        = var.alert_emails
  deletion_protection = var.deletion_protection
  force_destroy       = var.force_destroy
}

output "next" {
  description = "What to paste next: upload a model, publish a request, read the answer."
  value       = [module.predictd.upload_command, module.predictd.publish_command, module.predictd.pull_command]
}

output "config" {
  description = "The worker's configuration as predictd.yaml."
  value       = module.predictd.config
}

output "logs_command" {
  description = "Shows the worker's warnings and errors of the last hour."
  value       = module.predictd.logs_command
}

output "dead_letter_command" {
  description = "Shows dead letters without removing them."
  value       = module.predictd.dead_letter_command
}

output "dashboard_url" {
  description = "The dashboard in the console."
  value       = module.predictd.dashboard_url
}
