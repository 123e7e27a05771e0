//! Markdown, and the goals.

use std::fmt::Write;

use serde_json::{Value, json};

use super::machine::Machine;
use super::results::Results;
use super::system::System;
use crate::figures::{median, rounded, spread};

/// What was measured, and on what.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) machine: Machine,
    /// With their versions.
    pub(crate) systems: Vec<(System, String)>,
}

/// A ratio that is aimed at.
#[derive(Debug)]
pub(crate) struct Goal {
    what: String,
    ratios: Vec<f64>,
    goal: f64,
    /// Whether less is better.
    is_limit: bool,
}

impl Goal {
    fn is_reached(&self) -> bool {
        let ratio = median(&self.ratios);
        if self.is_limit { ratio < self.goal } else { ratio >= self.goal }
    }

    pub(crate) fn shown(&self) -> Value {
        json!({
            "what": self.what, "ratio": spread(&self.ratios), "goal": self.goal, "less_is_better": self.is_limit,
            "reached": self.is_reached(),
        })
    }
}

/// What is asked of the vault beside the systems that were measured.
pub(crate) fn goals(results: &Results, about: &About) -> Vec<Goal> {
    let mut goals = Vec::new();
    let systems = about.systems.iter().map(|(system, _)| *system);
    let synced: Vec<&str> =
        systems.filter(|it| it.is_synced() && *it != System::Vault).map(System::name).collect();
    let others = |load: &str| -> Vec<String> {
        let all = results.systems(load).filter(|name| !["vault", "disk", "azurite", "nginx"].contains(name));
        all.map(str::to_owned).collect()
    };
    let mut goal = |what: String, ratios: Vec<f64>, goal: f64, is_limit: bool| {
        if !ratios.is_empty() {
            goals.push(Goal { what, ratios, goal, is_limit });
        }
    };
    let beside =
        |load: &str, peer: &str, figure: &str| results.ratios(load, ["vault", peer], [figure, figure]);
    for peer in &synced {
        let ratios = beside("batches", peer, "messages_per_second");
        goal(format!("`batches`, messages a second: beside {peer}, synced"), ratios, 2.0, false);
    }
    let disk = beside("batches", "disk", "mib_per_second");
    goal("`batches`, MiB a second: beside the disk's synced writes of 4 MiB".to_owned(), disk, 0.5, false);
    for (peer, wanted) in synced.iter().map(|peer| (peer, if *peer == "redis" { 0.8 } else { 2.0 })) {
        let ratios = beside("singles", peer, "messages_per_second");
        goal(format!("`singles`, messages a second: beside {peer}, synced"), ratios, wanted, false);
    }
    for peer in others("replay") {
        let ratios = beside("replay", &peer, "mib_per_second");
        goal(format!("`replay`, MiB a second: beside {peer}"), ratios, 3.0, false);
    }
    let nginx = beside("replay", "nginx", "mib_per_second");
    goal("`replay`, MiB a second: beside nginx and a file".to_owned(), nginx, 0.5, false);
    for load in ["batches", "replay"] {
        for peer in others(load) {
            let ratios = beside(load, &peer, "cpu_seconds_per_gib");
            goal(format!("`{load}`, CPU seconds a GiB: beside {peer}"), ratios, 1.0, true);
        }
    }
    for peer in others("batches-at-half") {
        let ratios = beside("batches-at-half", &peer, "p99_ms");
        goal(format!("acknowledgement at half of the rate, p99: beside {peer}"), ratios, 1.0, true);
    }
    goals
}

/// Columns of a table, where there are such figures.
const COLUMNS: [(&str, &str); 13] = [
    ("gib_before", "GiB before"),
    ("messages_per_second", "messages/s"),
    ("of_pace", "of the pace"),
    ("mib_per_second", "MiB/s"),
    ("writes_per_second", "writes/s"),
    ("replay_mib_per_second", "MiB/s read"),
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
    ("max_ms", "longest ms"),
    ("cpu_seconds_per_gib", "CPU s/GiB"),
    ("cores", "cores"),
    ("memory_mib_at_most", "memory MiB"),
    ("load_program_cores", "load's cores"),
];

