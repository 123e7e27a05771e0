//! `mvctl create` and `mvctl change`: streams and their settings.

use serde_json::json;
use vault_client::{Created, Settings};

use crate::cli::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::units::{self, Limit};

/// Which stream, and what it is to be like.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The stream: lower-case letters, digits and single hyphens.
    name: String,

    /// The size at which new segments are created: a multiple of 4MiB, up to 1TiB. Of a new stream 8GiB unless given.
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    segment_bytes: Option<u64>,

    /// How messages that are stored together are compressed: none, lz4 or zstd.
    #[arg(long, value_name = "CODEC", value_parser = ["none", "lz4", "zstd"])]
    codec: Option<String>,

    /// The storage account that the stream lives in, for ever; one of the servers' own.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,

    /// How many bytes of messages may be appended in a second, 1KiB to 1GiB, or `none`.
    #[arg(long, value_name = "SIZE|none", value_parser = units::size_limit)]
    append_bytes_per_second: Option<Limit>,

    /// How long messages are kept at least, such as 30d, 12h, or a number of seconds; `none` is for ever.
    #[arg(long, value_name = "DURATION|none", value_parser = units::seconds_limit)]
    retention: Option<Limit>,

    /// How many of the newest bytes are kept at least, 64MiB to 1PiB; `none` is all.
    #[arg(long, value_name = "SIZE|none", value_parser = units::size_limit)]
    retention_bytes: Option<Limit>,

    /// How many bytes the stream may take in storage, 1MiB to 1PiB, or `none`.
    #[arg(long, value_name = "SIZE|none", value_parser = units::size_limit)]
    max_bytes: Option<Limit>,

    /// One JSON object: of `create` the name and whether the stream was created, of `change` what the server says of it.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn settings(&self) -> Settings {
        let limit = |limit: Option<Limit>| limit.map(|Limit(number)| number);
        Settings {
            segment_bytes: self.segment_bytes,
            codec: self.codec.clone(),
            account: self.account.clone(),
            append_bytes_per_second: limit(self.append_bytes_per_second),
            retention_seconds: limit(self.retention),
            retention_bytes: limit(self.retention_bytes),
            max_bytes: limit(self.max_bytes),
        }
    }
}

/// Creates a stream, or confirms it.
pub(crate) async fn create(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.client()?;
    let created = client.create_stream(&arguments.name, &arguments.settings()).await;
    let created = created.map_err(Failure::of_change)?;
    let mut output = Output::open()?;
    let name = &arguments.name;
    if arguments.json {
        return Ok(output.json(&json!({ "name": name, "created": created == Created::New }))?);
    }
    Ok(output.text(&match created {
        Created::New => format!("created {name}\n"),
        Created::Existing => format!("confirmed {name}: it was there with these settings\n"),
    })?)
}

/// Changes settings.
pub(crate) async fn change(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let settings = arguments.settings();
    if settings == Settings::default() {
        return Err(Failure::usage("nothing is to be changed: give a setting, such as --retention 30d"));
    }
    let client = context.client()?;
    let summary = client.change_stream(&arguments.name, &settings).await.map_err(Failure::of_change)?;
    let mut output = Output::open()?;
    if arguments.json {
        return Ok(output.json(&summary)?);
    }
    Ok(output.text(&format!("changed {}\n", arguments.name))?)
}
