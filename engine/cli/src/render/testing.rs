//! An execution for the tests of this folder, with steps in every state.

use cerebelum_server::proto;
use cerebelum_server::wording::Now;

use super::line::Line;

/// When it was started.
pub(super) const START_MS: u64 = 1_700_000_000_000;

/// Lines as text without colours.
pub(super) fn shown(lines: &[Line]) -> Vec<String> {
    lines.iter().map(|line| line.render(None, false)).collect()
}

fn at(ms: u64) -> Option<prost_types::Timestamp> {
    Some(Now(START_MS + ms).timestamp())
}

fn step(name: &str, scope: &str, status: &str, from_to: (u64, Option<u64>)) -> proto::Step {
    proto::Step {
        name: name.into(),
        scope: scope.into(),
        status: status.into(),
        attempt: 1,
        started_at: at(from_to.0),
        ended_at: from_to.1.and_then(at),
        ..Default::default()
    }
}

fn wait(kind: &str, name: &str, scope: &str, since: u64) -> proto::WaitingOn {
    let (kind, name, scope) = (kind.into(), name.into(), scope.into());
    proto::WaitingOn { kind, name, scope, since: at(since), ..Default::default() }
}

/// A deployment ten seconds after its start.
pub(super) fn deployment() -> proto::ExecutionStatus {
    let failure = proto::Failure { kind: "failure".into(), message: "no route".into(), details: None, retryable: true };
    proto::ExecutionStatus {
        summary: Some(proto::Summary {
            execution_id: "e1".into(),
            workflow: "shop/deploy".into(),
            digest: "d1".into(),
            status: "running".into(),
            attributes: "{}".into(),
            started_at: at(0),
            run: 1,
            events: 9,
            ..Default::default()
        }),
        input: "{\"n\": 9007199254740993}".into(),
        steps: vec![
            step("create", "1", "completed", (500, Some(2_000))),
            step("configure", "3", "running", (4_000, None)),
            proto::Step {
                attempt: 2,
                failure: Some(failure),
                ..step("connect", "3.1", "failed", (5_000, Some(5_800)))
            },
        ],
        waiting_on: vec![
            proto::WaitingOn { attempts: Some(2), until: at(13_000), ..wait("retry", "connect", "3", 5_800) },
            wait("step", "configure", "", 4_000),
            proto::WaitingOn {
                attempts: Some(3),
                last: Some("\"new\"".into()),
                ..wait("poll", "wait_for_ip", "", 9_000)
            },
            wait("approval", "Go\x1b[31m live?", "", 9_500),
        ],
        progress: vec![proto::Progress {
            name: "configure".into(),
            scope: "3".into(),
            percent: 43,
            message: "copying\nfiles".into(),
        }],
        ..Default::default()
    }
}
