//! gRPC's codes as Google's JSON errors and the control endpoint name them, with the HTTP status that stands for each.

use tonic::Code;

const CODES: &[(Code, &str, u16)] = &[
    (Code::Cancelled, "CANCELLED", 499),
    (Code::Unknown, "UNKNOWN", 500),
    (Code::InvalidArgument, "INVALID_ARGUMENT", 400),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 504),
    (Code::NotFound, "NOT_FOUND", 404),
    (Code::AlreadyExists, "ALREADY_EXISTS", 409),
    (Code::PermissionDenied, "PERMISSION_DENIED", 403),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", 429),
    (Code::FailedPrecondition, "FAILED_PRECONDITION", 400),
    (Code::Aborted, "ABORTED", 409),
    (Code::OutOfRange, "OUT_OF_RANGE", 400),
    (Code::Unimplemented, "UNIMPLEMENTED", 501),
    (Code::Internal, "INTERNAL", 500),
    (Code::Unavailable, "UNAVAILABLE", 503),
    (Code::DataLoss, "DATA_LOSS", 500),
    (Code::Unauthenticated, "UNAUTHENTICATED", 401),
];

/// The code named `UNAVAILABLE` and so on; None for a text that names none.
pub(crate) fn named(name: &str) -> Option<Code> {
    CODES.iter().find(|(_, known, _)| *known == name).map(|(code, ..)| *code)
}

/// The code that a fault names; Unknown for a text that names none.
pub(crate) fn named_or_unknown(name: &str) -> Code {
    named(name).unwrap_or(Code::Unknown)
}

/// Name and HTTP status of a code.
pub(crate) fn name_and_http(code: Code) -> (&'static str, u16) {
    CODES.iter().find(|(known, ..)| *known == code).map_or(("OK", 200), |(_, name, http)| (*name, *http))
}
