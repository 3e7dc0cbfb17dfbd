# One GPU for each worker. The image must be the Dockerfile's target `cuda`, and the project needs quota for the GPU in the region.

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "image" {
  description = "Container image of predictd, CUDA variant."
  type        = string
}

module "predictd" {
  source = "../.."

  project  = var.project
  image    = var.image
  location = "europe-west1"
  gpu      = "nvidia-l4"
  cpu      = "4"
  memory   = "16Gi"

  # A GPU is fed by large batches; one thread keeps one session on it.
  settings = { "batching.max_rows" = "1024", "batching.max_wait" = "5ms", "inference.threads" = "1" }
}

output "config" {
  description = "The worker's configuration."
  value       = module.predictd.config
}
