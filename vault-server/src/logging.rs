//! The log of the server's own doings, on stderr.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// What a library says at `info` of every request to the storage that fails. What comes of these is logged here.
const NOISY: (&str, &str) = ("typespec_client_core", "typespec_client_core=warn,");

/// The filter, which says less of what others say better unless it names them.
fn filter(text: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let (target, quiet) = NOISY;
    let quiet = if text.contains(target) { "" } else { quiet };
    EnvFilter::try_new(format!("{quiet}{text}"))
}

/// Checks a filter as `--log` takes it.
pub fn check_filter(text: &str) -> Result<String, String> {
    match filter(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; give a level such as info or debug")),
    }
}

/// Begins to log.
pub fn init(text: &str, format: LogFormat) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = filter(text)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if format.is_json() {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        use std::io::IsTerminal;
        log.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    }
}
