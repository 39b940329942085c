//! One sentence that says why an execution is where it is, and what would bring it on.

use cerebelum_history::{Status, WaitKind, brief};

use super::{Now, ago, failure_line, moment_ms, roughly};
use crate::json::{compact, milliseconds_between};
use crate::proto;

/// Longer values of polls are cut.
const VALUE_LETTERS_MAX: usize = 60;
/// The sentence names no more signals than this.
const UNREAD_NAMES_MAX: usize = 3;

/// Why an execution is where it is.
#[must_use]
pub fn why(status: &proto::ExecutionStatus, now: Now) -> String {
    let summary = status.summary.clone().unwrap_or_default();
    let cause = || status.failure.as_ref().map(failure_line).unwrap_or_default();
    let ms = summary.started_at.as_ref().zip(summary.ended_at.as_ref());
    let after = ms.map_or(String::new(), |(from, to)| format!(" after {}", roughly(milliseconds_between(from, to))));
    match summary.status.parse() {
        Ok(Status::Completed) => format!("It completed{after}."),
        Ok(Status::Failed) => format!("It failed{after}{}: {}", in_step(status), cause()),
        Ok(Status::Cancelled) => match status.failure.is_some() {
            true => format!("It was cancelled{after}: {}", cause()),
            false => format!("It was cancelled{after}."),
        },
        Ok(Status::Parked) => format!("A person must look at it: {}. It goes on once it is resumed.", cause()),
        Ok(Status::Paused) => "It is paused: nothing new starts until it is resumed.".to_owned(),
        _ => waits(status, now),
    }
}

/// The step whose failure ended the execution, if one did.
fn in_step(status: &proto::ExecutionStatus) -> String {
    let ends =
        |step: &&proto::Step| step.ended_at.is_some() && step.failure.is_some() && step.failure == status.failure;
    let step = status.steps.iter().rev().find(ends);
    step.map_or(String::new(), |step| format!(" in step `{}`", step.name))
}

fn waits(status: &proto::ExecutionStatus, now: Now) -> String {
    // A kind that only a newer engine knows comes last.
    let rank = |wait: &proto::WaitingOn| {
        let kind = WaitKind::of_word(&wait.kind);
        (kind.is_none(), kind)
    };
    let until = |wait: &proto::WaitingOn| wait.until.as_ref().map_or(u64::MAX, moment_ms);
    let first = status.waiting_on.iter().min_by_key(|wait| (rank(wait), until(wait)));
    let Some(first) = first else { return "It is running.".to_owned() };
    // The calls of a step that waits itself are in the list as well: they are what the step waits for.
    let others = status.waiting_on.iter().filter(|wait| !matches!(wait.kind.as_str(), "step")).count();
    let sentence = wait(first, status, now);
    let others = match others {
        0 | 1 => String::new(),
        2 => "; one other call is open".to_owned(),
        _ => format!("; {} other calls are open", others - 1),
    };
    format!("{sentence}{others}.{}", unread(status))
}

/// The signals that came and that no call has asked for: perhaps a name was misspelt.
fn unread(status: &proto::ExecutionStatus) -> String {
    let is_asked_for = |name: &str| status.waiting_on.iter().any(|wait| wait.kind == "signal" && wait.name == name);
    let names: Vec<_> = status.unread_signals.iter().filter(|name| !is_asked_for(name)).collect();
    let shown = |name: &&String| format!("`{}`", brief(name, VALUE_LETTERS_MAX));
    let listed = names.iter().copied().take(UNREAD_NAMES_MAX).map(|name| shown(&name)).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => String::new(),
        count if count > UNREAD_NAMES_MAX => format!(" Signals that it has not asked for: {listed} and others."),
        1 => format!(" A signal that it has not asked for: {listed}."),
        _ => format!(" Signals that it has not asked for: {listed}."),
    }
}

