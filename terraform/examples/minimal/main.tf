# A project and an image; everything else has a default.
#   terraform init && terraform apply -var project=my-project -var image=REGION-docker.pkg.dev/P/R/predictd@sha256:…

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "image" {
  description = "Container image of predictd."
  type        = string
}

module "predictd" {
  source = "../.."

  project = var.project
  image   = var.image
}

output "next" {
  description = "What to paste next: upload a model, publish a request, read the answer."
  value       = [module.predictd.upload_command, module.predictd.publish_command, module.predictd.pull_command]
}
