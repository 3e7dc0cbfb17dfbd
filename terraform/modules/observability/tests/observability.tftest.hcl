# Against a mocked provider: which alerts exist when, what they look at, whom they call, and refused values.

mock_provider "google" {
  mock_resource "google_monitoring_dashboard" {
    defaults = { id = "projects/1/dashboards/abc" }
  }
  mock_resource "google_monitoring_notification_channel" {
    defaults = { id = "projects/my-project/notificationChannels/7" }
  }
}

variables {
  project                  = "my-project"
  request_subscription     = "projects/my-project/subscriptions/prediction-requests"
  dead_letter_subscription = "projects/my-project/subscriptions/prediction-requests-dead-letters"
  log_filter               = "resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name=\"predictd\""
}

run "defaults" {
  assert {
    condition     = toset(keys(output.alerts)) == toset(["backlog", "dead-letters", "ends", "not-serving", "reload", "unfinished"])
    error_message = "these five must exist without predictd's own metrics"
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.threshold["backlog"].conditions[0].condition_threshold[0].filter, "subscription_id=\"prediction-requests\"") && google_monitoring_alert_policy.threshold["backlog"].conditions[0].condition_threshold[0].threshold_value == 300
    error_message = "the backlog's alert must look at the requests"
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.threshold["dead-letters"].conditions[0].condition_threshold[0].filter, "subscription_id=\"prediction-requests-dead-letters\"")
    error_message = "the dead letters' alert must look at the dead letters"
  }
  assert {
    condition     = google_monitoring_alert_policy.line["reload"].conditions[0].condition_matched_log[0].filter == "${var.log_filter} AND severity>=ERROR AND jsonPayload.message=(\"version refused, it will not serve\" OR \"cannot look for new model versions\")"
    error_message = "a refused version and an unreadable bucket are both failing reloads, of this worker"
  }
  assert {
    condition = { for key, policy in google_monitoring_alert_policy.line : key => policy.alert_strategy[0].auto_close } == {
      not-serving = "1800s", ends = "1800s", unfinished = "1800s", reload = "86400s"
    }
    error_message = "what is repeated every five minutes ends soon after, what is said once lasts for a day"
  }
  assert {
    condition = alltrue([
      for key, policy in merge(google_monitoring_alert_policy.threshold, google_monitoring_alert_policy.line) :
      startswith(policy.documentation[0].content, "## ${key}\n\n**") && length(policy.documentation[0].content) < 8192 && length(policy.notification_channels) == 0
    ])
    error_message = "every alert must carry its own section, in the size that Cloud Monitoring takes"
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.predictd.dashboard_json).mosaicLayout.tiles) == 6
    error_message = "five charts of Pub/Sub, and the log"
  }
  assert {
    condition     = output.dashboard_url == "https://console.cloud.google.com/monitoring/dashboards/builder/abc?project=my-project"
    error_message = "the dashboard's address"
  }
}

run "everything_on" {
  variables {
    own_metrics             = true
    worker_pool             = "predictd"
    emails                  = ["team@example.com"]
    notification_channels   = ["projects/my-project/notificationChannels/1"]
    max_error_ratio         = 0.1
    max_request_age_seconds = 60
  }

  assert {
    condition     = toset(keys(output.alerts)) == toset(["backlog", "dead-letters", "ends", "error-ratio", "not-serving", "reload", "unfinished"])
    error_message = "predictd's own metrics bring the error ratio"
  }
  assert {
    condition     = startswith(google_monitoring_alert_policy.error_ratio[0].documentation[0].content, "## error-ratio\n\n**")
    error_message = "the error ratio must carry its own section too"
  }
  assert {
    condition     = google_monitoring_alert_policy.error_ratio[0].conditions[0].condition_prometheus_query_language[0].query == "sum(rate(predictd_requests_total{status!=\"ok\", namespace=~\"predictd|\"}[5m])) / sum(rate(predictd_requests_total{namespace=~\"predictd|\"}[5m])) > 0.1"
    error_message = "the ratio must be the given one, of this worker alone"
  }
  assert {
    condition     = google_monitoring_alert_policy.error_ratio[0].notification_channels == tolist(["projects/my-project/notificationChannels/1", "projects/my-project/notificationChannels/7"])
    error_message = "existing channels and new ones must both be called"
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.predictd.dashboard_json).mosaicLayout.tiles) == 15
    error_message = "a chart of the instances and eight of predictd's own metrics"
  }
  assert {
    condition     = length(regexall("predictd_[a-z_]+", google_monitoring_dashboard.predictd.dashboard_json)) == 14 && length(regexall("predictd_[a-z_]+\\{namespace=~\\\\\"predictd\\|\\\\\"\\}", google_monitoring_dashboard.predictd.dashboard_json)) == 14
    error_message = "the charts of its own metrics must be of this worker alone"
  }
}

