//! Plans, and what of them is drawn at each point of a run.

use serde_json::{Value, json};

use super::*;

fn plan(value: &Value) -> Option<Plan> {
    Plan::of(Some(&Json::of(&json!({"type": "object", "x-cerebelum-plan": value}))))
}

fn told(steps: &Value, rules: &Value) -> Told {
    let plan = plan(&json!({"steps": steps, "rules": rules})).unwrap();
    Told { graph: Graph::of(plan), ..Told::default() }
}

impl Told {
    /// The boxes of each row: what is planned is in brackets, `(name)`, `(name if true)`.
    fn planned(&self) -> String {
        let drawn = self.drawn();
        let mut rows = vec![Vec::new(); drawn.rows];
        for PlacedBox { shown, place } in &drawn.boxes {
            let name = shown.name.clone().unwrap_or_else(|| format!("…{}", shown.calls));
            rows[place.row].push(match shown.state {
                BoxState::Planned => format!("({name})"),
                BoxState::PlannedIf(_) => format!("({name} {})", shown.state.word()),
                _ if name.is_empty() => shown.kind.to_owned(),
                _ => name,
            });
        }
        let rows: Vec<String> = rows.iter().filter(|row| !row.is_empty()).map(|row| row.join(" ")).collect();
        rows.join(", ")
    }
}

#[test]
fn what_is_left_of_a_plan_stands_below_what_happened() {
    let mut told = told(&json!(["a", [["b"], ["c", "d"]], "e"]), &json!({}));
    assert_eq!(told.planned(), "(a), (b) (c), (d), (e)");
    let drawn = told.drawn();
    assert_eq!((above(&drawn, "a"), above(&drawn, "c")), (vec!["start".into()], vec!["a".into()]));
    assert_eq!((above(&drawn, "e"), drawn.planned_from), (vec!["b".into(), "d".into()], Some(1)));
    assert_eq!((drawn.end.unwrap().row, told.graph.end()), (5, None));
    told.run(&["a"]);
    assert_eq!(told.planned(), "a, (b) (c), (d), (e)");
    let (b, c) = (told.begin("b"), told.begin("c"));
    assert_eq!(told.planned(), "a, b c, (d), (e)");
    let drawn = told.drawn();
    assert_eq!((above(&drawn, "d"), above(&drawn, "e")), (vec!["c".into()], vec!["b".into(), "d".into()]));
    assert_eq!(drawn.planned_from, Some(3));
    told.end(c);
    let d = told.begin("d");
    told.end(d);
    assert_eq!((told.planned().as_str(), above(&told.drawn(), "e")), ("a, b c, d, (e)", vec!["b".into(), "d".into()]));
    told.end(b);
    let e = told.begin("e");
    assert_eq!(told.planned(), "a, b c, d, e");
    assert!(told.drawn().end.is_some(), "the end is planned");
    told.end(e);
    told.event("", EventData::ExecutionCompleted { output: Json::null() });
    assert_eq!((told.planned().as_str(), told.drawn().planned_from), ("a, b c, d, e", None));
}

#[test]
fn nothing_is_planned_after_the_end_nor_after_a_cancel() {
    let mut failed = told(&json!(["a", "b", "c"]), &json!({}));
    let a = failed.begin("a");
    assert_eq!(failed.planned(), "a, (b), (c)");
    failed.fail(a);
    // No rule is about that, so it will fail.
    assert_eq!(failed.planned(), "a");
    failed.event("", EventData::ExecutionFailed { failure: Failure::new("f", "m") });
    assert_eq!((failed.planned().as_str(), failed.drawn().planned_from), ("a", None));
    failed.event("", EventData::ExecutionReopened { ordinal: a });
    assert_eq!(failed.planned(), "a, (b), (c)");
    failed.event("", EventData::CancelRequested { until: None });
    assert_eq!((failed.planned().as_str(), failed.drawn().end), ("a", None));
}

#[test]
fn going_back_plans_anew_and_a_jump_ahead_leaves_out_what_is_between() {
    let rules = json!({"c": [{"when": {"is": "again"}, "then": {"back-to": "a"}},
        {"when": {"is": "good"}, "then": {"skip-to": "e"}}]});
    let mut told = told(&json!(["a", "b", "c", "d", "e", "f"]), &rules);
    told.run(&["a", "b", "c"]);
    assert_eq!(told.planned(), "a, b, c, (d), (e), (f)");
    told.run(&["a"]);
    assert_eq!(told.planned(), "a, b, c, a, (b), (c), (d), (e), (f)");
    told.run(&["b", "c", "e"]);
    assert_eq!(told.planned(), "a, b, c, e, (f)");
}

