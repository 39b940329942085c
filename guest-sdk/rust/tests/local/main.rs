//! The promises to guests, on the local executor. Every case also runs with guests dropped at every wait, which must
//! not show in the history.

mod approvers;
mod endings;
mod polls;

use std::cell::Cell;
use std::fmt::Debug;
use std::rc::Rc;

use cerebelum::prelude::*;
use cerebelum::testing::{Asked, Local, Run, approve, reject, reply};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};

/// Runs a case warm and hibernating. Both runs must agree in everything; returns the warm one.
#[track_caller]
fn check<T: Debug + PartialEq>(case: impl Fn(Local) -> Run<T>) -> Run<T> {
    let (warm, cold) = (case(Local::new()), case(Local::new().hibernating()));
    assert_eq!(format!("{:?}", warm.output()), format!("{:?}", cold.output()));
    assert_eq!(warm.history(), cold.history());
    assert_eq!(warm.logs(), cold.logs());
    assert_eq!(warm.elapsed(), cold.elapsed());
    warm
}

#[step]
async fn double(_ctx: Context, number: u64) -> Result<u64> {
    Ok(number * 2)
}

#[workflow]
async fn a_month(ctx: Context, _: ()) -> Result<u64> {
    let mut number = 1;
    for _ in 0..30 {
        number = double(&ctx, number).await?;
        ctx.sleep(days(1)).await?;
    }
    Ok(number)
}

#[test]
fn a_month_of_sleeps_takes_no_time() {
    let run = check(|local| local.run(a_month, ()));
    assert_eq!((*run.output().unwrap(), run.elapsed()), (1 << 30, days(30)));
}

#[workflow]
async fn unordered(ctx: Context) -> Result<Vec<u64>> {
    let naps = |(n, ms): (u64, u64)| {
        let ctx = ctx.clone();
        async move {
            ctx.sleep(millis(ms)).await?;
            double(&ctx, n).await
        }
    };
    let mut pool: FuturesUnordered<_> = [(1, 300), (2, 100), (3, 200)].into_iter().map(naps).collect();
    let mut order = Vec::new();
    while let Some(number) = pool.next().await {
        order.push(number?);
    }
    let (a, b) = futures::join!(double(&ctx, 10), double(&ctx, 20));
    let (c, d) = join!(double(&ctx, 30), ctx.sleep("1s")).await?;
    let () = d;
    order.extend([a?, b?, c]);
    Ok(order)
}

#[test]
fn the_combinators_of_futures_work_unchanged() {
    let run = check(|local| local.run(unordered, ()));
    assert_eq!(*run.output().unwrap(), [4, 6, 2, 20, 40, 60]);
}

#[step(retry(max_attempts = 4, delay = "1s", backoff = 2.0, jitter = 0.0))]
async fn flaky(_ctx: Context, _: ()) -> Result<()> {
    bail!("down", "the server is down")
}

#[workflow]
async fn calls_flaky(ctx: Context) -> Result<()> {
    flaky(&ctx, ()).await
}

#[test]
fn a_failed_step_is_retried_by_its_policy_and_its_last_failure_is_the_workflows() {
    let run = check(|local| local.run(calls_flaky, ()));
    assert_eq!(run.output().unwrap_err().to_string(), "down: the server is down");
    assert_eq!(run.elapsed(), seconds(1 + 2 + 4));
    let attempts: Vec<_> =
        run.history().iter().filter(|e| e.kind == "StepRetried").map(|e| &e.fields["attempt"]).collect();
    assert_eq!(attempts, [1, 2, 3]);
}

#[test]
fn a_permanent_error_is_not_retried_and_a_step_that_recovers_succeeds() {
    let permanent =
        check(|local| local.step(flaky, |()| Err(Error::new("no", "never").permanent())).run(calls_flaky, ()));
    assert_eq!((permanent.output().unwrap_err().kind(), permanent.elapsed()), ("no", seconds(0)));
    let recovered = check(|local| {
        let mut calls = 0;
        let flaky_once = move |()| {
            calls += 1;
            if calls == 1 { bail!("down", "not yet") } else { Ok(()) }
        };
        local.step(flaky, flaky_once).run(calls_flaky, ())
    });
    assert!(recovered.output().is_ok());
}

#[step]
async fn panics(_ctx: Context) -> Result<()> {
    panic!("on purpose")
}

#[test]
fn a_panic_is_a_trap_and_retried_as_one() {
    let run = check(|local| local.run_step(panics, ()));
    assert_eq!(run.output().unwrap_err().to_string(), "trap: panicked: on purpose");
    assert_eq!(run.kinds().iter().filter(|kind| **kind == "StepRetried").count(), 2);
}

