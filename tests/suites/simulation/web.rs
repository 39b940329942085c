//! The outside world of steps: it answers every request, and keeps a ledger of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use cerebelum_history::{CallName, Event, EventData, Failure, HttpRequest, HttpResponse, Position, Timestamp};
use cerebelum_worker::{AnswerPermit, Grants, HostHeaders};
use futures::FutureExt;
use futures::future::BoxFuture;
use test_memory_store::Row;

use crate::world::{World, key};

/// Longer than the longest time until an inbox is read.
const PAUSE_IS_KNOWN_MS: u64 = 8_000;

/// A request leaves only while the lease lasts longer than this.
const MARGIN_MS: u64 = 1_000;

/// The request under one key, and how often it came.
struct Entry {
    url: String,
    body: Vec<u8>,
    times: u32,
}

/// Requests by key.
#[derive(Default)]
pub(crate) struct Ledger {
    requests: Mutex<BTreeMap<String, Entry>>,
}

impl Ledger {
    /// Keys by address.
    pub(crate) fn keys(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (key, entry) in &*self.requests.lock().expect("nobody panics here") {
            keys.entry(entry.url.clone()).or_default().insert(key.clone());
        }
        keys
    }
}

/// The web as one node sees it.
pub(crate) struct HttpClient {
    world: Weak<World>,
    node: usize,
}

impl HttpClient {
    pub(crate) fn new(world: &Arc<World>, node: usize) -> Self {
        Self { world: Arc::downgrade(world), node }
    }
}

impl cerebelum_worker::HttpClient for HttpClient {
    fn fetch<'a>(
        &'a self,
        request: HttpRequest,
        headers: &'a HostHeaders,
        _grants: &'a Grants,
        _permit: &'a mut AnswerPermit,
    ) -> BoxFuture<'a, Result<HttpResponse, Failure>> {
        async move {
            let world = self.world.upgrade().expect("the world outlives its nodes");
            note(&world, self.node, &request, &headers.key);
            let slow = world.clockwork.permille(50);
            let latency = if slow { world.clockwork.below(4_000) } else { world.clockwork.below(80) };
            world.clockwork.sleep_ms(latency).await;
            let path = String::from_utf8(request.body).expect("this world says only texts");
            let body = format!("got {path} ").into_bytes();
            Ok(HttpResponse { status: 200, headers: Vec::new(), body })
        }
        .boxed()
    }
}

/// Enters a request into the ledger and checks that it may have left.
fn note(world: &World, node: usize, request: &HttpRequest, its_key: &str) {
    let report = &world.report;
    report.count("effects");
    let address = request.url.strip_prefix("http://world/").expect("an address in this world");
    let (id, _) = address.split_once('/').expect("an execution and a path");
    {
        let mut requests = world.ledger.requests.lock().expect("nobody panics here");
        let fresh = || Entry { url: request.url.clone(), body: request.body.clone(), times: 0 };
        let entry = requests.entry(its_key.to_owned()).or_insert_with(fresh);
        entry.times += 1;
        if entry.times > 1 {
            report.count("repeated effects");
        }
        report.check((&entry.url, &entry.body) == (&request.url, &request.body), || {
            format!("L3: the key {its_key} stands for {} and for {}", entry.url, request.url)
        });
    }
    let tables = world.memory.tables();
    let Some(row) = tables.executions.get(&key(id)) else {
        return report.violation(format!("L6: {} is asked by an execution that nobody stored", request.url));
    };
    let holder = row.owner.and_then(|owner| tables.node_name(owner)).unwrap_or_default();
    report.check(holder == world.name(node), || {
        format!(
            "L11: at {} node {node} ({}) asks {} while {id} is held by {:?} `{holder}`",
            world.clockwork.now_ms(),
            world.name(node),
            request.url,
            row.owner
        )
    });
    let left_ms = row.owner.map_or(0, |owner| tables.lease_left_ms(owner, Timestamp(world.clockwork.now_ms())));
    report.check(left_ms > MARGIN_MS, || {
        format!("L11: node {node} asks {} while its lease lasts {left_ms} ms more", request.url)
    });
    let events: Vec<Event> =
        row.runs.values().flatten().flat_map(|chunk| Event::decode(&chunk.events)).flatten().collect();
    let starts = |event: &&Event| matches!(&event.data, EventData::FetchStarted { url, .. } if *url == request.url);
    let starts: Vec<CallName> = events.iter().filter(starts).filter_map(name_of).collect();
    // A round of a poll keeps its journal in the open call.
    let in_a_poll = row.calls.values().any(|state| state.contains(&request.url));
    report.check(!starts.is_empty() || in_a_poll, || {
        format!("L6: {} is asked before it is known that it will be", request.url)
    });
    for call in starts.iter().filter(|call| row.head.seed.call_key(row.head.run, call) == its_key) {
        report
            .check(!is_recorded(&events, call), || format!("I3: {} is asked again, its answer is known", request.url));
    }
    let unheard = starts.last().is_some_and(|last| is_unheard(row, &events, last));
    report.check(!unheard, || format!("L16: {} is asked although {id} was told to stop before", request.url));
    drop(tables);
    let acknowledged = world.acknowledged();
    // A cancel lets a paused execution go on, to clean up.
    let paused = acknowledged.pauses.get(id).filter(|_| !acknowledged.cancels.contains(id));
    if let Some(since) = paused {
        let late = world.clockwork.now_ms() > since + PAUSE_IS_KNOWN_MS;
        report.check(!late, || format!("L16: {} is asked although {id} is paused since {since}", request.url));
    }
}

/// Whether a pause or a cancel was already in the inbox when this request was recorded, and has not been read.
fn is_unheard(row: &Row, events: &[Event], call: &CallName) -> bool {
    let is_start =
        |event: &Event| matches!(event.data, EventData::FetchStarted { .. }) && name_of(event).as_ref() == Some(call);
    let Some(index) = events.iter().rposition(is_start) else { return false };
    let Some((_, written)) = row.written.range(..=Position(index as u64 + 1)).next_back() else { return false };
    // A resume is on its way, which takes effect in memory before it is durable.
    if row.inbox.values().any(|(message, _)| message == "\"Resume\"") {
        return false;
    }
    if row.head.paused {
        return true;
    }
    let stops = |message: &str| ["\"Pause\"", "Cancel", "\"Terminate\""].iter().any(|word| message.contains(word));
    row.inbox.iter().any(|(seq, (message, _))| seq < written && stops(message))
}

fn name_of(event: &Event) -> Option<CallName> {
    Some(CallName { scope: event.scope.clone(), ordinal: event.data.ordinal()? })
}

/// Whether the answer is recorded, and no retry has begun since.
fn is_recorded(events: &[Event], call: &CallName) -> bool {
    let mut recorded = false;
    for event in events {
        match &event.data {
            EventData::FetchCompleted { .. } if name_of(event).as_ref() == Some(call) => recorded = true,
            EventData::StepRetried { .. } | EventData::ExecutionReopened { .. } => recorded = false,
            _ => {}
        }
    }
    recorded
}
