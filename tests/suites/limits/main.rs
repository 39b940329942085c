//! Every limit, reached on a real engine that may have 1 GiB of memory. The engine stays alive, others are served, the
//! failure has the documented name, and a restart does not repeat the harm.

#![allow(clippy::unwrap_used, reason = "tests: a value that is not there is a failure")]

/// Runs a test on both databases.
macro_rules! on_both_databases {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            #[test] fn sqlite() { super::check(test_engine::Database::Sqlite, super::$test); }
            #[test] fn postgres() { super::check(test_engine::Database::Postgres, super::$test); }
        }
    )+ };
}

mod capped;
mod clients;
mod components;
mod guests;
mod pages;
mod tenants;
mod unread;
