//! Log lines of a server: structured, on standard error, with a filter that can be changed while it runs.

use anyhow::{Context, Result, anyhow};
use tidelog::config::{Log, LogFormat};
use tidelog_gateway::RequestName;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Where the environment sets the filter; it wins over the settings.
const VARIABLE: &str = "RUST_LOG";

/// Changes the filter.
#[derive(Debug, Clone)]
pub(crate) struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// Replaces the filter until the process ends; the error says what is wrong with it.
    pub(crate) fn set(&self, filter: &str) -> Result<(), String> {
        let filter = parse(filter).map_err(|error| format!("{error:#}"))?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Starts logging.
pub(crate) fn start(settings: &Log) -> Result<LogFilter> {
    let filter = match std::env::var(VARIABLE) {
        Ok(filter) if !filter.is_empty() => parse(&filter).context(VARIABLE)?,
        _ => parse(&settings.filter).context("log.filter")?,
    };
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let format = NamingRequests { inner: fmt::format(), name: name_in_text };
            registry.with(lines.with_ansi(ansi).event_format(format)).try_init()
        }
        LogFormat::Json => {
            let inner = fmt::format().json().flatten_event(true);
            let format = NamingRequests { inner, name: name_in_json };
            registry.with(lines.fmt_fields(JsonFields::new()).event_format(format)).try_init()
        }
    }
    .map_err(|error| anyhow!("cannot start logging: {error}"))?;
    Ok(LogFilter(handle))
}

/// Lines as `inner` makes them, with the request that was being answered, if one was.
struct NamingRequests<F> {
    inner: F,
    /// Adds the request to a line without its end.
    name: fn(&mut String, &RequestName),
}

impl<S, N, F> FormatEvent<S, N> for NamingRequests<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let Some(name) = tidelog_gateway::current_request() else {
            return self.inner.format_event(context, to, event);
        };
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        line.truncate(line.trim_end().len());
        (self.name)(&mut line, &name);
        writeln!(to, "{line}")
    }
}

fn name_in_text(line: &mut String, name: &RequestName) {
    *line += &format!(" request_id={} traceparent={}", name.id(), name.traceparent());
}

fn name_in_json(line: &mut String, name: &RequestName) {
    // A line is an object.
    line.truncate(line.len().saturating_sub(1));
    let id = serde_json::Value::from(name.id());
    *line += &format!(",\"request_id\":{id},\"traceparent\":\"{}\"}}", name.traceparent());
}

fn parse(filter: &str) -> Result<EnvFilter> {
    EnvFilter::builder().parse(filter).with_context(|| format!("{filter:?} is not a filter such as info,tidelog=debug"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_wrong_filter_is_refused() {
        assert!(parse("info,tidelog::flush=debug").is_ok());
        assert!(parse("tidelog=loud").is_err());
    }
}
