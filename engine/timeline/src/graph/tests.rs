//! Histories, and the graphs that they make.

mod planned;

use super::*;
use cerebelum_history::{Cause, Failure, Json, Scope, StepCall};

/// A history that is written call by call.
#[derive(Default)]
struct Told {
    graph: Graph,
    now: u64,
    next: u32,
}

impl Told {
    fn event(&mut self, scope: &str, data: EventData) {
        self.now += 1;
        self.graph.add(&Event { at: Timestamp(self.now), scope: Scope::from_text(scope), data });
    }

    fn begin(&mut self, name: &str) -> u32 {
        self.next += 1;
        let call = StepCall { step: name.into(), input: Json::null() };
        self.event("", EventData::StepStarted { ordinal: self.next, call, component: None });
        self.next
    }

    fn sleep(&mut self) -> u32 {
        self.next += 1;
        self.event("", EventData::SleepStarted { ordinal: self.next, duration_ms: 5 });
        self.next
    }

    fn end(&mut self, ordinal: u32) {
        self.event("", EventData::StepCompleted { ordinal, output: None });
    }

    fn fail(&mut self, ordinal: u32) {
        self.event("", EventData::StepFailed { ordinal, failure: Failure::new("f", "m"), attempt: 1 });
    }

    fn run(&mut self, names: &[&str]) {
        for name in names {
            let ordinal = self.begin(name);
            self.end(ordinal);
        }
    }

    fn drawn(&self) -> Drawing {
        self.graph.clone().draw(Timestamp(self.now))
    }

    /// The boxes of each row, from left to right: `name`, or `name×calls`.
    fn rows(&self) -> Vec<String> {
        let drawn = self.drawn();
        let mut rows = vec![Vec::new(); drawn.rows];
        for PlacedBox { shown, place } in &drawn.boxes {
            let name = shown.name.as_deref().map_or("…", |name| if name.is_empty() { shown.kind } else { name });
            let calls = if shown.calls > 1 { format!("×{}", shown.calls) } else { String::new() };
            rows[place.row].push(format!("{name}{calls}"));
        }
        rows.into_iter().filter(|row| !row.is_empty()).map(|row| row.join(" ")).collect()
    }
}

