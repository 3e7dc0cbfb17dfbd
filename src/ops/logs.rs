//! Logs: plain text on a terminal, otherwise JSON lines with the fields that Cloud Logging knows.
//!
//! `PREDICTD_LOG` is a filter of `tracing` (`info` when unset). Payloads are never logged. Errors, which an
//! operator must act on, are marked for Error Reporting. In JSON, a warning or an error that repeats is
//! written once in ten seconds; one about a request, ten times, whatever its reason.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use std::time::Instant;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::log_limits::Repeats;
use super::trace_context::{self, TRACEPARENT};
use crate::prepare::catch_panic::is_catching_panics;

/// Marks a line for Error Reporting:
/// <https://cloud.google.com/error-reporting/docs/formatting-error-messages>.
const REPORTED_ERROR: &str =
    "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent";

/// Warnings in ten seconds about requests with one error code of one version: enough to see different
/// reasons.
const MOST_ABOUT_REQUESTS: u32 = 10;
const DEFAULT_FILTER: &str = "info";
/// The highest level of libraries that the filter does not name. HTTP libraries log every frame at DEBUG.
const LIBRARIES: [(&str, LevelFilter); 8] = [
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("reqwest", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
    ("tonic", LevelFilter::INFO),
    ("tower", LevelFilter::INFO),
    ("ort", LevelFilter::WARN),
    ("opentelemetry", LevelFilter::INFO),
];

/// Parses a filter, and limits [`LIBRARIES`].
fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    let directives = || text.split(',').map(str::trim);
    let level = directives().filter_map(|directive| directive.parse::<LevelFilter>().ok()).next_back();
    let mut filter = EnvFilter::builder().parse(text)?;
    for (library, most) in LIBRARIES {
        let is_named = directives().any(|directive| directive.split(['=', '[']).next() == Some(library));
        if !is_named && level.is_some_and(|level| level > most) {
            filter = filter.add_directive(format!("{library}={most}").parse()?);
        }
    }
    Ok(filter)
}

/// Sets up the logging of the process, to standard error. `project` completes the names of traces that Cloud
/// Logging links.
pub fn init(project: &str) {
    let given = std::env::var("PREDICTD_LOG").ok().filter(|text| !text.is_empty());
    let parsed = filter(given.as_deref().unwrap_or(DEFAULT_FILTER));
    let error = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    // Without internal errors: they would be printed to standard error, and panic where that is closed.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
        let by_default = std::panic::take_hook();
        report_panics(move |panic| by_default(panic));
    } else {
        builder.event_format(CloudLogging::new(project)).init();
        report_panics(panicked);
    }
    if let Some(error) = error {
        tracing::warn!(
            given,
            error,
            "PREDICTD_LOG is ignored: expected a level or directives, such as debug or info,predictd=trace"
        );
    }
}

/// Reports panics by `report`. Those that a caller survives, such as a decoder's over a bad image, are no
/// errors of the worker.
fn report_panics(report: impl Fn(&PanicHookInfo<'_>) + Sync + Send + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        if is_catching_panics() {
            let at = panic.location().map(ToString::to_string);
            tracing::debug!(at, "a library panicked over its input");
        } else {
            report(panic);
        }
    }));
}

/// True once logs are set up and are JSON.
pub fn are_structured() -> bool {
    tracing::dispatcher::has_been_set() && !std::io::stderr().is_terminal()
}

/// Logs a panic as one line: the default hook writes several, which no filter of a log finds.
fn panicked(panic: &PanicHookInfo<'_>) {
    let why = panic.payload_as_str().unwrap_or("no message");
    let at = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(why, at, backtrace, thread = thread.name(), "a panic, which is an error in predictd");
}

/// Formats a line as one JSON object: <https://cloud.google.com/logging/docs/structured-logging>.
struct CloudLogging {
    project: String,
    repeats: Repeats,
}

