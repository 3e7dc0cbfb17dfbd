//! The JSON API over HTTP: routes, query parameters, and where faults strike.
//!
//! Paths are Google's: `/storage/v1/…`, `/upload/storage/v1/…`, `/download/storage/v1/…`.

mod buckets;
mod fault;
mod media;
mod multipart;
mod objects;
mod uploads;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::error::Kind;
use super::{Conditions, Error, Result, Storage};

/// Every route of the JSON API.
pub fn router(storage: Arc<Storage>) -> Router {
    let buckets = Router::new()
        .route("/b", get(buckets::list).post(buckets::insert))
        .route(
            "/b/{bucket}",
            get(buckets::get).patch(buckets::patch).put(buckets::update).delete(buckets::delete),
        )
        .route("/b/{bucket}/storageLayout", get(buckets::layout))
        .route(
            "/b/{bucket}/notificationConfigs",
            get(buckets::list_notifications).post(buckets::insert_notification),
        )
        .route(
            "/b/{bucket}/notificationConfigs/{id}",
            get(buckets::get_notification).delete(buckets::delete_notification),
        )
        .route("/b/{bucket}/iam", get(buckets::get_policy).put(buckets::set_policy))
        .route("/b/{bucket}/iam/testPermissions", get(buckets::test_permissions))
        .route("/projects/{project}/serviceAccount", get(buckets::service_account))
        .route_layer(from_fn_with_state(storage.clone(), buckets::faults));
    let json_api = Router::new()
        .merge(buckets)
        .route("/b/{bucket}/o", get(objects::list))
        .route(
            "/b/{bucket}/o/{object}",
            get(objects::get).patch(objects::patch).put(objects::update).delete(objects::delete),
        )
        .route("/b/{bucket}/o/{object}/copyTo/b/{to}/o/{name}", post(objects::copy))
        .route("/b/{bucket}/o/{object}/rewriteTo/b/{to}/o/{name}", post(objects::rewrite));
    let download = Router::new().route("/b/{bucket}/o/{object}", get(objects::get));
    let upload = Router::new()
        .route("/b/{bucket}/o", post(uploads::start).put(uploads::continue_upload).delete(uploads::cancel));
    Router::new()
        .nest("/storage/v1", json_api)
        .nest("/download/storage/v1", download)
        .nest("/upload/storage/v1", upload)
        .with_state(storage)
}

/// The query of a request; the first of several values counts.
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = query.map_err(|rejection| Error::invalid(rejection.body_text()))?;
        Ok(Self(pairs))
    }
}

impl Params {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Every value of a repeated parameter.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn required(&self, key: &str) -> Result<&str> {
        self.text(key).ok_or_else(|| Error::new(Kind::Required, format!("Required parameter: {key}")))
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| Error::invalid(format!("Invalid value for {key}: {text:?} is no integer")))
        };
        self.text(key).map(parse).transpose()
    }

    pub(crate) fn is_true(&self, key: &str) -> bool {
        self.text(key).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub(crate) fn conditions(&self) -> Result<Conditions> {
        Ok(Conditions {
            generation_match: self.integer("ifGenerationMatch")?,
            generation_not_match: self.integer("ifGenerationNotMatch")?,
            metageneration_match: self.integer("ifMetagenerationMatch")?,
            metageneration_not_match: self.integer("ifMetagenerationNotMatch")?,
        })
    }
}

/// Base of the links in an answer: the server's address, or else the host that the client named.
pub(crate) fn link_base(storage: &Storage, headers: &HeaderMap) -> String {
    if let Some(address) = storage.address.get() {
        return format!("http://{address}");
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or("127.0.0.1"))
}
