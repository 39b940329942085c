//! The contract of the store: the behaviour that the engine relies on, tested on every database on which it runs.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod append;
mod approvals;
mod audit;
mod begin;
mod bench;
mod bulk;
mod claims;
mod components;
mod crashes;
mod damage;
mod deletion;
mod garbage;
mod garbage_of_tenants;
mod grants;
mod identity;
mod leases;
mod links;
mod lists;
mod lost_answers;
mod messages;
mod migrations;
mod moved_clock;
mod notices;
mod old_runs;
mod opening;
mod packs;
mod parts;
mod reading;
mod remains;
mod removal;
mod rescue;
mod saved_views;
mod secrets;
mod start;
mod storage;
mod walls;

/// Makes two tests of each function: one on SQLite, one on PostgreSQL. It is for tests that bypass the store, or that
/// test something only databases have.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name($crate::bench::Bench::sqlite().await).await })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name($crate::bench::Bench::postgres().await).await })+
        }
    };
}
pub(crate) use on_both;

/// The same, and a third test for each function before the semicolon: the store in memory, on which the simulation
/// runs, keeps the same contract.
macro_rules! on_all {
    ($($name:ident),+ $(; $($only:ident),+)? $(,)?) => {
        $crate::on_both!($($name),+ $(, $($only),+)?);
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name($crate::bench::Bench::memory()).await })+
        }
    };
}
pub(crate) use on_all;
