//! The log of the server's own doings, on stderr.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Checks a filter as `--log` takes it.
pub fn check_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; give a level such as info or debug")),
    }
}

/// Begins to log.
pub fn init(filter: &str, format: LogFormat) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(filter)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if format.is_json() {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        use std::io::IsTerminal;
        log.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    }
}
