//! Grants changed in one call, as the owner: what tests give and take away. Everybody else reads and writes
//! whole policies.

use serde_json::{Value, json};
use tonic::Status;

use crate::Server;
use crate::pubsub::Binding;

const BUCKETS: &str = "projects/_/buckets/";

impl Server {
    /// Gives a member a role on `projects/P/topics/T`, `projects/P/subscriptions/S` or
    /// `projects/_/buckets/B`.
    ///
    /// # Errors
    /// NOT_FOUND: no such resource.
    pub fn grant(&self, role: &str, resource: &str, member: &str) -> Result<(), Status> {
        if let Some(bucket) = resource.strip_prefix(BUCKETS) {
            let mut policy = self.storage.policy(bucket)?;
            let given = json!({ "role": role, "members": [member] });
            match policy["bindings"].as_array_mut() {
                Some(bindings) => bindings.push(given),
                None => policy["bindings"] = json!([given]),
            }
            return Ok(self.storage.set_policy(bucket, policy).map(drop)?);
        }
        let mut policy = self.pubsub.policy(resource)?;
        let members = vec![member.to_owned()];
        policy.bindings.push(Binding { role: role.to_owned(), members, condition: None });
        self.pubsub.set_policy(resource, policy).map(drop)
    }

    /// Takes a member's role away again. Whoever does not have it is left alone.
    ///
    /// # Errors
    /// NOT_FOUND: no such resource.
    pub fn revoke(&self, role: &str, resource: &str, member: &str) -> Result<(), Status> {
        if let Some(bucket) = resource.strip_prefix(BUCKETS) {
            let mut policy = self.storage.policy(bucket)?;
            let bindings = policy["bindings"].as_array_mut().into_iter().flatten();
            for binding in bindings.filter(|binding| binding["role"] == role) {
                if let Value::Array(members) = &mut binding["members"] {
                    members.retain(|other| other != member);
                }
            }
            return Ok(self.storage.set_policy(bucket, policy).map(drop)?);
        }
        let mut policy = self.pubsub.policy(resource)?;
        for binding in policy.bindings.iter_mut().filter(|binding| binding.role == role) {
            binding.members.retain(|other| other != member);
        }
        self.pubsub.set_policy(resource, policy).map(drop)
    }
}