/// The names of the boxes from which lines lead to the box of this name, through rows and joins.
fn above(drawn: &Drawing, name: &str) -> Vec<String> {
    let of = drawn.boxes.iter().find(|placed| placed.shown.name.as_deref() == Some(name)).unwrap().place;
    let (mut ends, mut found) = (vec![of], Vec::new());
    while let Some(end) = ends.pop() {
        let to = |join: &&Join| join.row == end.row && join.to.iter().any(|(to, _)| *to == end.middle);
        for from in drawn.joins.iter().filter(to).flat_map(|join| &join.from) {
            let place = Point { row: end.row - 1, middle: *from };
            match drawn.boxes.iter().find(|placed| placed.place == place) {
                Some(placed) => found.push(placed.shown.name.clone().unwrap()),
                None if place == drawn.start => found.push("start".to_owned()),
                None => ends.push(place),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn calls_that_are_open_together_stand_beside_each_other_and_join_below() {
    let mut told = Told::default();
    told.run(&["order"]);
    let (pay, pack) = (told.begin("pay"), told.begin("pack"));
    told.end(pack);
    let label = told.begin("label");
    told.end(label);
    told.end(pay);
    told.run(&["ship"]);
    assert_eq!(told.rows(), ["order", "pay pack", "label", "ship"]);
    let drawn = told.drawn();
    assert_eq!(above(&drawn, "order"), ["start"]);
    assert_eq!((above(&drawn, "pay"), above(&drawn, "label")), (vec!["order".into()], vec!["pack".into()]));
    assert_eq!(above(&drawn, "ship"), ["label", "pay"]);
    assert_eq!((drawn.throughs.len(), drawn.end), (1, None));
}

#[test]
fn calls_of_one_name_are_one_box_with_what_became_of_them() {
    let mut told = Told::default();
    let all: Vec<u32> = (0..1_000).map(|_| told.begin("charge")).collect();
    for (number, ordinal) in all.into_iter().enumerate() {
        if number < 3 { told.fail(ordinal) } else { told.end(ordinal) }
    }
    told.run(&["report"]);
    assert_eq!(told.rows(), ["charge×1000", "report"]);
    let charge = &told.drawn().boxes[0].shown;
    assert_eq!((charge.failed, charge.state, charge.position), (3, BoxState::Failed, 1));
    assert_eq!((charge.from, charge.until), (Timestamp(1), Timestamp(2_000)));
}

#[test]
fn repeats_are_shown_once() {
    let mut told = Told::default();
    told.run(&["begin"]);
    for _ in 0..500 {
        told.run(&["fetch"]);
        for _ in 0..3 {
            told.run(&["store"]);
        }
        let sleep = told.sleep();
        told.event("", EventData::SleepCompleted { ordinal: sleep });
    }
    told.run(&["finish"]);
    assert_eq!(told.rows(), ["begin", "fetch×500", "store×1500", "sleep×500", "finish"]);
    let drawn = told.drawn();
    assert_eq!(drawn.repeats, [Repeat { from: 2, to: 4, times: 500, track: 0 }]);
    assert_eq!((above(&drawn, "fetch"), above(&drawn, "store")), (vec!["begin".into()], vec!["fetch".into()]));
    assert_eq!(above(&drawn, "finish").len(), 1);
    assert_eq!(told.graph.hidden_calls(), 0);
}

#[test]
fn repeats_within_repeats_are_counted_together() {
    let mut told = Told::default();
    for _ in 0..10 {
        told.run(&["a", "b", "c", "b", "c", "b", "c", "b", "c", "d"]);
    }
    assert_eq!(told.rows(), ["a×10", "b×40", "c×40", "d×10"]);
    let repeats = told.drawn().repeats;
    let expected = [Repeat { from: 2, to: 3, times: 40, track: 0 }, Repeat { from: 1, to: 4, times: 10, track: 1 }];
    assert_eq!(repeats, expected);
}

#[test]
fn a_call_that_outlives_rows_goes_past_them_and_joins_when_it_ends() {
    let mut told = Told::default();
    let watch = told.begin("watch");
    for _ in 0..50 {
        told.run(&["a", "b"]);
    }
    told.run(&["c"]);
    told.end(watch);
    told.event("", EventData::ExecutionCompleted { output: Json::null() });
    assert_eq!(told.rows(), ["watch a×50", "b×50", "c"]);
    let drawn = told.drawn();
    assert_eq!((above(&drawn, "b"), drawn.throughs.len()), (vec!["a".to_owned()], 2));
    assert_eq!((drawn.end.unwrap().row, told.graph.end()), (4, Some((BoxState::Done, false))));
}

#[test]
fn an_open_box_says_whether_it_runs_or_waits() {
    let mut told = Told::default();
    let step = told.begin("pay");
    let state = |told: &Told| {
        let shown = told.drawn().boxes[0].shown.clone();
        (shown.state, shown.waits_for)
    };
    assert_eq!(state(&told), (BoxState::Running, None));
    told.event("1", EventData::SleepStarted { ordinal: 1, duration_ms: 5 });
    assert_eq!(state(&told), (BoxState::Waiting, Some("sleep")));
    told.event("1", EventData::SleepCompleted { ordinal: 1 });
    assert_eq!(state(&told), (BoxState::Running, None));
    let failure = Failure::new("f", "m");
    told.event("", EventData::StepRetried { ordinal: step, attempt: 1, failure, delay_ms: 600 });
    assert_eq!(state(&told), (BoxState::Waiting, Some("retry")));
    assert_eq!(told.graph.clone().draw(Timestamp(told.now + 600)).boxes[0].shown.state, BoxState::Running);
    told.fail(step);
    assert_eq!(state(&told), (BoxState::Failed, None));
    told.event("", EventData::ExecutionFailed { failure: Failure::new("f", "m") });
    told.event("", EventData::ExecutionReopened { ordinal: step });
    assert_eq!((state(&told).0, told.graph.end()), (BoxState::Running, None));
    told.end(step);
    assert_eq!(state(&told).0, BoxState::Done);
    let shown = told.drawn().boxes[0].shown.clone();
    assert_eq!((shown.calls, shown.retries, shown.within), (1, 1, BTreeMap::from([("sleep", 1)])));
}

#[test]
fn what_is_left_open_by_the_end_is_cancelled() {
    let mut told = Told::default();
    let (first, _) = (told.begin("a"), told.begin("b"));
    told.event("", EventData::CallCancelled { ordinal: first, cause: Cause::Dropped });
    told.event("", EventData::ExecutionCancelled { failure: Failure::new("f", "m") });
    let states: Vec<_> = told.drawn().boxes.iter().map(|placed| (placed.shown.state, placed.shown.open)).collect();
    assert_eq!(states, [(BoxState::Cancelled, 0); 2]);
}

#[test]
fn many_names_are_bounded_in_a_row_and_in_all() {
    let mut told = Told::default();
    let all: Vec<u32> = (0..100).map(|number| told.begin(&format!("s{number}"))).collect();
    all.into_iter().for_each(|ordinal| told.end(ordinal));
    for number in 0..20_000 {
        told.run(&[&format!("t{number}")]);
    }
    let drawn = told.drawn();
    let others = drawn.boxes.iter().find(|placed| placed.shown.name.is_none()).unwrap();
    assert_eq!((others.place.row, others.shown.calls), (1, 88));
    assert_eq!((drawn.boxes.len(), told.graph.hidden_calls()), (BOXES_MAX, 20_000 - (200 - 13)));
    assert!(drawn.joins.len() <= 2 * BOXES_MAX);
}
