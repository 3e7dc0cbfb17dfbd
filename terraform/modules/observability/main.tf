# Alerts that a person must act on, and one dashboard. Each alert carries its section of ALERTS.md: what it means, what to do.
#
# Three sources, by how far they can be relied on:
#   Pub/Sub's own metrics   always there; they see the worker from outside, dead or alive
#   predictd's log lines    there wherever Cloud Logging collects standard error: Cloud Run and GKE do
#   predictd's own metrics  only where something scrapes /metrics: the worker's sidecar, or GKE's managed collection

locals {
  sections     = split("\n## ", file("${path.module}/ALERTS.md"))
  explanations = { for section in slice(local.sections, 1, length(local.sections)) : split("\n", section)[0] => "## ${trimspace(section)}" }

  request_subscription     = reverse(split("/", var.request_subscription))[0]
  dead_letter_subscription = reverse(split("/", var.dead_letter_subscription))[0]
  batch_subscription       = var.batch == null ? null : reverse(split("/", var.batch.subscription))[0]

  # Which of predictd's own metrics are this worker's: another one's in the project must not hide or raise its errors. The sidecar calls
  # the pool the namespace; up to its release 1.8.0 it knew no worker pools and left that empty.
  own = var.metrics_matcher != null ? var.metrics_matcher : var.worker_pool == null ? "" : "namespace=~\"${var.worker_pool}|\""

  # What predictd logs when a person must look. tests/e2e/operations/dashboards.rs fails when the code no longer says so.
  #
  # An incident lasts until the lines have been silent for `silence`. Lines that are repeated every five minutes while the state lasts
  # are missed soon after its end: half an hour is the shortest that Cloud Monitoring has. A refused version or batch job is told of once, so that
  # incident lasts for a day, or until a person closes it.
  lines = merge({
    not-serving = {
      title    = "no model serves"
      severity = "CRITICAL"
      silence  = "1800s"
      messages = ["no model can serve yet, waiting for one; `/info` says why the versions found do not"]
    }
    unfinished = {
      title    = "requests cannot be finished"
      severity = "ERROR"
      silence  = "1800s"
      messages = ["responses are not accepted, their requests will be redelivered", "cannot read the object that a request refers to, the request is nacked", "a result was not written, its request will be redelivered", "a response was refused in every form, its request is nacked"]
    }
    ends = {
      title    = "workers end by themselves"
      severity = "ERROR"
      messages = ["predictd ends", "a panic, which is an error in predictd"]
      silence  = "1800s"
    }
    reload = {
      title    = "new model versions do not serve"
      severity = "WARNING"
      silence  = "86400s"
      messages = ["version refused, it will not serve", "cannot look for new model versions"]
    }
    }, var.batch == null ? {} : {
    batch-refused = {
      title    = "batch jobs are refused or stop"
      severity = "WARNING"
      silence  = "86400s"
      messages = ["a batch job is refused", "a batch job stops", "a message of the batch subscription is no job and is dropped"]
    }
  })

  thresholds = merge({
    backlog = {
      title        = "requests wait too long"
      severity     = "CRITICAL"
      subscription = local.request_subscription
      metric       = "oldest_unacked_message_age"
      above        = var.max_request_age_seconds
      duration     = "120s"
    }
    dead-letters = {
      title        = "requests are dead letters"
      severity     = "ERROR"
      subscription = local.dead_letter_subscription
      metric       = "num_undelivered_messages"
      above        = 0
      duration     = "0s"
    }
    }, var.batch == null ? {} : {
    batch-backlog = {
      title        = "batch jobs take too long"
      severity     = "WARNING"
      subscription = local.batch_subscription
      metric       = "oldest_unacked_message_age"
      above        = var.max_batch_age_seconds
      duration     = "120s"
    }
    batch-dead-letters = {
      title        = "parts of batch jobs are dead letters"
      severity     = "ERROR"
      subscription = reverse(split("/", var.batch.dead_letter_subscription))[0]
      metric       = "num_undelivered_messages"
      above        = 0
      duration     = "0s"
    }
  })

  channels = concat(var.notification_channels, [for channel in google_monitoring_notification_channel.email : channel.id])
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.emails)

  project      = var.project
  display_name = "${var.name}: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
}

resource "google_monitoring_alert_policy" "threshold" {
  for_each = local.thresholds

  project               = var.project
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "${each.value.metric} of ${each.value.subscription} above ${each.value.above}"
    condition_threshold {
      filter          = "metric.type=\"pubsub.googleapis.com/subscription/${each.value.metric}\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${each.value.subscription}\""
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.above
      duration        = each.value.duration
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_MAX"
        cross_series_reducer = "REDUCE_MAX"
      }
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = local.explanations[each.key]
  }
}

# On the lines themselves, not on metrics that count them: such a metric cannot be named by an alert for minutes after it was made, and
# the first apply would fail.
resource "google_monitoring_alert_policy" "line" {
  for_each = local.lines

  project               = var.project
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "predictd says so"
    condition_matched_log {
      # Errors alone: what a single look at the bucket could not do is a warning, and its next one may.
      filter = "${var.log_filter} AND severity>=ERROR AND jsonPayload.message=(${join(" OR ", [for message in each.value.messages : jsonencode(message)])})"
      label_extractors = {
        model   = "EXTRACT(jsonPayload.model)"
        version = "EXTRACT(jsonPayload.version)"
        reason  = "EXTRACT(jsonPayload.reason)"
        hint    = "EXTRACT(jsonPayload.hint)"
      }
    }
  }

  alert_strategy {
    auto_close = each.value.silence
    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = local.explanations[each.key]
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
      query               = "sum(rate(predictd_requests_total{${join(", ", compact(["status!=\"ok\"", local.own]))}}[5m])) / sum(rate(predictd_requests_total{${local.own}}[5m])) > ${var.max_error_ratio}"
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
    content   = local.explanations["error-ratio"]
  }
}
