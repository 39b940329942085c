//! Compares, after each kill, the durable state with the durable state before, with the acknowledgements, and with the
//! requests that the outside world saw.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

use cerebelum_history::{CallPhase, Event, EventData, Json, Message};
use cerebelum_server::proto;

use super::crowd::{Crowd, Member};
use super::kills::Scene;
use super::mix::What;
use super::model;
use super::requests::{Seen, Sightings, Tally, broken_law, tallies};
use super::rows::{Stored, Wanted};

/// The durable state of an execution at the last kill.
#[derive(Debug, Default)]
struct Known {
    runs: BTreeMap<u32, Vec<Event>>,
    tallies: BTreeMap<String, Tally>,
    /// The requests that its world saw so far.
    world: Vec<Seen>,
}

/// A hash of how an execution ended, which must never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint(u64);

/// Remembers everything that must not change.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    known: BTreeMap<String, Known>,
    numbers: BTreeMap<String, i64>,
    /// With whether the last reading of all executions found it unchanged.
    ended: BTreeMap<String, (Fingerprint, bool)>,
    above: i64,
    ledger_read: u64,
    contents: HashMap<String, u64>,
    /// How far the database's time may have drifted from the outside world's.
    pub(crate) drift_ms: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) requests: u64,
    pub(crate) repeats: u64,
    pub(crate) children: u64,
    pub(crate) statuses: BTreeMap<String, u64>,
    /// Executions that were parked after an engine crash, to be resumed.
    pub(crate) parked: Vec<String>,
    /// Executions that have ended and whose log lines are known.
    pub(crate) two_liners: Vec<String>,
}

impl Checker {
    /// The executions that have to be read after the next kill.
    pub(crate) fn wanted(&self) -> Wanted {
        let also = self.known.keys().filter_map(|id| self.numbers.get(id)).copied().collect();
        Wanted::Moving { above: self.above, also }
    }

    /// The last request that was read.
    pub(crate) const fn ledger_read(&self) -> u64 {
        self.ledger_read
    }

    /// The number of executions that have ended and were compared with their plan.
    pub(crate) fn ended(&self) -> usize {
        self.ended.len()
    }

    /// Compares everything, while the engine is dead.
    pub(crate) fn compare(&mut self, stored: &[Stored], ledger: Vec<Seen>, crowd: &mut Crowd) -> Scene {
        let mut scene = Scene::default();
        let seen = self.take_requests(ledger);
        self.parked.clear();
        let mut found = BTreeSet::new();
        for stored in stored {
            found.insert(stored.id.as_str());
            self.above = self.above.max(stored.number);
            if self.ended.contains_key(&stored.id) {
                continue;
            }
            self.numbers.insert(stored.id.clone(), stored.number);
            let member = crowd.members.get(&stored.id);
            let nothing = BTreeMap::new();
            let seen = seen.get(&stored.id).unwrap_or(&nothing);
            let tallies = tallies(stored);
            note(&mut scene, (stored, &tallies), seen, member);
            let complaints = self.compare_one(stored, (&tallies, seen), member);
            self.violations
                .extend(complaints.into_iter().map(|what| excerpt(&what, stored, self.known.get(&stored.id))));
            let known = self.known.entry(stored.id.clone()).or_default();
            (known.runs, known.tallies) = (stored.runs.clone(), tallies);
            self.settle(stored, crowd);
        }
        for (id, keys) in seen.iter().filter(|(id, _)| !found.contains(id.as_str())) {
            self.violations.push(format!("requests of {id} left, which is not durable: {keys:?}"));
        }
        let missing = crowd.members.values().filter(|member| member.started && !found.contains(&*member.plan.id));
        self.violations
            .extend(missing.map(|member| format!("I1: {} was acknowledged and is not there", member.plan.id)));
        self.violations.append(&mut crowd.complaints);
        scene
    }

