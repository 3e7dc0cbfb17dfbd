//! Asks the servers whether the subscriptions, topics and buckets of a configuration exist and may be used: for
//! `predictd check --connect`, and beside every start.
//!
//! The call is TestIamPermissions, which needs no right of its own. A Pub/Sub that does not have it, such as Google's
//! emulator, is asked for the resource itself. A server that does not say is no problem: a worker may run with fewer
//! rights than those that looking takes.

use std::fmt;

use google_cloud_auth::credentials;
use google_cloud_pubsub::client::{SchemaService, SubscriptionAdmin, TopicAdmin};
use google_cloud_storage::client::StorageControl;

use crate::config::{self, Config, Location};
use crate::gcp::clients;
use crate::lifecycle::source::Source;

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
    /// The server does not say, and why.
    Unknown(String),
    Refused {
        why: String,
        hint: String,
    },
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

/// A resource of Google Cloud that the configuration names, with the permissions that the worker needs on it.
#[derive(Debug, Clone)]
pub struct Resource {
    pub key: &'static str,
    /// `projects/P/topics/T`, `projects/P/subscriptions/S` or `projects/_/buckets/B`.
    pub name: String,
    permissions: &'static [&'static str],
    role: &'static str,
    /// Rights may be granted on a part of a bucket, which cannot be asked for.
    is_part: bool,
}

/// Every resource that the configuration names, the models' bucket included.
pub fn resources(config: &Config) -> Vec<Resource> {
    let subscription = |key, name: &str| Resource {
        key,
        name: name.to_owned(),
        permissions: &["pubsub.subscriptions.consume"],
        role: "roles/pubsub.subscriber",
        is_part: false,
    };
    let bucket = |key, place: &Location, permissions, role| Resource {
        key,
        name: format!("projects/_/buckets/{}", place.bucket),
        permissions,
        role,
        is_part: !place.prefix.is_empty(),
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
    all
}

pub fn response_topic(config: &Config) -> Resource {
    Resource {
        key: "responses.topic",
        name: config.responses.topic.clone(),
        permissions: &["pubsub.topics.publish"],
        role: "roles/pubsub.publisher",
        is_part: false,
    }
}

/// The clients that ask.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Its TestIamPermissions is that of topics and subscriptions, too.
    pubsub_rights: SchemaService,
    topics: TopicAdmin,
    subscriptions: SubscriptionAdmin,
    storage: StorageControl,
}

impl Servers {
    /// # Errors
    /// Google's clients cannot be set up.
    pub async fn connect() -> anyhow::Result<Self> {
        Ok(Self {
            pubsub_rights: clients::schema_service().await?,
            topics: clients::topic_admin().await?,
            subscriptions: clients::subscription_admin().await?,
            storage: clients::storage_control().await?,
        })
    }

    pub async fn ask(&self, resource: &Resource) -> Verdict {
        let asked = async {
            match self.held_permissions(resource).await {
                Err(error) if is_unimplemented(&error) => self.look(resource).await,
                Err(error) => resource.refused(&error),
                Ok(held) => resource.judge(&held),
            }
        };
        tokio::time::timeout(clients::CALL_TIMEOUT, asked).await.unwrap_or_else(|_| Verdict::Refused {
            why: format!(
                "no answer from {} in {} seconds",
                resource.server(),
                clients::CALL_TIMEOUT.as_secs()
            ),
            hint: resource.check_the_way(),
        })
    }

    async fn held_permissions(&self, resource: &Resource) -> Result<Vec<String>, google_cloud_pubsub::Error> {
        let permissions = resource.permissions.iter().copied();
        let held = if resource.is_bucket() {
            let asked = self.storage.test_iam_permissions().set_resource(&resource.name);
            asked.set_permissions(permissions).send().await?
        } else {
            let asked = self.pubsub_rights.test_iam_permissions().set_resource(&resource.name);
            asked.set_permissions(permissions).send().await?
        };
        Ok(held.permissions)
    }

    async fn look(&self, resource: &Resource) -> Verdict {
        let found = if resource.is_bucket() {
            return Verdict::Unknown("the server cannot be asked for rights".to_owned());
        } else if resource.is_topic() {
            self.topics.get_topic().set_topic(&resource.name).send().await.map(drop)
        } else {
            let asked = self.subscriptions.get_subscription().set_subscription(&resource.name);
            asked.send().await.map(drop)
        };
        found.map_or_else(|error| resource.refused(&error), |()| Verdict::Fine)
    }
}

/// The server answered that it has no such call; over HTTP that may be an answer without a gRPC status.
fn is_unimplemented(error: &google_cloud_pubsub::Error) -> bool {
    match clients::code(error) {
        Some(code) => code == "UNIMPLEMENTED",
        None => error.http_status_code().is_some(),
    }
}

impl Resource {
    fn is_topic(&self) -> bool {
        self.name.contains("/topics/")
    }

    fn is_bucket(&self) -> bool {
        self.name.contains("/buckets/")
    }

    fn server(&self) -> String {
        if self.is_bucket() { clients::storage_address() } else { clients::pubsub_address() }
    }

