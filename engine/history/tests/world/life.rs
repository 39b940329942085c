//! The life of one execution: a driver with a store, a clock and guests, in random order.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cerebelum_history::{
    Action, CallName, Digest, End, EventData, Execution, ExecutionOptions, HttpRequest, HttpResponse, Identity,
    Message, Moment, Outcome, Request, Scope, Seed, Snapshot, StepOptions, Target, Timestamp, Turn, failed_call,
};

use test_programs::{CHECK_RETRY, DeterministicRng, Guest, Node, Stay, json};

use super::store::{Batch, Plan, Store};

/// Optional events in a life, each with its frequency in a thousand steps.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) crash: u64,
    pub(crate) hibernate: u64,
    pub(crate) forget: u64,
    pub(crate) pause: u64,
    pub(crate) cancel: u64,
    /// Time passes although there is something to do.
    pub(crate) slow: u64,
    /// The next action is chosen in a fixed order, not at random.
    pub(crate) orderly: bool,
}

/// A request on its way to the server, or its response on its way back.
struct Errand {
    call: CallName,
    request: HttpRequest,
    key: String,
    lsn: u64,
    answered_at: Option<Timestamp>,
}

/// An execution with everything around it.
pub(crate) struct Life {
    program: Arc<Node>,
    pub(crate) store: Store,
    pub(crate) now: Timestamp,
    pub(crate) chance: DeterministicRng,
    weather: Weather,
    execution: Execution,
    guests: BTreeMap<Scope, Guest>,
    errands: Vec<Errand>,
    in_flight: Option<Batch>,
    received: HashSet<i64>,
    durable: u64,
    /// The execution was reopened in memory, and the store does not know yet.
    is_reopened: bool,
    mended: bool,
    /// The state of the store after each batch.
    pub(crate) trail: Vec<(Timestamp, bool, Store)>,
    steps: u32,
}

fn identity() -> Identity {
    Identity {
        id: "life".parse().unwrap(),
        workflow: "it/w".to_owned(),
        digest: Digest::of(b"it"),
        seed: Seed([3; 32]),
        run: 1,
    }
}

impl Life {
    pub(crate) fn new(program: &Node, seed: u64, weather: Weather) -> Self {
        let now = Timestamp(1_000);
        let mut execution = Execution::start(identity(), json(""), ExecutionOptions::default(), now);
        let mut store = Store::new(seed);
        let batch = Batch::of(&mut execution);
        assert!(store.append(batch, now));
        for name in ["0", "1"] {
            let early = Message::Signal { name: name.to_owned(), data: json(&format!("signal {name} ")), cause: None };
            store.plans.push((now.plus(2 * store.latency(name)), Plan::Send(early)));
        }
        Self::from(program, store, (now, false), (seed, weather))
    }

    /// A life that continues from a state of the store, in the order that this seed decides.
    pub(crate) fn from(
        program: &Node,
        store: Store,
        (now, mended): (Timestamp, bool),
        (seed, weather): (u64, Weather),
    ) -> Self {
        let execution = Execution::restore(identity(), store.stored(true));
        let mut life = Self {
            program: Arc::new(program.clone()),
            trail: vec![(now, mended, store.clone())],
            store,
            now,
            chance: DeterministicRng(seed),
            weather,
            execution,
            guests: BTreeMap::new(),
            errands: Vec::new(),
            in_flight: None,
            received: HashSet::new(),
            durable: 0,
            is_reopened: false,
            mended,
            steps: 0,
        };
        life.restore(true);
        life
    }

    /// Drops everything in memory and rebuilds it from the store.
    fn restore(&mut self, believe_settled: bool) {
        let stored: Snapshot = self.store.stored(believe_settled);
        self.execution = Execution::restore(identity(), stored);
        self.guests.clear();
        self.errands.clear();
        self.in_flight = None;
        self.received.clear();
        self.durable = 0;
        self.is_reopened = false;
        for seq in self.store.inbox.keys().copied().collect::<Vec<_>>() {
            self.receive(seq);
        }
    }

    fn receive(&mut self, seq: i64) {
        if self.received.insert(seq) {
            let (seen, message) = self.store.inbox[&seq].clone();
            let moment = self.moment();
            self.execution.receive(seq, seen, message, moment);
        }
    }

    fn moment(&mut self) -> Moment {
        Moment { at: self.now, chance: if self.weather.orderly { 0.5 } else { self.chance.unit() } }
    }

