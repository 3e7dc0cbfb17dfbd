# Scales the worker pool on the requests that wait and, if asked for, on the utilisation of its instances. Cloud Run has no such
# setting of its own for worker pools; Google's answer is CREMA (Cloud Run External Metrics Autoscaling): a Cloud Run service with one
# instance that reads metrics through KEDA's scalers and sets the pool's instance count. Owns that service, its identity, its
# configuration and its grants.
#
# Limits: Pub/Sub's backlog can be read two to four minutes late, so it follows load, it does not foresee it; the utilisation comes
# sooner, but does not tell how much waits. One CREMA must scale a pool, never two; the pool's own `instances` must be null, or each
# `terraform apply` undoes the scaling; the service itself costs one small instance all the time.

locals {
  subscription = regex("^projects/(?P<project>[^/]+)/subscriptions/(?P<name>[^/]+)$", var.request_subscription)
  pool         = regex("^projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/workerPools/(?P<name>[^/]+)$", var.worker_pool)

  # KEDA's scalers for Google's services (gcp-pubsub, gcp-stackdriver) are deprecated; this one asks Cloud Monitoring for the
  # same figure in PromQL.
  config = yamlencode({
    apiVersion = "crema/v1"
    kind       = "CremaConfig"
    spec = {
      pollingInterval = var.polling_interval_seconds
      triggerAuthentications = [{
        metadata = { name = "own-identity" }
        spec     = { podIdentity = { provider = "gcp" } }
      }]
      scaledObjects = [{
        spec = {
          scaleTargetRef  = { name = var.worker_pool }
          minReplicaCount = var.min_instances
          maxReplicaCount = var.max_instances
          # The one that asks for most instances counts.
          triggers = concat([{
            type = "prometheus"
            name = "requests-waiting"
            metadata = {
              serverAddress = "https://monitoring.googleapis.com/v1/projects/${local.subscription.project}/location/global/prometheus"
              query         = "sum(pubsub_googleapis_com:subscription_num_undelivered_messages{monitored_resource=\"pubsub_subscription\", subscription_id=\"${local.subscription.name}\"})"
              threshold     = tostring(var.requests_per_instance)
              # Without a figure nothing is changed; otherwise a gap in the metrics would look like an empty queue.
              ignoreNullValues = "false"
            }
            authenticationRef = { name = "own-identity" }
            }], var.batch_subscription == null ? [] : [{
            type = "prometheus"
            name = "shards-waiting"
            metadata = {
              serverAddress    = "https://monitoring.googleapis.com/v1/projects/${local.subscription.project}/location/global/prometheus"
              query            = "sum(pubsub_googleapis_com:subscription_num_undelivered_messages{monitored_resource=\"pubsub_subscription\", subscription_id=\"${reverse(split("/", var.batch_subscription))[0]}\"})"
              threshold        = tostring(var.shards_per_instance)
              ignoreNullValues = "false"
            }
            authenticationRef = { name = "own-identity" }
            }], var.target_utilisation == null ? [] : [{
            type = "prometheus"
            name = "utilisation"
            metadata = {
              serverAddress = "https://monitoring.googleapis.com/v1/projects/${local.pool.project}/location/global/prometheus"
              # The collector calls the pool the namespace; up to its release 1.8.0 it left that empty.
              query     = "sum(predictd_utilisation{namespace=~\"${local.pool.name}|\"})"
              threshold = tostring(var.target_utilisation)
              # Without a figure the backlog decides alone.
              ignoreNullValues = "true"
            }
            authenticationRef = { name = "own-identity" }
          }])
          advanced = {
            horizontalPodAutoscalerConfig = {
              behavior = {
                # The figure is minutes old: shrinking on it at once would shed what the next figure asks for.
                scaleDown = { stabilizationWindowSeconds = var.scale_down_delay_seconds }
              }
            }
          }
        }
      }]
    }
  })
}

resource "google_service_account" "autoscaler" {
  project      = var.project
  account_id   = var.name
  display_name = "Autoscaler of ${local.pool.name}"
}

resource "google_parameter_manager_parameter" "config" {
  project      = var.project
  parameter_id = var.name
  format       = "YAML"
}

# Versions cannot be changed: another content is another version, made before the old one goes.
resource "google_parameter_manager_parameter_version" "config" {
  parameter            = google_parameter_manager_parameter.config.id
  parameter_version_id = "v-${substr(sha256(local.config), 0, 12)}"
  parameter_data       = local.config

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_cloud_run_v2_service" "autoscaler" {
  project             = var.project
  location            = local.pool.location
  name                = var.name
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY" # it polls by itself; nobody calls it
  deletion_protection = false                           # it holds nothing
  labels              = merge(var.labels, { created-by = "crema" })

  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = 1
  }

  template {
    service_account = google_service_account.autoscaler.email

    containers {
      image          = var.image
      base_image_uri = var.base_image

      env {
        name  = "CREMA_CONFIG"
        value = google_parameter_manager_parameter_version.config.name
      }
      env {
        name  = "OUTPUT_SCALER_METRICS"
        value = "False"
      }
      env {
        name  = "ENABLE_CLOUD_LOGGING"
        value = "False"
      }

      resources {
        cpu_idle = false # it works between requests
        limits   = { cpu = "1", memory = "1Gi" }
      }
    }
  }

  depends_on = [
    google_project_iam_member.autoscaler,
    google_project_iam_member.own_metrics,
    google_cloud_run_v2_worker_pool_iam_member.scale,
    google_service_account_iam_member.act_as_worker,
  ]
}

# Setting the count is an update of the pool, which needs the right to run what runs in it.
resource "google_cloud_run_v2_worker_pool_iam_member" "scale" {
  project  = local.pool.project
  location = local.pool.location
  name     = local.pool.name
  role     = "roles/run.developer"
  member   = "serviceAccount:${google_service_account.autoscaler.email}"
}

resource "google_service_account_iam_member" "act_as_worker" {
  service_account_id = var.worker_service_account
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${google_service_account.autoscaler.email}"
}

# The worker's own metrics are where its pool is.
resource "google_project_iam_member" "own_metrics" {
  count = var.target_utilisation != null && local.pool.project != local.subscription.project ? 1 : 0

  project = local.pool.project
  role    = "roles/monitoring.viewer"
  member  = "serviceAccount:${google_service_account.autoscaler.email}"
}

# Neither metrics nor parameters can be granted one by one.
resource "google_project_iam_member" "autoscaler" {
  for_each = {
    "roles/monitoring.viewer"                = local.subscription.project
    "roles/parametermanager.parameterViewer" = var.project
  }

  project = each.value
  role    = each.key
  member  = "serviceAccount:${google_service_account.autoscaler.email}"
}