    fn check_the_way(&self) -> String {
        let variable = if self.is_bucket() { "STORAGE_EMULATOR_HOST" } else { "PUBSUB_EMULATOR_HOST" };
        format!("check the network and the credentials, or {variable} when a local server is meant")
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
                "{missing} is not granted on the whole bucket; a grant for the prefix alone cannot be asked for"
            ));
        }
        Verdict::Refused {
            // Google answers the same for what does not exist: https://cloud.google.com/pubsub/docs/access-control
            why: format!("it does not exist, or the right {missing} is missing"),
            hint: format!("create it or correct `{}`, and grant {} on it", self.key, self.role),
        }
    }

    fn refused(&self, error: &google_cloud_pubsub::Error) -> Verdict {
        match clients::code(error) {
            Some("PERMISSION_DENIED") => Verdict::Unknown("not allowed to ask".to_owned()),
            Some("NOT_FOUND") => Verdict::Refused {
                why: "it does not exist".to_owned(),
                hint: match self.is_bucket() {
                    true => format!("create it, or correct `{}`", self.key),
                    false => format!("create it, or correct `{}` and `project`", self.key),
                },
            },
            Some(_) => Verdict::Refused { why: error.to_string(), hint: self.check_the_way() },
            None => Verdict::Refused {
                why: format!("cannot reach {}: {error}", self.server()),
                hint: self.check_the_way(),
            },
        }
    }
}

/// Every check. Without working credentials there is no other finding: nothing can be asked.
pub async fn check(config: &Config) -> Vec<Finding> {
    let resources = resources(config);
    let uses_storage = resources.iter().any(Resource::is_bucket);
    let credentials = check_credentials(uses_storage).await;
    if matches!(credentials.verdict, Verdict::Refused { .. }) {
        return vec![credentials];
    }
    let servers = match Servers::connect().await {
        Ok(servers) => servers,
        Err(error) => return vec![Finding { verdict: refused(&error), ..credentials }],
    };
    let asked = futures::future::join_all(resources.iter().map(|resource| servers.ask(resource)));
    let (source, verdicts) = tokio::join!(check_source(config), asked);
    let findings = resources.into_iter().zip(verdicts).map(|(Resource { key, name, .. }, verdict)| Finding {
        about: key,
        name,
        verdict,
    });
    [credentials].into_iter().chain(findings).chain([source]).collect()
}

async fn check_credentials(uses_storage: bool) -> Finding {
    let emulators = clients::emulators();
    let finding = |name: String, verdict| Finding { about: "credentials", name, verdict };
    if clients::needs_no_credentials(uses_storage) {
        return finding(format!("not needed with {}", emulators.join(" and ")), Verdict::Fine);
    }
    let token = async {
        credentials::Builder::default().build_access_token_credentials()?.access_token().await?;
        Ok::<_, anyhow::Error>(())
    };
    let asked = match tokio::time::timeout(clients::CALL_TIMEOUT, token).await {
        Ok(asked) => asked,
        Err(_) => Err(anyhow::anyhow!("no answer in {} seconds", clients::CALL_TIMEOUT.as_secs())),
    };
    let name = "Application Default Credentials".to_owned();
    match asked {
        Ok(()) => finding(name, Verdict::Fine),
        Err(error) => {
            let hint = "run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS to the file \
                        of the credentials, or run where a service account is attached";
            finding(
                name,
                Verdict::Refused { why: format!("no token: {}", error.root_cause()), hint: hint.to_owned() },
            )
        }
    }
}

fn refused(error: &anyhow::Error) -> Verdict {
    Verdict::Refused { why: format!("{error:#}"), hint: crate::hint::hint_or_usual(error).to_owned() }
}

/// Lists the models in the source.
async fn check_source(config: &Config) -> Finding {
    let finding = |name: String, verdict| Finding { about: "models.source", name, verdict };
    let name = config.models.source.to_string();
    let listed =
        async { Source::connect(&config.models.source, &config::Cache::default()).await?.list().await };
    let listing = match listed.await {
        Ok(listing) => listing,
        Err(error) => return finding(name, refused(&error)),
    };
    let mut models: Vec<&str> = listing.versions.iter().map(|listed| &*listed.model).collect();
    models.dedup();
    if models.is_empty() {
        let why = "no version of a model lies there, expected MODEL/VERSION/model.onnx".to_owned();
        let hint = "upload one with `predictd push`, or correct `models.source`".to_owned();
        return finding(name, Verdict::Refused { why, hint });
    }
    match &config.models.default {
        Some(default) if !models.contains(&&**default) => finding(
            name,
            Verdict::Refused {
                why: format!("the default model {default:?} is not among {}", models.join(", ")),
                hint: "upload it, or correct `models.default`".to_owned(),
            },
        ),
        _ => finding(format!("{name} has {}", models.join(", ")), Verdict::Fine),
    }
}

/// Logs what the servers say, beside the start. The start itself reads the models' source, and `/ready` watches the topic.
pub async fn log(servers: Servers, config: Config) {
    let asked_elsewhere = ["models.source", "responses.topic"];
    let resources =
        resources(&config).into_iter().filter(|resource| !asked_elsewhere.contains(&resource.key));
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
