//! Logs: one line per event on standard error, JSON unless a person reads along.

use std::fmt;
use std::io::{IsTerminal as _, stderr};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer, format, json};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Default of `--log-filter`. ractor keeps a span open per actor for life; kube's watcher repeats what the watches
/// report themselves; the others tell of single requests and connections.
pub const DEFAULT_FILTER: &str =
    "info,ractor=off,hyper=warn,h2=warn,tonic=warn,tower=warn,kube=warn,kube_runtime::watcher=error";
/// Target and name of the log line that the Python operator wrote after each reconciliation.
const POLICY_UPDATE: &str = "egress-policy-update";

/// Flags of the log.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// How log lines look on standard error. Default: text on a terminal, else json.
    #[arg(long, value_enum, value_name = "FORMAT", env = "EGRESS_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Which events are logged: levels by target, as in `info,egress_controller=debug`.
    #[arg(long, value_name = "FILTER", default_value = DEFAULT_FILTER, env = "EGRESS_LOG_FILTER")]
    pub log_filter: String,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a filter.
    #[error("--log-filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is there.
    #[error("logs are set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

impl Default for LogFormat {
    /// Text on a terminal, else JSON.
    fn default() -> Self {
        if stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Logs to standard error from now on: standard output is for what `render` and `crd` print.
///
/// # Errors
/// When the filter cannot be parsed, or logs are set up already.
pub fn init(args: &LogArgs) -> Result<(), LogError> {
    let log_format = args.log_format.unwrap_or_default();
    Ok(subscriber(log_format, &args.log_filter, stderr)?.try_init()?)
}

/// What [`init`] sets up, with a writer of the caller's; further layers (traces) may be put on top.
///
/// # Errors
/// When the filter cannot be parsed.
pub fn subscriber<W>(
    log_format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log_format {
        LogFormat::Json => {
            let events = PolicyUpdates(json().flatten_event(true).with_span_list(false));
            layer().fmt_fields(JsonFields::new()).event_format(events).with_writer(writer).boxed()
        }
        LogFormat::Text => {
            let colours = stderr().is_terminal();
            layer().event_format(format()).with_ansi(colours).with_writer(writer).boxed()
        }
    };
    Ok(tracing_subscriber::registry().with(lines).with(EnvFilter::try_new(filter)?))
}

/// The log line of the Python operator: an object with the fields `event`, `policy`, `namespace`, `ips` and
/// `namespaces`, the last two arrays of strings. The JSON format adds `timestamp` and `level` in front; in the text format
/// the object is the message, as it was there.
pub fn log_policy_update(policy: &str, namespace: &str, ips: &[impl ToString], namespaces: &[impl ToString]) {
    #[derive(Serialize)]
    struct PolicyUpdate<'a> {
        event: &'static str,
        policy: &'a str,
        namespace: &'a str,
        ips: Vec<String>,
        namespaces: Vec<String>,
    }
    let update = PolicyUpdate {
        event: POLICY_UPDATE,
        policy,
        namespace,
        ips: ips.iter().map(ToString::to_string).collect(),
        namespaces: namespaces.iter().map(ToString::to_string).collect(),
    };
    // Strings always serialise.
    if let Ok(text) = serde_json::to_string(&update) {
        tracing::info!(target: POLICY_UPDATE, "{text}");
    }
}

/// Events have no arrays for fields, so the message of a policy update, which is a JSON object, becomes the line itself.
struct PolicyUpdates<F>(F);

impl<S, N, F> FormatEvent<S, N> for PolicyUpdates<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if event.metadata().target() != POLICY_UPDATE {
            return self.0.format_event(context, writer, event);
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let fields = message.0.strip_prefix('{').ok_or(fmt::Error)?;
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        writeln!(writer, "\",\"level\":\"{}\",{fields}", event.metadata().level())
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::IpAddr;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `act` logs.
    fn lines(log_format: LogFormat, filter: &str, act: impl FnOnce()) -> Vec<String> {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(log_format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn update() {
        let ips: [IpAddr; 2] = ["140.82.121.6".parse().unwrap(), "2606:50c0:8000::153".parse().unwrap()];
        log_policy_update("backup \"tool\"", "tenant-a", &ips, &["backup-tools"]);
    }

    fn the_object() -> Value {
        json!({
            "event": "egress-policy-update", "policy": "backup \"tool\"", "namespace": "tenant-a",
            "ips": ["140.82.121.6", "2606:50c0:8000::153"], "namespaces": ["backup-tools"],
        })
    }

    #[test]
    fn a_policy_update_is_one_json_line_with_the_python_operators_fields() {
        let lines = lines(LogFormat::Json, DEFAULT_FILTER, update);
        let mut line: Value = serde_json::from_str(&lines[0]).unwrap();
        let object = line.as_object_mut().unwrap();
        assert_eq!(object.remove("level"), Some(json!("INFO")));
        assert!(object.remove("timestamp").is_some_and(|time| time.as_str().unwrap().ends_with('Z')));
        assert_eq!((line, lines.len()), (the_object(), 1));
    }

    #[test]
    fn a_policy_update_without_addresses_has_empty_arrays() {
        let none: [&str; 0] = [];
        let lines = lines(LogFormat::Json, DEFAULT_FILTER, || log_policy_update("p", "n", &none, &none));
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&line["ips"], &line["namespaces"]), (&json!([]), &json!([])));
    }

    #[test]
    fn in_text_the_object_is_the_message() {
        let lines = lines(LogFormat::Text, DEFAULT_FILTER, update);
        let (_, object) = lines[0].split_once("egress-policy-update: ").unwrap();
        assert_eq!(serde_json::from_str::<Value>(object).unwrap(), the_object());
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn every_other_event_is_flat_json_with_its_span() {
        let lines = lines(LogFormat::Json, DEFAULT_FILTER, || {
            let _span = tracing::info_span!("write", object = "egress-a").entered();
            tracing::warn!(attempt = 2, "refused");
        });
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["attempt"]),
            (&json!("WARN"), &json!("refused"), &json!(2))
        );
        assert_eq!(line["span"], json!({"name": "write", "object": "egress-a"}));
    }

    #[test]
    fn the_default_filter_keeps_libraries_quiet() {
        let lines = lines(LogFormat::Json, DEFAULT_FILTER, || {
            tracing::info!(target: "kube_client::client", "hidden");
            tracing::warn!(target: "kube_runtime::watcher", "hidden");
            tracing::error!(target: "ractor::actor", "hidden");
            tracing::debug!("hidden");
            tracing::info!("shown");
            tracing::warn!(target: "kube_client::client", "shown");
        });
        assert!(lines.iter().all(|line| line.contains("shown")) && lines.len() == 2, "{lines:?}");
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        assert!(matches!(subscriber(LogFormat::Json, "a=b=c", io::sink), Err(LogError::Filter(_))));
    }
}
