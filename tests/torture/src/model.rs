//! The result that an execution must have, by its plan and by the answers of the outside world.

use cerebelum_history::{Event, EventData, kind};
use serde_json::{Value, json};

use super::mix::Expect;
use super::requests::Seen;

/// How it ended: its output, or the kind and message of its failure.
type End = Result<Value, (String, String)>;

/// Why a result contradicts the plan, if it does. `told_yes`: whether an approval was acknowledged.
pub(crate) fn contradiction(expect: &Expect, events: &[Event], world: &[Seen], told_yes: bool) -> Option<String> {
    let end = match events.last().map(|event| &event.data) {
        Some(EventData::ExecutionCompleted { output }) => Ok(serde_json::from_str(output.as_str()).unwrap_or_default()),
        Some(EventData::ExecutionFailed { failure } | EventData::ExecutionCancelled { failure }) => {
            Err((failure.kind.clone(), failure.message.clone()))
        }
        other => return Some(format!("it ended with {other:?}")),
    };
    let expected = expected(expect, (&end, world), told_yes);
    (!expected.contains(&end)).then(|| format!("it ended with {end:?}, expected {expected:?}"))
}

/// All correct ends.
fn expected(expect: &Expect, (end, world): (&End, &[Seen]), told_yes: bool) -> Vec<End> {
    let asked =
        |method: &str, path: &str| world.iter().filter(|seen| seen.method == method && seen.path == path).count();
    match expect {
        Expect::Output(output) => vec![Ok(output.clone())],
        Expect::Mails | Expect::NumberedMails => {
            // A mail that was sent but not recorded is sent again: the last answer counts.
            let welcome = world.iter().filter(|mail| mail.body.contains("Welcome!")).count();
            let reminder = asked("POST", "/mails");
            vec![Ok(match expect {
                Expect::Mails => json!({"welcome": welcome, "reminder": reminder}),
                _ => json!([welcome, reminder]),
            })]
        }
        Expect::Droplet => {
            let id = asked("POST", "/droplets");
            vec![Ok(json!({"id": id, "ip": format!("203.0.113.{}", id % 256), "banner": "SSH-2.0-OpenSSH_9.9"}))]
        }
        Expect::Build { fails: true } => vec![Err(("build-failed".to_owned(), "2 of 7 tests failed".to_owned()))],
        Expect::Build { fails: false } => vec![Ok(json!(asked("POST", "/builds")))],
        Expect::Certificate => vec![Ok(json!(asked("POST", "/certificates")))],
        Expect::Decision { percent, reason } => decisions(*percent, reason.as_deref(), (end, told_yes)),
        Expect::Looks { ready_at, in_place } => {
            let looks = asked("GET", "/notes/looks") as u64;
            let checks = end.as_ref().ok().and_then(|output| output[1].as_u64()).unwrap_or_default();
            match in_place {
                _ if looks < *ready_at => vec![],
                true if checks == 0 || checks > looks => vec![],
                true => vec![Ok(json!([looks, checks]))],
                false => vec![Ok(json!(looks))],
            }
        }
        // A try whose answer was lost is not counted, yet the cloud has refused it.
        Expect::Tries { failures } => (1..=failures + 1).map(|tries| Ok(json!(tries))).collect(),
        Expect::Mirror => ["first", "second"]
            .into_iter()
            .filter(|name| asked("GET", &format!("/mirrors/{name}")) > 0)
            .map(|name| Ok(json!(name)))
            .collect(),
        Expect::CleanedUp => match end {
            Err((failed, message)) if failed == kind::CANCELLED && asked("POST", "/notes/clean-up") > 0 => {
                vec![Err((failed.clone(), message.clone()))]
            }
            _ => vec![],
        },
        Expect::TwoLines => vec![Ok(Value::Null)],
    }
}

fn decisions(percent: Option<u64>, reason: Option<&str>, (end, told_yes): (&End, bool)) -> Vec<End> {
    let published = percent.map(|percent| Ok(json!({"outcome": "published", "by": "torture", "percent": percent})));
    // An acknowledged approval counts; without the acknowledgement, the timeout may have been faster.
    let expired = (reason.is_none() && !told_yes).then(|| Ok(json!({"outcome": "expired"})));
    let rejected = match (end, reason) {
        (Ok(output), Some(reason)) if output["reason"].as_str().is_some_and(|said| said.contains(reason)) => {
            Some(Ok(json!({"outcome": "rejected", "reason": output["reason"]})))
        }
        _ => None,
    };
    [published, expired, rejected].into_iter().flatten().collect()
}
