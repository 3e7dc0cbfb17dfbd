output "config" {
  description = "CREMA's configuration as YAML, as it is stored in Parameter Manager."
  value       = local.config
}

output "service_account" {
  description = "The autoscaler's identity, as an e-mail address."
  value       = google_service_account.autoscaler.email
}

output "logs_command" {
  description = "Shows what the autoscaler saw and decided in the last ten minutes."
  value       = "gcloud logging read 'resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${google_cloud_run_v2_service.autoscaler.name}\"' --project=${var.project} --freshness=10m"
}
