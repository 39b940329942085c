//! The laws under fire: a real engine runs a mix of workflows and is killed again and again. A checker compares the
//! acknowledgements, the durable state and the requests that the outside world saw.

mod checker;
mod client;
mod crowd;
mod faults;
mod kills;
mod mix;
mod model;
mod report;
mod requests;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cerebelum_server::proto;
use checker::Checker;
use client::{Client, Told};
use crowd::Crowd;
use faults::Faults;
pub use faults::Mode;
use kills::{Aim, Class, Fallen, Kills};
pub use report::Report;
use requests::Seen;
use rows::Wanted;

use test_engine::{Cloud, Database, Disk, Engine, FAILPOINT};
use test_programs::DeterministicRng;

/// The number of executions that are kept under way.
const BUSY: usize = 240;
/// After the last kill each execution has to move within this, until all have come to their end (I8).
const CALM_MAX: Duration = Duration::from_secs(60);
/// Within this time all of them have ended, however much they move.
const CALM_IN_ALL_MAX: Duration = Duration::from_secs(600);
/// How long each fault strikes once more before the calm, while the engine is not killed.
const LAST_FAULTS: Duration = Duration::from_secs(2);
/// The time between two checks whether they have moved, for which all are listed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Executions in memory at once at the last reading of all.
const PAGE: usize = 2_000;
/// The components of the mix.
const COMPONENTS: &[&str] = &[
    "test-guests",
    "fan-out",
    "reminders",
    "droplet-deployment",
    "ci-build",
    "certificate",
    "approval",
    "test-python",
    "python-reminders",
];
/// Settings with which kills find hibernated executions, warm ones and ones in between; each life has further settings.
const SETTINGS: &[(&str, &str)] = &[("HIBERNATE_AT_ONCE", "2s")];

/// The length of a run.
#[derive(Debug, Clone, Copy)]
pub enum Length {
    /// A number of kills, and as many more, up to twice that number, as it takes until each class of them has struck.
    Kills(usize),
    /// A duration.
    Time(Duration),
}

/// The options of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The database.
    pub database: Database,
    /// Fixes the mix and the aims of the kills; not the timing of the machine.
    pub seed: u64,
    /// The length of the run.
    pub length: Length,
    /// Kills at random moments come at the latest this long after a start.
    pub life_max: Duration,
    /// The faults besides kills.
    pub modes: &'static [Mode],
}

/// Runs to the end, or to the first violation.
///
/// # Panics
/// When the engine cannot be started or its database cannot be read.
#[must_use]
pub fn run(options: Options) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(Torture::new(options).run())
}

struct Torture {
    options: Options,
    engine: Engine,
    cloud: Cloud,
    crowd: Crowd,
    checker: Checker,
    kills: Kills,
    faults: Faults,
    fallen: Fallen,
    chance: DeterministicRng,
    began: Instant,
}

impl Torture {
    fn new(options: Options) -> Self {
        let disk = Arc::new(Disk::new());
        let mut engine = match options.modes.contains(&Mode::Disk) {
            true => Engine::start_on(&disk, options.database, SETTINGS),
            false => Engine::start_with(options.database, SETTINGS),
        };
        for component in COMPONENTS {
            engine.upload(component);
        }
        engine.kill();
        Self {
            options,
            engine,
            cloud: Cloud::start(),
            crowd: Crowd::new(options.seed),
            checker: Checker::default(),
            kills: Kills::new(options.seed, options.life_max),
            faults: Faults::new(options.modes, options.seed, disk),
            fallen: Fallen::default(),
            chance: DeterministicRng::of(options.seed, u64::MAX - 1),
            began: Instant::now(),
        }
    }

    async fn run(mut self) -> Report {
        let (mut aim, mut fault) = (self.kills.first(), None);
        while !self.is_over() {
            let full = self.faults.before_launch(fault);
            let is_ready = self.launch(&aim, fault);
            drop(full);
            let class = if is_ready {
                let _infliction = fault.map(|mode| self.faults.inflict(mode));
                self.live(&aim).await
            } else {
                aim.class
            };
            self.faults.stop();
            let class = self.class_of_end(class, fault);
            self.look_at_the_dead(class).await;
            (aim, fault) = (self.kills.next(), self.faults.next());
        }
        let (calm, frozen) = match self.checker.violations.is_empty() {
            true => (self.calm_down().await, Some(self.crowd.members.len())),
            false => (None, None),
        };
        if self.engine.log().contains("panicked at") {
            self.checker.violations.push("the engine has panicked".to_owned());
        }
        let name = match self.options.database {
            Database::Sqlite => "SQLite",
            Database::Postgres => "PostgreSQL",
        };
        let mut report = Report::new((name, self.options.seed), self.began.elapsed(), self.checker, self.fallen);
        (report.counts, report.begun, report.calm) = (self.crowd.counts, self.crowd.begun(), calm);
        (report.frozen, report.faults) = (frozen, self.faults.summary());
        if !report.violations.is_empty() {
            let log = self.engine.log();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            report.violations.push(format!("the end of the engine's log:\n{}", last.join("\n")));
        }
        report
    }

