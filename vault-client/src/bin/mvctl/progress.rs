//! The progress bar: on stderr, where that is a terminal and nobody asked for quiet.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{
    HumanFloatCount, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressState, ProgressStyle,
};

use crate::cli::Context;

const REDRAWN_EVERY: Duration = Duration::from_millis(200);

/// Whether one may be shown.
fn wanted(context: &Context) -> bool {
    !context.global.quiet && std::io::stderr().is_terminal()
}

fn begun(context: &Context, length: Option<u64>, template: &str) -> ProgressBar {
    if !wanted(context) {
        return ProgressBar::hidden();
    }
    // It goes with its value, also where something went wrong.
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr())
        .with_finish(ProgressFinish::AndClear);
    let style = ProgressStyle::with_template(template).expect("the templates here are well formed");
    let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
        // There is nobody to tell.
        let _ = write!(out, "{}/s", HumanFloatCount(state.per_sec().round()));
    });
    bar.set_style(style.progress_chars("=> "));
    bar.enable_steady_tick(REDRAWN_EVERY);
    bar
}

/// Of so many bytes, or of nobody knows how many.
pub(crate) fn of_bytes(context: &Context, length: Option<u64>) -> ProgressBar {
    let template = match length {
        Some(_) => {
            "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
        }
        None => "{spinner} {msg} {binary_bytes}, {binary_bytes_per_sec}",
    };
    begun(context, length, template)
}

/// Of so many messages, or of nobody knows how many.
pub(crate) fn of_messages(context: &Context, length: Option<u64>) -> ProgressBar {
    let template = match length {
        Some(_) => "{msg} [{bar:30}] {human_pos} of {human_len} messages, {rate}, {eta} left",
        None => "{spinner} {msg} {human_pos} messages, {rate}",
    };
    begun(context, length, template)
}

/// Of something that takes a known time, in ms.
pub(crate) fn of_time(context: &Context, length: Duration) -> ProgressBar {
    let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    begun(context, Some(length_ms), "{msg} [{bar:30}] {elapsed} of {prefix}")
        .with_prefix(format!("{} s", length.as_secs()))
}
