//! `google.storage.v2.Storage` over gRPC: the calls that Google's Rust client makes for control (its reads
//! and writes go over the JSON API), and the one of `google.storage.control.v2.StorageControl` for rights.
//! Buckets are `projects/_/buckets/B`. Faults strike by the method's name.

use std::sync::Arc;

use googleapis_tonic_google_iam_v1::google::iam::v1::{
    TestIamPermissionsRequest, TestIamPermissionsResponse,
};
use googleapis_tonic_google_storage_v2::google::storage::v2 as proto;
use serde_json::json;
use tonic::{Request, Response, Status};

use super::bucket::Bucket;
use super::clock::timestamp;
use super::listing::ListQuery;
use super::objects::Target;
use super::{Attributes, Conditions, Storage};
use crate::faults::{Fault, delay};
use crate::history::What;
use crate::{Empty, codes};

mod generated {
    #![allow(unreachable_pub, clippy::all, missing_docs)]
    tonic::include_proto!("google.storage.v2.Storage");
    tonic::include_proto!("google.storage.control.v2.StorageControl");
}
use generated::storage_control_server::{StorageControl as ControlService, StorageControlServer};
use generated::storage_server::{Storage as Service, StorageServer};

/// Adds the service to the routes of one server.
pub fn routes(storage: Arc<Storage>, routes: &mut tonic::service::RoutesBuilder) {
    routes
        .add_service(StorageServer::new(Control { storage: storage.clone() }))
        .add_service(StorageControlServer::new(Control { storage }));
}

struct Control {
    storage: Arc<Storage>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Control {
    async fn with_faults<T>(&self, method: &'static str, call: impl FnOnce() -> Answer<T>) -> Answer<T> {
        let fault = self.storage.faults.next(method);
        let answer = match &fault {
            Some(Fault::Fail(code)) => {
                Err(Status::new(codes::named_or_unknown(code), format!("fault: {code}")))
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::DelayMs(ms)) => {
                delay(*ms).await;
                call()
            }
            None | Some(Fault::LoseReply) => call(),
            Some(other) => {
                Err(Status::unimplemented(format!("the fault {other:?} does not apply to {method}")))
            }
        };
        if let Err(status) = &answer {
            let (code, message) = (status.code(), status.message());
            self.storage.history.record(|| What::Refused { method, code, message: message.to_owned() });
        }
        match fault {
            Some(Fault::LoseReply) => Err(Status::unavailable("fault: the reply was lost")),
            _ => answer,
        }
    }
}

#[tonic::async_trait]
impl Service for Control {
    async fn list_objects(
        &self,
        request: Request<proto::ListObjectsRequest>,
    ) -> Answer<proto::ListObjectsResponse> {
        let request = request.into_inner();
        self.with_faults("ListObjects", || {
            if !request.match_glob.is_empty() || !request.filter.is_empty() || request.soft_deleted {
                return Err(Status::unimplemented(
                    "match_glob, filter and soft_deleted are not supported here",
                ));
            }
            let query = ListQuery {
                prefix: request.prefix,
                delimiter: request.delimiter,
                include_trailing_delimiter: request.include_trailing_delimiter,
                start: request.lexicographic_start,
                end: request.lexicographic_end,
                versions: request.versions,
                page_size: request.page_size.try_into().unwrap_or(0),
                page_token: request.page_token,
            };
            let page = self.storage.list_objects(bucket_id(&request.parent)?, &query)?;
            Ok(Response::new(proto::ListObjectsResponse {
                objects: page.objects.iter().map(|version| version.to_proto()).collect(),
                prefixes: page.prefixes,
                next_page_token: page.next_page_token.unwrap_or_default(),
            }))
        })
        .await
    }

    async fn get_object(&self, request: Request<proto::GetObjectRequest>) -> Answer<proto::Object> {
        let request = request.into_inner();
        self.with_faults("GetObject", || {
            let target = Target {
                bucket: bucket_id(&request.bucket)?.to_owned(),
                name: request.object,
                generation: nonzero(request.generation),
                conditions: Conditions {
                    generation_match: request.if_generation_match,
                    generation_not_match: request.if_generation_not_match,
                    metageneration_match: request.if_metageneration_match,
                    metageneration_not_match: request.if_metageneration_not_match,
                },
            };
            Ok(Response::new(self.storage.get_object(&target)?.to_proto()))
        })
        .await
    }

