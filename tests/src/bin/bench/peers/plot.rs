//! Bars and lines as SVG.

use std::fmt::Write;

use super::results::Results;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 140.0;
const RIGHT: f64 = 110.0;
const BAR: f64 = 22.0;
const HEAD: f64 = 44.0;

/// One colour for each system, the same in every plot.
const COLOURS: [(&str, &str); 9] = [
    ("vault", "#1f77b4"),
    ("redis", "#d62728"),
    ("nats", "#2ca02c"),
    ("nats-unsynced", "#98df8a"),
    ("kafka", "#ff7f0e"),
    ("kafka-unsynced", "#ffbb78"),
    ("disk", "#7f7f7f"),
    ("nginx", "#9467bd"),
    ("azurite", "#8c564b"),
];

/// What is drawn as bars: load, figure, title.
const BARS: [(&str, &str, &str); 9] = [
    ("batches", "mib_per_second", "append, 16 producers, 100 messages of 1 KiB a request: MiB/s"),
    ("batches", "cpu_seconds_per_gib", "append, 100 messages a request: CPU seconds a GiB"),
    ("batches", "memory_mib_at_most", "append, 100 messages a request: memory at most, MiB"),
    ("batches-at-half", "p99_ms", "acknowledgement at half of the system's own rate: p99, ms"),
    ("singles", "messages_per_second", "append, 16 producers, one message of 1 KiB a request: messages/s"),
    ("singles", "p99_ms", "acknowledgement of single messages: p99, ms"),
    ("replay", "mib_per_second", "one consumer reads a whole stream: MiB/s of messages"),
    ("replay", "cpu_seconds_per_gib", "one consumer reads a whole stream: CPU seconds a GiB"),
    ("tail", "p99_ms", "from due to receipt, 1,000 messages/s, one consumer: p99, ms"),
];

/// Marks who did not keep the pace.
const BELOW_PACE: &str = "*";

/// All plots for which there are figures, by name.
pub(crate) fn all(results: &Results) -> Vec<(String, String)> {
    let mut plots = Vec::new();
    for (load, figure, title) in BARS {
        let rows = results.systems(load).filter_map(|name| {
            let is_slow = results.is_below_pace(load, name);
            Some(Bar { name, value: results.median(load, name, figure)?, is_slow })
        });
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            plots.push((format!("{load}-{}", figure.replace('_', "-")), bars(title, &rows)));
        }
    }
    for (prefix, name, title) in [
        ("sweep-16", "sweep", "16 producers, by messages of 1 KiB a request: messages/s"),
        ("streams", "streams", "append, 100 messages a request, by streams: messages/s"),
        ("size", "size", "append, 100 messages a request, by GiB in the stream: messages/s"),
    ] {
        lines_of(results, prefix, name, title, "messages_per_second", &mut plots);
    }
    lines_of(
        results,
        "consumers",
        "consumers",
        "from due to receipt, by consumers: p99, ms",
        "p99_ms",
        &mut plots,
    );
    plots
}

fn lines_of(
    results: &Results,
    prefix: &str,
    name: &str,
    title: &str,
    figure: &str,
    plots: &mut Vec<(String, String)>,
) {
    let series = points(results, prefix, figure);
    if !series.is_empty() {
        plots.push((name.to_owned(), lines(title, &series)));
    }
}

/// A system, and what it reached at which size.
type Series<'a> = (&'a str, Vec<(f64, f64)>);

/// The figures of loads whose names are the prefix and a number. Where a stream was long before, its real length stands
/// for that number.
fn points<'a>(results: &'a Results, prefix: &str, figure: &str) -> Vec<Series<'a>> {
    let mut series: Vec<Series<'_>> = Vec::new();
    for load in results.loads() {
        let number = load.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        let Some(number) = number else { continue };
        for system in results.systems(load) {
            let Some(y) = results.median(load, system, figure) else { continue };
            let x = results.median(load, system, "gib_before").unwrap_or(number);
            match series.iter_mut().find(|(name, _)| *name == system) {
                Some((_, points)) => points.push((x, y)),
                None => series.push((system, vec![(x, y)])),
            }
        }
    }
    for (_, points) in &mut series {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    series
}

fn colour(system: &str) -> &'static str {
    COLOURS.iter().find(|(name, _)| *name == system).map_or("#444444", |(_, colour)| colour)
}

/// Numbers with three digits that say something.
fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2}M", value / 1e6),
        _ if value >= 1e4 => format!("{:.0}k", value / 1e3),
        _ if value >= 1e3 => format!("{:.1}k", value / 1e3),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn begin(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n"
    )
}

/// One system's bar.
#[derive(Clone, Copy, Debug)]
struct Bar<'a> {
    name: &'a str,
    value: f64,
    is_slow: bool,
}