/// All of it.
pub(crate) fn markdown(results: &Results, about: &About) -> String {
    let mut out = format!(
        "{}\n\n| system | version | what an acknowledgement means |\n|---|---|---|\n",
        about.machine.shown()
    );
    let measured = |name| results.loads().any(|load| results.systems(load).any(|system| system == name));
    for (system, version) in about.systems.iter().filter(|(system, _)| measured(system.name())) {
        let _ = writeln!(out, "| {} | {version} | {} |", system.name(), system.durability());
    }
    let sweep: Vec<&str> = results.loads().filter(|load| load.starts_with("sweep-")).collect();
    for load in results.loads().filter(|load| !load.starts_with("sweep-")) {
        one(&mut out, results, load);
    }
    if !sweep.is_empty() {
        out.push_str("\n`sweep`, messages/s by producers and messages a request:\n\n");
        let names: Vec<&str> = results.systems(sweep[0]).collect();
        let _ = writeln!(out, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
        for load in sweep {
            let figure = |name: &&str| number(results.median(load, name, "messages_per_second"));
            let figures: Vec<String> = names.iter().map(figure).collect();
            let shown = load.trim_start_matches("sweep-").replace('-', " x ");
            let _ = writeln!(out, "| {shown} | {} |", figures.join(" | "));
        }
    }
    let goals = goals(results, about);
    if !goals.is_empty() {
        out.push_str("\n| the vault | ratio | goal | reached |\n|---|---|---|---|\n");
    }
    for goal in goals {
        let sign = if goal.is_limit { "below" } else { "at least" };
        let reached = if goal.is_reached() { "yes" } else { "no" };
        let ratio = range(&goal.ratios);
        let _ = writeln!(out, "| {} | {ratio} | {sign} {} | {reached} |", goal.what, goal.goal);
    }
    out
}

fn one(out: &mut String, results: &Results, load: &str) {
    let names: Vec<&str> = results.systems(load).collect();
    let has = |figure: &str| names.iter().any(|name| results.median(load, name, figure).is_some());
    let columns: Vec<_> = COLUMNS.iter().filter(|(figure, _)| has(figure)).collect();
    let heads: Vec<&str> = columns.iter().map(|(_, head)| *head).collect();
    let _ = writeln!(out, "\n| `{load}` | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for name in names {
        let figures: Vec<String> =
            columns.iter().map(|(figure, _)| range(results.rounds(load, name, figure))).collect();
        let slow = if results.is_below_pace(load, name) { ", below the pace" } else { "" };
        let _ = writeln!(out, "| {name}{slow} | {} |", figures.join(" | "));
    }
}

/// The median, and the lowest and highest where there are several.
fn range(rounds: &[f64]) -> String {
    if rounds.len() < 2 {
        return number(rounds.first().copied());
    }
    let lowest = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({} to {})", number(Some(median(rounds))), number(Some(lowest)), number(Some(highest)))
}

/// Three digits that say something, thousands marked.
fn number(figure: Option<f64>) -> String {
    let Some(figure) = figure else { return String::new() };
    if figure < 10.0 {
        return rounded((figure * 100.0).round() / 100.0).to_string();
    }
    if figure < 100.0 {
        return format!("{figure:.1}");
    }
    let digits = format!("{figure:.0}");
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_compare_the_vault_with_every_system_that_was_measured() {
        let mut results = Results::default();
        for (system, rate, p99) in
            [("vault", 300.0, 2.0), ("redis", 100.0, 1.0), ("kafka-unsynced", 900.0, 3.0)]
        {
            results.add("batches", system, "messages_per_second", rate);
            results.add("batches-at-half", system, "p99_ms", p99);
        }
        results.add("batches-at-half", "redis", "of_pace", 0.5);
        let machine =
            Machine { kernel: "Linux 6.1".to_owned(), cores: 2, memory_bytes: 8 << 30, available_bytes: 0 };
        let systems = [System::Vault, System::Redis, System::Nats, System::KafkaUnsynced];
        let about = About { machine, systems: systems.map(|system| (system, "1.2".to_owned())).to_vec() };
        let goals = goals(&results, &about);
        let found: Vec<_> =
            goals.iter().map(|it| (it.what.as_str(), it.ratios[0], it.is_reached())).collect();
        assert_eq!(
            found,
            [
                ("`batches`, messages a second: beside redis, synced", 3.0, true),
                ("acknowledgement at half of the rate, p99: beside redis", 2.0, false),
                ("acknowledgement at half of the rate, p99: beside kafka-unsynced", 2.0 / 3.0, true),
            ]
        );
        let text = markdown(&results, &about);
        assert!(text.starts_with("Linux 6.1, 2 cores, 8.0 GiB of memory\n\n"), "{text}");
        assert!(text.contains("| redis | 1.2 | `appendfsync always`"), "{text}");
        assert!(!text.contains("| nats |"), "it was not measured: {text}");
        assert!(text.contains("| redis | 100 |"), "{text}");
        assert!(text.contains("| redis, below the pace | 0.5 | 1 |"), "{text}");
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0666, 1.0, 12.34, 999.6, 1_234_567.8].map(|figure| number(Some(figure)));
        assert_eq!(shown, ["0.07", "1", "12.3", "1,000", "1,234,568"]);
        assert_eq!(range(&[1.0, 3.0, 2.0]), "2 (1 to 3)");
    }
}
