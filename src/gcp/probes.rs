//! Checks that the subscriptions, topics and buckets of a configuration exist, and that the worker may use
//! them.
//!
//! `predictd check --connect` and every start ask by TestIamPermissions, which needs no right of its own. A
//! Pub/Sub without that call, such as Google's emulator, is asked for the resource itself. A server that does
//! not say is no problem: looking at a resource takes rights that the worker does not need.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use google_cloud_auth::credentials;
use google_cloud_pubsub::client::{SchemaService, SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::model::Subscription;
use google_cloud_storage::client::StorageControl;
use tokio::sync::OnceCell;

use super::calls::{self, CallFailure, Service, in_time};
use super::clients;
use super::storage::bucket_resource;
use crate::config::{self, Config, Location};
use crate::hint::{Hint as _, hint_or_default};

/// The outcome of one check.
#[derive(Debug)]
pub struct Finding {
    /// The key of the configuration, or `credentials`.
    pub about: &'static str,
    /// The full name or address of what was checked.
    pub name: String,
    pub verdict: Verdict,
}

#[derive(Debug)]
pub enum Verdict {
    Fine,
    /// The server does not say; the string says why.
    Unknown(String),
    Refused {
        why: String,
        hint: String,
    },
}

impl Verdict {
    pub fn refused(error: &anyhow::Error) -> Self {
        Self::Refused { why: format!("{error:#}"), hint: hint_or_default(error).to_owned() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about, name, verdict } = self;
        match verdict {
            Verdict::Fine => write!(f, "ok       {about}: {name}"),
            Verdict::Unknown(why) => write!(f, "unknown  {about}: {name}: {why}"),
            Verdict::Refused { why, hint } => write!(f, "problem  {about}: {name}: {why}\n  try: {hint}"),
        }
    }
}

/// A resource of Google Cloud that the configuration names, and the permissions that the worker needs on it.
#[derive(Debug, Clone)]
pub struct Resource {
    pub key: &'static str,
    /// `projects/P/topics/T`, `projects/P/subscriptions/S` or `projects/_/buckets/B`.
    pub name: String,
    permissions: &'static [&'static str],
    role: &'static str,
    /// The resource is the part of a bucket below a prefix, whose rights cannot be asked for.
    is_part: bool,
}

/// Every resource that the configuration names, the models' bucket included.
fn resources(config: &Config) -> Vec<Resource> {
    let subscription = |key, name: &str| {
        Resource::new(key, name, &["pubsub.subscriptions.consume"], "roles/pubsub.subscriber")
    };
    let bucket = |key, place: &Location, permissions, role| Resource {
        is_part: !place.prefix.is_empty(),
        ..Resource::new(key, &bucket_resource(&place.bucket), permissions, role)
    };
    let viewer = "roles/storage.objectViewer";
    let mut all =
        vec![subscription("requests.subscription", &config.requests.subscription), response_topic(config)];
    if let config::Source::Bucket { bucket: name, prefix } = &config.models.source {
        let place = Location { bucket: name.clone(), prefix: prefix.clone() };
        all.push(bucket("models.source", &place, &["storage.objects.list", "storage.objects.get"], viewer));
    }
    all.extend(config.models.updates.as_ref().map(|name| subscription("models.updates", name)));
    let allowed = config.requests.allowed_buckets.iter();
    all.extend(
        allowed.map(|place| bucket("requests.allowed_buckets", place, &["storage.objects.get"], viewer)),
    );
    let write = &["storage.objects.create", "storage.objects.delete"];
    let results = config.responses.bucket.iter();
    all.extend(results.map(|place| bucket("responses.bucket", place, write, "roles/storage.objectUser")));
    if let Some(name) = &config.files.subscription {
        // The subscription names the topic, which the shards of a job are published to.
        let permissions = &["pubsub.subscriptions.consume", "pubsub.subscriptions.get"];
        let role = "roles/pubsub.subscriber and roles/pubsub.viewer";
        all.push(Resource::new("files.subscription", name, permissions, role));
        // Only some of them are written to, and the configuration does not say which.
        let read = &["storage.objects.list", "storage.objects.get"];
        let allowed = config.files.allowed_buckets.iter();
        all.extend(allowed.map(|place| bucket("files.allowed_buckets", place, read, viewer)));
    }
    all
}