    async fn delete_object(&self, request: Request<proto::DeleteObjectRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        self.with_faults("DeleteObject", || {
            self.storage.delete_object(&Target {
                bucket: bucket_id(&request.bucket)?.to_owned(),
                name: request.object,
                generation: nonzero(request.generation),
                conditions: Conditions {
                    generation_match: request.if_generation_match,
                    generation_not_match: request.if_generation_not_match,
                    metageneration_match: request.if_metageneration_match,
                    metageneration_not_match: request.if_metageneration_not_match,
                },
            })?;
            Ok(Response::new(()))
        })
        .await
    }

    async fn update_object(&self, request: Request<proto::UpdateObjectRequest>) -> Answer<proto::Object> {
        let request = request.into_inner();
        self.with_faults("UpdateObject", || {
            let object = request.object.ok_or_else(|| Status::invalid_argument("object is missing"))?;
            let mask =
                request.update_mask.ok_or_else(|| Status::invalid_argument("update_mask is missing"))?;
            let target = Target {
                bucket: bucket_id(&object.bucket)?.to_owned(),
                name: object.name.clone(),
                generation: nonzero(object.generation),
                conditions: Conditions {
                    generation_match: request.if_generation_match,
                    generation_not_match: request.if_generation_not_match,
                    metageneration_match: request.if_metageneration_match,
                    metageneration_not_match: request.if_metageneration_not_match,
                },
            };
            let updated = self.storage.update_object(&target, |old| masked(old, &object, &mask.paths))?;
            Ok(Response::new(updated.to_proto()))
        })
        .await
    }

    async fn rewrite_object(
        &self,
        request: Request<proto::RewriteObjectRequest>,
    ) -> Answer<proto::RewriteResponse> {
        let request = request.into_inner();
        self.with_faults("RewriteObject", || {
            let source = Target {
                bucket: bucket_id(&request.source_bucket)?.to_owned(),
                name: request.source_object,
                generation: nonzero(request.source_generation),
                conditions: Conditions {
                    generation_match: request.if_source_generation_match,
                    generation_not_match: request.if_source_generation_not_match,
                    metageneration_match: request.if_source_metageneration_match,
                    metageneration_not_match: request.if_source_metageneration_not_match,
                },
            };
            let destination = Target {
                bucket: bucket_id(&request.destination_bucket)?.to_owned(),
                name: request.destination_name,
                generation: None,
                conditions: Conditions {
                    generation_match: request.if_generation_match,
                    generation_not_match: request.if_generation_not_match,
                    metageneration_match: request.if_metageneration_match,
                    metageneration_not_match: request.if_metageneration_not_match,
                },
            };
            let attributes = request.destination.as_ref().map(given_attributes);
            let version = self.storage.copy_object(&source, destination, attributes)?;
            let size = version.body.len() as i64;
            Ok(Response::new(proto::RewriteResponse {
                total_bytes_rewritten: size,
                object_size: size,
                done: true,
                rewrite_token: String::new(),
                resource: Some(version.to_proto()),
            }))
        })
        .await
    }

    async fn get_bucket(&self, request: Request<proto::GetBucketRequest>) -> Answer<proto::Bucket> {
        let request = request.into_inner();
        self.with_faults("GetBucket", || {
            let bucket = self.storage.with_bucket(bucket_id(&request.name)?, bucket_proto)?;
            if request.if_metageneration_match.is_some_and(|wanted| wanted != bucket.metageneration) {
                return Err(super::Error::precondition().into());
            }
            Ok(Response::new(bucket))
        })
        .await
    }

    async fn create_bucket(&self, request: Request<proto::CreateBucketRequest>) -> Answer<proto::Bucket> {
        let request = request.into_inner();
        self.with_faults("CreateBucket", || {
            let wish = request.bucket.unwrap_or_default();
            let mut resource = json!({ "name": request.bucket_id, "labels": wish.labels });
            if !wish.location.is_empty() {
                resource["location"] = json!(wish.location);
            }
            if !wish.storage_class.is_empty() {
                resource["storageClass"] = json!(wish.storage_class);
            }
            if let Some(versioning) = wish.versioning {
                resource["versioning"] = json!({ "enabled": versioning.enabled });
            }
            // The project is in `bucket.project`; the parent is `projects/_`.
            let project = wish.project.strip_prefix("projects/").unwrap_or_default();
            self.storage.insert_bucket(project, &resource, "")?;
            let bucket = self.storage.with_bucket(&request.bucket_id, bucket_proto)?;
            Ok(Response::new(bucket))
        })
        .await
    }