#[step]
async fn two_posts(ctx: Context) -> Result<Vec<String>> {
    let mut locals = vec![ctx.idempotency_key()];
    for _ in 0..2 {
        let sent = http::Request::post("http://x/").body(locals.len().to_string())?;
        locals.push(ctx.fetch(sent).await?.text());
        ctx.sleep(days(7)).await?;
    }
    Ok(locals)
}

#[test]
fn a_step_that_sleeps_keeps_its_locals_and_repeats_no_request() {
    let run = check(|local| {
        let posts = Rc::new(Cell::new(0));
        let count = posts.clone();
        let run = local
            .on_http(move |request| {
                count.set(count.get() + 1);
                let key = request.headers()["idempotency-key"].to_str().unwrap();
                reply(200, format!("{} {}", count.get(), key.len()))
            })
            .run_step(two_posts, ());
        assert_eq!(posts.get(), 2);
        run
    });
    let locals = run.output().unwrap();
    assert_eq!((locals[0].len(), &locals[1..]), (32, &["1 32".to_owned(), "2 32".to_owned()][..]));
    assert_eq!(run.elapsed(), days(14));
    // The values in a finished step's journal are dropped, its events stay (L12).
    let fetched = run.history().iter().find(|event| event.kind == "FetchCompleted").unwrap();
    assert_eq!((fetched.scope.as_str(), &fetched.fields["response"]), ("1", &Value::Null));
}

#[step]
async fn polls_in_place(ctx: Context, ready_at: u32) -> Result<u32> {
    ctx.poll_until(|attempt| async move { Ok((attempt == ready_at).then_some(attempt)) })
        .every("10s")
        .attempts(5)
        .timeout("35s")
        .await
}

#[test]
fn a_poll_in_place_ends_ready_exhausted_or_timed_out() {
    let ready = check(|local| local.run_step(polls_in_place, 3));
    assert_eq!((*ready.output().unwrap(), ready.elapsed()), (3, seconds(20)));
    let late = check(|local| local.run_step(polls_in_place, 99));
    let error = late.output().unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (kind::POLL_TIMEOUT, "Polling timed out after 40000ms (timeout: 35000ms)")
    );
}

#[workflow]
async fn retries_in_place(ctx: Context, permanent: bool) -> Result<()> {
    let error = |n: u32| Error::new("busy", format!("attempt {n}"));
    let tries = ctx.retry(|n| async move { Err(if permanent { error(n).permanent() } else { error(n) }) });
    tries.attempts(4).delay("5s").backoff(2.0).max_delay("12s").await
}

#[test]
fn a_retry_in_place_waits_durably_and_yields_the_last_error() {
    let run = check(|local| local.run(retries_in_place, false));
    assert_eq!((run.output().unwrap_err().message(), run.elapsed()), ("attempt 4", seconds(5 + 10 + 12)));
    let run = check(|local| local.run(retries_in_place, true));
    assert_eq!((run.output().unwrap_err().message(), run.elapsed()), ("attempt 1", seconds(0)));
}

#[workflow]
async fn exhausts(ctx: Context) -> Result<()> {
    ctx.poll_until(|_| async { Ok(None) }).every("500ms").attempts(3).await
}

#[test]
fn an_exhausted_poll_says_how_often_and_at_which_interval() {
    let run = check(|local| local.run(exhausts, ()));
    let error = run.output().unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (kind::POLL_EXHAUSTED, "Polling failed after 3 attempts (interval: 500ms)")
    );
}

#[step]
async fn exhausts_a_poll(ctx: Context, looks: Looks) -> Result<()> {
    let poll = ctx.poll_until(|_| async { Ok(None) }).every("1s").attempts(looks.max);
    match looks.timeout_s {
        Some(timeout_s) => poll.timeout(seconds(timeout_s)).await,
        None => poll.await,
    }
}

#[step]
async fn exhausts_a_retry(ctx: Context, attempts: u32) -> Result<()> {
    ctx.retry(|n| async move { Err(Error::new("busy", format!("attempt {n}"))) }).attempts(attempts).delay("1s").await
}

#[data]
struct Looks {
    max: u32,
    timeout_s: Option<u64>,
}

#[test]
fn what_is_exhausted_inside_a_step_is_not_multiplied_by_the_policy_of_the_step() {
    let runs = [
        check(|local| local.run_step(exhausts_a_poll, Looks { max: 30, timeout_s: None })),
        check(|local| local.run_step(exhausts_a_poll, Looks { max: 100, timeout_s: Some(29) })),
        check(|local| local.run_step(exhausts_a_retry, 30)),
    ];
    for run in runs {
        assert!(!run.output().unwrap_err().is_retryable());
        // 30 attempts a second apart; another round would take as long again.
        assert_eq!(run.elapsed(), seconds(29));
    }
}

#[data]
#[derive(PartialEq)]
struct Terms {
    cents: u64,
}

