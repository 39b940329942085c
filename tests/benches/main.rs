//! The figures of docs/performance.md, against the real binary on real databases, beside the machine's ceilings of the same run.

mod ceilings;
mod load;
mod table;
mod workloads;

use cerebelum_tests::Database;
use table::Table;

/// `W=W2` runs one workload, `DATABASE=postgres` one database; without them all of both.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wanted = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    let (only, database) = (wanted("W"), wanted("DATABASE"));
    let mut table = Table::default();
    for (name, kind) in [("sqlite", Database::Sqlite), ("postgres", Database::Postgres)] {
        if database.as_deref().is_none_or(|database| database == name) {
            workloads::run(&mut table, (name, kind), only.as_deref()).await?;
        }
    }
    table.print();
    table.write(&cerebelum_tests::root().join("target/bench.json"))
}