    /// Lives to the end. After a failure, what was broken is mended and the execution is reopened, until the same call
    /// has failed three times.
    pub(crate) fn live(&mut self) -> End {
        loop {
            self.steps += 1;
            assert!(self.steps < 20_000, "a life without end: {:#?}, {:#?}", self.store, self.execution);
            self.weather();
            let goes_on = self.execution.is_reopening() || self.is_reopened;
            if let Some(end) = self.store.end().filter(|_| !goes_on) {
                let failed = failed_call(&self.store.events);
                if !matches!(end, End::Failed(_)) || failed.is_none_or(|call| self.store.reopened(call) >= 2) {
                    return end;
                }
                self.mended = true;
                self.store.inbox.retain(|_, (_, message)| matches!(message, Message::Signal { .. }));
                self.store.send(Message::Reopen);
                self.restore(true);
            }
            if self.execution.is_reopening() {
                let (ordinal, moment) = (failed_call(&self.store.events).unwrap(), self.moment());
                self.execution.reopen(ordinal, moment);
                self.is_reopened = true;
            }
            let moment = self.moment();
            self.execution.tick(moment);
            self.perform();
            let slow = self.chance.permille(self.weather.slow);
            if slow || !self.something() {
                self.pass_time(slow);
            }
        }
    }

    /// Lets an optional event happen.
    fn weather(&mut self) {
        let weather = self.weather;
        if self.chance.permille(weather.crash) {
            // The batch that was being written may have arrived.
            if self.chance.permille(500) {
                self.store_batch();
            }
            return self.restore(true);
        }
        if self.chance.permille(weather.hibernate)
            && self.execution.is_settled()
            && self.in_flight.is_none()
            && !self.execution.has_changes()
            && self.errands.is_empty()
        {
            return self.restore(true);
        }
        if self.chance.permille(weather.forget) && !self.guests.is_empty() {
            let scopes: Vec<Scope> = self.guests.keys().cloned().collect();
            let scope = &scopes[self.chance.index(scopes.len())];
            self.guests.remove(scope);
            self.execution.forget(scope);
        }
        if self.chance.permille(weather.pause) {
            let message = if self.execution.is_paused() { Message::Resume } else { Message::Pause };
            self.say(message);
        }
        if self.chance.permille(weather.cancel) {
            self.say(Message::Cancel { at: self.now });
        }
    }

    fn say(&mut self, message: Message) {
        let seq = self.store.send(message);
        self.receive(seq);
    }

    fn perform(&mut self) {
        for action in self.execution.take_actions() {
            match action {
                Action::Stop(scope) => {
                    let guest = self.guests.remove(&scope);
                    assert!(guest.is_some() || self.weather.forget > 0, "no guest of scope `{scope}` to stop");
                }
                Action::Fetch { call, request, key, lsn, .. } => {
                    assert!(self.execution.open().contains_key(&call), "nobody waits for the request of {call}");
                    if self.errands.iter().all(|errand| errand.call != call) {
                        self.errands.push(Errand { call, request, key, lsn, answered_at: None });
                    }
                }
            }
        }
    }

    /// Performs one of the possible actions. Returns `false` if there is none.
    fn something(&mut self) -> bool {
        let mut chores: [fn(&mut Self) -> bool; 7] = [
            Self::begin,
            Self::deliver,
            Self::commit,
            Self::acknowledge,
            Self::let_out,
            Self::take_answer,
            Self::read_inbox,
        ];
        for last in (1..chores.len()).rev().filter(|_| !self.weather.orderly) {
            chores.swap(last, self.chance.index(last + 1));
        }
        chores.into_iter().any(|chore| chore(self))
    }

    fn choose(&mut self, among: usize) -> usize {
        if self.weather.orderly || among == 0 { 0 } else { self.chance.index(among) }
    }

    fn begin(&mut self) -> bool {
        let wanted = self.execution.wanted();
        if wanted.is_empty() {
            return false;
        }
        let scope = &wanted[self.choose(wanted.len())];
        assert!(!self.guests.contains_key(scope), "a second guest of scope `{scope}`");
        let from = self.execution.journal_from(scope);
        let first = from.map_or(self.store.events.len(), |from| usize::try_from(from.0).unwrap() - 1);
        let events = self.store.events.get(first..).unwrap_or_default().to_vec();
        if let Some(begin) = self.execution.begin(scope, &events) {
            let round = scope.as_str().rsplit_once('#').and_then(|(_, round)| round.parse().ok()).unwrap_or(0);
            let stay = Stay { attempt: begin.attempt, round, mended: self.mended };
            let mut guest = Guest::begin(self.program.clone(), begin, stay);
            let turn = guest.turn(None);
            self.take_turn(scope, guest, turn);
        }
        true
    }

    fn deliver(&mut self) -> bool {
        let scopes: Vec<Scope> = self.guests.keys().cloned().collect();
        let first = self.choose(scopes.len());
        for scope in scopes.iter().cycle().skip(first).take(scopes.len()) {
            let moment = self.moment();
            let delivery = self.execution.next_delivery(scope, moment).unwrap_or_else(|diverged| panic!("{diverged}"));
            let Some(delivery) = delivery else { continue };
            if matches!(delivery.outcome, Outcome::Slept) && scope.poll().is_none() {
                let is_start = |data: &EventData| matches!(data, EventData::SleepStarted { ordinal, .. } if *ordinal == delivery.ordinal);
                let started = self.store.events.iter().any(|event| event.scope == *scope && is_start(&event.data));
                assert!(started, "a sleep of `{scope}` is over before its start is durable");
            }
            let mut guest = self.guests.remove(scope).unwrap();
            let turn = guest.turn(Some(delivery));
            self.take_turn(scope, guest, turn);
            return true;
        }
        false
    }