#[workflow]
async fn asks(ctx: Context) -> Result<String> {
    let asked = ctx.approval("Buy?").kind("purchase").data(&Terms { cents: 5 }).schema_of::<Terms>().timeout(days(3));
    let approval = asked.await?;
    Ok(format!("{} by {} ({:?})", approval.data.cents, approval.by, approval.comment))
}

#[test]
fn an_approval_is_answered_rejected_or_times_out() {
    let yes = check(|local| {
        let answer = |asked: &Asked| {
            assert_eq!((asked.kind.as_str(), &asked.data), ("purchase", &json!({ "cents": 5 })));
            approve(&Terms { cents: 4 }).by("ada").comment("cheap").after(days(2))
        };
        local.on_approval("Buy?", answer).run(asks, ())
    });
    assert_eq!((yes.output().unwrap().as_str(), yes.elapsed()), ("4 by ada (Some(\"cheap\"))", days(2)));
    let no = check(|local| local.on_approval("Buy?", reject("too dear")).run(asks, ()));
    assert_eq!(no.output().unwrap_err().kind(), kind::REJECTED);
    let silent = check(|local| local.on_approval("Buy?", approve(&()).after(days(4))).run(asks, ()));
    assert_eq!((silent.output().unwrap_err().kind(), silent.elapsed()), (kind::APPROVAL_TIMEOUT, days(3)));
}

#[workflow]
async fn listens(ctx: Context) -> Result<Vec<u64>> {
    let first = ctx.signal("paid").await?;
    ctx.sleep("1h").await?;
    let second = ctx.signal("paid").await?;
    match ctx.signal::<u64>("paid").timeout("1h").await {
        Err(error) if error.is(kind::TIMEOUT) => Ok(vec![first, second]),
        other => Ok(vec![first, second, other?]),
    }
}

#[test]
fn signals_are_queued_and_waiting_for_one_can_time_out() {
    let run = check(|local| local.signal("paid", &1).signal("paid", &2).signal("other", &9).run(listens, ()));
    assert_eq!((run.output().unwrap().as_slice(), run.elapsed()), (&[1, 2][..], hours(2)));
    let run = check(|local| local.signal_after("90m", "paid", &1).signal_after("3h", "paid", &2).run(listens, ()));
    assert_eq!((run.output().unwrap().as_slice(), run.elapsed()), (&[1, 2][..], hours(4)));
}

#[test]
fn what_nothing_brings_about_is_told_instead_of_hanging() {
    let run = check(|local| local.run(listens, ()));
    let error = run.output().unwrap_err();
    assert_eq!(error.kind(), "waiting");
    assert!(error.message().contains("signal `paid`"), "{error}");
}

#[workflow]
async fn parent(ctx: Context, n: u64) -> Result<(u64, String, String)> {
    let (own, by_name) = join!(ctx.run_workflow(child, n), ctx.run_workflow_by_name("shop/price", &n)).await?;
    let detached = ctx.start_workflow(child, 7).id("the-detached").await?;
    Ok((own, by_name, detached))
}

#[workflow]
async fn child(ctx: Context, n: u64) -> Result<u64> {
    ctx.sleep("1h").await?;
    ctx.step_by_name("shop/price_of", &n).await
}

#[test]
fn children_are_awaited_or_detached_and_other_components_are_stood_in_for() {
    let run = check(|local| {
        local
            .step_by_name("shop/price_of", |n: u64| Ok(n + 100))
            .workflow_by_name("shop/price", |n: u64| Ok(format!("price {n}")))
            .run(parent, 1)
    });
    assert_eq!(*run.output().unwrap(), (101, "price 1".to_owned(), "the-detached".to_owned()));
    assert!(run.others().contains(&"the-detached".to_owned()));
    let missing = check(|local| local.run(parent, 1));
    assert_eq!(missing.output().unwrap_err().kind(), kind::NOT_FOUND);
}

#[workflow]
async fn countdown(ctx: Context, left: u32) -> Result<String> {
    ctx.set_attribute("left", left);
    ctx.sleep("1h").await?;
    if left > 0 {
        return ctx.continue_as_new(left - 1).await;
    }
    Ok(format!("{} in run {}", ctx.signal::<String>("word").await?, ctx.run()))
}

#[test]
fn continuing_as_new_keeps_attributes_and_unread_signals_and_empties_the_history() {
    let run = check(|local| local.signal("word", &"lift-off").run(countdown, 3));
    assert_eq!(run.output().unwrap(), "lift-off in run 4");
    assert_eq!((run.runs(), run.attribute("left"), run.elapsed()), (4, Some(&json!(0)), hours(4)));
    assert_eq!(run.history()[0].kind, "ExecutionStarted");
    assert_eq!(run.kinds().iter().filter(|kind| **kind == "SleepStarted").count(), 1);
}

