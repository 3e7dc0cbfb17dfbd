//! Identity and access, where it is enforced: who calls, what each role allows, and which permissions were
//! asked for.
//!
//! Nobody is authenticated here; a port stands for an identity instead. What comes over a member's own port
//! is that member's call and needs a grant on the very resource. The main port is the project's owner's, who
//! may do everything. Google's service agents act inside of the server and need their grants too. Not
//! modelled: policies of projects (so nobody but the owner creates or lists resources) and conditions (a
//! binding with one grants nothing).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;

/// The predefined roles that are known, with those of their permissions that are asked for here.
/// <https://cloud.google.com/iam/docs/roles-permissions>
const ROLES: &[(&str, &[&str])] = &[
    ("roles/pubsub.publisher", &["pubsub.topics.publish"]),
    ("roles/pubsub.subscriber", &["pubsub.subscriptions.consume", "pubsub.topics.attachSubscription"]),
    ("roles/pubsub.viewer", &["pubsub.subscriptions.get", "pubsub.topics.get"]),
    ("roles/storage.objectViewer", &["storage.objects.get", "storage.objects.list"]),
    ("roles/storage.objectCreator", &["storage.objects.create"]),
    (
        "roles/storage.objectUser",
        &[
            "storage.objects.create",
            "storage.objects.delete",
            "storage.objects.get",
            "storage.objects.list",
            "storage.objects.update",
        ],
    ),
];

tokio::task_local! {
    static CALLER: Caller;
}

/// Identity whose call the current task serves.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Named as in policies: `serviceAccount:EMAIL`, `user:EMAIL`.
    Member(Arc<str>),
    /// One of Google's own service accounts, by the domain of its address: this server does not know the
    /// project's number.
    Agent(&'static str),
}

/// Moves dead letters.
pub(crate) const PUBSUB_AGENT: Caller = Caller::Agent("@gcp-sa-pubsub.iam.gserviceaccount.com");
/// Publishes a bucket's notifications.
pub(crate) const STORAGE_AGENT: Caller = Caller::Agent("@gs-project-accounts.iam.gserviceaccount.com");

/// Some members have a role on a resource.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) role: String,
    pub(crate) members: Vec<String>,
}

/// A permission that a caller needed, granted or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub member: String,
    pub permission: &'static str,
    /// `projects/P/topics/T`, `projects/P/subscriptions/S`, `projects/_/buckets/B`, or `projects/P`.
    pub resource: String,
}

/// Why a call is refused.
#[derive(Debug)]
pub(crate) struct Denied(Asked);

/// Enforcement of policies, and the permissions that were asked for so far.
#[derive(Debug, Default)]
pub struct Iam {
    enforced: bool,
    asked: Mutex<BTreeSet<Asked>>,
}

impl Caller {
    fn is_one_of(&self, members: &[String]) -> bool {
        members.iter().any(|member| match self {
            Caller::Member(name) => **name == **member,
            Caller::Agent(domain) => member.starts_with("serviceAccount:") && member.ends_with(domain),
        })
    }

    fn name(&self) -> &str {
        match self {
            Caller::Member(name) => name,
            Caller::Agent(domain) => domain,
        }
    }

    /// Serves a call in its name.
    pub(crate) async fn calls<T>(self, call: impl Future<Output = T>) -> T {
        CALLER.scope(self, call).await
    }

    pub(crate) fn does<T>(self, act: impl FnOnce() -> T) -> T {
        CALLER.sync_scope(self, act)
    }
}

fn allows(role: &str, permission: &str) -> bool {
    ROLES.iter().any(|(known, permissions)| *known == role && permissions.contains(&permission))
}

impl Iam {
    pub(crate) fn new(enforced: bool) -> Self {
        Self { enforced, asked: Mutex::default() }
    }

    /// Lets the owner pass, and whoever has a role with that permission; `policy` is read only when it
    /// counts.
    pub(crate) fn check(
        &self,
        permission: &'static str,
        resource: &str,
        policy: impl FnOnce() -> Vec<Binding>,
    ) -> Result<(), Denied> {
        let caller = if self.enforced { CALLER.try_with(Clone::clone).ok() } else { None };
        let Some(caller) = caller else { return Ok(()) };
        let member = caller.name().to_owned();
        let asked = Asked { member, permission, resource: resource.to_owned() };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(asked.clone());
        let grants =
            |binding: &Binding| caller.is_one_of(&binding.members) && allows(&binding.role, permission);
        if policy().iter().any(grants) { Ok(()) } else { Err(Denied(asked)) }
    }

    /// Every permission that a member's calls have needed, each once.
    pub fn asked(&self, member: &str) -> BTreeSet<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|asked| asked.member == member).cloned().collect()
    }

    /// Returns the permissions that the caller has.
    pub(crate) fn held(
        &self,
        permissions: Vec<String>,
        policy: impl FnOnce() -> Vec<Binding>,
    ) -> Vec<String> {
        let caller = if self.enforced { CALLER.try_with(Clone::clone).ok() } else { None };
        let Some(caller) = caller else { return permissions };
        let roles: Vec<String> = policy()
            .into_iter()
            .filter(|binding| caller.is_one_of(&binding.members))
            .map(|it| it.role)
            .collect();
        let held = |permission: &String| roles.iter().any(|role| allows(role, permission));
        permissions.into_iter().filter(held).collect()
    }
}

impl Denied {
    /// Message in the words of Cloud Storage.
    pub(crate) fn of_storage(&self) -> String {
        let Denied(Asked { member, permission, resource }) = self;
        format!(
            "{member} does not have {permission} access to the Google Cloud Storage resource {resource}. \
             Permission '{permission}' denied on resource (or it may not exist)."
        )
    }
}

impl From<Denied> for Status {
    fn from(Denied(asked): Denied) -> Self {
        Status::permission_denied(format!(
            "User not authorized to perform this action: {} lacks {} on {}.",
            asked.member, asked.permission, asked.resource
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Vec<Binding> {
        let members = vec![
            "user:a@b.test".to_owned(),
            "serviceAccount:service-1@gcp-sa-pubsub.iam.gserviceaccount.com".to_owned(),
        ];
        vec![Binding { role: "roles/pubsub.publisher".to_owned(), members }]
    }

    #[test]
    fn who_calls_is_held_to_what_is_granted() {
        let iam = Iam::new(true);
        let publish = || iam.check("pubsub.topics.publish", "t", policy).is_ok();
        let get = || iam.check("pubsub.topics.get", "t", policy).is_ok();
        assert!(publish() && get(), "the owner may do everything");
        let member = |name: &str| Caller::Member(name.into());
        assert!(member("user:a@b.test").does(publish));
        assert!(!member("user:a@b.test").does(get), "a publisher only publishes");
        assert!(!member("user:other@b.test").does(publish));
        assert!(PUBSUB_AGENT.does(publish) && !STORAGE_AGENT.does(publish));
        let wish = || iam.held(vec!["pubsub.topics.get".into(), "pubsub.topics.publish".into()], policy);
        assert_eq!(member("user:a@b.test").does(wish), ["pubsub.topics.publish"]);
        assert_eq!(iam.asked("user:a@b.test").len(), 2, "refusals are asked for too");
        let off = Iam::default();
        assert!(member("user:x@b.test").does(|| off.check("pubsub.topics.get", "t", policy).is_ok()));
    }
}