    /// Sorts requests by world and key; a repeated key must repeat the whole request.
    fn take_requests(&mut self, ledger: Vec<Seen>) -> BTreeMap<String, BTreeMap<String, Sightings>> {
        let mut sorted: BTreeMap<String, BTreeMap<String, Sightings>> = BTreeMap::new();
        for request in ledger {
            self.ledger_read = self.ledger_read.max(request.number);
            let Some(key) = request.idempotency_key.clone() else {
                // A PUT repairs something and is not from the engine.
                if request.method != "PUT" {
                    self.violations.push(format!("a request without a key: {request:?}"));
                }
                continue;
            };
            self.requests += 1;
            let content = hash(request.content());
            match self.contents.insert(key.clone(), content) {
                Some(before) if before == content => self.repeats += 1,
                Some(_) => self
                    .violations
                    .push(format!("key {key} was used for two different requests, the second is {request:?}")),
                None => {}
            }
            if self.ended.contains_key(&request.world) {
                self.violations.push(format!("{} asked after it had ended: {request:?}", request.world));
            }
            let new = Sightings { count: 0, first_ms: request.time_ms };
            sorted.entry(request.world.clone()).or_default().entry(key).or_insert(new).count += 1;
            self.known.entry(request.world.clone()).or_default().world.push(request);
        }
        sorted
    }

    fn compare_one(
        &mut self,
        stored: &Stored,
        (tallies, seen): (&BTreeMap<String, Tally>, &BTreeMap<String, Sightings>),
        member: Option<&Member>,
    ) -> Vec<String> {
        let mut complaints = Vec::new();
        if stored.position != stored.events().len() as u64 {
            complaints.push(format!(
                "I2: its head says {} events, there are {}",
                stored.position,
                stored.events().len()
            ));
        }
        complaints.extend(stored.runs.values().filter_map(|events| test_programs::broken_law(events)));
        let nothing = Known::default();
        let known = self.known.get(&stored.id).unwrap_or(&nothing);
        for (run, before) in &known.runs {
            let after = stored.runs.get(run).map_or(&[][..], Vec::as_slice);
            let is_prefix =
                before.len() <= after.len() && before.iter().zip(after).all(|(a, b)| test_programs::is_still(a, b));
            if !is_prefix {
                complaints.push(format!("run {run} is not what it was, which was {}", Event::encode(before)));
            }
        }
        complaints.extend(broken_law(&known.tallies, tallies, seen, self.drift_ms));
        if let Some(member) = member {
            complaints.extend(untold(member, stored));
        }
        match &stored.parked {
            Some(reason) if reason.starts_with("engine-crash") => self.parked.push(stored.id.clone()),
            Some(reason) => complaints.push(format!("I6: it is parked: {reason}")),
            None => {}
        }
        complaints
    }

    /// Compares an execution that has ended with its plan, and remembers its fingerprint.
    fn settle(&mut self, stored: &Stored, crowd: &mut Crowd) {
        if stored.is_open || (stored.status == "failed" && crowd.members.get(&stored.id).is_some_and(is_to_be_mended)) {
            return;
        }
        let known = self.known.remove(&stored.id).unwrap_or_default();
        if let Some(member) = crowd.members.remove(&stored.id) {
            let (events, yes) = (stored.events(), member.told_yes());
            if let Some(why) = model::contradiction(&member.plan.expect, events, &known.world, yes) {
                let what = format!("{why}; plan {:?}, acknowledged {:?}", member.plan, member.acknowledged);
                self.violations.push(excerpt(&what, stored, Some(&known)));
            }
            if member.plan.expect.says_two_lines() {
                self.two_liners.push(stored.id.clone());
            }
        } else if let Some(why) = stored.parent.as_ref().and_then(|_| child_contradiction(stored)) {
            self.violations.push(excerpt(&why, stored, Some(&known)));
        } else {
            self.children += 1;
        }
        *self.statuses.entry(stored.status.clone()).or_default() += 1;
        self.ended.insert(stored.id.clone(), (fingerprint(stored), false));
    }

