//! `mvctl status`: how the servers are, once or again and again.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;
use vault_client::Client;

use crate::cli::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Output, table};
use crate::units;

/// How long a server may take to be asked, before it is shown as away.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// Homes the cursor, and clears what is behind it, without the flicker of clearing all.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_BELOW: &str = "\x1b[J";

/// How it is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Ask again every so many seconds, until Ctrl-C.
    #[arg(
        long,
        short,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    watch: Option<u64>,

    /// One JSON object a line and server: `server`, and `status` as the server's /status has it, or `error`.
    #[arg(long)]
    json: bool,
}

struct Server {
    url: String,
    client: Client,
    /// When it was asked last, and how many requests it had made to the storage.
    before: Option<(Instant, u64)>,
}

/// Shows how the servers are. One that is away is shown as such; it is a failure where all are.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let mut servers = Vec::new();
    for url in context.global.server.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        // Who watches wants to know now.
        let client = context.global.builder(url, Duration::ZERO)?.retry_time(Duration::ZERO).build()?;
        servers.push(Server { url: url.to_owned(), client, before: None });
    }
    if servers.is_empty() {
        return Err(Failure::usage("no server was named: --server says which"));
    }
    let redraw = arguments.watch.is_some() && !arguments.json && std::io::stdout().is_terminal();
    let mut output = Output::open()?;
    if redraw {
        output.text("\x1b[2J")?;
    }
    loop {
        let asked = tokio::select! {
            asked = join_all(servers.iter().map(ask)) => asked,
            () = context.interrupt.wait() => return Err(Failure::interrupted()),
        };
        show(&mut output, &arguments, &mut servers, &asked, redraw)?;
        let Some(seconds) = arguments.watch else {
            let reasons: Option<Vec<_>> = asked.into_iter().map(Result::err).collect();
            return reasons.map_or(Ok(()), |reasons| Err(all_away(&servers, &reasons)));
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            () = context.interrupt.wait() => return Err(Failure::interrupted()),
        }
    }
}

async fn ask(server: &Server) -> Result<Value, String> {
    match tokio::time::timeout(ASKED_FOR, server.client.status()).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it did not answer within {} s", ASKED_FOR.as_secs())),
    }
}

fn all_away(servers: &[Server], reasons: &[String]) -> Failure {
    let sentence = match (servers, reasons) {
        ([_], [reason]) => format!("{reason}; --server says where to ask"),
        _ => "none of the servers could be asked; --server says where to ask".to_owned(),
    };
    Failure::new(Exit::Failed, sentence)
}

fn show(
    output: &mut Output,
    arguments: &Arguments,
    servers: &mut [Server],
    asked: &[Result<Value, String>],
    redraw: bool,
) -> Result<(), Failure> {
    if arguments.json {
        for (server, asked) in servers.iter().zip(asked) {
            output.json(&match asked {
                Ok(status) => json!({ "server": server.url, "status": status }),
                Err(error) => json!({ "server": server.url, "error": error }),
            })?;
        }
        return Ok(());
    }
    let mut text = String::new();
    if arguments.watch.is_some() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:.0}", units::now());
    }
    text.push_str(&shown(servers, asked));
    if redraw {
        text = format!("{HOME}{}{CLEAR_BELOW}", text.replace('\n', CLEAR_LINE));
    } else if arguments.watch.is_some() {
        text.push('\n');
    }
    Ok(output.text(&text)?)
}

fn shown(servers: &mut [Server], asked: &[Result<Value, String>]) -> String {
    let heads =
        ["SERVER", "ROLE", "TERM", "STREAMS", "TROUBLED", "QUEUED", "CONNECTIONS", "STORAGE REQUESTS"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let mut sentences = Vec::new();
    for (server, asked) in servers.iter_mut().zip(asked) {
        match asked {
            Ok(status) => {
                rows.push(row(server, status));
                troubles(server, status, &mut sentences);
            }
            Err(error) => {
                rows.push(vec![server.url.clone(), "away".to_owned()]);
                let name = format!("{}: ", server.url);
                sentences.push(format!("{name}{}", error.strip_prefix(&name).unwrap_or(error)));
                server.before = None;
            }
        }
    }
    for row in &mut rows {
        row.resize(heads.len(), String::new());
    }
    let mut text = table(&[false, false, true, true, true, true, true, true], &rows);
    let leader = asked.iter().flatten().find_map(|status| status["leader"]["endpoint"].as_str());
    let _ = match leader {
        Some(leader) => writeln!(text, "leader: {leader}"),
        None => writeln!(text, "leader: none that these servers know of"),
    };
    for sentence in sentences {
        let _ = writeln!(text, "{sentence}");
    }
    text
}

/// What a server says in numbers; of requests to the storage how many a second, once it was asked before.
fn row(server: &mut Server, status: &Value) -> Vec<String> {
    let requests: u64 = status["storage_requests"]
        .as_object()
        .into_iter()
        .flat_map(|operations| operations.values().filter_map(Value::as_u64))
        .sum();
    let now = Instant::now();
    let rate = match server.before.replace((now, requests)) {
        Some((when, before)) if before <= requests => {
            let seconds = now.duration_since(when).as_secs_f64().max(0.001);
            format!(" ({:.1}/s)", (requests - before) as f64 / seconds)
        }
        _ => String::new(),
    };
    let number =
        |name: &str| status[name].as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
    vec![
        server.url.clone(),
        status["role"].as_str().unwrap_or("-").to_owned(),
        number("term"),
        number("streams"),
        status["troubled"].as_array().map_or(0, Vec::len).to_string(),
        units::shown_size(status["queued_bytes"].as_u64().unwrap_or_default()),
        number("connections"),
        format!("{requests}{rate}"),
    ]
}

/// What is wrong, a sentence each.
fn troubles(server: &Server, status: &Value, sentences: &mut Vec<String>) {
    for name in ["trouble", "tls_trouble", "access_trouble"] {
        if let Some(trouble) = status[name].as_str() {
            sentences.push(format!("{}: {trouble}", server.url));
        }
    }
    for stream in status["troubled"].as_array().into_iter().flatten() {
        let of = |name: &str| stream[name].as_str().unwrap_or_default();
        sentences.push(format!("stream {}: {} {}", of("name"), of("condition"), of("trouble")));
    }
}