    async fn delete_bucket(&self, request: Request<proto::DeleteBucketRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        self.with_faults("DeleteBucket", || {
            self.storage.delete_bucket(bucket_id(&request.name)?, request.if_metageneration_match)?;
            Ok(Response::new(()))
        })
        .await
    }

    async fn list_buckets(
        &self,
        request: Request<proto::ListBucketsRequest>,
    ) -> Answer<proto::ListBucketsResponse> {
        let request = request.into_inner();
        self.with_faults("ListBuckets", || {
            let project = request.parent.strip_prefix("projects/").unwrap_or_default();
            let buckets = self.storage.buckets(project, &request.prefix, bucket_proto)?;
            Ok(Response::new(proto::ListBucketsResponse { buckets, ..Default::default() }))
        })
        .await
    }
}

#[tonic::async_trait]
impl ControlService for Control {
    async fn test_iam_permissions(
        &self,
        request: Request<TestIamPermissionsRequest>,
    ) -> Answer<TestIamPermissionsResponse> {
        let TestIamPermissionsRequest { resource, permissions } = request.into_inner();
        self.with_faults("TestIamPermissions", || {
            let permissions = self.storage.test_permissions(bucket_id(&resource)?, permissions)?;
            Ok(Response::new(TestIamPermissionsResponse { permissions }))
        })
        .await
    }
}

fn bucket_id(name: &str) -> Result<&str, Status> {
    name.strip_prefix("projects/_/buckets/").ok_or_else(|| {
        Status::invalid_argument(format!("invalid bucket name {name:?}, expected projects/_/buckets/BUCKET"))
    })
}

/// In `google.storage.v2` generation 0 means none is named.
fn nonzero(generation: i64) -> Option<i64> {
    (generation != 0).then_some(generation)
}

fn bucket_proto(bucket: &Bucket) -> proto::Bucket {
    let text =
        |key: &str| bucket.setting(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let labels = bucket.setting("labels").and_then(|value| value.as_object()).into_iter().flatten();
    proto::Bucket {
        name: format!("projects/_/buckets/{}", bucket.name),
        bucket_id: bucket.name.clone(),
        etag: bucket.metageneration.to_string(),
        project: format!("projects/{}", bucket.project),
        metageneration: bucket.metageneration,
        location: text("location"),
        location_type: text("locationType"),
        storage_class: text("storageClass"),
        create_time: Some(timestamp(bucket.created)),
        update_time: Some(timestamp(bucket.updated)),
        labels: labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
        versioning: bucket
            .setting("versioning")
            .map(|_| proto::bucket::Versioning { enabled: bucket.versioned() }),
        ..Default::default()
    }
}

fn given_attributes(object: &proto::Object) -> Attributes {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    Attributes {
        content_type: given(&object.content_type),
        content_encoding: given(&object.content_encoding),
        content_disposition: given(&object.content_disposition),
        content_language: given(&object.content_language),
        cache_control: given(&object.cache_control),
        custom_time: object.custom_time.as_ref().map(ToString::to_string),
        storage_class: given(&object.storage_class),
        metadata: object.metadata.clone(),
    }
}

/// The old metadata with the masked fields taken from `object`.
fn masked(old: Attributes, object: &proto::Object, paths: &[String]) -> super::Result<Attributes> {
    let given = given_attributes(object);
    let mut new = old;
    for path in paths {
        match path.as_str() {
            "*" => new = given.clone(),
            "content_type" => new.content_type = given.content_type.clone(),
            "content_encoding" => new.content_encoding = given.content_encoding.clone(),
            "content_disposition" => new.content_disposition = given.content_disposition.clone(),
            "content_language" => new.content_language = given.content_language.clone(),
            "cache_control" => new.cache_control = given.cache_control.clone(),
            "custom_time" => new.custom_time = given.custom_time.clone(),
            "metadata" => new.metadata = given.metadata.clone(),
            other => match other.strip_prefix("metadata.") {
                Some(key) => match given.metadata.get(key) {
                    Some(value) => drop(new.metadata.insert(key.to_owned(), value.clone())),
                    None => drop(new.metadata.remove(key)),
                },
                None => {
                    return Err(super::Error::invalid(format!("the update mask {other:?} is not supported")));
                }
            },
        }
    }
    Ok(new)
}
