//! The people outside: they start executions, answer their questions, send them signals, and read their histories.

use std::sync::Arc;

use cerebelum_history::{Position, Scope, Status, Timestamp};
use cerebelum_worker::{
    ApiError, ApprovalView, ApprovalsRequest, Decision, ExecutionStatus, Operation, StartRequest, TenantEngine,
};
use futures::FutureExt;
use futures::future::join;
use test_programs::{expected, json};

use crate::world::World;

/// Starts an execution of this program, however often it takes.
pub(crate) async fn start(world: Arc<World>, id: String, program: usize, after_ms: u64) {
    world.clockwork.sleep_ms(after_ms).await;
    loop {
        let (one, other) = (begin(&world, &id, program), begin(&world, &id, program));
        // The same request from two clients at once is one execution.
        let said = if world.clockwork.permille(200) { join(one, other).await } else { (one.await, None) };
        for answer in [said.0, said.1].into_iter().flatten() {
            match answer {
                Ok(()) => drop(world.acknowledged().starts.insert(id.clone(), program)),
                Err(ApiError::Unavailable(_)) => {}
                Err(refused) => return world.report.violation(format!("the start of {id} is refused: {refused}")),
            }
        }
        if world.acknowledged().starts.contains_key(&id) {
            return;
        }
        world.clockwork.sleep_ms(100).await;
    }
}

async fn begin(world: &World, id: &str, program: usize) -> Option<Result<(), ApiError>> {
    let request = StartRequest {
        workflow: format!("p{program}/w"),
        input: json("").to_string(),
        id: Some(id.to_owned()),
        attributes: Vec::new(),
        delay_ms: 0,
        deadline_ms: None,
    };
    world.ask(|engine| async move { engine.start(request).await.map(drop) }.boxed()).await
}

/// Answers questions, sends awaited signals, and resumes stopped executions, for ever.
pub(crate) async fn attend(world: Arc<World>) {
    loop {
        world.clockwork.sleep_ms(5 + world.clockwork.below(100)).await;
        let asked = |engine: TenantEngine| async move { engine.approvals(ApprovalsRequest::default()).await }.boxed();
        if let Some(Ok((questions, _))) = world.ask(asked).await {
            for question in questions {
                if world.clockwork.permille(400) {
                    join(answer(&world, &question), twice(&world, &question)).await;
                }
            }
        }
        for id in world.ids() {
            if !world.clockwork.permille(300) {
                continue;
            }
            let asked = id.clone();
            let status = world.ask(|engine| async move { engine.status(&asked).await }.boxed()).await;
            if let Some(Ok(status)) = status {
                look_after(&world, &id, &status).await;
            }
        }
    }
}

async fn twice(world: &World, question: &ApprovalView) {
    if world.clockwork.permille(200) {
        answer(world, question).await;
    }
}

async fn answer(world: &World, question: &ApprovalView) {
    let yes = question.kind == "yes";
    let decision = match yes {
        true => Decision::Approve { data: json(&format!("yes {} ", question.title)).to_string(), comment: None },
        false => Decision::Reject { reason: format!("no {}", question.title) },
    };
    let id = question.id.clone();
    let said = world.ask(move |engine| async move { engine.decide(&id, "ann", decision).await }.boxed()).await;
    match said {
        Some(Ok(_)) => drop(world.acknowledged().answers.insert(question.id.clone(), yes)),
        Some(Err(ApiError::Conflict(_) | ApiError::Unavailable(_))) | None => {}
        Some(Err(refused)) => world.report.violation(format!("the answer to {} is refused: {refused}", question.id)),
    }
}

async fn look_after(world: &World, id: &str, status: &ExecutionStatus) {
    match status.summary.status {
        Status::Parked if world.is_unwritable(id) => {}
        // It happened to run alone when the engine died: a person looks at it, and resumes it.
        Status::Parked if status.failure.as_ref().is_some_and(|failure| failure.kind == "engine-crash") => {
            resume(world, id).await;
        }
        Status::Parked => world.report.violation(format!("{id} is parked: {:?}", status.failure)),
        Status::Paused if world.clockwork.permille(200) => {
            forget_pause(world, id);
            resume(world, id).await;
            // It may have been resumed at any moment up to here, even after a pause that was requested meanwhile.
            forget_pause(world, id);
        }
        Status::Failed if is_mendable(world, id) => {
            world.library.mended.lock().expect("nobody panics here").insert(id.to_owned());
            world.acknowledged().mended.insert(id.to_owned());
            resume(world, id).await;
        }
        _ => {}
    }
    for waiting in status.waiting_on.iter().filter(|waiting| waiting.kind == "signal") {
        let (asked, name) = (id.to_owned(), waiting.name.clone());
        let data = json(&format!("signal {name} ")).to_string();
        let sent = world.ask(move |engine| async move { engine.signal(&asked, &name, &data).await }.boxed()).await;
        if matches!(sent, Some(Ok(()))) {
            *world.acknowledged().signals.entry((id.to_owned(), waiting.name.clone())).or_default() += 1;
        }
    }
}

