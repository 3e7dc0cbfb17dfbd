//! Logs: readable on a terminal, otherwise JSON lines with the fields that Cloud Logging knows.
//!
//! `PREDICTD_LOG` filters as `tracing` does (`info` when unset). Payloads are never logged.

use std::fmt;
use std::io::IsTerminal as _;

use opentelemetry::trace::{SpanId, TraceId};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The field of an event that carries a request's W3C `traceparent`.
const TRACEPARENT: &str = "traceparent";

/// Sets the process's logging up, to standard error. `project` names traces as Cloud Logging links them.
pub fn init(project: &str) {
    let filter = EnvFilter::try_from_env("PREDICTD_LOG").unwrap_or_else(|_| EnvFilter::new("info,ort=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.event_format(CloudLogging { project: project.to_owned() }).init();
    }
}

/// One JSON object a line: <https://cloud.google.com/logging/docs/structured-logging>.
struct CloudLogging {
    project: String,
}

impl<S, N> FormatEvent<S, N> for CloudLogging
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut line = fields.0;
        if let Some(traceparent) = line.remove(TRACEPARENT)
            && let Some((trace, span, sampled)) = traceparent.as_str().and_then(parse_traceparent)
        {
            let trace = format!("projects/{}/traces/{trace}", self.project);
            line.insert("logging.googleapis.com/trace".to_owned(), trace.into());
            line.insert("logging.googleapis.com/spanId".to_owned(), span.to_string().into());
            line.insert("logging.googleapis.com/trace_sampled".to_owned(), sampled.into());
        }
        line.insert("severity".to_owned(), severity(*event.metadata().level()).into());
        line.insert("time".to_owned(), time.into());
        line.insert("target".to_owned(), event.metadata().target().into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

/// W3C Trace Context, section 3.2: version, trace id, parent id, flags.
fn parse_traceparent(text: &str) -> Option<(TraceId, SpanId, bool)> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = [version.len(), trace.len(), span.len(), flags.len()];
    if lengths != [2, 32, 16, 2] || version == "ff" {
        return None;
    }
    let trace = TraceId::from_hex(trace).ok().filter(|id| *id != TraceId::INVALID)?;
    let span = SpanId::from_hex(span).ok().filter(|id| *id != SpanId::INVALID)?;
    Some((trace, span, u8::from_str_radix(flags, 16).ok()? & 1 == 1))
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_what_cloud_logging_reads() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(CloudLogging { project: "p".to_owned() })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            tracing::warn!(traceparent, rows = 3, "slow \"batch\"");
        });
        let line: Value = serde_json::from_slice(&captured.0.lock().unwrap()).unwrap();
        assert_eq!(line["severity"], "WARNING");
        assert_eq!(line["message"], "slow \"batch\"");
        assert_eq!(line["rows"], 3);
        assert_eq!(
            line["logging.googleapis.com/trace"],
            "projects/p/traces/0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(line["logging.googleapis.com/spanId"], "b7ad6b7169203331");
        assert_eq!(line["logging.googleapis.com/trace_sampled"], true);
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_broken_traceparent_is_none() {
        for text in [
            "",
            "00-0-0-0",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert!(parse_traceparent(text).is_none(), "{text}");
        }
    }
}
