//! Timers that are all due within one second: claimed in bounded batches, drained in time, while the engine answers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cerebelum_server::proto::engine_client::EngineClient;
use cerebelum_server::proto::{ListRequest, StartRequest, StatusRequest};
use sqlx::Connection;
use test_engine::{Bystander, Database, Engine, http_get, within};
use tonic::transport::Channel;

use crate::{sleeper, start_many};

/// I4: the time until the last of 100,000 timers has fired, on 2 cores.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// The longest wait for an answer, besides four times the longest delay of a bystander.
const ANSWER_P99_MAX: Duration = Duration::from_secs(1);
const STARTS_IN_A_BATCH: u64 = 1_000;
const STARTS_AT_ONCE: u64 = 100;

/// Starts this many sleepers that wake in the same second, and checks how they wake.
pub(crate) fn timers_due_in_one_second_drain_in_bounded_batches(database: Database, count: u64) {
    // Sleepers leave memory at once: the clock and the claim wake them, as after any long sleep.
    let engine = Engine::start_with(database, &[("HIBERNATE_AT_ONCE", "1s")]);
    engine.upload("test-guests");
    let (began, batches) = (now(), u32::try_from(count / STARTS_IN_A_BATCH).unwrap());
    let _ = start_batch(&engine, began);
    // Twice as long as the starts should take: all executions sleep before the first one wakes.
    let wake = now() + Duration::from_secs(5) + (now() - began) * batches * 2;
    let ids: Vec<String> = (0..batches).flat_map(|_| start_batch(&engine, wake)).collect();
    let (sleeping, spread_ms) = due(&engine);
    assert_eq!(sleeping, i64::try_from(count).unwrap(), "all sleep before the first wakes");
    assert!(spread_ms <= 1_000, "they are due within {spread_ms} ms");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bystander = Bystander::begin();
    let (took, mut answers) = runtime.block_on(drain(&engine, &ids, wake));
    let answer_max = ANSWER_P99_MAX + bystander.end() * 4;
    answers.sort_unstable();
    let p99 = answers[answers.len() * 99 / 100];
    eprintln!(
        "{database:?}: {count} timers due within {spread_ms} ms drained in {took:.1?}; {} answers meanwhile, p99 {p99:.1?}",
        answers.len()
    );
    let metrics = http_get(&format!("{}/metrics", engine.url()));
    let claims = |le: &str| {
        let name = format!("cerebelum_claim_executions_bucket{{le=\"{le}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap()
    };
    assert_eq!(claims("256.0"), claims("+Inf"), "nothing claims more than 256 at once");
    assert!(claims("256.0") - claims("64.0") >= count / 256 / 2, "but it claims in batches");
    assert!(took <= DRAIN_MAX, "it took {took:?}");
    assert!(p99 <= answer_max, "p99 of its answers is {p99:?} where {answer_max:?} are allowed");
}

/// Starts a batch of sleepers that wake at this time, and waits until none of them is in memory. They do not all start
/// at once, so that no execution waits for a place and falls asleep late.
fn start_batch(engine: &Engine, wake: Duration) -> Vec<String> {
    let start = |_| {
        let left = u64::try_from(wake.saturating_sub(now()).as_millis()).unwrap();
        start_many(engine, (0..STARTS_AT_ONCE).map(|_| sleeper(left)).collect())
    };
    let ids = (0..STARTS_IN_A_BATCH / STARTS_AT_ONCE).flat_map(start).collect();
    within(DRAIN_MAX, "this batch sleeps", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
    ids
}

/// The number of sleepers, and the milliseconds over which their deadlines are spread, from the rows.
fn due(engine: &Engine) -> (i64, i64) {
    let words = "select cast(count(*) as bigint), cast(max(due) - min(due) as bigint) from executions where state = 0";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        if engine.database().starts_with("sqlite:") {
            let mut connection = sqlx::SqliteConnection::connect(engine.database()).await.unwrap();
            sqlx::query_as(words).fetch_one(&mut connection).await.unwrap()
        } else {
            let mut connection = sqlx::PgConnection::connect(engine.database()).await.unwrap();
            sqlx::query_as(words).fetch_one(&mut connection).await.unwrap()
        }
    })
}

/// Sends requests and starts without a pause until no execution sleeps any more. Returns how long that took from the
/// deadline on, and how long each answer took.
async fn drain(engine: &Engine, ids: &[String], wake: Duration) -> (Duration, Vec<Duration>) {
    let mut client = EngineClient::connect(engine.url().to_owned()).await.unwrap();
    tokio::time::sleep(wake.saturating_sub(now())).await;
    let (began, mut answers) = (Instant::now(), Vec::new());
    for (number, id) in ids.iter().cycle().enumerate() {
        let asked = Instant::now();
        let is_drained = ask(&mut client, number, id).await;
        answers.push(asked.elapsed());
        if is_drained || began.elapsed() > DRAIN_MAX * 2 {
            break;
        }
    }
    (began.elapsed(), answers)
}

/// One call: a status, a start, or a list of sleeping or running executions. Returns whether that list is empty.
async fn ask(client: &mut EngineClient<Channel>, number: usize, id: &str) -> bool {
    match number % 8 {
        0 => {
            let mut left = 0;
            for status in ["sleeping", "running"] {
                let request = ListRequest { status: Some(status.to_owned()), limit: 1, ..ListRequest::default() };
                left += client.list(request).await.unwrap().into_inner().executions.len();
            }
            left == 0
        }
        1 => {
            let input = r#"{"steps":1}"#.to_owned();
            let request = StartRequest { workflow: "sequence".to_owned(), input, ..StartRequest::default() };
            client.start(request).await.unwrap();
            false
        }
        _ => {
            client.status(StatusRequest { execution_id: id.to_owned() }).await.unwrap();
            false
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
