//! Real engine processes on real databases, real components, real kills.

#![allow(clippy::unwrap_used, reason = "tests: a value that is not there is a failure")]

/// Runs each test of a module on both databases.
macro_rules! on_both_databases {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $test() { super::$test(test_engine::Database::Sqlite); })+
        }
        mod postgres {
            $(#[test] fn $test() { super::$test(test_engine::Database::Postgres); })+
        }
    };
}

mod approval_links;
mod asyncio;
mod audit;
mod backup;
mod browser;
mod bulk;
mod corruption;
mod database_trouble;
mod deletion;
mod diverged;
mod examples;
mod faults;
mod foreign;
mod grants;
mod growth;
mod hostile;
mod hostile_servers;
mod killed;
mod liveness;
mod metrics;
mod node_sharing;
mod old_runs;
mod operators;
mod pages;
mod panics;
mod parity;
mod port;
mod python;
mod python_guests;
mod python_programs;
mod quotas;
mod referee;
mod refusals;
mod removal;
mod rest;
mod retention;
mod revoked_streams;
mod sagas;
mod schemas;
mod secrets;
mod sizes;
mod sleeping;
mod tenants;
mod terminal;
mod traces;
mod transport;
mod two_engines;
mod two_tenants;
mod values;
mod waiting_is_free;
mod walls;

use std::collections::HashSet;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Row};
use test_engine::Engine;

/// Asserts that no request was repeated, and that each carried a key of its own.
fn assert_each_once(requests: &[Value]) {
    let keys: HashSet<&str> = requests.iter().filter_map(|request| request["idempotency_key"].as_str()).collect();
    assert_eq!(keys.len(), requests.len(), "a request was repeated: {requests:#?}");
}

/// Asserts that requests with one key are alike.
fn assert_repeats_are_alike(requests: &[Value]) {
    for request in requests {
        let same_key = requests.iter().filter(|other| other["idempotency_key"] == request["idempotency_key"]);
        for other in same_key {
            assert_eq!((&other["path"], &other["body"]), (&request["path"], &request["body"]));
        }
    }
}

/// Runs a statement behind the engine's back; the rows' columns as text.
fn sql(engine: &Engine, words: &str) -> Vec<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let query = sqlx::query(AssertSqlSafe(words.to_owned()));
    runtime.block_on(async {
        if engine.database().starts_with("sqlite:") {
            let mut connection = sqlx::SqliteConnection::connect(engine.database()).await.unwrap();
            let rows = query.fetch_all(&mut connection).await.unwrap();
            rows.iter().map(|row| (0..row.len()).map(|at| row.get(at)).collect()).collect()
        } else {
            let mut connection = sqlx::PgConnection::connect(engine.database()).await.unwrap();
            let rows = sqlx::query(AssertSqlSafe(words.to_owned())).fetch_all(&mut connection).await.unwrap();
            rows.iter().map(|row| (0..row.len()).map(|at| row.get(at)).collect()).collect()
        }
    })
}