pub fn response_topic(config: &Config) -> Resource {
    published_topic("responses.topic", &config.responses.topic)
}

fn published_topic(key: &'static str, name: &str) -> Resource {
    Resource::new(key, name, &["pubsub.topics.publish"], "roles/pubsub.publisher")
}

/// Name of the topic of a subscription whose topic was deleted.
const DELETED_TOPIC: &str = "_deleted-topic_";

/// The clients that probe.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Its TestIamPermissions answers for topics and subscriptions too.
    pubsub_rights: SchemaService,
    /// Set up once it is needed, which is for a Pub/Sub without TestIamPermissions alone.
    topics: Arc<OnceCell<TopicAdmin>>,
    subscriptions: SubscriptionAdmin,
    storage: StorageControl,
}

impl Servers {
    /// # Errors
    /// Google's clients cannot be set up.
    pub async fn connect(subscriptions: SubscriptionAdmin) -> anyhow::Result<Self> {
        Ok(Self {
            pubsub_rights: clients::schema_service().await?,
            topics: Arc::default(),
            subscriptions,
            storage: clients::storage_control().await?,
        })
    }

    /// Every resource that the configuration names, and the topic of the batch subscription. A subscription
    /// that cannot be looked up is left to its own check.
    async fn resources(&self, config: &Config) -> Vec<Resource> {
        let mut all = resources(config);
        if let Some(name) = &config.files.subscription {
            let ask = self.subscriptions.get_subscription().set_subscription(name);
            let found = calls::ask(Service::PubSub, ask.send()).await;
            all.extend(found.ok().map(|found| published_topic("files.subscription", &found.topic)));
        }
        all
    }

    pub async fn ask(&self, resource: &Resource) -> Verdict {
        if resource.name == DELETED_TOPIC {
            return Verdict::Refused {
                why: "the topic of the subscription was deleted".to_owned(),
                hint: format!("make `{}` again, on a topic that exists", resource.key),
            };
        }
        match calls::ask(resource.service(), self.held_permissions(resource)).await {
            Ok(held) => resource.judge(&held),
            Err(CallFailure::Unimplemented(_)) => self.look(resource).await,
            Err(failed) => resource.failed(failed),
        }
    }

    async fn held_permissions(&self, resource: &Resource) -> google_cloud_gax::Result<Vec<String>> {
        let permissions = resource.permissions.iter().copied();
        let held = match resource.service() {
            Service::Storage => {
                let ask = self.storage.test_iam_permissions().set_resource(&resource.name);
                ask.set_permissions(permissions).send().await?
            }
            Service::PubSub => {
                let ask = self.pubsub_rights.test_iam_permissions().set_resource(&resource.name);
                ask.set_permissions(permissions).send().await?
            }
        };
        Ok(held.permissions)
    }

    async fn look(&self, resource: &Resource) -> Verdict {
        let found = if resource.is_bucket() {
            return Verdict::Unknown("the server cannot be asked for rights".to_owned());
        } else if resource.is_topic() {
            let topics = match self.topics.get_or_try_init(clients::topic_admin).await {
                Ok(topics) => topics,
                Err(error) => return Verdict::refused(&error),
            };
            let ask = topics.get_topic().set_topic(&resource.name);
            calls::ask(Service::PubSub, ask.send()).await.map(drop)
        } else {
            let ask = self.subscriptions.get_subscription().set_subscription(&resource.name);
            calls::ask(Service::PubSub, ask.send()).await.map(drop)
        };
        found.map_or_else(|failed| resource.failed(failed), |()| Verdict::Fine)
    }
}

