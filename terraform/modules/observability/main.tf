# Alerts that a person must act on, and one dashboard. What each alert means and what to do is in terraform/ALERTS.md.
#
# Three sources, by how far they can be relied on:
#   Pub/Sub's own metrics   always there; they see the worker from outside, dead or alive
#   predictd's log lines    there wherever Cloud Logging collects standard error: Cloud Run and GKE do
#   predictd's own metrics  only where something scrapes /metrics: the worker's sidecar, or GKE's managed collection

locals {
  runbook = "https://github.com/predictd/predictd/blob/main/terraform/ALERTS.md"

  request_subscription     = reverse(split("/", var.request_subscription))[0]
  dead_letter_subscription = reverse(split("/", var.dead_letter_subscription))[0]

  # Lines that predictd writes; tests/e2e/observability.rs fails when the code no longer does.
  log_lines = {
    not-serving = {
      message = "no model can serve yet, waiting for one; `/info` says why the versions found do not"
      help    = "predictd started and found no model version that loads"
    }
    version-refused = {
      message = "version refused, it will not serve"
      help    = "a model version was complete and did not load or fit"
    }
    source-unreadable = {
      message = "cannot look for new model versions"
      help    = "the models' bucket could not be listed or read"
    }
  }
}

resource "google_logging_metric" "line" {
  for_each = local.log_lines

  project     = var.project
  name        = "${var.name}/${each.key}"
  description = "Log lines of predictd: ${each.value.help}"
  filter      = "${var.log_filter} AND jsonPayload.message=${jsonencode(each.value.message)}"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.emails)

  project      = var.project
  display_name = "${var.name}: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
}

locals {
  channels = concat(var.notification_channels, [for channel in google_monitoring_notification_channel.email : channel.id])

  log_metric = { for key, metric in google_logging_metric.line : key => "metric.type=\"logging.googleapis.com/user/${metric.name}\" AND resource.type=\"${var.log_resource_type}\"" }

  # Each alert's conditions: a threshold on a metric of Cloud Monitoring, or PromQL.
  alerts = merge(
    {
      backlog = {
        title    = "requests wait too long"
        severity = "CRITICAL"
        thresholds = {
          "oldest unacknowledged request older than ${var.max_request_age_seconds} s" = {
            filter   = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${local.request_subscription}\""
            above    = var.max_request_age_seconds
            duration = "120s"
            aligner  = "ALIGN_MAX"
            period   = "60s"
          }
        }
      }
      dead-letters = {
        title    = "requests are dead letters"
        severity = "ERROR"
        thresholds = {
          "dead letters that nobody has taken" = {
            filter   = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${local.dead_letter_subscription}\""
            above    = 0
            duration = "0s"
            aligner  = "ALIGN_MAX"
            period   = "60s"
          }
        }
      }
      not-serving = {
        title    = "no model serves"
        severity = "CRITICAL"
        thresholds = {
          "predictd waits for a model that loads" = {
            filter   = local.log_metric["not-serving"]
            above    = 0
            duration = "0s"
            aligner  = "ALIGN_DELTA"
            period   = "300s"
          }
        }
      }
      reload = {
        title    = "new model versions do not serve"
        severity = "WARNING"
        thresholds = {
          "a version was refused" = {
            filter   = local.log_metric["version-refused"]
            above    = 0
            duration = "0s"
            aligner  = "ALIGN_DELTA"
            period   = "300s"
          }
          # Once is a hiccup that the next poll mends.
          "the bucket cannot be read, for minutes" = {
            filter   = local.log_metric["source-unreadable"]
            above    = 4
            duration = "0s"
            aligner  = "ALIGN_DELTA"
            period   = "600s"
          }
        }
      }
    },
  )
}

resource "google_monitoring_alert_policy" "threshold" {
  for_each = local.alerts

  project               = var.project
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels
  user_labels           = var.labels

  dynamic "conditions" {
    for_each = each.value.thresholds
    content {
      display_name = conditions.key
      condition_threshold {
        filter          = conditions.value.filter
        comparison      = "COMPARISON_GT"
        threshold_value = conditions.value.above
        duration        = conditions.value.duration
        aggregations {
          alignment_period     = conditions.value.period
          per_series_aligner   = conditions.value.aligner
          cross_series_reducer = conditions.value.aligner == "ALIGN_MAX" ? "REDUCE_MAX" : "REDUCE_SUM"
        }
      }
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "What it means and what to do: ${local.runbook}#${each.key}"
  }
}

# predictd alone knows which responses were errors, so this one needs its own metrics.
resource "google_monitoring_alert_policy" "error_ratio" {
  count = var.own_metrics ? 1 : 0

  project               = var.project
  display_name          = "${var.name}: too many error responses"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "more than ${var.max_error_ratio * 100} % of the responses are errors"
    condition_prometheus_query_language {
      query               = "sum(rate(predictd_requests_total{status!=\"ok\"}[5m])) / sum(rate(predictd_requests_total[5m])) > ${var.max_error_ratio}"
      duration            = "300s"
      evaluation_interval = "60s"
      # The metric does not exist before the first worker has run.
      disable_metric_validation = true
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "What it means and what to do: ${local.runbook}#error-ratio"
  }
}
