output "alerts" {
  description = "The alert policies' full names by alert; ALERTS.md explains each."
  value = merge(
    { for key, policy in google_monitoring_alert_policy.threshold : key => policy.name },
    { for key, policy in google_monitoring_alert_policy.line : key => policy.name },
    { for policy in google_monitoring_alert_policy.error_ratio : "error-ratio" => policy.name },
  )
}

output "dashboard_url" {
  description = "The dashboard in the console."
  value       = "https://console.cloud.google.com/monitoring/dashboards/builder/${reverse(split("/", google_monitoring_dashboard.predictd.id))[0]}?project=${var.project}"
}