impl Resource {
    fn new(key: &'static str, name: &str, permissions: &'static [&'static str], role: &'static str) -> Self {
        Self { key, name: name.to_owned(), permissions, role, is_part: false }
    }

    fn is_topic(&self) -> bool {
        self.name.contains("/topics/")
    }

    fn is_bucket(&self) -> bool {
        self.name.contains("/buckets/")
    }

    fn service(&self) -> Service {
        if self.is_bucket() { Service::Storage } else { Service::PubSub }
    }

    fn judge(&self, held: &[String]) -> Verdict {
        let lacks = |permission: &&&str| !held.iter().any(|held| held == *permission);
        let missing: Vec<&str> = self.permissions.iter().filter(lacks).copied().collect();
        if missing.is_empty() {
            return Verdict::Fine;
        }
        let missing = missing.join(" and ");
        if self.is_part {
            return Verdict::Unknown(format!(
                "{missing} is not granted on the whole bucket; \
                 a grant for the prefix alone cannot be asked for"
            ));
        }
        Verdict::Refused {
            // Google gives the same answer for a missing resource:
            // https://cloud.google.com/pubsub/docs/access-control
            why: format!("it does not exist, or the right {missing} is missing"),
            hint: format!("create it or correct `{}`, and grant {} on it", self.key, self.role),
        }
    }

    fn failed(&self, failed: CallFailure) -> Verdict {
        match failed {
            CallFailure::Forbidden(_) => Verdict::Unknown("not allowed to ask".to_owned()),
            CallFailure::NotFound(_) => Verdict::Refused {
                why: "it does not exist".to_owned(),
                hint: match self.is_bucket() {
                    true => format!("create it, or correct `{}`", self.key),
                    false => format!("create it, or correct `{}` and `project`", self.key),
                },
            },
            CallFailure::Unimplemented(error) | CallFailure::Refused(error) => {
                Verdict::Refused { why: error.to_string(), hint: self.service().network_hint() }
            }
            CallFailure::Unreachable(error) => Verdict::refused(&error),
        }
    }
}

/// Looks the request subscription up before anything starts; `None` when that is not allowed: receiving needs
/// fewer rights.
///
/// # Errors
/// The subscription does not exist, or the server does not answer.
pub async fn request_subscription(
    admin: &SubscriptionAdmin,
    name: &str,
) -> anyhow::Result<Option<Subscription>> {
    let ask = admin.get_subscription().set_subscription(name);
    let resource = format!("the subscription {name:?}");
    let if_missing = "create it, or correct `requests.subscription` and `project`";
    let answer = calls::ask(Service::PubSub, ask.send()).await;
    found(answer, "use", &resource, if_missing, "roles/pubsub.subscriber")
}

/// Lists one object of a bucket before anything starts. Missing rights are no error: new ones take minutes to
/// arrive, and the models' source is listed again.
///
/// # Errors
/// The bucket does not exist, or the server does not answer.
pub async fn bucket(control: &StorageControl, bucket: &str) -> anyhow::Result<()> {
    let ask = control.list_objects().set_parent(bucket_resource(bucket)).set_page_size(1);
    let resource = format!("the bucket {bucket:?}");
    let if_missing =
        "create it, or correct its name; `gcloud storage buckets list` prints the names that exist";
    let answer = calls::ask(Service::Storage, ask.send()).await;
    found(answer, "list", &resource, if_missing, "roles/storage.objectViewer").map(drop)
}

/// The answer of a call that tries to `verb` a resource; `None` where the worker must not ask.
fn found<T>(
    answer: Result<T, CallFailure>,
    verb: &str,
    resource: &str,
    if_missing: &str,
    role: &str,
) -> anyhow::Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(CallFailure::Forbidden(_)) => Ok(None),
        Err(CallFailure::NotFound(_)) => Err(anyhow!("{resource} does not exist")).hint(if_missing),
        Err(CallFailure::Unimplemented(error) | CallFailure::Refused(error)) => Err(error)
            .with_context(|| format!("cannot {verb} {resource}"))
            .hint(&format!("check the credentials and the rights ({role})")),
        Err(CallFailure::Unreachable(error)) => Err(error),
    }
}

