//! Deadlines of requests: the time after which nobody waits for the response.

use std::time::SystemTime;

use crate::error::{Code, Rejection};
use crate::rfc3339;

/// Reads the header `deadline`.
///
/// # Errors
/// `INVALID_INPUT` if it is no date-time of RFC 3339, section 5.6.
pub fn parse(text: &str) -> Result<SystemTime, Rejection> {
    rfc3339::parse(text).ok_or_else(|| {
        Rejection::invalid(format!(
            "deadline: expected a date and time as in RFC 3339, like 2026-01-31T12:00:00Z, got {text:.40?}"
        ))
    })
}

/// Checks a deadline. The clock is only read if there is one.
///
/// # Errors
/// `DEADLINE_EXCEEDED` if it has passed.
pub fn check(deadline: Option<SystemTime>) -> Result<(), Rejection> {
    let Some(deadline) = deadline else { return Ok(()) };
    let Ok(late) = SystemTime::now().duration_since(deadline) else { return Ok(()) };
    let message = format!("the deadline passed {:.3} seconds ago, nothing was computed", late.as_secs_f64());
    Err(Rejection::new(Code::DeadlineExceeded, message))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn refuses_what_is_no_date_time() {
        assert!(parse("2026-02-28T23:59:59Z").is_ok());
        assert_eq!(parse("soon").map_err(|refused| refused.code), Err(Code::InvalidInput));
    }

    #[test]
    fn tells_before_from_after() {
        let hour = Duration::from_secs(3600);
        assert_eq!(check(None), Ok(()));
        assert_eq!(check(Some(SystemTime::now() + hour)), Ok(()));
        let refused = check(Some(SystemTime::now() - hour)).unwrap_err();
        assert_eq!(refused.code, Code::DeadlineExceeded);
        assert!(refused.message.starts_with("the deadline passed 3600."), "{refused}");
    }
}
