//! Errors as Google's services write them, and what an injected fault does to a call.

use std::collections::HashMap;
use std::future::pending;

use prost::Message as _;
use tonic::{Code, Status};

use super::PubSub;
use crate::codes;
use crate::faults::{self, Fault};

/// The project and the last part of `projects/P/…/NAME`.
pub(crate) fn project_and_id(name: &str) -> (&str, &str) {
    let mut parts = name.split('/');
    (parts.nth(1).unwrap_or_default(), parts.next_back().unwrap_or_default())
}

/// The status of an injected failure.
pub(crate) fn injected(code: &str) -> Status {
    Status::new(codes::named_or_unknown(code), "injected fault")
}

impl PubSub {
    /// Runs one unary call under the fault that waits for `method`, if one does.
    pub(crate) async fn call<T>(
        &self,
        method: &'static str,
        call: impl AsyncFnOnce() -> Result<T, Status>,
    ) -> Result<T, Status> {
        self.call_with(method, async |_| call().await).await
    }

    /// The same, for a method that obeys more faults than all do.
    pub(crate) async fn call_with<T>(
        &self,
        method: &'static str,
        call: impl AsyncFnOnce(Option<&Fault>) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let fault = self.faults.next(method);
        let result = match &fault {
            Some(Fault::Fail(code)) => Err(injected(code)),
            Some(Fault::Hang) => pending().await,
            other => {
                if let Some(Fault::DelayMs(ms)) = other {
                    faults::delay(*ms).await;
                }
                call(other.as_ref()).await
            }
        };
        if let Err(status) = &result {
            self.refused(method, status);
        }
        match fault {
            Some(Fault::LoseReply) => {
                let lost = Status::unavailable("injected fault: the reply was lost");
                if result.is_ok() {
                    self.refused(method, &lost);
                }
                Err(lost)
            }
            _ => result,
        }
    }
}

#[derive(prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// The refusal of ack ids on an exactly-once subscription, with the details that Google's clients read.
pub(crate) fn stale_ack_ids<'a>(ids: impl Iterator<Item = &'a str>) -> Status {
    let message = "Some acknowledgement ids in the request were invalid. This could be because the acknowledgement ids \
                   have expired or the acknowledgement ids were malformed.";
    let info = ErrorInfo {
        reason: "EXACTLY_ONCE_ACKID_FAILURE".to_owned(),
        domain: "pubsub.googleapis.com".to_owned(),
        metadata: ids.map(|id| (id.to_owned(), "PERMANENT_FAILURE_INVALID_ACK_ID".to_owned())).collect(),
    };
    let details = RpcStatus {
        code: Code::InvalidArgument as i32,
        message: message.to_owned(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    Status::with_details(Code::InvalidArgument, message, details.encode_to_vec().into())
}
