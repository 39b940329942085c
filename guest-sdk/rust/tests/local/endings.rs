//! The ends of races and of clean-up on the local executor: every case also with guests dropped at every wait.

use std::time::Duration;

use cerebelum::prelude::*;

use crate::{check, double};

async fn cleans_up_for(ctx: &Context, clean_up: Duration) -> Result<()> {
    let slept = ctx.sleep(days(3)).await;
    ctx.sleep(clean_up).await?;
    slept
}

/// Cleans up for as long as it takes.
#[workflow]
async fn cleans_up_patiently(ctx: Context, seconds: u64) -> Result<()> {
    cleans_up_for(&ctx, Duration::from_secs(seconds)).await
}

/// Cleans up in five minutes or not at all.
#[workflow(cancel_grace = "5m")]
async fn cleans_up_in_time(ctx: Context, seconds: u64) -> Result<()> {
    cleans_up_for(&ctx, Duration::from_secs(seconds)).await
}

#[test]
fn clean_up_takes_as_long_as_the_workflow_allows() {
    let day = 86_400;
    let run = check(|local| local.cancel_after(days(1)).run(cleans_up_patiently, 30 * day));
    assert_eq!((run.output().unwrap_err().kind(), run.elapsed()), (kind::CANCELLED, Duration::from_secs(31 * day)));
    let run = check(|local| local.cancel_after(days(1)).run(cleans_up_in_time, 200));
    assert_eq!(run.elapsed(), Duration::from_secs(day + 200));
    let run = check(|local| local.cancel_after(days(1)).run(cleans_up_in_time, 301));
    assert!(run.output().unwrap_err().message().contains("grace period"));
    assert_eq!(run.elapsed(), Duration::from_secs(day + 300));
    let manifest = cerebelum::testing::manifest();
    let grace = |name: &str| {
        let all = manifest["workflows"].as_array().unwrap();
        let schema = &all.iter().find(|workflow| workflow["name"] == name).unwrap()["input_schema"];
        assert_eq!(schema["type"], "integer");
        schema["x-cerebelum-cancel-grace-ms"].clone()
    };
    assert_eq!((grace("cleans_up_in_time"), grace("cleans_up_patiently")), (300_000.into(), serde_json::Value::Null));
}

/// Races branches, several of which are ready at once, again and again.
#[workflow]
async fn races(ctx: Context, rounds: u32) -> Result<Vec<u32>> {
    let mut winners = Vec::new();
    for round in 0..rounds {
        let (mut a, mut b, mut c) =
            (ctx.sleep(millis(5)), double(&ctx, 1), ctx.sleep(millis(5 + u64::from(round % 2))));
        let winner = select! {
            slept = a => { slept?; 1 }
            doubled = b => { doubled?; 2 }
            slept = c => { slept?; 3 }
        };
        let ready = (futures::future::ready(4), futures::future::ready(5));
        let (mut x, mut y) = ready;
        winners.push(winner);
        winners.push(select! { n = x => n, n = y => n });
    }
    Ok(winners)
}

#[test]
fn a_race_takes_the_same_branch_on_every_rerun() {
    for _ in 0..10 {
        let run = check(|local| local.run(races, 20));
        assert_eq!(run.output().unwrap().len(), 40);
    }
}
