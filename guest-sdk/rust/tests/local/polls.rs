//! Polls in place and polls that the engine drives, by the table of cases that every implementation follows.

use std::time::{Duration, SystemTime};

use cerebelum::prelude::*;

use crate::check;

/// One case of `wit/polls.json`. Times are in milliseconds since the start of the poll.
#[data]
struct Case {
    name: String,
    interval_ms: u64,
    max_attempts: u32,
    timeout_ms: Option<u64>,
    check_ms: u64,
    true_after_ms: u64,
    checks: usize,
    ends_at_ms: u64,
    failure: Option<String>,
    message: Option<String>,
}

/// A check of a case, and when its poll began.
#[data]
struct Look {
    case: Case,
    began_ms: u64,
}

fn now_ms(ctx: &Context) -> u64 {
    let since = ctx.now().duration_since(SystemTime::UNIX_EPOCH).expect("a test begins after 1970");
    u64::try_from(since.as_millis()).expect("a test ends before the end of time")
}

/// Whether the condition holds after this check, which is written to the log.
async fn look(ctx: &Context, case: &Case, began_ms: u64) -> Result<Option<()>> {
    ctx.info("a check");
    ctx.sleep(Duration::from_millis(case.check_ms)).await?;
    Ok((now_ms(ctx) - began_ms >= case.true_after_ms).then_some(()))
}

#[workflow]
async fn in_place(ctx: Context, case: Case) -> Result<()> {
    let began_ms = now_ms(&ctx);
    let poll = ctx
        .poll_until(async |_| look(&ctx, &case, began_ms).await)
        .every(Duration::from_millis(case.interval_ms))
        .attempts(case.max_attempts);
    match case.timeout_ms {
        Some(timeout_ms) => poll.timeout(Duration::from_millis(timeout_ms)).await,
        None => poll.await,
    }
}

#[step]
async fn look_once(ctx: Context, asked: Look) -> Result<Check<()>> {
    Ok(look(&ctx, &asked.case, asked.began_ms).await?.into())
}

#[workflow]
async fn driven(ctx: Context, case: Case) -> Result<()> {
    let asked = Look { case: case.clone(), began_ms: now_ms(&ctx) };
    let poll = ctx.poll(look_once, asked).every(Duration::from_millis(case.interval_ms)).attempts(case.max_attempts);
    match case.timeout_ms {
        Some(timeout_ms) => poll.timeout(Duration::from_millis(timeout_ms)).await,
        None => poll.await,
    }
}

#[test]
fn both_forms_of_a_poll_follow_the_table() {
    #[derive(serde::Deserialize)]
    struct Table {
        cases: Vec<Case>,
    }
    let table: Table = serde_json::from_str(include_str!("../../../../wit/polls.json")).unwrap();
    for case in table.cases {
        let runs = [
            ("in place", check(|local| local.run(in_place, case.clone()))),
            ("driven", check(|local| local.run(driven, case.clone()))),
        ];
        for (form, run) in runs {
            let failure = run.output().err().map(|e| (e.kind().to_owned(), e.message().to_owned()));
            let found = (failure, run.logs().len(), run.elapsed());
            let expected =
                (case.failure.clone().zip(case.message.clone()), case.checks, Duration::from_millis(case.ends_at_ms));
            assert_eq!(found, expected, "{form}: {}", case.name);
        }
    }
}
