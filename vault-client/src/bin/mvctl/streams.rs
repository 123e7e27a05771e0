//! `mvctl streams`: a list.

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use vault_client::{Client, Description, Summary};

use crate::cli::Context;
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::units;

/// Streams that are described at once.
const DESCRIBED_AT_ONCE: usize = 16;

/// Which streams.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only streams whose names begin with this.
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,

    /// Look into streams too that nobody has wanted since the servers started, which opens them.
    #[arg(long)]
    all: bool,

    /// One JSON object a line: what `GET /streams/{stream}` of the server answers.
    #[arg(long)]
    json: bool,
}

/// A stream as far as it is known without opening it.
#[derive(Serialize)]
#[serde(untagged)]
enum Listed {
    Opened(Box<Description>),
    Unopened(Box<Summary>),
}

/// Lists streams.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.client()?;
    let names = client.list_streams(&arguments.prefix).await?;
    let listed = stream::iter(names).map(|summary| describe(&client, summary, arguments.all));
    let mut listed = listed.buffered(DESCRIBED_AT_ONCE);
    let mut output = Output::open()?;
    if arguments.json {
        while let Some(listed) = listed.try_next().await? {
            output.json(&listed)?;
        }
        return Ok(());
    }
    let heads = ["NAME", "CONDITION", "FIRST", "NEXT", "SIZE", "LAST MESSAGE"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    while let Some(listed) = listed.try_next().await? {
        rows.push(listed.row());
    }
    Ok(output.text(&table(&[false, false, true, true, true, false], &rows))?)
}

/// What is known of a stream. One that was deleted a moment ago is told of as it was.
async fn describe(client: &Client, mut summary: Summary, all: bool) -> Result<Listed, Failure> {
    let name = short_name(client, &summary.name);
    summary.name.clone_from(&name);
    if summary.condition == "closed" && !all {
        return Ok(Listed::Unopened(Box::new(summary)));
    }
    match client.describe_stream(&name).await {
        Ok(mut description) => {
            description.summary.name = name;
            Ok(Listed::Opened(Box::new(description)))
        }
        Err(error) if matches!(error.code(), Some("stream_not_found" | "forbidden")) => {
            Ok(Listed::Unopened(Box::new(summary)))
        }
        Err(error) => Err(error.into()),
    }
}

/// A stream's name without the client's prefix, as all commands take it.
pub(crate) fn short_name(client: &Client, name: &str) -> String {
    name.strip_prefix(client.stream_prefix()).unwrap_or(name).to_owned()
}

impl Listed {
    fn row(&self) -> Vec<String> {
        let unknown = || "-".to_owned();
        let number = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
        match self {
            Self::Unopened(summary) => {
                let known = [summary.name.clone(), summary.condition.clone()];
                known.into_iter().chain(std::iter::repeat_with(unknown).take(4)).collect()
            }
            Self::Opened(of) => vec![
                of.summary.name.clone(),
                of.summary.condition.clone(),
                number(of.first_offset),
                number(of.next_offset),
                of.bytes.map_or_else(unknown, units::shown_size),
                of.last_timestamp.map_or_else(unknown, units::shown_time),
            ],
        }
    }
}
