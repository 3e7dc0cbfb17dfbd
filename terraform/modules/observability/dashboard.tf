# One dashboard: first what Pub/Sub sees, then the instances, then, where they are scraped, predictd's own metrics, then its log.

locals {
  of_requests = "resource.type=\"pubsub_subscription\" resource.labels.subscription_id=\"${local.request_subscription}\""

  pubsub_charts = [
    { title = "Requests waiting", filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" ${local.of_requests}", aligner = "ALIGN_MEAN", unit = "1" },
    { title = "Age of the oldest request", filter = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" ${local.of_requests}", aligner = "ALIGN_MAX", unit = "s" },
    { title = "Requests answered a second", filter = "metric.type=\"pubsub.googleapis.com/subscription/ack_message_count\" ${local.of_requests}", aligner = "ALIGN_RATE", unit = "1/s" },
    { title = "Leases that ran out a second", filter = "metric.type=\"pubsub.googleapis.com/subscription/expired_ack_deadlines_count\" ${local.of_requests}", aligner = "ALIGN_RATE", unit = "1/s" },
    { title = "Dead letters", filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" resource.type=\"pubsub_subscription\" resource.labels.subscription_id=\"${local.dead_letter_subscription}\"", aligner = "ALIGN_MAX", unit = "1" },
  ]

  batch_charts = var.batch == null ? [] : [
    { title = "Batch jobs and shards waiting or at work", filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" resource.type=\"pubsub_subscription\" resource.labels.subscription_id=\"${local.batch_subscription}\"", aligner = "ALIGN_MEAN", unit = "1" },
  ]

  run_charts = var.worker_pool == null ? [] : [
    { title = "Instances", filter = "metric.type=\"run.googleapis.com/container/instance_count\" resource.type=\"cloud_run_worker_pool\" resource.labels.worker_pool_name=\"${var.worker_pool}\"", aligner = "ALIGN_MAX", unit = "1" },
  ]

  # The quantiles of a histogram that is still to be named, each a line of its own.
  quantiles = [for q in [0.5, 0.99] : "label_replace(histogram_quantile(${q}, sum by (le) (rate(SERIES{${local.own}}[1m]))), \"quantile\", \"${q}\", \"\", \"\")"]
  trouble = {
    "requests given back"     = "predictd_nacks_total"
    "failed publishes"        = "predictd_publish_failures_total"
    "failed acknowledgements" = "predictd_ack_failures_total"
    "broken streams"          = "predictd_stream_failures_total"
  }
  own_charts = var.own_metrics ? [
    { title = "Responses a second by status", query = "sum by (status) (rate(predictd_requests_total{${local.own}}[1m]))" },
    { title = "From receiving to accepted response: p50, p99", query = join(" or ", [for query in local.quantiles : replace(query, "SERIES", "predictd_request_seconds_bucket")]) },
    { title = "Publishing: p50, p99", query = join(" or ", [for query in local.quantiles : replace(query, "SERIES", "predictd_publish_seconds_bucket")]) },
    { title = "Models serving, fewest of all workers", query = "min(predictd_models_serving{${local.own}})" },
    { title = "Utilisation: mean and highest of all workers", query = "label_replace(avg(predictd_utilisation{${local.own}}), \"of\", \"mean\", \"\", \"\") or label_replace(max(predictd_utilisation{${local.own}}), \"of\", \"highest\", \"\", \"\")" },
    { title = "Seconds of backlog in a worker, most of all", query = "max(predictd_queue_seconds{${local.own}})" },
    { title = "Bytes in hand", query = "sum(predictd_bytes_in_hand{${local.own}})" },
    { title = "Trouble in ten minutes", query = join(" or ", [for what, series in local.trouble : "label_replace(sum(increase(${series}{${local.own}}[10m])), \"what\", \"${what}\", \"\", \"\")"]) },
  ] : []
  own_batch_charts = var.own_metrics && var.batch != null ? [
    { title = "Rows of batches a second by status", query = "sum by (model, status) (rate(predictd_files_rows_total{${local.own}}[1m]))" },
    { title = "Shards and jobs of batches in ten minutes", query = join(" or ", [for of, series in { jobs = "predictd_files_jobs_total", shards = "predictd_files_shards_total" } : "label_replace(sum by (outcome) (increase(${series}{${local.own}}[10m])), \"of\", \"${of}\", \"\", \"\")"]) },
  ] : []

  widgets = concat(
    [for chart in concat(local.pubsub_charts, local.batch_charts, local.run_charts) : {
      title = chart.title
      xyChart = { dataSets = [{
        plotType = "LINE"
        timeSeriesQuery = {
          unitOverride = chart.unit
          timeSeriesFilter = {
            filter      = chart.filter
            aggregation = { alignmentPeriod = "60s", perSeriesAligner = chart.aligner, crossSeriesReducer = "REDUCE_SUM" }
          }
        }
      }] }
    }],
    [for chart in concat(local.own_charts, local.own_batch_charts) : {
      title   = chart.title
      xyChart = { dataSets = [{ plotType = "LINE", timeSeriesQuery = { prometheusQuery = chart.query } }] }
    }],
    [{
      title     = "Warnings and errors"
      logsPanel = { filter = "${var.log_filter} AND (severity>=WARNING OR textPayload:*)", resourceNames = ["projects/${var.project}"] }
    }],
  )
}

resource "google_monitoring_dashboard" "predictd" {
  project = var.project
  dashboard_json = jsonencode({
    displayName = "${var.name}: predictions"
    labels      = { for key, value in var.labels : key => value }
    mosaicLayout = {
      columns = 48
      tiles = [for index, widget in local.widgets : {
        xPos   = (index % 2) * 24
        yPos   = floor(index / 2) * 16
        width  = 24
        height = 16
        widget = widget
      }]
    }
  })
}