/// One bar for each system.
fn bars(title: &str, rows: &[Bar<'_>]) -> String {
    let most = rows.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let note = if rows.iter().any(|bar| bar.is_slow) { 20.0 } else { 0.0 };
    let height = HEAD + rows.len() as f64 * (BAR + 6.0) + 8.0 + note;
    let mut svg = begin(title, height);
    let mut y = HEAD;
    for Bar { name, value, is_slow } in rows {
        let width = (value / most * (WIDTH - LEFT - RIGHT)).max(1.0);
        let (middle, end) = (y + BAR / 2.0 + 5.0, LEFT + width + 6.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle:.1}\" text-anchor=\"end\">{name}{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{}\"/>\n\
             <text x=\"{end:.1}\" y=\"{middle:.1}\">{}</text>",
            LEFT - 8.0,
            if *is_slow { BELOW_PACE } else { "" },
            colour(name),
            short(*value)
        );
        y += BAR + 6.0;
    }
    if note > 0.0 {
        let _ = writeln!(svg, "<text x=\"12\" y=\"{:.1}\">{BELOW_PACE} below the pace</text>", height - 10.0);
    }
    svg + "</svg>\n"
}

/// One line for each system; both axes are logarithmic.
fn lines(title: &str, series: &[Series<'_>]) -> String {
    const HEIGHT: f64 = 420.0;
    const BOTTOM: f64 = 40.0;
    const AXIS: f64 = 70.0;
    let points = || series.iter().flat_map(|(_, points)| points.iter());
    let bounds = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) =
            values.fold((f64::INFINITY, 0.0_f64), |(low, high), it| (low.min(it), high.max(it)));
        (low.max(1e-3).log10(), high.max(2e-3).log10())
    };
    let (x_low, x_high) = bounds(&mut points().map(|(x, _)| *x));
    let (y_low, y_high) = bounds(&mut points().map(|(_, y)| *y));
    let (y_low, y_high) = (y_low.floor(), y_high.ceil().max(y_low.floor() + 1.0));
    let right = WIDTH - RIGHT - 20.0;
    let x_at = |x: f64| AXIS + (x.max(1e-3).log10() - x_low) / (x_high - x_low).max(1e-9) * (right - AXIS);
    let y_at = |y: f64| {
        HEIGHT - BOTTOM - (y.max(1e-3).log10() - y_low) / (y_high - y_low) * (HEIGHT - BOTTOM - HEAD)
    };
    let mut svg = begin(title, HEIGHT);
    let mut power = y_low;
    while power <= y_high {
        let y = y_at(10.0_f64.powf(power));
        let _ = writeln!(
            svg,
            "<line x1=\"{AXIS}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            AXIS - 6.0,
            y + 4.0,
            short(10.0_f64.powf(power))
        );
        power += 1.0;
    }
    let mut ticks: Vec<f64> = points().map(|(x, _)| *x).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    for x in ticks {
        let at = x_at(x);
        let _ =
            writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{x}</text>", HEIGHT - 18.0);
    }
    // Names stand beside the ends of their lines, and make room for each other.
    let mut ends: Vec<(f64, &str)> =
        series.iter().filter_map(|(name, points)| Some((y_at(points.last()?.1), *name))).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lowest = f64::NEG_INFINITY;
    for (y, name) in ends {
        lowest = y.max(lowest + 15.0);
        let (x, y) = (right + 8.0, lowest + 4.0);
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y:.1}\" fill=\"{}\">{name}</text>", colour(name));
    }
    for (name, points) in series {
        let path: Vec<String> =
            points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(*y))).collect();
        let (colour, path) = (colour(name), path.join(" "));
        let _ = writeln!(
            svg,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
        for (x, y) in points {
            let (x, y) = (x_at(*x), y_at(*y));
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_stands_where_it_was_long_and_who_was_slow_is_marked() {
        let mut results = Results::default();
        for (load, system, gib, rate) in
            [("size-40", "vault", 40.0, 5.0), ("size-10", "vault", 10.0, 6.0), ("size-10", "redis", 8.0, 7.0)]
        {
            results.add(load, system, "messages_per_second", rate);
            results.add(load, system, "gib_before", gib);
        }
        results.add("streams-100", "nats", "messages_per_second", 3.0);
        let figure = "messages_per_second";
        let sizes: Vec<Series<'_>> =
            vec![("vault", vec![(10.0, 6.0), (40.0, 5.0)]), ("redis", vec![(8.0, 7.0)])];
        assert_eq!(points(&results, "size", figure), sizes);
        assert_eq!(points(&results, "streams", figure), [("nats", vec![(100.0, 3.0)])]);
        assert!(points(&results, "sweep-16", figure).is_empty());

        results.add("tail", "nats", "p99_ms", 900.0);
        results.add("tail", "nats", "of_pace", 0.4);
        let tail = all(&results).into_iter().find(|(name, _)| name == "tail-p99-ms").unwrap().1;
        assert!(tail.contains(">nats*</text>") && tail.contains("* below the pace"), "{tail}");
    }
}
