output "url" {
  description = "Address of the service, https://…"
  value       = google_cloud_run_v2_service.service.uri
}

output "service_account" {
  description = "The service's identity, as an e-mail address."
  value       = google_service_account.service.email
}

output "ask_command" {
  description = "Asks the service; paste it, with the model's own features. The caller needs roles/run.invoker."
  value       = "curl -H \"Authorization: Bearer $(gcloud auth print-identity-token)\" ${google_cloud_run_v2_service.service.uri}/predict -d '{\"instances\": [[…]]}'"
}

output "logs_command" {
  description = "Shows the service's warnings and errors of the last hour."
  value       = "gcloud logging read 'resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${google_cloud_run_v2_service.service.name}\" AND (severity>=WARNING OR textPayload:*)' --project=${var.project} --freshness=1h"
}