/// The topic of the batch subscription, which must exist.
///
/// # Errors
/// The subscription does not exist, or must not be looked at, or its topic was deleted.
pub async fn topic_of(admin: &SubscriptionAdmin, subscription: &str) -> anyhow::Result<String> {
    let ask = admin.get_subscription().set_subscription(subscription);
    let found = calls::ask(Service::PubSub, ask.send()).await;
    let topic = found.map_err(|failure| failure.into_error()).map(|found| found.topic);
    let topic = topic
        .with_context(|| format!("cannot look at the subscription of batches {subscription:?}"))
        .hint("create it, correct `files.subscription`, or grant roles/pubsub.viewer on it")?;
    if topic == DELETED_TOPIC {
        return Err(anyhow::anyhow!("the topic of the subscription of batches {subscription:?} was deleted"))
            .hint("make the subscription again, on a topic that exists");
    }
    Ok(topic)
}

/// Runs every check. `models` is the check of the models' source, which runs beside the others. Without
/// working credentials, these are the only finding, since nothing else can be asked.
pub async fn check(config: &Config, models: impl Future<Output = Finding>) -> Vec<Finding> {
    let uses_storage = resources(config).iter().any(Resource::is_bucket);
    let credentials = check_credentials(uses_storage).await;
    if matches!(credentials.verdict, Verdict::Refused { .. }) {
        return vec![credentials];
    }
    let servers = async { Servers::connect(clients::subscription_admin().await?).await };
    let servers = match servers.await {
        Ok(servers) => servers,
        Err(error) => return vec![Finding { verdict: Verdict::refused(&error), ..credentials }],
    };
    let resources = servers.resources(config).await;
    let asked = futures::future::join_all(resources.iter().map(|resource| servers.ask(resource)));
    let (models, verdicts) = tokio::join!(models, asked);
    let findings = resources.into_iter().zip(verdicts).map(|(Resource { key, name, .. }, verdict)| Finding {
        about: key,
        name,
        verdict,
    });
    [credentials].into_iter().chain(findings).chain([models]).collect()
}

async fn check_credentials(uses_storage: bool) -> Finding {
    let finding = |name: String, verdict| Finding { about: "credentials", name, verdict };
    if clients::needs_no_credentials(uses_storage) {
        let emulators = clients::emulators().join(" and ");
        return finding(format!("not needed with {emulators}"), Verdict::Fine);
    }
    let token = async {
        credentials::Builder::default().build_access_token_credentials()?.access_token().await?;
        Ok::<_, anyhow::Error>(())
    };
    let verdict = match in_time(token).await.flatten() {
        Ok(()) => Verdict::Fine,
        Err(error) => Verdict::Refused {
            why: format!("no token: {}", error.root_cause()),
            hint:
                "run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS to the file \
                   of the credentials, or run where a service account is attached"
                    .to_owned(),
        },
    };
    finding("Application Default Credentials".to_owned(), verdict)
}

/// Logs the verdict on every resource, beside the start. The models' source and the response topic are left
/// out: the start lists the one, and `/ready` watches the other.
pub async fn log(servers: Servers, config: Config) {
    let checked_elsewhere = ["models.source", "responses.topic"];
    let resources = servers.resources(&config).await.into_iter();
    let resources = resources.filter(|resource| !checked_elsewhere.contains(&resource.key));
    let ask = async |resource: Resource| {
        let verdict = servers.ask(&resource).await;
        let Resource { key, name, .. } = resource;
        match verdict {
            Verdict::Fine => tracing::info!(key, name, "checked: it exists and may be used"),
            Verdict::Unknown(why) => tracing::info!(key, name, why, "not checked"),
            Verdict::Refused { why, hint } => {
                tracing::warn!(key, name, why, hint, "the worker cannot use what the configuration names");
            }
        }
    };
    futures::future::join_all(resources.map(ask)).await;
}