#[test]
fn both_sides_of_a_branch_are_planned_until_one_is_taken() {
    let rules = json!({"s": [{"when": true, "then": ["yes", "more"]}, {"when": false, "then": ["no"]}]});
    let timeline = json!(["s", "yes", "more", "no", "last"]);
    let mut side = told(&timeline, &rules);
    let both = "(yes if true) (no if false), (more if true), (last)";
    assert_eq!(side.planned(), format!("(s), {both}"));
    assert_eq!(above(&side.drawn(), "last"), ["more", "no"]);
    assert_eq!(side.drawn().rules.len(), 1);
    let s = side.begin("s");
    assert_eq!(side.planned(), format!("s, {both}"));
    side.end(s);
    side.run(&["yes"]);
    assert_eq!((side.planned().as_str(), side.drawn().rules.len()), ("s, yes, (more), (last)", 0));
    side.run(&["more"]);
    assert_eq!(side.planned(), "s, yes, more, (last)");
    // Without a side for one case, the line goes on past the other side.
    let rules = json!({"s": [{"when": true, "then": ["yes"]}]});
    let past = told(&json!(["s", "last"]), &rules);
    assert_eq!(
        (past.planned().as_str(), above(&past.drawn(), "last")),
        ("(s), (yes if true), (last)", vec!["s".into(), "yes".into()])
    );
}

#[test]
fn the_steps_to_which_a_rule_leads_are_planned_once_it_has_led_there() {
    let rules = json!({"pay": [{"when": "failed", "then": ["remind", "wait"]}, {"when": "returned", "then": "end"}]});
    let mut told = told(&json!(["pay", "wait", "ship"]), &rules);
    assert_eq!(told.planned(), "(pay), (wait), (ship)");
    let pay = told.begin("pay");
    told.fail(pay);
    told.run(&["remind"]);
    // What a rule runs does not run again at its place.
    assert_eq!(told.planned(), "pay, remind, (wait), (ship)");
    told.run(&["wait"]);
    assert_eq!(told.planned(), "pay, remind, wait, (ship)");
    assert_eq!(above(&told.drawn(), "ship"), ["wait"]);
}

#[test]
fn what_a_rule_ran_ahead_of_its_place_is_not_planned_again_until_the_run_goes_back() {
    let rules =
        json!({"a": [{"when": "returned", "then": ["d"]}], "c": [{"when": {"is": 1}, "then": {"back-to": "a"}}]});
    let mut told = told(&json!(["a", "b", "c", "d", "e"]), &rules);
    told.run(&["a"]);
    assert_eq!(told.planned(), "a, (b), (c), (d), (e)");
    told.run(&["d"]);
    assert_eq!(told.planned(), "a, d, (b), (c), (e)");
    told.run(&["b", "c"]);
    assert_eq!(told.planned(), "a, d, b, c, (e)");
    told.run(&["a"]);
    assert_eq!(told.planned(), "a, d, b, c, a, (b), (c), (d), (e)");
}

#[test]
fn of_rules_that_begin_alike_none_is_drawn_until_the_calls_tell_which() {
    let rules = json!({"s": [{"when": {"is": "p"}, "then": ["tell", "desk"]}, {"when": "returned", "then": ["tell", "home"]},
        {"when": "failed", "then": ["tell", "stop"]}]});
    let of = || told(&json!(["s", "last"]), &rules);
    let mut returned = of();
    let s = returned.begin("s");
    returned.begin("tell");
    // As long as the step runs, no rule counts.
    assert_eq!(returned.planned(), "s tell, (last)");
    returned.end(s);
    assert_eq!(returned.planned(), "s tell, (last)");
    returned.begin("home");
    assert_eq!(returned.planned(), "s tell, home, (last)");
    let mut failed = of();
    let s = failed.begin("s");
    failed.fail(s);
    failed.run(&["tell", "stop"]);
    assert_eq!(failed.planned(), "s, tell, stop, (last)");
}

#[test]
fn after_what_its_outcome_led_to_a_step_has_its_branch() {
    let rules = json!({"s": [{"when": "ended", "then": ["log"]}, {"when": true, "then": ["yes", "more"]}]});
    let mut told = told(&json!(["s", "last"]), &rules);
    told.run(&["s", "log", "yes"]);
    assert_eq!(told.planned(), "s, log, yes, (more), (last)");
}

