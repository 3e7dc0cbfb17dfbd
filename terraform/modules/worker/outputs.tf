output "name" {
  description = "Name of the worker pool."
  value       = google_cloud_run_v2_worker_pool.worker.name
}

output "id" {
  description = "Full name of the worker pool, projects/P/locations/L/workerPools/NAME."
  value       = "projects/${var.project}/locations/${var.location}/workerPools/${google_cloud_run_v2_worker_pool.worker.name}"
}

output "service_account" {
  description = "The worker's identity, as an e-mail address: grant it whatever else a model needs."
  value       = google_service_account.worker.email
}

output "service_account_id" {
  description = "Full name of the service account, for grants on it."
  value       = google_service_account.worker.name
}

output "config" {
  description = "The worker's configuration as predictd.yaml; `predictd check --config FILE` takes it."
  value       = yamlencode(local.config)
}

output "log_filter" {
  description = "Selects the worker's log lines in Cloud Logging."
  value       = "resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name=\"${google_cloud_run_v2_worker_pool.worker.name}\""
}

output "logs_command" {
  description = "Shows the worker's warnings and errors of the last hour."
  value       = "gcloud logging read 'resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name=\"${google_cloud_run_v2_worker_pool.worker.name}\" AND (severity>=WARNING OR textPayload:*)' --project=${var.project} --freshness=1h"
}
