//! One server: everything on one port, gRPC and REST side by side.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::faults::Faults;
use crate::history::History;
use crate::proto::publisher_server::PublisherServer;
use crate::proto::pubsub::{ReceivedMessage, Subscription, Topic};
use crate::proto::subscriber_server::SubscriberServer;
use crate::pubsub::Broker;
use crate::pubsub::grpc::Service;
use crate::storage::{self, Storage};

/// A publish of 10 MB and what surrounds it.
const MAX_MESSAGE: usize = 24 << 20;

/// What a server starts with, by full names.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    pub listen: Option<SocketAddr>,
    pub record: bool,
    pub topics: Vec<String>,
    pub subscriptions: Vec<Subscription>,
    pub buckets: Vec<String>,
    pub notifications: Vec<Notification>,
}

/// A bucket's notifications to a topic, of objects under a prefix.
#[derive(Debug, Clone)]
pub struct Notification {
    pub bucket: String,
    pub topic: String,
    pub prefix: Option<String>,
}

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    pub pubsub: Arc<Broker>,
    pub storage: Arc<Storage>,
    pub faults: Arc<Faults>,
    pub history: Arc<History>,
    _stop: DropGuard,
}

impl Builder {
    pub fn record(mut self) -> Self {
        self.record = true;
        self
    }

    pub fn topic(mut self, name: &str) -> Self {
        self.topics.push(name.to_owned());
        self
    }

    pub fn subscription(mut self, name: &str, topic: &str) -> Self {
        self.subscriptions.push(Subscription {
            name: name.to_owned(),
            topic: topic.to_owned(),
            ..Default::default()
        });
        self
    }

    pub fn bucket(mut self, name: &str) -> Self {
        self.buckets.push(name.to_owned());
        self
    }

    pub fn notification(mut self, bucket: &str, topic: &str, prefix: Option<&str>) -> Self {
        let (bucket, topic) = (bucket.to_owned(), topic.to_owned());
        self.notifications.push(Notification { bucket, topic, prefix: prefix.map(str::to_owned) });
        self
    }

    /// Listens (on a free port, unless told otherwise), with everything created.
    pub async fn start(self) -> anyhow::Result<Server> {
        let faults = Arc::new(Faults::default());
        let history = History::new(self.record);
        let pubsub = Broker::new(Arc::clone(&faults), Arc::clone(&history));
        let notify = {
            let pubsub = Arc::clone(&pubsub);
            Arc::new(move |topic: &str, attributes, data: Bytes| pubsub.publish_one(topic, attributes, data))
        };
        let storage = Storage::new(Arc::clone(&faults), Arc::clone(&history), notify);
        for name in self.topics {
            pubsub.create_topic(Topic { name, ..Default::default() })?;
        }
        for subscription in self.subscriptions {
            pubsub.create_subscription(subscription)?;
        }
        for bucket in &self.buckets {
            storage.create_bucket(bucket).with_context(|| format!("bucket {bucket:?}"))?;
        }
        for Notification { bucket, topic, prefix } in &self.notifications {
            storage
                .create_notification(bucket, topic, prefix.as_deref())
                .with_context(|| format!("notification of {bucket:?}"))?;
        }

        let listen = self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let service = Service(Arc::clone(&pubsub));
        let mut grpc = tonic::service::Routes::builder();
        grpc.add_service(
            PublisherServer::new(service.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        );
        grpc.add_service(
            SubscriberServer::new(service)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(usize::MAX),
        );
        storage::grpc::routes(Arc::clone(&storage), &mut grpc);
        let router = grpc
            .routes()
            .into_axum_router()
            .merge(crate::pubsub::rest::router(Arc::clone(&pubsub)))
            .merge(storage::rest::router(Arc::clone(&storage)))
            .merge(crate::control::router(Arc::clone(&pubsub)));
        // Small answers must not wait for the client's delayed acknowledgement.
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "no TCP_NODELAY");
            }
        });
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                served = async { axum::serve(listener, router).await } => {
                    if let Err(error) = served {
                        tracing::error!(%error, "the server ended");
                    }
                }
            }
        });
        Ok(Server { address, pubsub, storage, faults, history, _stop: stop.drop_guard() })
    }
}

impl Server {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `host:port`, as the emulator variables take it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Takes and acknowledges what waits in a subscription now.
    pub fn drain(&self, subscription: &str) -> anyhow::Result<Vec<ReceivedMessage>> {
        Ok(self.pubsub.subscription(subscription)?.drain())
    }
}
