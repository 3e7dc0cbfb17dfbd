//! IAM policies of topics and subscriptions: kept and shown as given; [`crate::iam`] says when they have an
//! effect.
//!
//! A change that names an etag is refused when the policy has changed since that etag was read, as the real
//! service does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use googleapis_tonic_google_iam_v1::google::iam::v1::{
    Binding, GetIamPolicyRequest, Policy, SetIamPolicyRequest, TestIamPermissionsRequest,
    TestIamPermissionsResponse,
};
use tonic::Status;

use super::PubSub;
use crate::iam;

/// The policies that were ever set, by the full name of their resource.
#[derive(Debug, Default)]
pub(crate) struct Policies(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_resource: HashMap<String, Policy>,
    /// Counts changes: each etag is a different one.
    changes: u64,
}

impl Policies {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn get(&self, resource: &str) -> Policy {
        // A policy that nobody set has an etag too: the first writer must be able to name it.
        let unset = || Policy { version: 1, etag: etag(0), ..Policy::default() };
        self.by_resource.get(resource).cloned().unwrap_or_else(unset)
    }
}

fn etag(change: u64) -> prost::bytes::Bytes {
    prost::bytes::Bytes::copy_from_slice(&change.to_be_bytes())
}

fn permission(resource: &str, verb: &str) -> &'static str {
    match (resource.contains("/topics/"), verb) {
        (true, "getIamPolicy") => "pubsub.topics.getIamPolicy",
        (true, _) => "pubsub.topics.setIamPolicy",
        (false, "getIamPolicy") => "pubsub.subscriptions.getIamPolicy",
        (false, _) => "pubsub.subscriptions.setIamPolicy",
    }
}

impl PubSub {
    fn resource_exists(&self, resource: &str) -> Result<(), Status> {
        let mut parts = resource.split('/');
        match parts.nth(2) {
            Some("topics") => self.topic(resource).map(drop),
            Some("subscriptions") => self.subscription(resource).map(drop),
            _ => Err(Status::not_found(format!(
                "Resource not found (resource={resource}): expected a topic or a subscription"
            ))),
        }
    }

    /// The policy of `projects/P/topics/T` or `projects/P/subscriptions/S`; without bindings until one is
    /// set.
    pub(crate) fn policy(&self, resource: &str) -> Result<Policy, Status> {
        self.resource_exists(resource)?;
        self.may(permission(resource, "getIamPolicy"), resource)?;
        Ok(self.policies.lock().get(resource))
    }

    /// Replaces a policy; ABORTED when its etag names another state than the current one.
    pub(crate) fn set_policy(&self, resource: &str, mut policy: Policy) -> Result<Policy, Status> {
        self.resource_exists(resource)?;
        self.may(permission(resource, "setIamPolicy"), resource)?;
        let mut policies = self.policies.lock();
        if !policy.etag.is_empty() && policy.etag != policies.get(resource).etag {
            return Err(Status::aborted(
                "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
            ));
        }
        policies.changes += 1;
        policy.etag = etag(policies.changes);
        policies.by_resource.insert(resource.to_owned(), policy.clone());
        Ok(policy)
    }

    /// Returns the permissions that the caller has.
    pub(crate) fn test_permissions(
        &self,
        resource: &str,
        permissions: Vec<String>,
    ) -> Result<Vec<String>, Status> {
        self.resource_exists(resource)?;
        Ok(self.iam.held(permissions, || self.bindings(resource)))
    }

    /// True when the caller has that permission on a topic, a subscription or a project.
    ///
    /// # Errors
    /// PERMISSION_DENIED.
    pub(super) fn may(&self, permission: &'static str, resource: &str) -> Result<(), Status> {
        Ok(self.iam.check(permission, resource, || self.bindings(resource))?)
    }

    fn bindings(&self, resource: &str) -> Vec<iam::Binding> {
        let bindings = self.policies.lock().get(resource).bindings.into_iter();
        let unconditional = bindings.filter(|binding| binding.condition.is_none());
        unconditional.map(|Binding { role, members, .. }| iam::Binding { role, members }).collect()
    }

    /// A deleted resource takes its policy with it.
    pub(super) fn forget_policy(&self, resource: &str) {
        self.policies.lock().by_resource.remove(resource);
    }
}