    fn take_turn(&mut self, scope: &Scope, guest: Guest, turn: Turn) {
        for request in turn.requests {
            let target = self.execution.needs_target(scope, &request).map(|(name, _)| {
                let retry = (name == "check").then_some(CHECK_RETRY);
                Ok(Target { options: StepOptions { retry, ..StepOptions::default() }, ..Target::default() })
            });
            if let Request::Call(ordinal, _) = request {
                let call = CallName { scope: scope.clone(), ordinal };
                assert!(target.is_none() || !self.execution.open().contains_key(&call), "{call} is recorded twice");
            }
            let moment = self.moment();
            self.execution.request(scope, request, target, moment).unwrap_or_else(|diverged| panic!("{diverged}"));
        }
        self.guests.insert(scope.clone(), guest);
        if let Some(result) = turn.end {
            self.guests.remove(scope);
            let moment = self.moment();
            self.execution.ended(scope, result, moment).unwrap_or_else(|diverged| panic!("{diverged}"));
        }
    }

    fn commit(&mut self) -> bool {
        if self.in_flight.is_some() || !self.execution.has_changes() {
            return false;
        }
        self.in_flight = Some(Batch::of(&mut self.execution));
        true
    }

    fn store_batch(&mut self) -> Option<(u64, cerebelum_history::Position)> {
        let batch = self.in_flight.take()?;
        let acknowledged = (batch.changes.lsn, batch.position());
        let stored = self.store.append(batch, self.now);
        self.is_reopened = false;
        self.trail.push((self.now, self.mended, self.store.clone()));
        stored.then_some(acknowledged)
    }

    fn acknowledge(&mut self) -> bool {
        if self.in_flight.is_none() {
            return false;
        }
        match self.store_batch() {
            Some((lsn, position)) => {
                self.execution.acknowledge(lsn, position);
                self.durable = lsn;
            }
            None => self.restore(true),
        }
        true
    }

    /// Sends a request once the changes that caused it are durable.
    fn let_out(&mut self) -> bool {
        let durable = self.durable;
        let may_leave = |errand: &&mut Errand| errand.answered_at.is_none() && errand.lsn <= durable;
        let Some(errand) = self.errands.iter_mut().find(may_leave) else { return false };
        self.store.leave(&errand.call, errand.key.clone());
        errand.answered_at = Some(self.now.plus(self.store.latency(&errand.request.url)));
        true
    }

    fn take_answer(&mut self) -> bool {
        let now = self.now;
        let Some(back) = self.errands.iter().position(|e| e.answered_at.is_some_and(|at| at <= now)) else {
            return false;
        };
        let errand = self.errands.remove(back);
        let path = String::from_utf8(errand.request.body).unwrap();
        let response = HttpResponse { status: 200, headers: Vec::new(), body: format!("got {path} ").into_bytes() };
        let moment = self.moment();
        self.execution.fetched(&errand.call, Ok(response), moment);
        true
    }

    fn read_inbox(&mut self) -> bool {
        let unread = self.store.inbox.keys().copied().find(|seq| !self.received.contains(seq));
        let Some(seq) = unread else { return false };
        self.receive(seq);
        true
    }

    /// Moves the clock to the next event, and moves the world with it.
    fn pass_time(&mut self, slow: bool) {
        let answers = self.errands.iter().filter_map(|errand| errand.answered_at);
        let next = answers.chain(self.store.due()).chain(self.execution.due()).min();
        match next {
            Some(next) => self.now = self.now.max(next),
            None if slow => {}
            None => self.come_to_the_rescue(),
        }
        for seq in self.store.act(self.now) {
            // In a fixed order, a message that is sent at a moment is received before anything that is due at that
            // moment.
            if self.weather.orderly {
                self.receive(seq);
            }
        }
    }

    /// Nothing will ever happen on its own: resumes the execution, or sends the signal that it waits for.
    fn come_to_the_rescue(&mut self) {
        if self.execution.is_paused() {
            return self.say(Message::Resume);
        }
        let waits = cerebelum_history::waiting_on(self.execution.open());
        let signal = waits.iter().find(|waiting| waiting.kind == cerebelum_history::WaitKind::Signal);
        let signal = signal.unwrap_or_else(|| {
            let (wanted, open) = (self.execution.wanted(), self.execution.open());
            let (ended, events) = (self.store.ended, &self.store.events);
            panic!("stuck at {:?}: wanted {wanted:?}, open {open:#?}, ended {ended}, {events:#?}", self.now)
        });
        let (name, data) = (signal.name.clone(), json(&format!("signal {} ", signal.name)));
        self.say(Message::Signal { name, data, cause: None });
    }
}
