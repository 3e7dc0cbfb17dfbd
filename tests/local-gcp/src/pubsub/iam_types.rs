//! The JSON form of IAM policies: camelCase, etags in base64. Audit configs are not kept.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::iam;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Policy {
    version: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bindings: Vec<Binding>,
    etag: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Binding {
    role: String,
    members: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Condition>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Condition {
    expression: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SetPolicy {
    pub(super) policy: Policy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TestPermissions {
    pub(super) permissions: Vec<String>,
}

impl Policy {
    pub(super) fn into_wire(self) -> Result<iam::Policy, Status> {
        let etag = BASE64_STANDARD.decode(&self.etag).map_err(|error| {
            Status::invalid_argument(format!("etag: expected base64, not {:?}: {error}", self.etag))
        })?;
        let mut policy = iam::Policy { version: self.version, etag: etag.into(), ..Default::default() };
        for binding in self.bindings {
            let mut wire = iam::Binding { role: binding.role, members: binding.members, condition: None };
            if let Some(condition) = binding.condition {
                let expression = wire.condition.get_or_insert_default();
                expression.expression = condition.expression;
                expression.title = condition.title;
                expression.description = condition.description;
            }
            policy.bindings.push(wire);
        }
        Ok(policy)
    }
}

impl From<iam::Policy> for Policy {
    fn from(policy: iam::Policy) -> Policy {
        let binding = |binding: iam::Binding| Binding {
            role: binding.role,
            members: binding.members,
            condition: binding.condition.map(|condition| Condition {
                expression: condition.expression,
                title: condition.title,
                description: condition.description,
            }),
        };
        Policy {
            version: policy.version,
            bindings: policy.bindings.into_iter().map(binding).collect(),
            etag: BASE64_STANDARD.encode(&policy.etag),
        }
    }
}
