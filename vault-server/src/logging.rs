//! The log of the server's own doings, on stderr.

use tracing_subscriber::EnvFilter;

use crate::access::audit::TARGET;
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

/// The filter, and the audit log besides, unless the filter says itself what of that is logged.
fn with_audit(text: &str) -> Result<EnvFilter, Box<dyn std::error::Error + Send + Sync>> {
    let filter = filter(text)?;
    let target = |directive: &str| directive.split(['=', '[']).next().unwrap_or_default().trim() == TARGET;
    if text.split(',').any(target) {
        return Ok(filter);
    }
    Ok(filter.add_directive(format!("{TARGET}=info").parse()?))
}

/// Begins to log.
pub fn init(text: &str, format: LogFormat) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = with_audit(text)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if format.is_json() {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        use std::io::IsTerminal;
        log.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_log_is_on_unless_the_filter_names_it() {
        for (filter, on) in [
            ("info", true),
            ("error", true),
            ("off", true),
            ("vault_server=debug", true),
            ("warn,audit=off", false),
            ("audit=error,info", false),
            ("auditor=off", true),
            ("info, audit = off", false),
        ] {
            let Ok(filter) = with_audit(filter) else { continue };
            let shown = filter.to_string();
            assert_eq!(shown.split(',').any(|directive| directive == "audit=info"), on, "{shown}");
        }
    }
}