    /// Begins a life of the engine. Returns whether it became ready.
    fn launch(&mut self, aim: &Aim, fault: Option<Mode>) -> bool {
        let clock = self.faults.variables(fault);
        let mut variables: Vec<(&str, &str)> = clock.iter().map(|(name, value)| (*name, value.as_str())).collect();
        variables.extend(aim.settings);
        variables.push((FAILPOINT, aim.failpoint.as_deref().unwrap_or_default()));
        match self.faults.log(fault) {
            Some(log) => self.engine.launch_logging_to(log, &variables),
            None => self.engine.launch(&variables),
        }
    }

    /// The class in which the end of a life counts. An engine that was not killed may have ended only for lack of
    /// space.
    fn class_of_end(&mut self, class: Class, fault: Option<Mode>) -> Class {
        if self.engine.was_killed() {
            return class;
        }
        if fault == Some(Mode::Disk) && self.engine.exit_code().is_some_and(|code| (1..=5).contains(&code)) {
            self.faults.gave_up += 1;
        } else {
            let end = self.engine.exit_code();
            self.checker.violations.push(format!("the engine ended of itself (exit code {end:?}, beside {fault:?})"));
        }
        Class::Random
    }

    fn is_over(&self) -> bool {
        let enough = match self.options.length {
            Length::Kills(kills) => {
                let fallen = self.fallen.scenes.len();
                fallen >= kills && (self.fallen.has_each_class() || fallen >= 2 * kills)
            }
            Length::Time(time) => self.began.elapsed() >= time,
        };
        enough || !self.checker.violations.is_empty()
    }

