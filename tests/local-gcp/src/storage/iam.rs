//! Rights that a bucket's policy gives a caller. A missing bucket is NOT_FOUND to everybody: names are
//! public.

use serde_json::Value;

use super::bucket::Bucket;
use super::{Error, Kind, Result, State, Storage};
use crate::iam::Binding;

impl Storage {
    /// # Errors
    /// The caller lacks the permission, or the bucket does not exist.
    pub(super) fn may(&self, state: &State, permission: &'static str, bucket: &str) -> Result<()> {
        let bucket = state.bucket(bucket)?;
        let resource = format!("projects/_/buckets/{}", bucket.name);
        let checked = self.iam.check(permission, &resource, || bindings(bucket));
        checked.map_err(|denied| Error::new(Kind::Forbidden, denied.of_storage()))
    }

    /// Writing over an object needs the right to delete it, too.
    pub(super) fn may_write(&self, state: &State, bucket: &str, object: &str) -> Result<()> {
        self.may(state, "storage.objects.create", bucket)?;
        match state.bucket(bucket)?.live(object) {
            Some(_) => self.may(state, "storage.objects.delete", bucket),
            None => Ok(()),
        }
    }

    /// For what belongs to a project, whose policy nobody can set here: the owner's alone.
    pub(crate) fn may_in_project(&self, permission: &'static str, project: &str) -> Result<()> {
        let checked = self.iam.check(permission, &format!("projects/{project}"), Vec::new);
        checked.map_err(|denied| Error::new(Kind::Forbidden, denied.of_storage()))
    }

    /// Returns the permissions that the caller has on a bucket.
    pub(crate) fn test_permissions(&self, bucket: &str, permissions: Vec<String>) -> Result<Vec<String>> {
        let state = self.lock();
        let bucket = state.bucket(bucket)?;
        Ok(self.iam.held(permissions, || bindings(bucket)))
    }
}

fn bindings(bucket: &Bucket) -> Vec<Binding> {
    let all = bucket.policy["bindings"].as_array().into_iter().flatten();
    let unconditional = all.filter(|binding| binding.get("condition").is_none_or(Value::is_null));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    unconditional
        .map(|binding| Binding {
            role: text(&binding["role"]),
            members: binding["members"].as_array().into_iter().flatten().map(text).collect(),
        })
        .collect()
}