#[test]
fn behind_a_branch_that_has_failed_nothing_is_planned() {
    let mut told = told(&json!([[["x", "y"], ["wait", "tell"]], "report"]), &json!({}));
    let (x, _) = (told.begin("x"), told.begin("wait"));
    assert_eq!(told.planned(), "x wait, (y) (tell), (report)");
    told.fail(x);
    assert_eq!(told.planned(), "x wait, (tell)");
    // The same where a rule led there.
    let rules = json!({"x": [{"when": "failed", "then": ["undo"]}], "undo": [{"when": "failed", "then": "fail"}]});
    let mut told = self::told(&json!([[["x", "y"], ["wait", "tell"]], "report"]), &rules);
    let (x, _) = (told.begin("x"), told.begin("wait"));
    told.fail(x);
    let undo = told.begin("undo");
    assert_eq!(told.planned(), "x wait, undo, (y) (tell), (report)");
    told.fail(undo);
    assert_eq!(told.planned(), "x wait, undo, (tell)");
}

#[test]
fn a_rule_in_a_group_belongs_to_its_branch() {
    let rules =
        json!({"pay": [{"when": "failed", "then": ["remind", "wait"]}], "pack": [{"when": true, "then": ["tie"]}]});
    let mut told = told(&json!(["a", [["pay"], ["pack", "label"], ["tie"]], "ship"]), &rules);
    assert_eq!(told.planned(), "(a), (pay) (pack), (tie if true), (label), (ship)");
    told.run(&["a"]);
    let (pay, pack) = (told.begin("pay"), told.begin("pack"));
    told.fail(pay);
    let remind = told.begin("remind");
    assert_eq!(told.planned(), "a, pay pack, remind, (wait) (tie if true), (label), (ship)");
    let drawn = told.drawn();
    assert_eq!((above(&drawn, "wait"), above(&drawn, "tie")), (vec!["remind".into()], vec!["pack".into()]));
    told.end(pack);
    told.end(remind);
    let label = told.begin("label");
    assert_eq!(told.planned(), "a, pay pack, remind, label, (wait), (ship)");
    told.end(label);
    told.run(&["wait"]);
    assert_eq!(
        (told.planned().as_str(), above(&told.drawn(), "ship").len()),
        ("a, pay pack, remind, label, wait, (ship)", 2)
    );
}

#[test]
fn a_wait_before_a_repetition_leads_to_what_is_planned() {
    let rules = json!({"pay": [{"when": "failed", "then": {"retry": 3}}]});
    let mut told = told(&json!(["pay", "ship"]), &rules);
    let pay = told.begin("pay");
    assert_eq!(
        told.drawn().rules,
        [("pay".to_owned(), vec![RuleOutcome { when: When::Failed, then: Then::Retry(3) }])]
    );
    told.fail(pay);
    told.sleep();
    assert_eq!((told.planned().as_str(), above(&told.drawn(), "ship")), ("pay, sleep, (ship)", vec![String::new()]));
}

#[test]
fn rules_that_lead_to_each_other_are_drawn_once() {
    let to = |step: &str| json!([{"when": true, "then": [step]}, {"when": false, "then": [step, step]}]);
    let told = told(&json!(["a", "z"]), &json!({"a": to("b"), "b": to("c"), "c": to("b")}));
    assert_eq!((told.drawn().boxes.len(), told.drawn().rules.len()), (1 + 3 + 3 + 3 + 1, 3), "{}", told.planned());
}

#[test]
fn a_wide_and_a_long_plan_are_bounded() {
    let names = |count: u32| (0..count).map(|number| format!("s{number}")).collect::<Vec<_>>();
    let wide: Vec<_> = names(100).into_iter().map(|name| vec![name]).collect();
    let wide = told(&json!([wide, "last"]), &json!({}));
    let others = wide.drawn().boxes.into_iter().find(|placed| placed.shown.name.is_none()).unwrap();
    assert_eq!((others.place.row, others.shown.calls, wide.drawn().boxes.len()), (1, 88, 14));
    assert_eq!(wide.drawn().joins.iter().map(|join| join.from.len()).max(), Some(13));
    let long = told(&json!(names(400)), &json!({})).drawn();
    assert_eq!((long.boxes.len(), long.hidden_steps), (BOXES_MAX, 200));
}

