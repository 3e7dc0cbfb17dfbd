//! One server per test with an empty bucket, and Google's own clients for it.

use std::sync::Arc;

use google_cloud_auth::credentials::anonymous;
use google_cloud_storage::client::{Storage as Client, StorageControl};
use local_gcp::Server;
use local_gcp::faults::Faults;
use local_gcp::history::{Event, What};
use local_gcp::storage::Storage;
use serde_json::Value;

pub(crate) const BUCKET: &str = "models";
pub(crate) const BUCKET_PATH: &str = "projects/_/buckets/models";
/// Topic of the bucket's notifications in the tests that make one.
pub(crate) const NEWS: &str = "projects/demo/topics/news";
pub(crate) const NEWS_SUBSCRIPTION: &str = "projects/demo/subscriptions/news";

pub(crate) struct Local {
    pub(crate) server: Server,
    pub(crate) storage: Arc<Storage>,
    pub(crate) faults: Arc<Faults>,
    /// `http://127.0.0.1:PORT`
    pub(crate) base: String,
}

impl Local {
    /// Serves on a free port until it is dropped, with a history.
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default(); // another test may have been first
        let server =
            Server::builder().record().bucket(BUCKET).topic(NEWS).subscription(NEWS_SUBSCRIPTION, NEWS);
        let server = server.start().await.unwrap();
        let (storage, faults, base) = (server.storage.clone(), server.faults.clone(), server.endpoint());
        Self { server, storage, faults, base }
    }

    pub(crate) async fn client(&self) -> Client {
        let credentials = anonymous::Builder::new().build();
        Client::builder().with_endpoint(&self.base).with_credentials(credentials).build().await.unwrap()
    }

    pub(crate) async fn control(&self) -> StorageControl {
        let credentials = anonymous::Builder::new().build();
        StorageControl::builder()
            .with_endpoint(&self.base)
            .with_credentials(credentials)
            .build()
            .await
            .unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/storage/v1/b/{BUCKET}{path}", self.base)
    }

    /// Events of objects in the history.
    pub(crate) fn object_events(&self) -> Vec<What> {
        let of_objects = |event: &Event| {
            let what = &event.what;
            matches!(what, What::Finalized(_) | What::Deleted(_) | What::Read(_)).then(|| what.clone())
        };
        self.server.history.with(|events| events.iter().filter_map(of_objects).collect())
    }
}

/// One call over REST: the HTTP status, and the answer's JSON (null where there is none).
pub(crate) async fn call(server: &Server, method: &str, path: &str, body: Value) -> (u16, Value) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let answer = client.request(method, server.endpoint() + path).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// Bytes that no two offsets of a chunk share.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 + index / 251) as u8).collect()
}
