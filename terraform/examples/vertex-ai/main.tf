# predictd on a Vertex AI endpoint, and a subscription whose messages Pub/Sub itself sends there. Terraform makes the endpoint and the
# identities; the provider has no resource for a model, so `terraform output next` prints the commands that upload and deploy it.
#   terraform init && terraform apply -var project=my-project -var image=REGION-docker.pkg.dev/P/R/predictd:TAG -var model=gs://…/wine/2
# docs/vertex-ai.md says what the parts do, and compares this way with a worker.

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "image" {
  description = "Container image of predictd, in Artifact Registry."
  type        = string
}

variable "model" {
  description = "Folder of one version, gs://BUCKET/…/MODEL/VERSION with a model.onnx."
  type        = string
}

variable "location" {
  description = "Region of the endpoint."
  type        = string
  default     = "europe-west1"
}

variable "request_topic" {
  description = "Full name of a topic whose messages are to be answered, projects/P/topics/T. Null: no subscription is made."
  type        = string
  default     = null
}

resource "google_project_service" "api" {
  for_each = toset(["aiplatform.googleapis.com", "pubsub.googleapis.com"])

  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

resource "google_vertex_ai_endpoint" "predictd" {
  project      = var.project
  name         = "7301" # a number of up to 10 digits
  display_name = "predictd"
  location     = var.location
  region       = var.location

  # Deploying writes it.
  lifecycle {
    ignore_changes = [traffic_split]
  }
  depends_on = [google_project_service.api]
}

# Pub/Sub calls the endpoint in this name.
resource "google_service_account" "inference" {
  project      = var.project
  account_id   = "predictd-inference"
  display_name = "Pub/Sub's calls of the endpoint predictd"
}

resource "google_project_iam_member" "inference" {
  project = var.project
  role    = "roles/aiplatform.user"
  member  = "serviceAccount:${google_service_account.inference.email}"
}

data "google_project" "this" {
  project_id = var.project
}

resource "google_service_account_iam_member" "pubsub" {
  service_account_id = google_service_account.inference.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_pubsub_subscription" "answered" {
  count = var.request_topic == null ? 0 : 1

  project = var.project
  name    = "predictd-answered"
  topic   = var.request_topic

  message_transforms {
    ai_inference {
      endpoint              = "projects/${var.project}/locations/${var.location}/endpoints/${google_vertex_ai_endpoint.predictd.name}"
      service_account_email = google_service_account.inference.email
      unstructured_inference {}
    }
  }
  depends_on = [google_project_iam_member.inference, google_service_account_iam_member.pubsub]
}

output "next" {
  description = "What to paste next, in order: upload the model, deploy it, ask it."
  value = [
    "gcloud ai models upload --project=${var.project} --region=${var.location} --model-id=predictd --display-name=predictd --container-image-uri=${var.image} --container-args=serve --container-ports=8080 --container-health-route=/ready --container-predict-route=/predict --artifact-uri=${var.model}",
    "gcloud ai endpoints deploy-model ${google_vertex_ai_endpoint.predictd.name} --project=${var.project} --region=${var.location} --model=predictd --display-name=predictd --machine-type=n2-standard-4 --traffic-split=0=100",
    "gcloud ai endpoints predict ${google_vertex_ai_endpoint.predictd.name} --project=${var.project} --region=${var.location} --json-request=request.json",
  ]
}