#[workflow]
async fn cleans_up(ctx: Context) -> Result<()> {
    match ctx.sleep(days(9)).await {
        Err(error) if error.is_cancelled() => {
            double(&ctx, 1).await?;
            Err(error)
        }
        other => other,
    }
}

#[test]
fn a_cancelled_workflow_cleans_up_durably() {
    let run = check(|local| local.cancel_after(days(2)).run(cleans_up, ()));
    assert!(run.output().unwrap_err().is_cancelled());
    assert_eq!(run.elapsed(), days(2));
    assert!(run.kinds().ends_with(&["StepStarted", "StepCompleted", "ExecutionCancelled"]), "{:?}", run.kinds());
}

#[workflow]
async fn in_time(ctx: Context) -> Result<u64> {
    match ctx.timeout("1s", ctx.sleep("1h")).await {
        Err(error) if error.is(kind::TIMEOUT) => ctx.timeout("1s", double(&ctx, 4)).await,
        other => other.map(|()| 0),
    }
}

#[test]
fn a_timeout_drops_what_takes_too_long_and_nothing_else() {
    let run = check(|local| local.run(in_time, ()));
    assert_eq!((*run.output().unwrap(), run.elapsed()), (8, seconds(1)));
    assert_eq!(run.kinds().iter().filter(|kind| **kind == "CallCancelled").count(), 2);
}

#[step]
async fn nested(ctx: Context, depth: u32) -> Result<u32> {
    ctx.progress(50, format!("at {depth}"));
    if depth == 0 { Ok(0) } else { Ok(1 + nested(&ctx, depth - 1).await?) }
}

#[test]
fn steps_call_steps_each_in_a_scope_of_its_own() {
    let run = check(|local| local.run_step(nested, 3));
    assert_eq!((*run.output().unwrap(), run.progress_of("1.1.1")), (3, Some((50, "at 1"))));
}

#[workflow]
async fn logs_and_passes(ctx: Context, json: Json) -> Result<Json> {
    ctx.info("before");
    ctx.sleep("1s").await?;
    ctx.warn(format!("after, at {:?}", ctx.now().duration_since(std::time::SystemTime::UNIX_EPOCH)?));
    Ok(json)
}

#[test]
fn logs_are_not_repeated_and_documents_pass_unmodified() {
    let text = r#"{"b":18446744073709551617,"a":[null,[null],"\u0000"]}"#;
    let run = check(|local| local.run(logs_and_passes, text.parse().unwrap()));
    assert_eq!(run.output().unwrap().as_str(), text);
    assert_eq!(run.logs(), ["before", "after, at 946684801s"]);
}

#[workflow]
async fn fetches(ctx: Context) -> Result<()> {
    http::get("http://x").send(&ctx).await.map(drop)
}

#[workflow]
async fn waits_for_nothing(_ctx: Context) -> Result<()> {
    futures::future::pending().await
}

#[test]
fn a_workflow_cannot_fetch_and_one_that_waits_for_nothing_fails() {
    assert_eq!(check(|local| local.run(fetches, ())).output().unwrap_err().kind(), "not-granted");
    assert_eq!(check(|local| local.run(waits_for_nothing, ())).output().unwrap_err().kind(), "deadlock");
}

thread_local! {
    static RERUNS: Cell<u32> = const { Cell::new(0) };
}

#[workflow]
async fn fickle(ctx: Context) -> Result<()> {
    RERUNS.set(RERUNS.get() + 1);
    ctx.sleep(millis(u64::from(RERUNS.get()))).await
}

#[test]
fn a_workflow_that_asks_for_something_else_on_a_rerun_is_found_out_by_hibernating() {
    assert!(Local::new().run(fickle, ()).output().is_ok());
    let run = Local::new().hibernating().run(fickle, ());
    assert_eq!(run.output().unwrap_err().kind(), "diverged");
}

#[test]
fn the_manifest_says_what_the_attributes_say() {
    let manifest = cerebelum::testing::manifest();
    let step = manifest["steps"].as_array().unwrap().iter().find(|step| step["name"] == "flaky").unwrap();
    assert_eq!(step["retry"]["max_attempts"], 4);
    let workflow = manifest["workflows"].as_array().unwrap().iter().find(|w| w["name"] == "countdown").unwrap();
    assert_eq!(
        (&workflow["input_schema"]["type"], &workflow["output_schema"]["type"]),
        (&json!("integer"), &json!("string"))
    );
    assert_eq!((&manifest["hosts"], &manifest["secrets"]), (&json!(["api.example.com"]), &json!(["TOKEN"])));
}

cerebelum::component!(hosts = ["api.example.com"], secrets = ["TOKEN"]);