    /// The highest number of an execution so far.
    pub(crate) const fn highest(&self) -> i64 {
        self.above
    }

    /// At the very end: every execution that had ended is still there, and unchanged.
    pub(crate) fn compare_ends(&mut self, stored: &[Stored]) {
        for stored in stored {
            match self.ended.get_mut(&stored.id) {
                Some((then, is_found)) if *then == fingerprint(stored) => *is_found = true,
                _ => self.violations.push(excerpt("it had ended and is not what it was", stored, None)),
            }
        }
    }

    /// At the very end: the engine lists exactly the stored executions.
    pub(crate) fn compare_list(&mut self, listed: &BTreeMap<String, String>) {
        for (id, (_, is_found)) in &self.ended {
            if !is_found {
                self.violations.push(format!("{id} had ended and is not there"));
            }
            if !listed.get(id).is_some_and(|status| ["completed", "failed", "cancelled"].contains(&status.as_str())) {
                self.violations.push(format!("{id} had ended and is listed as {:?}", listed.get(id)));
            }
        }
    }
}

fn is_to_be_mended(member: &Member) -> bool {
    member.plan.deeds.iter().any(|deed| deed.what == What::Mend)
}

fn note(
    scene: &mut Scene,
    (stored, tallies): (&Stored, &BTreeMap<String, Tally>),
    seen: &BTreeMap<String, Sightings>,
    member: Option<&Member>,
) {
    if !stored.is_open {
        return;
    }
    let runs = |phase: &CallPhase| matches!(phase, CallPhase::Step(step) if step.attempts.retry.is_none());
    scene.open += 1;
    scene.hibernated += u64::from(stored.hibernates);
    scene.steps_running += u64::from(!stored.hibernates && stored.calls.values().any(|call| runs(&call.phase)));
    scene.effects_unrecorded +=
        tallies.iter().filter(|(key, tally)| tally.is_open() && seen.contains_key(*key)).count() as u64;
    scene.starts_untold += u64::from(member.is_some_and(|member| !member.started));
}

/// An acknowledgement or a shown event of an execution that does not match the stored state.
fn untold(member: &Member, stored: &Stored) -> Option<String> {
    let shown = &member.shown;
    let first = stored.runs.get(&1).map_or(&[][..], Vec::as_slice);
    if shown.len() > first.len() {
        return Some(format!("L7: {} events were shown, {} are durable", shown.len(), first.len()));
    }
    if let Some((shown, durable)) = shown.iter().zip(first).find(|(shown, durable)| !is_shown(shown, durable)) {
        return Some(format!("L7: {shown:?} was shown, durable is {}", Event::encode([durable])));
    }
    let is_old = is_to_be_mended(member) && member.ended.as_deref() == Some("failed");
    if let Some(ended) = member.ended.as_ref().filter(|ended| **ended != stored.status && !is_old) {
        return Some(format!("L7: it was listed as {ended} and is {}", stored.status));
    }
    let lost = member.acknowledged.iter().find(|what| stored.is_open && !is_kept(what, stored));
    lost.map(|what| format!("I1: {what:?} was acknowledged and is lost"))
}

fn is_shown(shown: &proto::Event, durable: &Event) -> bool {
    let time = shown.time.as_ref().map(|time| time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000);
    let fields = |data: &EventData| data.fields().as_str() == shown.fields;
    shown.kind == durable.data.kind()
        && shown.scope == durable.scope.as_str()
        && time.and_then(|ms| u64::try_from(ms).ok()) == Some(durable.at.0)
        // Values of a finished step may have been dropped before or after the event was shown.
        && (fields(&durable.data) || without_values(&shown.fields) == without_values(durable.data.fields().as_str()))
}

