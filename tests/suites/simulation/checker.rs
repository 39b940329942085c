//! The checks when everything is over.

use cerebelum_history::{Event, EventData, Failure, Json, Position};
use cerebelum_store::{ApprovalState, State};
use test_memory_store::Row;
use test_programs::{broken_law_at_the_end, expected, json};

use crate::world::{World, key};

/// Checks everything that was acknowledged, recorded and done.
pub(crate) fn check(world: &World) {
    for (id, program) in &world.acknowledged().starts {
        let tables = world.memory.tables();
        let Some(row) = tables.executions.get(&key(id)) else {
            world.report.violation(format!("I1: {id} was acknowledged and is not there"));
            continue;
        };
        let end = end_of(row);
        let cancelled = is_cancelled(row);
        let fixed = world.programs[*program].is_fixed();
        if fixed && !cancelled && !world.is_unwritable(id) {
            let wanted: Vec<_> = [false, true]
                .map(|mended| expected(&world.programs[*program], "0", mended).map(|text| json(&text)))
                .into();
            let fits = end.as_ref().is_some_and(|end| wanted.contains(end));
            world.report.check(fits, || format!("{id} should have ended with one of {wanted:?}, it did with {end:?}"));
        }
    }
    let tables = world.memory.tables();
    for row in tables.executions.values() {
        check_history(world, row);
    }
    for key in &tables.early {
        world.report.violation(format!("L8: something of {} was told before its time", key.id));
    }
    drop(tables);
    check_answers(world);
    check_ledger(world);
    check_reads(world);
}

/// Whether the execution was asked to end, and has received the request.
fn is_cancelled(row: &Row) -> bool {
    row.head.state == State::Cancelled || row.head.options.contains("cancel")
}

fn events(row: &Row) -> Vec<Event> {
    row.runs.values().flatten().flat_map(|chunk| Event::decode(&chunk.events)).flatten().collect()
}

fn end_of(row: &Row) -> Option<Result<Json, Failure>> {
    match events(row).pop()?.data {
        EventData::ExecutionCompleted { output } => Some(Ok(output)),
        EventData::ExecutionFailed { failure } | EventData::ExecutionCancelled { failure } => Some(Err(failure)),
        _ => None,
    }
}

fn check_history(world: &World, row: &Row) {
    let id = &row.head.key.id;
    let report = &world.report;
    let mut next = Position(1);
    for chunk in row.runs.values().flatten() {
        let count = Event::decode(&chunk.events).map_or(0, |events| events.len() as u64);
        let fits = chunk.first == next && chunk.last.0 + 1 == chunk.first.0 + count;
        report.check(fits, || format!("I2: {id} has a gap before {}", chunk.first.0));
        next = chunk.last.next();
    }
    report.check(next == row.head.position.next(), || format!("I2: {id} ends at {next:?}, its head says otherwise"));
    let is_over = row.head.state != State::Open || world.is_unwritable(id.as_str()) && row.head.parked.is_some();
    report.check(is_over, || format!("I8: {id} is not over"));
    if let Some(broken) = broken_law_at_the_end(&events(row)) {
        report.violation(format!("I3: {id}: {broken}"));
    }
}

/// An answer that was acknowledged is the question's outcome (I5).
fn check_answers(world: &World) {
    let tables = world.memory.tables();
    let acknowledged = world.acknowledged();
    for (id, yes) in &acknowledged.answers {
        let row = tables.questions.values().find(|question| question.id == *id);
        let wanted = if *yes { ApprovalState::Approved } else { ApprovalState::Rejected };
        let state = row.map(|row| row.state);
        world.report.check(state == Some(wanted), || format!("I5: the answer to {id} was taken, and it is {state:?}"));
        // The rounds of a poll leave no events.
        let row = row.filter(|row| !row.call.scope.as_str().contains('#'));
        let Some(execution) = row.and_then(|row| tables.executions.get(&key(row.execution.as_str()))) else { continue };
        if is_cancelled(execution) || world.is_unwritable(execution.head.key.id.as_str()) {
            continue;
        }
        let events = events(execution);
        let asked = events
            .iter()
            .rposition(|e| matches!(&e.data, EventData::ApprovalRequested { id: asked, .. } if asked == id));
        let told = asked.is_some_and(|asked| {
            let ordinal = events[asked].data.ordinal();
            events[asked..].iter().any(|event| {
                let is_told = matches!(
                    event.data,
                    EventData::ApprovalReceived { .. }
                        | EventData::ApprovalRejected { .. }
                        | EventData::CallCancelled { .. }
                );
                is_told && event.scope == events[asked].scope && event.data.ordinal() == ordinal
            })
        });
        // The call that asked may have failed or been dropped before the answer was delivered.
        let gave_up = events.iter().any(|event| {
            matches!(
                event.data,
                EventData::StepRetried { .. }
                    | EventData::StepFailed { .. }
                    | EventData::ExecutionFailed { .. }
                    | EventData::CallCancelled { .. }
            )
        });
        world.report.check(told || gave_up, || format!("I1: the answer to {id} was taken and never told"));
    }
}

/// One key for an address, or one for each round of a poll.
fn check_ledger(world: &World) {
    let acknowledged = world.acknowledged();
    for (url, keys) in world.ledger.keys() {
        let address = url.strip_prefix("http://world/").and_then(|address| address.split_once('/'));
        let (id, path) = address.expect("an execution and a path");
        let program = acknowledged.starts.get(id).map(|program| &world.programs[*program]);
        // A child's request has the path of the call that started the child.
        let rounds = program.map_or(1, |program| rounds_at(program, path));
        world.report.check(keys.len() as u64 <= rounds, || {
            format!("L3: {url} was asked under {} keys, {rounds} at most", keys.len())
        });
    }
}

/// The number of poll rounds that can be around a path.
fn rounds_at(program: &test_programs::Node, path: &str) -> u64 {
    let mut rounds = 1;
    for (end, _) in path.match_indices('.') {
        if let test_programs::Node::Poll(poll) = program.at(&path[..end]) {
            rounds *= u64::from(poll.checks_max.max(poll.not_yets + 1));
        }
    }
    rounds
}

/// Readers saw only what was recorded (L7).
fn check_reads(world: &World) {
    let tables = world.memory.tables();
    for (id, seen) in &world.acknowledged().read {
        let Some(row) = tables.executions.get(&key(id)) else { continue };
        let line = |(position, event): (u64, &Event)| {
            crate::people::line(position, (event.at, &event.scope, &event.data.kind()))
        };
        let events = events(row);
        let lines: Vec<String> = (1..).zip(&events).map(line).collect();
        let same = lines.len() >= seen.len() && lines.iter().zip(seen).all(|(kept, shown)| kept == shown);
        world.report.check(same, || format!("L7: readers of {id} were shown {seen:#?}, it was {lines:#?}"));
    }
}
