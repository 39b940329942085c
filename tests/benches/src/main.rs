//! The figures of docs/performance.md, measured with the real binary on real databases, beside the machine's ceilings of
//! the same run.

mod bulk;
mod ceilings;
mod crashes;
mod flood;
mod goals;
mod growth;
mod live;
mod load;
mod pages;
mod replay;
mod retention;
mod slopes;
mod starts;
mod steps;
mod table;
mod waits;

use table::{Scene, Table};
use test_engine::Database;

/// `W=W2` runs one workload, `DATABASE=postgres` uses one database; without them all workloads run on both. `RUNS=10`
/// takes each figure ten times instead of three, `SLEEPERS=10000` makes W5 use fewer executions than a million.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if flood::attack().await? {
        return Ok(());
    }
    let wanted = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    let (only, database) = (wanted("W"), wanted("DATABASE"));
    let mut table = Table::default();
    for (name, kind) in [("sqlite", Database::Sqlite), ("postgres", Database::Postgres)] {
        if database.as_deref().is_none_or(|database| database == name) {
            let ceilings = ceilings::measure(kind).await?;
            let mut scene = Scene { table: &mut table, name, database: kind, ceilings };
            run(&mut scene, only.as_deref()).await?;
        }
    }
    table.print();
    table.write(&test_engine::root().join("target/bench.json"))
}

async fn run(scene: &mut Scene<'_>, only: Option<&str>) -> anyhow::Result<()> {
    let wanted = |name: &str| only.is_none_or(|only| only.eq_ignore_ascii_case(name));
    scene.add_ceilings();
    if wanted("W1") {
        steps::one_after_another(scene).await?;
        steps::with_effects(scene).await?;
    }
    if wanted("W2") {
        steps::many_at_once(scene).await?;
    }
    if wanted("W3") {
        steps::in_parallel(scene).await?;
    }
    if wanted("W4") {
        starts::finished(scene).await?;
    }
    if wanted("W5") {
        waits::sleepers(scene).await?;
    }
    if wanted("W6") {
        crashes::killed(scene).await?;
    }
    if wanted("W7") {
        starts::empty(scene).await?;
        starts::guests(scene).await?;
    }
    if wanted("W8") {
        waits::timers(scene).await?;
    }
    if wanted("W9") {
        replay::replay(scene).await?;
    }
    if wanted("W10") {
        starts::python(scene).await?;
    }
    if wanted("idle") {
        growth::idle(scene).await?;
    }
    if wanted("retention") {
        retention::deleting(scene).await?;
    }
    if wanted("flood") {
        flood::flood(scene).await?;
    }
    if wanted("bulk") {
        bulk::bulk(scene).await?;
    }
    if wanted("pages") {
        pages::pages(scene).await?;
    }
    if wanted("live") {
        live::live(scene).await?;
    }
    if wanted("growth") {
        growth::growth(scene).await?;
    }
    for (name, _) in slopes::SLOPES {
        if wanted(name) || only.is_some_and(|only| only.eq_ignore_ascii_case("slopes")) {
            slopes::measure(scene, name).await?;
        }
    }
    Ok(())
}

/// The number of times that each figure is taken.
fn runs_wanted() -> usize {
    std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(3)
}