fn without_values(fields: &str) -> serde_json::Value {
    let mut fields: serde_json::Value = serde_json::from_str(fields).unwrap_or_default();
    if let Some(members) = fields.as_object_mut() {
        // A value that is no longer kept is named instead of shown, and of a response the status of a failure stays.
        for name in ["output", "value", "data", "response", "status", "not_kept"] {
            members.remove(name);
        }
    }
    fields
}

/// Whether an acknowledged message is in the inbox or in the history.
fn is_kept(what: &What, stored: &Stored) -> bool {
    let inbox = |fits: &dyn Fn(&Message) -> bool| stored.inbox.iter().any(fits);
    let history = |fits: &dyn Fn(&EventData) -> bool| stored.events().iter().any(|event| fits(&event.data));
    match what {
        What::Approve { .. } => {
            inbox(&|message| matches!(message, Message::Approved { .. }))
                || history(&|data| matches!(data, EventData::ApprovalReceived { .. }))
        }
        What::Reject { .. } => {
            inbox(&|message| matches!(message, Message::Rejected { .. }))
                || history(&|data| matches!(data, EventData::ApprovalRejected { .. }))
        }
        What::Signal { number, .. } => {
            let says = |data: &Json| data.as_str() == number.to_string();
            inbox(&|message| matches!(message, Message::Signal { data, .. } if says(data)))
                || history(&|data| matches!(data, EventData::SignalReceived { data: Some(data), .. } if says(data)))
        }
        What::Cancel => {
            inbox(&|message| matches!(message, Message::Cancel { .. }))
                || history(&|data| matches!(data, EventData::CancelRequested { .. }))
        }
        What::Pause => {
            inbox(&|message| matches!(message, Message::Pause))
                || history(&|data| matches!(data, EventData::ExecutionPaused))
        }
        What::GoOn => {
            inbox(&|message| matches!(message, Message::Resume))
                || history(&|data| matches!(data, EventData::ExecutionResumed))
        }
        What::Mend => {
            inbox(&|message| matches!(message, Message::Reopen | Message::ReopenForced))
                || history(&|data| matches!(data, EventData::ExecutionReopened { .. }))
        }
    }
}

/// Children count up to the number of their steps.
fn child_contradiction(stored: &Stored) -> Option<String> {
    let (first, last) = (stored.events().first()?, stored.events().last()?);
    let EventData::ExecutionStarted { input, .. } = &first.data else { return None };
    let value = |json: &Json| serde_json::from_str::<serde_json::Value>(json.as_str()).ok();
    let input = value(input)?;
    match &last.data {
        EventData::ExecutionCompleted { output } if value(output)? == input["steps"] => None,
        other => Some(format!("a child ended with {other:?}")),
    }
}

fn fingerprint(stored: &Stored) -> Fingerprint {
    let mut whole = String::new();
    for (run, events) in &stored.runs {
        let bare: Vec<Event> =
            events.iter().cloned().map(|event| Event { data: event.data.without_values(), ..event }).collect();
        whole.push_str(&format!("{run} {} ", Event::encode(&bare)));
    }
    Fingerprint(hash((whole, &stored.status)))
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A violation with the history and the ledger that show it.
fn excerpt(what: &str, stored: &Stored, known: Option<&Known>) -> String {
    use std::fmt::Write;
    let mut text = format!("{} ({}): {what}\n", stored.id, stored.status);
    for (run, events) in &stored.runs {
        for (index, event) in events.iter().enumerate() {
            let _ = writeln!(text, "    run {run} position {}: {}", index + 1, Event::encode([event]));
        }
    }
    for (name, call) in &stored.calls {
        let _ = writeln!(text, "    open call {name}: {}", call.encode());
    }
    for message in &stored.inbox {
        let _ = writeln!(text, "    inbox: {message:?}");
    }
    for seen in known.map(|known| known.world.as_slice()).unwrap_or_default() {
        let key = seen.idempotency_key.as_deref().unwrap_or("-");
        let _ = writeln!(text, "    ledger {}: {} {} {key} {}", seen.number, seen.method, seen.path, seen.body);
    }
    text
}