fn wait(wait: &proto::WaitingOn, status: &proto::ExecutionStatus, now: Now) -> String {
    let left = wait.until.as_ref().map(|until| roughly(moment_ms(until).saturating_sub(now.0)));
    let (name, since) = (&wait.name, ago(wait.since.as_ref(), now));
    let at_most = left.as_ref().map_or(String::new(), |left| format!(" for at most {left} more"));
    let left = left.unwrap_or_else(|| "a moment".to_owned());
    match wait.kind.as_str() {
        "approval" => format!("It waits for a person{at_most}: “{name}”, asked {since}"),
        "retry" => {
            let attempts = wait.attempts.map_or(String::new(), |so_far| format!(", attempt {}", so_far + 1));
            let cause = last_failure(wait, status).map_or(String::new(), |cause| format!(": {cause}"));
            format!("Step `{name}` tries again in {left}{attempts}{cause}")
        }
        "signal" => format!("It waits for the signal `{name}`{at_most}, since {since}"),
        "poll" => {
            let last = wait.last.as_deref().map_or(String::new(), |last| {
                format!(", the last one saw {}", brief(&compact(last), VALUE_LETTERS_MAX))
            });
            let checks = wait.attempts.unwrap_or_default();
            format!("It polls `{name}` since {since}: {checks} checks so far{last}")
        }
        "child" => format!("It waits for the execution `{name}`, since {since}"),
        "delay" => format!("It begins in {left}"),
        "start" => format!("It starts the execution `{name}`"),
        "sleep" => format!("It sleeps for {left} more"),
        "fetch" => format!("It waits for the answer to {name}, since {since}"),
        "step" => format!("Step `{name}` runs since {since}"),
        kind => format!("It waits for {kind} `{name}`, since {since}"),
    }
}

/// What an execution waits for, in the few words of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct WaitsFor {
    /// The wait that matters most: `retry of charge`.
    pub what: String,
    /// What stands between the wait and the moment of its end: `retry of charge` **in 12s**, `sleep`**, ends in 2d**.
    pub joint: &'static str,
    /// What follows: how many other waits there are.
    pub others: String,
}

impl WaitsFor {
    /// What this execution waits for, unless it works, is held or has ended.
    #[must_use]
    pub fn of(summary: &proto::Summary) -> Option<Self> {
        let proto::WaitingOn { kind, name, .. } = summary.waits_for.as_ref()?;
        let (what, joint) = match WaitKind::of_word(kind) {
            Some(WaitKind::Approval) => (format!("approval “{name}”"), ", ends "),
            Some(WaitKind::Retry) => (format!("retry of `{name}`"), " "),
            Some(WaitKind::Delay) => ("its start".to_owned(), " "),
            Some(WaitKind::Sleep) => ("sleep".to_owned(), ", ends "),
            Some(WaitKind::Poll) => (format!("poll `{name}`"), ", next check "),
            Some(WaitKind::Signal | WaitKind::Child | WaitKind::Start | WaitKind::Fetch | WaitKind::Step) | None => {
                (format!("{kind} `{name}`"), ", ends ")
            }
        };
        let others = match summary.other_waits {
            0 => String::new(),
            others => format!(", and {others} more"),
        };
        Some(Self { what, joint, others })
    }

    /// The words on one line, as seen from now; or why the execution failed or is parked.
    #[must_use]
    pub fn line(summary: &proto::Summary, now: Now) -> String {
        if let Some(failure) = &summary.failure {
            return failure_line(failure);
        }
        let Some(Self { what, joint, others }) = Self::of(summary) else { return String::new() };
        let until = summary.waits_for.as_ref().and_then(|wait| wait.until.as_ref());
        let until = until.map_or(String::new(), |until| format!("{joint}{}", ago(Some(until), now)));
        format!("{what}{until}{others}")
    }
}

