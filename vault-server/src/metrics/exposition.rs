//! The text that Prometheus reads, format 0.0.4.

use prometheus::core::Metric as _;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Histogram, TextEncoder};

use super::families::Family;

/// What the text is, as a content type.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The labels of one series.
pub(crate) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Families in the order in which they are shown.
#[derive(Debug, Default)]
pub(crate) struct Exposition(Vec<MetricFamily>);

impl Exposition {
    /// One family with one series, which has no labels.
    pub(crate) fn one(&mut self, family: &Family, value: f64) {
        self.values(family, [(Vec::new(), value)]);
    }

    /// One family of counters or gauges. A family without a series is not shown.
    pub(crate) fn values<'a>(
        &mut self,
        family: &Family,
        series: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) {
        let metric = |(labels, value): (Labels<'_>, f64)| {
            let mut metric = Metric::from_label(pairs(labels));
            if family.kind == MetricType::COUNTER {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            metric
        };
        self.push(family, series.into_iter().map(metric).collect());
    }

    /// One family of histograms. One that nothing was observed in is not shown, but for one without labels.
    pub(crate) fn histograms<'a>(
        &mut self,
        family: &Family,
        series: impl IntoIterator<Item = (Labels<'a>, &'a Histogram)>,
    ) {
        let metrics = series.into_iter().filter_map(|(labels, histogram)| {
            if histogram.get_sample_count() == 0 && !labels.is_empty() {
                return None;
            }
            let mut metric = histogram.metric();
            metric.set_label(pairs(labels));
            Some(metric)
        });
        self.push(family, metrics.collect());
    }

    fn push(&mut self, family: &Family, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut shown = MetricFamily::default();
        shown.set_name(family.name.to_owned());
        shown.set_help(family.help.to_owned());
        shown.set_field_type(family.kind);
        shown.set_metric(metrics);
        self.0.push(shown);
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0).expect("every family has a name and a series")
    }
}

fn pairs(labels: Labels<'_>) -> Vec<LabelPair> {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    labels.into_iter().map(pair).collect()
}
