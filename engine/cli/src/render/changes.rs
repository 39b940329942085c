//! The changes between two statuses of an execution, one line for each.

use cerebelum_history::Status;
use cerebelum_server::json::{compact, rfc3339};
use cerebelum_server::proto;
use cerebelum_server::wording::{Now, failure_line, moment_ms, plain, roughly};
use prost_types::Timestamp;

/// The changes from `before` (none the first time) to `after`, in the order in which they happened as far as it is
/// known.
pub(crate) fn changes(
    before: Option<&proto::ExecutionStatus>,
    after: &proto::ExecutionStatus,
    now: Now,
) -> Vec<String> {
    let nothing = proto::ExecutionStatus::default();
    let before = before.unwrap_or(&nothing);
    let mut found: Vec<(Timestamp, String)> = Vec::new();
    steps(before, after, &mut found);
    waits(before, after, &mut found);
    // An execution that has ended did so at its own time, however late its status is read.
    let ended = after.summary.as_ref().and_then(|summary| summary.ended_at);
    let seen = ended.unwrap_or_else(|| now.timestamp());
    for progress in after.progress.iter().filter(|progress| !before.progress.contains(progress)) {
        found.push((seen, format!("progress of {} {}% {}", progress.name, progress.percent, progress.message)));
    }
    found.sort_by_key(|(at, _)| moment_ms(at));
    found.extend(status(before, after).map(|text| (seen, text)));
    found.into_iter().map(|(at, text)| format!("{}  {}", rfc3339(&at), plain(text.trim_end()))).collect()
}

fn steps(before: &proto::ExecutionStatus, after: &proto::ExecutionStatus, found: &mut Vec<(Timestamp, String)>) {
    for step in &after.steps {
        let known = before.steps.iter().find(|known| known.scope == step.scope);
        let started = step.started_at.unwrap_or_default();
        if known.is_none() {
            found.push((started, format!("step {} started", step.name)));
        }
        if step.attempt > known.map_or(1, |known| known.attempt) {
            let why = step.failure.as_ref().map(|failure| format!(" after {}", failure_line(failure)));
            let ended = step.ended_at.unwrap_or(started);
            found.push((ended, format!("step {} attempt {}{}", step.name, step.attempt, why.unwrap_or_default())));
        }
        if let Some(ended) = step.ended_at.filter(|_| known.is_none_or(|known| known.ended_at.is_none())) {
            let took = roughly(moment_ms(&ended).saturating_sub(moment_ms(&started)));
            let why = step.failure.as_ref().filter(|_| step.status != Status::Completed.word()).map(failure_line);
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            found.push((ended, format!("step {} {} in {took}{why}", step.name, step.status)));
        }
    }
}

fn waits(before: &proto::ExecutionStatus, after: &proto::ExecutionStatus, found: &mut Vec<(Timestamp, String)>) {
    let same = |a: &proto::WaitingOn, b: &proto::WaitingOn| {
        (&a.kind, &a.name, &a.scope, &a.since) == (&b.kind, &b.name, &b.scope, &b.since)
    };
    // A wait for a step is not shown: the start of the step already is.
    for wait in after.waiting_on.iter().filter(|wait| wait.kind != "step") {
        if before.waiting_on.iter().any(|known| same(known, wait)) {
            continue;
        }
        let until = wait.until.as_ref().map(|until| format!(" until {}", rfc3339(until))).unwrap_or_default();
        let name = if wait.name.is_empty() { String::new() } else { format!(" {}", wait.name) };
        found.push((wait.since.unwrap_or_default(), format!("waiting on {}{name}{until}", wait.kind)));
    }
}

fn status(before: &proto::ExecutionStatus, after: &proto::ExecutionStatus) -> Option<String> {
    let word = |status: &proto::ExecutionStatus| status.summary.as_ref().map(|summary| summary.status.clone());
    word(after).filter(|now| word(before).as_ref() != Some(now)).map(|word| match (&after.failure, &after.output) {
        (Some(failure), _) => format!("{word}: {}", failure_line(failure)),
        (None, Some(output)) => format!("{word} with {}", compact(output)),
        (None, None) => word,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::testing::{START_MS, deployment};

    #[test]
    fn the_first_look_tells_everything_so_far_and_the_next_only_what_is_new() {
        let mut status = deployment();
        let first = changes(None, &status, Now(START_MS + 10_000));
        let expected = [
            "2023-11-14T22:13:20.500Z  step create started",
            "2023-11-14T22:13:22.000Z  step create completed in 1.5s",
            "2023-11-14T22:13:24.000Z  step configure started",
            "2023-11-14T22:13:25.000Z  step connect started",
            "2023-11-14T22:13:25.800Z  step connect attempt 2 after failure: no route",
            "2023-11-14T22:13:25.800Z  step connect failed in 800ms: failure: no route",
            "2023-11-14T22:13:25.800Z  waiting on retry connect until 2023-11-14T22:13:33.000Z",
            "2023-11-14T22:13:29.000Z  waiting on poll wait_for_ip",
            "2023-11-14T22:13:29.500Z  waiting on approval Go\\u{1b}[31m live?",
            "2023-11-14T22:13:30.000Z  progress of configure 43% copying\\nfiles",
            "2023-11-14T22:13:30.000Z  running",
        ];
        assert_eq!(first, expected);
        assert!(changes(Some(&status), &status, Now(START_MS + 10_100)).is_empty());
        let before = status.clone();
        status.summary.as_mut().unwrap().status = "completed".into();
        status.output = Some("{ \"ok\": 1 }".into());
        status.summary.as_mut().unwrap().ended_at = Some(Now(START_MS + 10_900).timestamp());
        // Read three minutes later, the end still has its own time.
        for later_ms in [11_000, 190_000] {
            let last = changes(Some(&before), &status, Now(START_MS + later_ms));
            assert_eq!(last, ["2023-11-14T22:13:30.900Z  completed with {\"ok\":1}"]);
            let all = changes(None, &status, Now(START_MS + later_ms));
            assert!(all.iter().all(|line| line.as_str() < "2023-11-14T22:13:31"), "{all:#?}");
        }
    }
}
