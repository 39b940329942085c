//! `make torture`: the laws under fire for any length of time, on one database or on both at once.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use test_engine::Database;
use test_torture::{Length, Mode, Options, run};

/// `MINUTES=20` sets the length, `SEED=7` fixes mix and kills (not the machine's timing), `DATABASE=postgres` selects
/// one database instead of both, and `MODE=clock`, `disk` or `log` selects one fault besides kills instead of all.
fn main() -> anyhow::Result<()> {
    let wanted = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    let minutes: f64 = wanted("MINUTES").map_or(Ok(20.0), |minutes| minutes.parse())?;
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let seed: u64 = wanted("SEED").map_or(Ok(drawn.into()), |seed| seed.parse())?;
    let databases: &[Database] = match wanted("DATABASE").as_deref() {
        None => &[Database::Sqlite, Database::Postgres],
        Some("sqlite") => &[Database::Sqlite],
        Some("postgres") => &[Database::Postgres],
        Some(other) => anyhow::bail!("DATABASE is sqlite or postgres, not {other}"),
    };
    let modes: &'static [Mode] = match wanted("MODE") {
        None => Mode::ALL,
        Some(mode) => vec![mode.parse().map_err(anyhow::Error::msg)?].leak(),
    };
    writeln!(
        std::io::stdout(),
        "SEED={seed} fixes what is started and what kills are aimed at, not the machine's timing"
    )?;
    let length = Length::Time(Duration::from_secs_f64(minutes * 60.0));
    let options = |database| Options { database, seed, length, life_max: Duration::from_secs(3), modes };
    let runs: Vec<_> = databases
        .iter()
        .map(|database| {
            std::thread::spawn({
                let options = options(*database);
                move || run(options)
            })
        })
        .collect();
    let mut broken = false;
    for run in runs {
        let report = run.join().map_err(|_| anyhow::anyhow!("the harness itself failed"))?;
        writeln!(std::io::stdout(), "\n{report}")?;
        broken |= !report.violations.is_empty();
    }
    std::process::exit(i32::from(broken));
}
