//! A small join, with its outcomes in every possible order, delivered one by one or all at once, and replayed from
//! every cut.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod scene;

use cerebelum_history::{Approval, ApprovalEdge, Call, ChildResult, HttpResponse, Message};
use scene::{Scene, approval, child, fetch, json, name, signal, step};

/// The calls of the join. Each can be answered at any time.
fn calls() -> [Call; 5] {
    [fetch("http://a/"), approval("?", None), signal("go", None), Call::RunWorkflow(child("w")), step("s")]
}

/// Answers the call with this ordinal.
fn answer(scene: &mut Scene, ordinal: usize, question: &str) {
    let call = name(&ordinal.to_string());
    match ordinal {
        1 => {
            let response = HttpResponse { status: 200, headers: Vec::new(), body: Vec::new() };
            scene.ex.fetched(&call, Ok(response), scene.moment());
        }
        2 => {
            let approval = Approval { data: json("2"), by: "ann".to_owned(), comment: None };
            scene.say(Message::Approved { call, id: question.to_owned(), approval, cause: None });
        }
        3 => drop(scene.signal("go", "3")),
        4 => {
            let result = ChildResult::Completed(json("4"));
            let Some(cerebelum_history::CallPhase::Child { id, .. }) =
                scene.ex.open().get(&call).map(|open| open.phase.clone())
            else {
                return;
            };
            scene.say(Message::Child { run: 1, call, id, result, cause: None });
        }
        _ => {
            if scene.ex.wanted().contains(&call.step_scope()) {
                scene.begin("5");
            }
            scene.ends("5", Ok("5"));
        }
    }
}

const HEARD: [&str; 5] = ["1 responded 200", "2 approved 2 by ann", "3 value 3", "4 value 4", "5 value 5"];

fn orders(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for first in of {
        let rest: Vec<usize> = of.iter().copied().filter(|other| other != first).collect();
        all.extend(orders(&rest).into_iter().map(|order| [vec![*first], order].concat()));
    }
    all
}

fn join(scene: &mut Scene) {
    for call in calls() {
        scene.call("", call);
    }
}

/// Plays the join with this order of answers. The guest is told each answer at once or all of them at the end, and the
/// engine dies after `cut` answers. Returns everything that the guest was told.
fn play(order: &[usize], one_by_one: bool, cut: usize) -> Vec<String> {
    let mut scene = Scene::new();
    join(&mut scene);
    let changes = scene.save();
    let Some(ApprovalEdge::Opened { id, .. }) = changes.approvals.first() else { panic!("asked") };
    let mut heard = Vec::new();
    for (answered, ordinal) in order.iter().enumerate() {
        if answered == cut {
            // A signal that was not delivered stays in the inbox. Everything else is in the history.
            let lost = order[..cut].contains(&3) && !one_by_one;
            scene.save();
            scene.reload(false);
            scene.begin("");
            join(&mut scene);
            heard.clear();
            if lost {
                scene.signal("go", "3");
            }
        }
        answer(&mut scene, *ordinal, id);
        scene.save();
        if one_by_one {
            heard.extend(scene.hears(""));
        }
    }
    heard.extend(scene.hears(""));
    // Replays the whole history once more.
    scene.save();
    scene.reload(false);
    scene.begin("");
    join(&mut scene);
    assert_eq!(scene.hears(""), heard, "{order:?} cut at {cut}");
    heard
}

#[test]
fn a_join_is_told_in_the_order_in_which_things_happened_and_again_in_that_order() {
    for order in orders(&[1, 2, 3, 4, 5]) {
        for cut in 0..=order.len() {
            let expected: Vec<&str> = order.iter().map(|ordinal| HEARD[ordinal - 1]).collect();
            assert_eq!(play(&order, true, cut), expected, "{order:?} cut at {cut}");
        }
    }
}

#[test]
fn what_comes_while_the_guest_is_busy_is_told_in_order_and_signals_after_that() {
    for order in orders(&[1, 2, 3, 4, 5]) {
        for cut in 0..=order.len() {
            let others = order.iter().filter(|ordinal| **ordinal != 3);
            let expected: Vec<&str> = others.chain(&[3]).map(|ordinal| HEARD[ordinal - 1]).collect();
            assert_eq!(play(&order, false, cut), expected, "{order:?} cut at {cut}");
        }
    }
}
