//! `mvctl info`: what a stream is like and how far it goes.

use serde_json::Value;
use vault_client::Description;

use crate::cli::Context;
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::streams::short_name;
use crate::units;

/// Which stream.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The stream.
    name: String,

    /// One JSON object: what `GET /streams/{stream}` of the server answers.
    #[arg(long)]
    json: bool,
}

/// Describes a stream.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.client()?;
    let mut description = client.describe_stream(&arguments.name).await?;
    description.summary.name = short_name(&client, &description.summary.name);
    let mut output = Output::open()?;
    if arguments.json {
        return Ok(output.json(&description)?);
    }
    Ok(output.text(&table(&[false, false], &rows(&description)))?)
}

fn rows(of: &Description) -> Vec<Vec<String>> {
    let summary = &of.summary;
    let unknown = || "not known: damage keeps the stream from being opened".to_owned();
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("name", summary.name.clone());
    row("id", summary.id.clone());
    row("created", units::shown_time(summary.created));
    row("condition", summary.condition.clone());
    if let Some(trouble) = &summary.trouble {
        row("trouble", trouble.clone());
    }
    if let Some(owner) = &summary.owner {
        row("owner", owner.clone());
    }
    row(
        "messages",
        match (of.first_offset, of.next_offset) {
            (Some(first), Some(next)) if first < next => {
                format!("{}, offsets {first} to {}", next - first, next - 1)
            }
            (Some(_), Some(next)) => format!("none, the next offset is {next}"),
            _ => unknown(),
        },
    );
    if let Some(time) = of.last_timestamp {
        row("last message", units::shown_time(time));
    }
    row(
        "size",
        of.bytes.map_or_else(unknown, |bytes| format!("{} ({bytes} bytes)", units::shown_size(bytes))),
    );
    row("segments", of.segments.map_or_else(unknown, |segments| segments.to_string()));
    for (name, value) in &summary.settings {
        row(&name.replace('_', " "), shown_setting(name, value));
    }
    rows
}

/// A setting that a later server has, and this program does not know, is shown as it is.
fn shown_setting(name: &str, value: &Value) -> String {
    match (name, value) {
        (_, Value::Null) => "none".to_owned(),
        (_, Value::String(text)) => text.clone(),
        ("retention_seconds", Value::Number(number)) if number.is_u64() => {
            units::shown_seconds(number.as_u64().unwrap_or_default())
        }
        (name, Value::Number(number)) if name.contains("bytes") && number.is_u64() => {
            units::shown_exact_size(number.as_u64().unwrap_or_default())
        }
        (_, other) => other.to_string(),
    }
}