#[test]
fn what_cannot_be_read_as_a_plan_is_none() {
    let nested = |depth: usize| (0..depth).fold(json!(["a"]), |inner, _| json!([[inner]]));
    let with_rule = |way: Value| json!({"steps": ["a"], "rules": {"a": [way]}});
    for (good, value) in [
        (true, json!({"steps": ["a"]})),
        (true, json!({"steps": vec!["a"; 500]})),
        (true, json!({"steps": ["a"], "rules": {}, "more": "later"})),
        (true, json!({"steps": nested(16)})),
        (true, with_rule(json!({"when": {"is": 7}, "then": {"skip-to": "b"}}))),
        (true, with_rule(json!({"when": "ended", "then": "fail"}))),
        (false, json!(null)),
        (false, json!(["a"])),
        (false, json!({"steps": []})),
        (false, json!({"steps": [7]})),
        (false, json!({"steps": [""]})),
        (false, json!({"steps": ["n".repeat(257)]})),
        (false, json!({"steps": ["a", []]})),
        (false, json!({"steps": ["a", [[]]]})),
        (false, json!({"steps": vec!["a"; 501]})),
        (false, json!({"steps": nested(17)})),
        (false, json!({"steps": ["a"], "rules": []})),
        (false, json!({"steps": ["a"], "rules": {"a": "end"}})),
        (false, with_rule(json!({"when": "sometimes", "then": "end"}))),
        (false, with_rule(json!({"when": "failed"}))),
        (false, with_rule(json!({"when": "failed", "then": {"retry": -1}}))),
        (false, with_rule(json!({"when": "failed", "then": {"retry": 1, "skip-to": "b"}}))),
        (false, with_rule(json!({"when": "failed", "then": []}))),
    ] {
        assert_eq!(plan(&value).is_some(), good, "{value}");
    }
    assert_eq!((Plan::of(None), Plan::of(Some(&Json::of(&true)))), (None, None));
    let twice = r#"{"x-cerebelum-plan": {"steps": ["a"]}, "x-cerebelum-plan": {"steps": ["b"]}}"#;
    assert_eq!(Plan::of(Some(&Json::parse(twice).unwrap())), None);
}

/// A guest makes the plan: each rule led to twenty lines that begin with the next step.
#[test]
fn rules_that_have_been_followed_are_drawn_once() {
    let rule = |number: usize| {
        let then = json!([vec![[format!("s{}", number + 1)]; 20]]);
        (format!("s{number}"), json!([{"when": "ended", "then": then}]))
    };
    let rules: serde_json::Map<String, Value> = (0..22).map(rule).collect();
    let mut told = told(&json!(["s0"]), &Value::Object(rules));
    for number in 0..22 {
        told.run(&[&format!("s{number}")]);
    }
    assert_eq!(told.drawn().boxes.len(), 22);
}

/// A guest makes the plan, and a stack that overflows ends the engine: a test's stack is as large as that of a thread there.
/// Each step leads to the next one, which stands in no group or as deep in groups as it may.
#[test]
fn the_deepest_plans_fit_the_stack_before_and_after_they_have_run() {
    for depth in [0, 15] {
        let steps = crate::PLAN_ENTRIES_MAX / (depth + 2);
        let then = |number: usize| (0..depth).fold(json!([format!("s{number}")]), |inner, _| json!([[inner]]));
        let rule = |number| (format!("s{number}"), json!([{"when": true, "then": then(number + 1)}]));
        let rules: serde_json::Map<String, Value> = (1..steps).map(rule).collect();
        let mut told = told(&json!(["s1"]), &Value::Object(rules));
        let drawn = told.drawn();
        assert_eq!(drawn.boxes.len() + usize::try_from(drawn.hidden_steps).unwrap(), steps);
        (1..steps).for_each(|number| told.run(&[&format!("s{number}")]));
        assert_eq!(told.drawn().rules.len(), 0, "nothing is left but the last step");
    }
}

/// What was planned at its place stays planned as long as the rule has not called it.
#[test]
fn a_name_may_stand_in_a_plan_as_often_as_there_can_be_entries() {
    let rules = json!({"s": [{"when": "returned", "then": vec!["x"; 333]}]});
    let mut told = told(&json!([vec!["s"], vec!["x"; 165]].concat()), &rules);
    told.run(&["s"]);
    assert_eq!(told.drawn().boxes.len(), 166);
}
