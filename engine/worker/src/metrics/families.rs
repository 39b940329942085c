//! Families of metrics with one label whose values are a closed set.

use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

/// One label.
pub(super) type Label = [(&'static str, &'static str); 1];

/// A histogram whose buckets name the trace of the last execution that fell into them.
pub(super) type TracedHistogram = HistogramWithExemplars<[(&'static str, String); 1]>;

/// The buckets of a histogram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buckets(pub(super) &'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl MetricConstructor<TracedHistogram> for Buckets {
    fn new_metric(&self) -> TracedHistogram {
        TracedHistogram::new(self.0.iter().copied())
    }
}

/// One metric for each value of a label. All of them are there from the start, because Prometheus does not see the first
/// increase of a counter that was absent.
#[derive(Debug)]
pub(crate) struct ByWord<M> {
    words: &'static [&'static str],
    metrics: Vec<M>,
}

impl<M> ByWord<M> {
    /// The metric of a word; that of the last word, which stands for all others, if the word is not in the set.
    pub(crate) fn of(&self, word: &str) -> &M {
        let last = self.words.len() - 1;
        self.at(self.words.iter().position(|known| *known == word).unwrap_or(last))
    }

    /// The metric of the word with this number.
    pub(crate) fn at(&self, number: usize) -> &M {
        &self.metrics[number]
    }
}

/// Lists a counter.
pub(super) fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// Lists a gauge.
pub(super) fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

/// Lists a histogram.
pub(super) fn histogram(registry: &mut Registry, (name, help): (&str, &str), buckets: &'static [f64]) -> Histogram {
    let histogram: Histogram = Buckets(buckets).new_metric();
    registry.register(name, help, histogram.clone());
    histogram
}

/// Lists a histogram of seconds.
pub(super) fn seconds<H>(registry: &mut Registry, (name, help): (&str, &str), buckets: &'static [f64]) -> H
where
    H: Metric + Clone,
    Buckets: MetricConstructor<H>,
{
    let histogram: H = Buckets(buckets).new_metric();
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

/// Lists a counter for each word.
pub(super) fn counters(
    registry: &mut Registry,
    (name, help): (&str, &str),
    label: &'static str,
    words: &'static [&'static str],
) -> ByWord<Counter> {
    let family = Family::<Label, Counter>::default();
    let metrics = words.iter().map(|word| family.get_or_create_owned(&[(label, *word)])).collect();
    registry.register(name, help, family);
    ByWord { words, metrics }
}

/// Lists a histogram of seconds for each word.
pub(super) fn seconds_by<H>(
    registry: &mut Registry,
    (name, help): (&str, &str),
    (label, words): (&'static str, &'static [&'static str]),
    buckets: &'static [f64],
) -> ByWord<H>
where
    H: Metric + TypedMetric + Clone,
    Buckets: MetricConstructor<H>,
{
    let family = Family::<Label, H, Buckets>::new_with_constructor(Buckets(buckets));
    let metrics = words.iter().map(|word| family.get_or_create_owned(&[(label, *word)])).collect();
    registry.register_with_unit(name, help, Unit::Seconds, family);
    ByWord { words, metrics }
}