    /// One life of the engine, until its failpoint or a kill from outside. Returns the class of the kill.
    async fn live(&mut self, aim: &Aim) -> Class {
        let Some(client) = Client::connect(self.engine.url()).await else { return self.end_at_once(aim) };
        if self.fallen.scenes.is_empty() {
            self.fill(&client).await;
        }
        let killer = aim.failpoint.is_none().then(|| kill_later(self.engine.pid(), aim.at));
        let began = Instant::now();
        let parked = self.checker.parked.clone();
        self.crowd.resume(&client, &parked).await;
        let mut looked = Instant::now();
        while !self.engine.has_died() {
            if killer.is_none() && began.elapsed() >= aim.at {
                self.engine.kill();
                return Class::Random;
            }
            self.crowd.start(&client, &self.cloud, BUSY).await;
            self.crowd.act(&client, &self.cloud).await;
            if looked.elapsed() > Duration::from_millis(120) {
                self.crowd.look(&client, &mut self.chance).await;
                looked = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        aim.class
    }

    /// Starts all executions at the beginning of the first life.
    async fn fill(&mut self, client: &Client) {
        while self.crowd.acknowledged() < BUSY {
            self.crowd.start(client, &self.cloud, BUSY).await;
        }
    }

    /// The end of a life without a connection: the engine has died at once, or is killed now.
    fn end_at_once(&mut self, aim: &Aim) -> Class {
        if self.engine.has_died() {
            return aim.class;
        }
        self.engine.kill();
        Class::Random
    }

    /// Compares everything while the engine is dead.
    async fn look_at_the_dead(&mut self, aimed: Class) {
        let wanted = self.checker.wanted();
        self.checker.drift_ms = self.faults.drift_ms(self.began.elapsed());
        self.cloud.wait_until_deserted();
        let entries = self.cloud.ledger_after(self.checker.ledger_read()).into_iter().map(Seen::of);
        let ledger = entries.collect::<anyhow::Result<Vec<Seen>>>().expect("the ledger can be read");
        match rows::read(self.options.database, self.engine.database(), &wanted).await {
            Ok(stored) => {
                let scene = self.checker.compare(&stored, ledger, &mut self.crowd);
                self.fallen.note(scene.class(aimed), scene);
                self.say_how_far();
            }
            Err(error) => self.checker.violations.push(format!("the histories cannot be read: {error:#}")),
        }
    }

    /// Prints the progress of a long run.
    fn say_how_far(&self) {
        let kills = self.fallen.scenes.len();
        if kills.is_multiple_of(100) {
            let (database, minutes) = (self.options.database, self.began.elapsed().as_secs_f64() / 60.0);
            eprintln!("{database:?}: {kills} kills in {minutes:.1} minutes, {} executions ended", self.checker.ended());
        }
    }

    /// After the faults: checks that everything comes to its end, is unchanged, and is listed. Returns how long that
    /// took.
    async fn calm_down(&mut self) -> Option<Duration> {
        let client = self.bear_the_last_faults().await;
        let began = Instant::now();
        let (mut open, mut moves, mut looked) = (usize::MAX, Moves::default(), None::<Instant>);
        while open > 0 && moves.longest() < CALM_MAX && began.elapsed() < CALM_IN_ALL_MAX {
            // The engine parks an execution that ran alone at the last kill only now, when it picks it up.
            self.crowd.resume(&client, &client.parked_after_crashes().await).await;
            self.crowd.start(&client, &self.cloud, 0).await;
            self.crowd.act(&client, &self.cloud).await;
            self.crowd.look(&client, &mut self.chance).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            if looked.is_none_or(|looked| looked.elapsed() > LOOK_AGAIN)
                && let Some(all) = list_all(&client).await
            {
                let listed = moves.note(all);
                (open, looked) = (self.crowd.busy().max(listed), Some(Instant::now()));
            }
        }
        let calm = began.elapsed();
        let two_liners = self.checker.two_liners.clone();
        self.crowd.check_lines(&client, &two_liners).await;
        let listed = list_all(&client).await.unwrap_or_default();
        let listed = listed.into_iter().map(|summary| (summary.execution_id, summary.status)).collect();
        self.engine.kill();
        self.look_at_the_dead(Class::Random).await;
        self.fallen.forget_last(Class::Random);
        self.read_all_again().await;
        self.checker.compare_list(&listed);
        for member in self.crowd.members.values() {
            let member = format!("{member:?}");
            let what = format!("I8: it has not ended {calm:?} after the last kill: {member:.300}");
            self.checker.violations.push(what);
        }
        (open == 0).then_some(calm)
    }

    /// All faults strike once more, one after the other. The engine has to go on by itself when they have stopped.
    async fn bear_the_last_faults(&mut self) -> Client {
        let modes = self.faults.modes();
        let aim = self.kills.first();
        let launched = self.launch(&aim, modes.contains(&Mode::Clock).then_some(Mode::Clock));
        assert!(launched, "an engine without failpoints lives:\n{}", self.engine.log());
        for mode in modes {
            let client = self.connect().await;
            let infliction = self.faults.inflict(mode);
            let began = Instant::now();
            while began.elapsed() < LAST_FAULTS && !self.engine.has_died() {
                self.crowd.start(&client, &self.cloud, BUSY).await;
                self.crowd.act(&client, &self.cloud).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop(infliction);
            if self.engine.has_died() {
                self.class_of_end(Class::Random, Some(mode));
                self.engine.restart();
            }
        }
        self.connect().await
    }

    async fn connect(&self) -> Client {
        Client::connect(self.engine.url()).await.expect("an engine without failpoints lives")
    }

    async fn read_all_again(&mut self) {
        let highest = self.checker.highest();
        for above in (0..highest).step_by(PAGE) {
            let page = Wanted::Between(above, above + PAGE as i64);
            let stored = rows::read(self.options.database, self.engine.database(), &page).await;
            self.checker.compare_ends(&stored.expect("the database can be read"));
        }
    }
}

/// Kills a process as `kill -9` does, after this time. The process is not waited for before that, so its id stays its
/// own.
fn kill_later(pid: u32, after: Duration) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(after);
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process has an id");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a child can be killed");
    })
}

/// The number of events of each open execution, and since when it has that many.
#[derive(Default)]
struct Moves(BTreeMap<String, (u64, Instant)>);

impl Moves {
    /// Compares with the current list. Returns how many executions are open.
    fn note(&mut self, all: Vec<proto::Summary>) -> usize {
        let mut known = std::mem::take(&mut self.0);
        for summary in all.into_iter().filter(|summary| !has_ended(&summary.status)) {
            let before = known.remove(&summary.execution_id).filter(|(events, _)| *events == summary.events);
            self.0.insert(summary.execution_id, before.unwrap_or((summary.events, Instant::now())));
        }
        self.0.len()
    }

    /// The longest time for which an execution has not moved.
    fn longest(&self) -> Duration {
        self.0.values().map(|(_, since)| since.elapsed()).max().unwrap_or_default()
    }
}

fn has_ended(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "cancelled")
}

/// All executions; `None` when the engine does not answer.
async fn list_all(client: &Client) -> Option<Vec<proto::Summary>> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let Told::Yes(page) = client.list(cursor, 1_000).await else { return None };
        all.extend(page.executions);
        cursor = page.next;
        if cursor.is_none() {
            return Some(all);
        }
    }
}