impl CloudLogging {
    fn new(project: &str) -> Self {
        Self { project: project.to_owned(), repeats: Repeats::default() }
    }
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
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut line = fields.0;
        let level = *event.metadata().level();
        line.insert("target".to_owned(), event.metadata().target().into());
        if level <= Level::WARN {
            let (kind, most) = kind(&line);
            let Some(suppressed) = self.repeats.admit(&kind, most, Instant::now()) else { return Ok(()) };
            if suppressed > 0 {
                line.insert("suppressed".to_owned(), suppressed.into());
            }
        }
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        if let Some(traceparent) = line.remove(TRACEPARENT)
            && let Some(context) = traceparent.as_str().and_then(trace_context::parse)
        {
            let trace = format!("projects/{}/traces/{}", self.project, context.trace_id());
            line.insert("logging.googleapis.com/trace".to_owned(), trace.into());
            line.insert("logging.googleapis.com/spanId".to_owned(), context.span_id().to_string().into());
            line.insert("logging.googleapis.com/trace_sampled".to_owned(), context.is_sampled().into());
        }
        if level == Level::ERROR {
            line.insert("@type".to_owned(), REPORTED_ERROR.into());
            let service = json!({"service": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")});
            line.insert("serviceContext".to_owned(), service);
        }
        line.insert("severity".to_owned(), severity(level).into());
        line.insert("time".to_owned(), time.into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The kind of a line, which equal lines share, and how many of them are written in ten seconds.
fn kind(line: &Map<String, Value>) -> (String, u32) {
    let is_about_a_request = line.contains_key("message_id");
    let differs = |name: &str| is_about_a_request && ["message_id", "reason"].contains(&name);
    let same: Vec<_> = line.iter().filter(|(name, _)| !differs(name)).collect();
    (format!("{same:?}"), if is_about_a_request { MOST_ABOUT_REQUESTS } else { 1 })
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
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

    use tracing_subscriber::layer::SubscriberExt as _;

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

    /// The lines that `log` writes.
    fn lines(log: impl FnOnce()) -> Vec<Value> {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(CloudLogging::new("p"))
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_has_the_fields_of_cloud_logging() {
        let lines = lines(|| {
            let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            tracing::warn!(traceparent, rows = 3, "slow \"batch\"");
        });
        let line = &lines[0];
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
        assert!(line.get("@type").is_none() && line.get("suppressed").is_none());
    }

    #[test]
    fn an_error_is_marked_for_error_reporting() {
        let lines = lines(|| tracing::error!(version = "7", "version refused, it will not serve"));
        assert_eq!(lines[0]["@type"], REPORTED_ERROR);
        assert_eq!(lines[0]["message"], "version refused, it will not serve");
        assert_eq!(lines[0]["serviceContext"]["service"], "predictd");
    }

    /// Each error code and version has its own ten lines.
    #[test]
    fn a_flood_of_bad_requests_leaves_ten_lines() {
        let lines = lines(|| {
            for number in 0..40 {
                let (message_id, reason) = (number.to_string(), format!("row {number} is wrong"));
                tracing::warn!(model = "wine", code = "INVALID_INPUT", message_id, reason, "an error");
            }
            tracing::warn!(model = "wine", code = "MODEL_NOT_FOUND", message_id = "40", "an error");
        });
        assert_eq!(lines.len(), 11);
        assert_eq!((&lines[9]["message_id"], &lines[9]["reason"]), (&"9".into(), &"row 9 is wrong".into()));
        assert_eq!(lines[10]["message_id"], "40");
    }

    #[test]
    fn http_libraries_are_shown_only_when_the_filter_names_them() {
        let shown = |text: &str| {
            let subscriber = tracing_subscriber::registry().with(filter(text).unwrap());
            tracing::subscriber::with_default(subscriber, || {
                [
                    tracing::enabled!(target: "predictd", Level::DEBUG),
                    tracing::enabled!(target: "h2::codec::framed_read", Level::DEBUG),
                    tracing::enabled!(target: "hyper_util::client", Level::DEBUG),
                    tracing::enabled!(target: "tonic::transport", Level::WARN),
                    tracing::enabled!(target: "ort", Level::INFO),
                ]
            })
        };
        assert_eq!(shown("info"), [false, false, false, true, false]);
        assert_eq!(shown("debug"), [true, false, false, true, false]);
        assert_eq!(shown("trace,ort=info"), [true, false, false, true, true]);
        assert_eq!(shown("debug,h2=trace,hyper_util=debug"), [true, true, true, true, false]);
        assert_eq!(shown("error,predictd=debug"), [true, false, false, false, false]);
        assert!(filter("debug,predictd=loud").is_err());
    }

    #[test]
    fn equal_warnings_are_written_once_and_different_ones_always() {
        let lines = lines(|| {
            for _ in 0..3 {
                tracing::warn!(why = "gone", "the stream ended");
                tracing::info!("receiving");
            }
            tracing::warn!(why = "reset", "the stream ended");
        });
        let written: Vec<_> = lines.iter().map(|line| line["why"].as_str().unwrap_or("info")).collect();
        assert_eq!(written, ["gone", "info", "info", "info", "reset"]);
    }
}
