//! One server: its own runtime, one port for gRPC (HTTP/2 without TLS) and REST (HTTP/1.1), and one more for
//! each member whose rights are to count.
//!
//! Dropping it closes the port and every connection, whatever calls are in flight.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::serve::ListenerExt as _;

use crate::faults::Faults;
use crate::history::History;
use crate::iam::{Caller, Iam, STORAGE_AGENT};
use crate::pubsub::{self, PubSub, wire};
use crate::storage::{self, PublishFn, Storage};
use crate::{codes, control};

/// Enough for several hundred thousand messages a second through one subscription.
const WORKERS: usize = 2;

/// For calls that are computing when the server is dropped; those that wait end at once.
const STOP: Duration = Duration::from_secs(1);

/// A bucket's notifications to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub bucket: String,
    /// `projects/P/topics/T`
    pub topic: String,
    /// Only of objects whose name begins so.
    pub prefix: Option<String>,
    /// Attributes of every message, beside Cloud Storage's own.
    pub attributes: BTreeMap<String, String>,
}

/// Configuration and resources that a server begins with.
#[derive(Debug, Default)]
pub struct Builder {
    listen: Option<SocketAddr>,
    record: bool,
    enforce_iam: bool,
    callers: Vec<(String, Option<SocketAddr>)>,
    topics: Vec<String>,
    subscriptions: Vec<wire::Subscription>,
    buckets: Vec<String>,
    notifications: Vec<Notification>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Address that it listens on, for gRPC and REST.
    pub address: SocketAddr,
    pub pubsub: Arc<PubSub>,
    pub storage: Arc<Storage>,
    pub faults: Arc<Faults>,
    /// Events so far; empty unless it was built with `record()`.
    pub history: Arc<History>,
    /// Permissions that were asked for.
    pub iam: Arc<Iam>,
    /// Address that each member calls, in the order given.
    pub members: Vec<(String, SocketAddr)>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Builder {
    /// Listens here; a free port of 127.0.0.1 when nothing is said.
    pub fn listen(mut self, address: SocketAddr) -> Builder {
        self.listen = Some(address);
        self
    }

    /// Keeps a history of every event; off by default, since it grows without bound.
    pub fn record(mut self) -> Builder {
        self.record = true;
        self
    }

    /// Lets policies count: for members with a port of their own, and for Google's agents. The main port
    /// stays the owner's.
    pub fn enforce_iam(mut self) -> Builder {
        self.enforce_iam = true;
        self
    }

    /// Listens on one port more, here or on a free one, where every call is this member's
    /// (`serviceAccount:EMAIL`).
    pub fn calls_as(mut self, member: impl Into<String>, address: Option<SocketAddr>) -> Builder {
        self.callers.push((member.into(), address));
        self
    }

    /// Creates `projects/P/topics/T`.
    pub fn topic(mut self, name: impl Into<String>) -> Builder {
        self.topics.push(name.into());
        self
    }

    /// Creates `projects/P/subscriptions/S` on a topic, with defaults for all else.
    pub fn subscription(self, name: impl Into<String>, topic: impl Into<String>) -> Builder {
        let name = name.into();
        let topic = topic.into();
        self.subscription_with(wire::Subscription { name, topic, ..wire::Subscription::default() })
    }

    /// Creates a subscription with everything that can be configured.
    pub fn subscription_with(mut self, subscription: wire::Subscription) -> Builder {
        self.subscriptions.push(subscription);
        self
    }

    /// Creates an empty bucket.
    pub fn bucket(mut self, name: impl Into<String>) -> Builder {
        self.buckets.push(name.into());
        self
    }

    /// Publishes every change of a bucket's objects (under a prefix, where one is given) to
    /// `projects/P/topics/T`.
    pub fn notification(
        self,
        bucket: impl Into<String>,
        topic: impl Into<String>,
        prefix: Option<String>,
    ) -> Builder {
        let (bucket, topic) = (bucket.into(), topic.into());
        self.notification_with(Notification { bucket, topic, prefix, attributes: BTreeMap::new() })
    }

    /// Like `notification`, with attributes of its own.
    pub fn notification_with(mut self, notification: Notification) -> Builder {
        self.notifications.push(notification);
        self
    }

    /// Starts serving; a name or setting that the services refuse is an error here.
    pub async fn start(self) -> anyhow::Result<Server> {
        let address = self.listen.unwrap_or_else(free_port);
        let (listener, address) = listen(address)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("local-gcp")
            .enable_all()
            .build()?;
        let faults = Arc::new(Faults::default());
        let history = History::new(self.record);
        let iam = Arc::new(Iam::new(self.enforce_iam));
        let pubsub = PubSub::new(faults.clone(), history.clone(), iam.clone(), runtime.handle().clone());
        let storage = Storage::new(faults.clone(), history.clone(), iam.clone(), publishing(pubsub.clone()));
        storage.listens_at(address);
        let mut listeners = vec![(listener, None)];
        let mut members = Vec::new();
        for (member, address) in &self.callers {
            let (listener, address) = listen(address.unwrap_or_else(free_port))?;
            members.push((member.clone(), address));
            listeners.push((listener, Some(Caller::Member(member.as_str().into()))));
        }
        let server =
            Server { address, pubsub, storage, faults, history, iam, members, runtime: Some(runtime) };
        self.create(&server)?;
        for (listener, caller) in listeners {
            server.serve(listener, caller)?;
        }
        Ok(server)
    }

    fn create(self, server: &Server) -> anyhow::Result<()> {
        let refused = |status: tonic::Status| anyhow::anyhow!("{}", status.message());
        for name in self.topics {
            let topic = wire::Topic { name, ..wire::Topic::default() };
            server.pubsub.create_topic(topic).map_err(refused)?;
        }
        for subscription in self.subscriptions {
            server.pubsub.create_subscription(subscription).map_err(refused)?;
        }
        for bucket in self.buckets {
            server.storage.create_bucket(&bucket).with_context(|| format!("bucket {bucket:?}"))?;
        }
        for Notification { bucket, topic, prefix, attributes } in self.notifications {
            server
                .storage
                .create_notification_with(&bucket, &topic, prefix.as_deref(), attributes)
                .with_context(|| format!("notification of bucket {bucket:?}"))?;
        }
        Ok(())
    }
}

fn free_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn listen(address: SocketAddr) -> anyhow::Result<(std::net::TcpListener, SocketAddr)> {
    let listener =
        std::net::TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Buckets publish to the topics of the same server, in Cloud Storage's name.
fn publishing(pubsub: Arc<PubSub>) -> PublishFn {
    Arc::new(move |topic, attributes, data| {
        let message = wire::PubsubMessage { data, attributes, ..wire::PubsubMessage::default() };
        let publish = || pubsub.publish(topic, vec![message]);
        Ok(STORAGE_AGENT.does(publish)?.swap_remove(0))
    })
}

impl Server {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `127.0.0.1:PORT`, as the emulators' environment variables take it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `127.0.0.1:PORT` of a member that has a port of its own.
    pub fn host_as(&self, member: &str) -> Option<String> {
        let found = self.members.iter().find(|(name, _)| name == member);
        found.map(|(_, address)| address.to_string())
    }

    /// `http://127.0.0.1:PORT`, for clients' `with_endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks every open stream with UNAVAILABLE, at once.
    pub fn reset_streams(&self) {
        self.pubsub.reset_streams();
    }

    fn serve(&self, listener: std::net::TcpListener, caller: Option<Caller>) -> io::Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let mut grpc = tonic::service::RoutesBuilder::default();
        pubsub::grpc::routes(self.pubsub.clone(), &mut grpc);
        storage::grpc::routes(self.storage.clone(), &mut grpc);
        let mut app = grpc
            .routes()
            .prepare()
            .into_axum_router()
            .reset_fallback()
            .merge(pubsub::rest::router(self.pubsub.clone()))
            .merge(storage::rest::router(self.storage.clone()))
            .merge(control::router(self.pubsub.clone(), self.storage.clone(), self.faults.clone()))
            .fallback(unknown)
            .method_not_allowed_fallback(unknown);
        if let Some(caller) = caller {
            app = app.layer(middleware::from_fn(move |request: Request, next: Next| {
                caller.clone().calls(next.run(request))
            }));
        }
        let _guard = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
            // Small frames must not wait for each other; without it everything still works, later.
            let _ = stream.set_nodelay(true);
        });
        runtime.spawn(async move { axum::serve(listener, app).await });
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On a thread, since this may run inside another runtime; joined, so that the port is free when
            // this returns.
            let stop = std::thread::spawn(move || runtime.shutdown_timeout(STOP));
            let _ = stop.join();
        }
    }
}

// Answers requests that no route knows. Not by 404: Terraform would take that for a resource that is gone.
async fn unknown(request: Request) -> axum::response::Response {
    let message = format!("local-gcp does not serve {} {}", request.method(), request.uri().path());
    let status = tonic::Status::unimplemented(message);
    let content = request.headers().get(axum::http::header::CONTENT_TYPE);
    if content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc")) {
        return status.into_http();
    }
    codes::error_response(&status)
}
