//! What Google's Rust client asks over gRPC (google.storage.v2).

use std::sync::Arc;

use tonic::service::RoutesBuilder;
use tonic::{Request, Response, Status};

use super::{Object, Precondition, Query, Storage};
use crate::proto::storage as v2;
use crate::proto::storage_server::{Storage as StorageService, StorageServer};
use crate::pubsub::grpc::before;

pub fn routes(storage: Arc<Storage>, routes: &mut RoutesBuilder) {
    routes.add_service(StorageServer::new(Service(storage)));
}

#[derive(Debug)]
struct Service(Arc<Storage>);

/// `projects/_/buckets/B` to `B`.
fn bucket_id(name: &str) -> Result<&str, Status> {
    name.strip_prefix("projects/_/buckets/")
        .ok_or_else(|| Status::invalid_argument(format!("Invalid bucket resource name: {name:?}")))
}

#[tonic::async_trait]
impl StorageService for Service {
    async fn list_objects(
        &self,
        request: Request<v2::ListObjectsRequest>,
    ) -> Result<Response<v2::ListObjectsResponse>, Status> {
        before(self.0.faults.next("ListObjects").as_ref()).await?;
        let request = request.into_inner();
        let most = usize::try_from(request.page_size).ok().filter(|most| *most > 0).unwrap_or(1000).min(1000);
        let query =
            Query { prefix: request.prefix, delimiter: request.delimiter, after: request.page_token, most };
        let page = self.0.list(bucket_id(&request.parent)?, &query)?;
        Ok(Response::new(v2::ListObjectsResponse {
            objects: page.objects.iter().map(proto).collect(),
            prefixes: page.prefixes,
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn get_object(
        &self,
        request: Request<v2::GetObjectRequest>,
    ) -> Result<Response<v2::Object>, Status> {
        before(self.0.faults.next("GetObject").as_ref()).await?;
        let request = request.into_inner();
        let precondition = Precondition {
            generation_match: request.if_generation_match,
            generation_not_match: request.if_generation_not_match,
        };
        let generation = Some(request.generation).filter(|generation| *generation != 0);
        let object = self.0.get(bucket_id(&request.bucket)?, &request.object, generation, precondition)?;
        Ok(Response::new(proto(&object)))
    }

    async fn get_bucket(
        &self,
        request: Request<v2::GetBucketRequest>,
    ) -> Result<Response<v2::Bucket>, Status> {
        before(self.0.faults.next("GetBucket").as_ref()).await?;
        let name = request.into_inner().name;
        let id = bucket_id(&name)?.to_owned();
        self.0.with_bucket(&id, |_| Ok(()))?;
        Ok(Response::new(v2::Bucket {
            name,
            bucket_id: id,
            storage_class: "STANDARD".to_owned(),
            ..Default::default()
        }))
    }
}

fn proto(object: &Object) -> v2::Object {
    v2::Object {
        name: object.name.clone(),
        bucket: format!("projects/_/buckets/{}", object.bucket),
        generation: object.generation,
        metageneration: 1,
        storage_class: "STANDARD".to_owned(),
        size: i64::try_from(object.data.len()).unwrap_or(i64::MAX),
        content_type: object.content_type.clone(),
        create_time: Some(object.created.into()),
        update_time: Some(object.created.into()),
        finalize_time: Some(object.created.into()),
        metadata: object.metadata.clone(),
        checksums: Some(v2::ObjectChecksums { crc32c: Some(object.crc32c), ..Default::default() }),
        ..Default::default()
    }
}
