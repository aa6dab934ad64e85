//! Log lines of a server: structured, on standard error, with a filter that can be changed while it runs.

use anyhow::{Context, Result, anyhow};
use tidelog::config::{Log, LogFormat};
use tracing_subscriber::layer::SubscriberExt;
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
            registry.with(lines.with_ansi(ansi)).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_current_span(true)).try_init(),
    }
    .map_err(|error| anyhow!("cannot start logging: {error}"))?;
    Ok(LogFilter(handle))
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