/// Why the last attempt of the step failed that is to be tried again.
fn last_failure(retry: &proto::WaitingOn, status: &proto::ExecutionStatus) -> Option<String> {
    let is_it = |step: &&proto::Step| step.name == retry.name && step.ended_at.is_none() && step.failure.is_some();
    status.steps.iter().rev().find(is_it)?.failure.as_ref().map(failure_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now(1_700_000_010_000);

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds: 1_700_000_000 + seconds, nanos: 0 })
    }

    fn told(status: &str, waiting_on: Vec<proto::WaitingOn>, failure: Option<&str>) -> String {
        let summary =
            proto::Summary { status: status.into(), started_at: at(4), ended_at: at(7), ..Default::default() };
        let failure = failure.map(|message| proto::Failure {
            kind: "http-status".into(),
            message: message.into(),
            ..Default::default()
        });
        let ended_at = at(6).filter(|_| status == "failed");
        let step = proto::Step { name: "charge".into(), failure: failure.clone(), ended_at, ..Default::default() };
        let steps = vec![step];
        why(&proto::ExecutionStatus { summary: Some(summary), waiting_on, failure, steps, ..Default::default() }, NOW)
    }

    fn wait(kind: &str, name: &str, until: Option<i64>) -> proto::WaitingOn {
        let until = until.and_then(at);
        proto::WaitingOn { kind: kind.into(), name: name.into(), since: at(0), until, ..Default::default() }
    }

    #[test]
    fn an_execution_that_has_ended_says_how_and_one_that_is_held_says_what_to_do() {
        for (status, sentence) in [
            ("completed", "It completed after 3.0s."),
            ("failed", "It failed after 3.0s in step `charge`: http-status: 503"),
            ("cancelled", "It was cancelled after 3.0s: http-status: 503"),
            ("parked", "A person must look at it: http-status: 503. It goes on once it is resumed."),
            ("paused", "It is paused: nothing new starts until it is resumed."),
        ] {
            assert_eq!(told(status, Vec::new(), Some("503")), sentence);
        }
    }

    #[test]
    fn the_wait_that_matters_most_is_told_and_the_others_are_counted() {
        let retry = proto::WaitingOn { attempts: Some(3), ..wait("retry", "charge", Some(22)) };
        let poll = proto::WaitingOn { attempts: Some(2), last: Some("\"new\"".into()), ..wait("poll", "ready", None) };
        let all = |waits: &[&proto::WaitingOn]| {
            told("waiting", waits.iter().map(|wait| (*wait).clone()).collect(), Some("503"))
        };
        assert_eq!(all(&[&retry]), "Step `charge` tries again in 12s, attempt 4: http-status: 503.");
        assert_eq!(all(&[&poll]), "It polls `ready` since 10s ago: 2 checks so far, the last one saw \"new\".");
        let sleep = wait("sleep", "", Some(70));
        assert_eq!(
            all(&[&sleep, &retry]),
            "Step `charge` tries again in 12s, attempt 4: http-status: 503; one other call is open."
        );
        let approval = wait("approval", "Go live?", None);
        let sentence = "It waits for a person: “Go live?”, asked 10s ago; 2 other calls are open.";
        assert_eq!(all(&[&sleep, &approval, &retry]), sentence);
        let sentences = |unread: &[&str]| {
            let status = proto::ExecutionStatus {
                summary: Some(proto::Summary { status: "waiting".into(), ..Default::default() }),
                waiting_on: vec![wait("signal", "paid", None)],
                unread_signals: unread.iter().map(|name| (*name).to_owned()).collect(),
                ..Default::default()
            };
            why(&status, NOW)
        };
        let waits = "It waits for the signal `paid`, since 10s ago.";
        assert_eq!(sentences(&["paid"]), waits);
        assert_eq!(sentences(&["payed"]), format!("{waits} A signal that it has not asked for: `payed`."));
        let several = format!("{waits} Signals that it has not asked for: `a`, `b`, `c` and others.");
        assert_eq!(sentences(&["a", "paid", "b", "c", "d"]), several);
        assert_eq!(all(&[]), "It is running.");
        assert_eq!(all(&[&wait("step", "charge", None), &sleep]), "It sleeps for 1m more.");
        assert_eq!(all(&[&wait("news", "x", None), &sleep]), "It sleeps for 1m more; one other call is open.");
    }

    #[test]
    fn a_list_says_in_a_few_words_what_is_waited_for_and_until_when() {
        let line = |wait: Option<proto::WaitingOn>, other_waits| {
            WaitsFor::line(&proto::Summary { waits_for: wait, other_waits, ..Default::default() }, NOW)
        };
        for (kind, name, until, others, words) in [
            ("approval", "Go live?", None, 0, "approval “Go live?”"),
            ("approval", "Go live?", Some(70), 0, "approval “Go live?”, ends in 1m"),
            ("retry", "charge", Some(22), 2, "retry of `charge` in 12s, and 2 more"),
            ("signal", "paid", None, 0, "signal `paid`"),
            ("sleep", "", Some(70), 0, "sleep, ends in 1m"),
            ("delay", "", Some(70), 0, "its start in 1m"),
            ("poll", "ready", Some(13), 0, "poll `ready`, next check in 3.0s"),
            ("child", "order-1", None, 999, "child `order-1`, and 999 more"),
            ("news", "x", None, 0, "news `x`"),
        ] {
            assert_eq!(line(Some(wait(kind, name, until)), others), words);
        }
        assert_eq!(line(None, 0), "");
        let failure = proto::Failure { kind: "http-status".into(), message: "503".into(), ..Default::default() };
        let failed = proto::Summary { failure: Some(failure), ..Default::default() };
        assert_eq!(WaitsFor::line(&failed, NOW), "http-status: 503");
    }
}
