//! Checks the model: `cargo run -p vault-model -- --help`.
#![expect(clippy::print_stdout, reason = "a command's output")]

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use vault_model::bounds::Bounds;
use vault_model::check::check;
use vault_model::mutation::Mutation;
use vault_model::state::Protocol;

/// Tries every order of events in a model of how servers write to a stream, and checks the promises in every state.
#[derive(Parser)]
struct Arguments {
    /// Which bounds; all of them if none is named.
    bounds: Option<String>,
    /// A rule of the protocol to take out, as it is called in the source. Shows how a promise is broken then.
    #[arg(long)]
    without: Option<String>,
    /// Lists the bounds and the rules.
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        for bounds in Bounds::ALL {
            println!("{bounds:?}");
        }
        for mutation in Mutation::ALL {
            println!("{mutation:?}: {}", mutation.describe());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let called = |name: &String| {
        let mut all = Mutation::ALL.iter().copied();
        all.find(|it| format!("{it:?}") == *name)
            .with_context(|| format!("there is no rule {name}: see --list"))
    };
    let mutation = arguments.without.as_ref().map(called).transpose()?;
    let wanted = |bounds: &&Bounds| arguments.bounds.as_ref().is_none_or(|name| bounds.name == name);
    let chosen: Vec<_> = Bounds::ALL.iter().filter(wanted).collect();
    anyhow::ensure!(!chosen.is_empty(), "there are no such bounds: see --list");
    let mut good = true;
    for bounds in chosen {
        let outcome = check(Protocol { bounds: *bounds, mutation }, None);
        let (states, steps, depth) = (outcome.states, outcome.steps, outcome.depth);
        let seconds = outcome.took.as_secs_f64();
        println!("{}: {states} states, {steps} steps, {depth} deep, {seconds:.1} s", bounds.name);
        for never in &outcome.never {
            println!("never: {never}");
        }
        for (promise, trace) in &outcome.broken {
            println!("broken: {promise}\n{trace}");
        }
        good &= outcome.broken.is_empty() && outcome.never.is_empty();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
