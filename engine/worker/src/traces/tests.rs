//! Sampling, and what becomes of spans that no collector takes.

use std::sync::atomic::{AtomicBool, Ordering};

use cerebelum_history::Seed;
use parking_lot::Mutex;

use super::*;
use crate::env::ThisRuntime;

/// A collector that keeps what it takes.
#[derive(Default)]
struct Collector {
    taken: Mutex<Vec<usize>>,
    refuses: AtomicBool,
    panics: AtomicBool,
}

impl SpanExporter for Collector {
    fn export(&self, spans: Vec<Span>) -> Exporting<'_> {
        Box::pin(async move {
            assert!(!self.panics.load(Ordering::Relaxed), "a mistake");
            if self.refuses.load(Ordering::Relaxed) {
                return Err("no".to_owned());
            }
            self.taken.lock().push(spans.len());
            Ok(())
        })
    }
}

fn span() -> Span {
    let context = SpanContext { trace: [1; 16], span: [2; 8], is_sampled: true };
    Span {
        context,
        parent: None,
        state: None,
        name: "a".to_owned(),
        kind: SpanKind::Internal,
        began: Timestamp(1),
        ended: Timestamp(2),
        attributes: Vec::new(),
        links: Vec::new(),
        failure: None,
    }
}

fn traces(collector: &Arc<Collector>) -> (Arc<Traces>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new(&Default::default(), &Default::default()));
    let settings = TraceSettings {
        sampler: Sampler::default(),
        segment_after: Duration::from_secs(1),
        exporter: collector.clone(),
    };
    let runtime: Arc<dyn Runtime> = Arc::new(ThisRuntime);
    (Traces::new(settings, &runtime, &metrics), metrics)
}

fn counted(metrics: &Metrics) -> (u64, u64) {
    (metrics.outside.spans_exported.get(), metrics.outside.spans_dropped.get())
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_what_it_holds_is_sent() {
    let collector = Arc::<Collector>::default();
    let (traces, metrics) = traces(&collector);
    traces.export((0..5_000).map(|_| span()).collect());
    assert_eq!(counted(&metrics), (0, 5_000 - 4_096));
    traces.flush().await;
    assert_eq!(counted(&metrics), (4_096, 5_000 - 4_096));
    assert_eq!(*collector.taken.lock(), [512; 8]);
}

#[tokio::test]
async fn a_collector_that_refuses_or_panics_loses_its_spans_and_nothing_else() {
    let collector = Arc::<Collector>::default();
    let (traces, metrics) = traces(&collector);
    collector.refuses.store(true, Ordering::Relaxed);
    traces.export(vec![span(); 3]);
    traces.flush().await;
    assert_eq!(counted(&metrics), (0, 3));
    collector.panics.store(true, Ordering::Relaxed);
    traces.export(vec![span(); 4]);
    let flushing = traces.clone();
    assert!(tokio::spawn(async move { flushing.flush().await }).await.unwrap_err().is_panic());
    assert_eq!(counted(&metrics), (0, 7));
    collector.panics.store(false, Ordering::Relaxed);
    collector.refuses.store(false, Ordering::Relaxed);
    traces.export(vec![span(); 5]);
    traces.flush().await;
    assert_eq!(counted(&metrics), (5, 7));
}

fn sampler(name: &str, argument: Option<&str>) -> Sampler {
    Sampler::parse(Some(name), argument).unwrap()
}

#[test]
fn a_caller_s_decision_counts_if_the_sampler_asks_for_it() {
    let decide = |name: &str, caller| sampler(name, Some("0")).decides_for(caller, [9; 16]);
    for (name, root, sampled, unsampled) in [
        ("always_on", true, true, true),
        ("always_off", false, false, false),
        ("traceidratio", false, false, false),
        ("parentbased_always_on", true, true, false),
        ("parentbased_always_off", false, true, false),
        ("parentbased_traceidratio", false, true, false),
    ] {
        let decided = (decide(name, None), decide(name, Some(true)), decide(name, Some(false)));
        assert_eq!(decided, (root, sampled, unsampled), "{name}");
    }
    assert_eq!(Sampler::parse(None, None).unwrap(), sampler("parentbased_always_on", None));
}

#[test]
fn a_ratio_is_kept_over_many_executions() {
    let sampler = sampler("traceidratio", Some("0.25"));
    let sampled = (0..10_000_u32).filter(|number| {
        let mut seed = [3; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        sampler.decides_for(None, Seed(seed).trace_id(1, 0))
    });
    assert!((2_200..2_800).contains(&sampled.count()));
}

#[test]
fn what_is_not_a_sampler_is_refused() {
    for (name, argument) in
        [("sometimes", None), ("parentbased_", None), ("traceidratio", Some("2")), ("traceidratio", Some("NaN"))]
    {
        assert!(Sampler::parse(Some(name), argument).unwrap_err().contains("OTEL_TRACES_SAMPLER"), "{name}");
    }
}