run "batches" {
  variables {
    batch = {
      subscription             = "projects/my-project/subscriptions/prediction-batches"
      dead_letter_subscription = "projects/my-project/subscriptions/prediction-batches-dead-letters"
    }
    max_batch_age_seconds = 3600
  }
  assert {
    condition     = toset(keys(output.alerts)) == toset(["backlog", "batch-backlog", "batch-dead-letters", "batch-refused", "dead-letters", "ends", "not-serving", "reload", "unfinished"])
    error_message = "batches have a backlog, dead letters and refusals of their own"
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.threshold["batch-backlog"].conditions[0].condition_threshold[0].filter, "oldest_unacked_message_age\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"prediction-batches\"") && google_monitoring_alert_policy.threshold["batch-backlog"].conditions[0].condition_threshold[0].threshold_value == 3600
    error_message = "one alert must look at the age of the shards"
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.threshold["batch-dead-letters"].conditions[0].condition_threshold[0].filter, "subscription_id=\"prediction-batches-dead-letters\"")
    error_message = "the other at their dead letters"
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.line["batch-refused"].conditions[0].condition_matched_log[0].filter, "\"a batch job is refused\" OR \"a batch job stops\"")
    error_message = "the third at the log of refused jobs"
  }
  assert {
    condition     = alltrue([for key, policy in merge(google_monitoring_alert_policy.threshold, google_monitoring_alert_policy.line) : startswith(policy.documentation[0].content, "## ${key}\n\n**")])
    error_message = "every alert must carry its own section"
  }
  assert {
    condition     = strcontains(google_monitoring_dashboard.predictd.dashboard_json, "subscription_id=\\\"prediction-batches\\\"") && length(jsondecode(google_monitoring_dashboard.predictd.dashboard_json).mosaicLayout.tiles) == 7
    error_message = "a chart of the shards"
  }
}

run "batches_and_own_metrics" {
  variables {
    own_metrics = true
    batch = {
      subscription             = "projects/my-project/subscriptions/prediction-batches"
      dead_letter_subscription = "projects/my-project/subscriptions/prediction-batches-dead-letters"
    }
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.predictd.dashboard_json).mosaicLayout.tiles) == 17
    error_message = "eight charts of predictd's own metrics, and two of batches besides"
  }
  assert {
    condition     = alltrue([for series in ["rows", "shards", "jobs"] : strcontains(google_monitoring_dashboard.predictd.dashboard_json, "predictd_files_${series}_total")])
    error_message = "rows, shards and jobs"
  }
}

run "batches_by_their_short_names" {
  command = plan
  variables {
    batch                 = { subscription = "prediction-batches", dead_letter_subscription = "dead" }
    max_batch_age_seconds = 1
  }
  expect_failures = [var.batch, var.max_batch_age_seconds]
}

run "on_gke" {
  variables {
    own_metrics     = true
    log_filter      = "resource.type=\"k8s_container\" AND resource.labels.container_name=\"predictd\""
    metrics_matcher = "namespace=\"predictions\", cluster=\"c\""
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.error_ratio[0].conditions[0].condition_prometheus_query_language[0].query, "{status!=\"ok\", namespace=\"predictions\", cluster=\"c\"}")
    error_message = "the matcher must be the given one"
  }
}

run "all_of_the_project" {
  variables {
    own_metrics = true
  }
  assert {
    condition     = startswith(google_monitoring_alert_policy.error_ratio[0].conditions[0].condition_prometheus_query_language[0].query, "sum(rate(predictd_requests_total{status!=\"ok\"}[5m])) / sum(rate(predictd_requests_total{}[5m]))")
    error_message = "without a pool and a matcher it is every worker"
  }
}

run "wrong_values" {
  command = plan
  variables {
    name                     = "Predictd"
    request_subscription     = "prediction-requests"
    dead_letter_subscription = "dead"
    log_filter               = "severity>=ERROR"
    max_error_ratio          = 5
    metrics_matcher          = "{namespace=\"predictions\"}"
    max_request_age_seconds  = 1
    emails                   = ["team"]
    notification_channels    = ["7"]
  }
  expect_failures = [
    var.name, var.request_subscription, var.dead_letter_subscription, var.log_filter, var.max_error_ratio, var.max_request_age_seconds,
    var.emails, var.notification_channels, var.metrics_matcher,
  ]
}