fn forget_pause(world: &World, id: &str) {
    let mut acknowledged = world.acknowledged();
    acknowledged.pauses.remove(id);
    acknowledged.resumed_ms.insert(id.to_owned(), world.clockwork.now_ms());
}

/// Whether the execution has failed, and would succeed once its broken step is repaired.
pub(crate) fn is_mendable(world: &World, id: &str) -> bool {
    let acknowledged = world.acknowledged();
    let Some(program) = acknowledged.starts.get(id) else { return false };
    let program = &world.programs[*program];
    let is_hopeless = acknowledged.hopeless.contains(id) || acknowledged.cancels.contains(id);
    program.is_fixed() && expected(program, "0", true).is_ok() && !is_hopeless
}

async fn resume(world: &World, id: &str) {
    let asked = id.to_owned();
    let forced = Operation::Resume { force: true };
    let said = world.ask(move |engine| async move { engine.operate(&asked, &forced).await }.boxed()).await;
    if let Some(Err(ApiError::Conflict(why))) = said
        && why.contains("failed in its own code")
    {
        world.acknowledged().hopeless.insert(id.to_owned());
    }
}

/// Pauses executions, and cancels some, until this time.
pub(crate) async fn interfere(world: Arc<World>, until_ms: u64) {
    while world.clockwork.now_ms() < until_ms {
        world.clockwork.sleep_ms(world.clockwork.below(600)).await;
        let ids: Vec<String> = world.acknowledged().starts.keys().cloned().collect();
        let Some(id) = pick(&world, &ids) else { continue };
        let asked = id.clone();
        if world.clockwork.permille(700) {
            let asked_ms = world.clockwork.now_ms();
            let said =
                world.ask(move |engine| async move { engine.operate(&asked, &Operation::Pause).await }.boxed()).await;
            if matches!(said, Some(Ok(()))) {
                let now = world.clockwork.now_ms();
                let mut acknowledged = world.acknowledged();
                // The answer may come after the execution was resumed.
                if acknowledged.resumed_ms.get(&id).is_none_or(|resumed| *resumed < asked_ms) {
                    acknowledged.pauses.insert(id, now);
                }
            }
        } else if world.clockwork.permille(100) {
            // Recorded before the answer comes: the cancel may take effect although the answer is lost.
            world.acknowledged().cancels.insert(id);
            world.ask(move |engine| async move { engine.operate(&asked, &Operation::Cancel).await }.boxed()).await;
        }
    }
}

/// Reads histories over and over: an event that was shown once stays.
pub(crate) async fn read(world: Arc<World>) {
    loop {
        world.clockwork.sleep_ms(100 + world.clockwork.below(900)).await;
        let Some(id) = pick(&world, &world.ids()) else { continue };
        let asked = id.clone();
        let history = world.ask(|engine| async move { engine.history(&asked, None, Position(0)).await }.boxed());
        let Some(Ok(events)) = history.await else { continue };
        let seen: Vec<String> = events.iter().map(|e| line(e.position.0, (e.time, &e.scope, &e.kind))).collect();
        let before = world.acknowledged().read.insert(id.clone(), seen.clone()).unwrap_or_default();
        let is_kept = before.iter().zip(&seen).all(|(before, now)| before == now);
        // A slow answer may be older than the one before, but must not contradict it.
        world.report.check(is_kept, || format!("L7: the history of {id} showed {before:?}, then {seen:?}"));
    }
}

/// An event in the form in which readings are compared.
pub(crate) fn line(position: u64, (at, scope, kind): (Timestamp, &Scope, &str)) -> String {
    format!("{position} {} {scope} {kind}", at.0)
}

fn pick(world: &World, ids: &[String]) -> Option<String> {
    if ids.is_empty() {
        return None;
    }
    ids.get(usize::try_from(world.clockwork.below(ids.len() as u64)).expect("a small number")).cloned()
}
