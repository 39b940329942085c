//! One engine process: started, killed, started again on the same data, and used through the command line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use cerebelum_history::Digest;
use rustix::process::Signal;
use serde_json::Value;

use crate::{Disk, Scratch, WATCHDOG, asked_for, http_get, program, scratch, until};

/// The hosts that steps may reach by default.
const HOSTS: &str = "127.0.0.1,localhost";

/// The variable that names the fail point at which an engine dies. With it, [`Engine::launch`] starts the tests' own
/// build of the engine: the product does not know the variable.
pub const FAILPOINT: &str = "CEREBELUM_FAILPOINT";

/// Where an engine keeps its histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// A file in the engine's data folder.
    Sqlite,
    /// A fresh database on the test process's own PostgreSQL.
    Postgres,
}

/// The answer of the command line.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// The text on stdout.
    pub out: String,
    /// The text on stderr.
    pub err: String,
}

/// An engine process.
#[derive(Debug)]
pub struct Engine {
    child: Option<Child>,
    /// How the last process ended.
    end: Option<ExitStatus>,
    url: String,
    data: Scratch,
    /// The disk with its data, if a test fills it.
    disk: Option<Arc<Disk>>,
    database: String,
    variables: Vec<(String, String)>,
    /// The hosts that steps may reach.
    hosts: String,
    /// The program, if it is of another version.
    version: Option<PathBuf>,
}

impl Engine {
    /// Starts an engine on an empty database. Steps may reach any loopback address.
    #[must_use]
    pub fn start(database: Database) -> Self {
        Self::start_with(database, &[])
    }

    /// The same, with these settings (`CEREBELUM_…` variables without the prefix).
    #[must_use]
    pub fn start_with(database: Database, settings: &[(&str, &str)]) -> Self {
        let data = scratch();
        Self::on(address(database, &data), (data, None), settings)
    }

    /// The same, with its data folder and a SQLite file on a disk that can be filled; its log is elsewhere.
    ///
    /// # Panics
    /// When there is an engine on this disk already.
    #[must_use]
    pub fn start_on(disk: &Arc<Disk>, database: Database, settings: &[(&str, &str)]) -> Self {
        let data = Scratch(disk.folder().join("engine"));
        std::fs::create_dir(&data.0).expect("a folder can be made on an empty disk");
        Self::on(address(database, &data), (data, Some(disk.clone())), settings)
    }

    /// Starts an engine on the database of this address, with these settings.
    #[must_use]
    pub fn start_at(database: &str, settings: &[(&str, &str)]) -> Self {
        Self::on(database.to_owned(), (scratch(), None), settings)
    }

    /// Starts this program, an engine of another version, on an empty database.
    #[must_use]
    pub fn start_version(program: PathBuf, database: Database, settings: &[(&str, &str)]) -> Self {
        let data = scratch();
        Self::begin_life(address(database, &data), (data, None), (variables(settings), Some(program)))
    }

    fn on(database: String, place: (Scratch, Option<Arc<Disk>>), settings: &[(&str, &str)]) -> Self {
        Self::begin_life(database, place, (variables(settings), None))
    }

    fn begin_life(
        database: String,
        (data, disk): (Scratch, Option<Arc<Disk>>),
        (variables, version): (Vec<(String, String)>, Option<PathBuf>),
    ) -> Self {
        data.share_artifacts();
        let (url, hosts) = (String::new(), HOSTS.to_owned());
        let mut engine = Self { child: None, end: None, url, data, disk, database, variables, hosts, version };
        engine.restart();
        engine
    }

    /// Starts another engine on the same database, with a data folder of its own.
    #[must_use]
    pub fn beside(other: &Self) -> Self {
        Self::begin_life(other.database.clone(), (scratch(), None), (other.variables.clone(), None))
    }

    /// Lets steps reach only these hosts, from the next start on.
    pub fn allow(&mut self, hosts: &str) {
        hosts.clone_into(&mut self.hosts);
    }

    /// Starts the process on the same data and database, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same, with these further variables for this one process.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn restart_with(&mut self, variables: &[(&str, &str)]) {
        assert!(self.launch(variables), "the engine died:\n{}", self.log());
    }

    /// The same, for a process that may be meant to die at once. Returns whether it became ready.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch(&mut self, variables: &[(&str, &str)]) -> bool {
        let log = File::options().create(true).append(true).open(self.log_file());
        self.launch_logging_to(log.expect("the engine's log can be written").into(), variables)
    }

    /// The same, with another place for its log.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch_logging_to(&mut self, log: Stdio, variables: &[(&str, &str)]) -> bool {
        assert!(self.child.is_none(), "the engine runs already");
        let listen = variables.iter().find(|(name, _)| *name == "CEREBELUM_LISTEN");
        let listen = listen.map_or("127.0.0.1:0", |(_, address)| address);
        let is_aimed = variables.iter().any(|(name, aim)| *name == FAILPOINT && !aim.is_empty());
        let of_the_tests = || program(if is_aimed { "engine-under-test" } else { "cerebelum" });
        let cerebelum = self.version.clone().unwrap_or_else(of_the_tests);
        let mut command = self.disk.as_ref().map_or_else(|| Command::new(&cerebelum), |disk| disk.command(&cerebelum));
        let mut child = command
            .args(["serve", "--listen", listen, "--database", &self.database])
            .args(["--allow-http", &self.hosts, "--data"])
            .arg(self.data.0.join("data"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the engine can be started");
        let said = BufReader::new(child.stdout.take().expect("its output is piped")).lines().next();
        let Some(ready) = said.and_then(Result::ok) else {
            self.end = Some(child.wait().expect("a process that closed its output ends"));
            return false;
        };
        let url = ready.split_whitespace().find(|word| word.starts_with("http://") || word.starts_with("https://"));
        self.url = url.unwrap_or_else(|| panic!("no address in `{ready}`")).to_owned();
        self.child = Some(child);
        true
    }

    /// Whether the process has ended by itself, or was never started.
    ///
    /// # Panics
    /// When its state cannot be read.
    pub fn has_died(&mut self) -> bool {
        let Some(child) = &mut self.child else { return true };
        let Some(end) = child.try_wait().expect("its state can be read") else { return false };
        (self.child, self.end) = (None, Some(end));
        true
    }

    /// Whether the last process ended by `kill -9`, from outside or at a failpoint, and not otherwise.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.end.and_then(|end| end.signal()) == Some(9)
    }

    /// The exit code of the last process, if it has one.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.end.and_then(|end| end.code())
    }

    /// Kills the process as `kill -9` does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the engine runs");
        child.kill().expect("a running process can be killed");
        self.end = Some(child.wait().expect("a killed process ends"));
    }

    /// Sends the process a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process id"), signal).expect("a running process takes signals");
    }

    /// Asks the process to stop, and returns how it ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.send(Signal::TERM);
        let mut child = self.child.take().expect("the engine runs");
        until("the engine has stopped", || child.try_wait().expect("its state can be read"))
    }

    /// Asks the process to stop.
    ///
    /// # Panics
    /// When it fails, or stops before everything is put away, because something in it does not end.
    pub fn put_away(&mut self) {
        let status = self.terminate();
        let log = self.log();
        assert!(status.success() && !log.contains("stopped before everything was put away"), "{status}: {log}");
    }

    /// Waits until the process has died by itself (a failpoint).
    ///
    /// # Panics
    /// When it does not die.
    pub fn wait_for_death(&mut self) {
        let mut child = self.child.take().expect("the engine runs");
        self.end = Some(until("the engine dies", || child.try_wait().expect("its state can be read")));
    }

    /// Kills it and starts it again.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Removes the compiled components that it keeps in its data folder.
    ///
    /// # Panics
    /// When that is not possible, or it runs.
    pub fn forget_artifacts(&self) {
        assert!(self.child.is_none(), "a running engine has them in memory as well");
        std::fs::remove_dir_all(self.data.0.join("data/artifacts")).expect("a folder of its own can be removed");
    }

    /// Removes the files that make it the same node: its id, and its notes of the executions that ran when it died. A
    /// container that starts on an empty data folder has lost them in the same way.
    ///
    /// # Panics
    /// When that is not possible, or it runs.
    pub fn forget_node(&self) {
        assert!(self.child.is_none(), "a running engine keeps them open");
        for file in ["node-id", "running", "crashes.json"] {
            std::fs::remove_file(self.data.0.join("data").join(file)).expect("a file of its own can be removed");
        }
    }

    /// The folder of compiled components.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.data.0.join("data/artifacts")
    }

    /// Whether a component's compiled form is on disk.
    ///
    /// # Panics
    /// When there is no such component.
    #[must_use]
    pub fn has_artifact(&self, name: &str) -> bool {
        let bytes = std::fs::read(crate::component(name)).expect("the component can be read");
        self.data.0.join(format!("data/artifacts/{}.seal", Digest::of(&bytes))).exists()
    }

    /// The process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the engine runs").id()
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address of its database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.data.0.as_path(), |disk| disk.beside()).join("engine.log")
    }

    /// Runs the command line against this engine.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Said {
        let done = Command::new(program("cerebelum"))
            .args(["--url", &self.url])
            .args(arguments)
            .env("XDG_CONFIG_HOME", self.data.0.join("config"))
            .envs(
                self.variables
                    .iter()
                    .filter(|(name, _)| name == "CEREBELUM_CA" || name == "CEREBELUM_CLIENT_CERT")
                    .cloned(),
            )
            .stdin(Stdio::null())
            .output()
            .expect("the command line can be run");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
        Said { code: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
    }

    /// Runs the command line and expects success.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let said = self.cli(arguments);
        assert_eq!(said.code, 0, "{arguments:?} said {}{}\n{}", said.out, said.err, self.log());
        said.out
    }

    /// Runs the command line with `--json` and reads the answer, whatever the exit code.
    ///
    /// # Panics
    /// When the answer is not JSON.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.cli(&[arguments, &["--json"]].concat());
        serde_json::from_str(&said.out)
            .unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}{}\n{}", said.out, said.err, self.log()))
    }

    /// Uploads a component that `make examples` has built.
    pub fn upload(&self, name: &str) {
        self.ok(&["upload", &crate::component(name), "--name", name]);
    }

    /// Starts an execution and returns its id.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn begin(&self, workflow: &str, input: &Value) -> String {
        let said = self.json(&["start", workflow, "--input", &input.to_string()]);
        said["execution_id"].as_str().unwrap_or_else(|| panic!("no id in {said}")).to_owned()
    }

    /// Starts an execution and waits for its end.
    #[must_use]
    pub fn run(&self, workflow: &str, input: &Value) -> Value {
        self.json(&["start", workflow, "--input", &input.to_string(), "--wait"])
    }

    /// The status of an execution.
    #[must_use]
    pub fn status(&self, id: &str) -> Value {
        self.json(&["status", id])
    }

    /// Waits until the execution has one of these statuses.
    ///
    /// # Panics
    /// When it never has.
    pub fn wait_for(&self, id: &str, statuses: &[&str]) -> Value {
        let found = asked_for(WATCHDOG, || {
            let now = self.status(id);
            statuses.iter().any(|status| now["status"] == *status).then_some(now)
        });
        found.unwrap_or_else(|| panic!("{id} never became {statuses:?}: {:#}\n{}", self.status(id), self.log()))
    }

    /// Waits until the execution has ended.
    #[must_use]
    pub fn wait_for_end(&self, id: &str) -> Value {
        self.wait_for(id, &["completed", "failed", "cancelled"])
    }

    /// The events of an execution.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[must_use]
    pub fn history(&self, id: &str) -> Vec<Value> {
        let lines = self.ok(&["history", id, "--json"]);
        lines.lines().map(|line| serde_json::from_str(line).expect("an event is one line of JSON")).collect()
    }

    /// The number of events of this kind in a history.
    #[must_use]
    pub fn count(&self, id: &str, kind: &str) -> usize {
        self.history(id).iter().filter(|event| event["kind"] == kind).count()
    }

    /// The value of a metric; without labels, the sum over all labels.
    ///
    /// # Panics
    /// When the metrics cannot be read or lack it.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let text = http_get(&format!("{}/metrics", self.url));
        let value = |line: &str| -> Option<u64> {
            let rest = line.strip_prefix(name)?;
            let labelled = rest.strip_prefix('{').and_then(|labels| Some(labels.rsplit_once("} ")?.1));
            labelled.or(rest.strip_prefix(' '))?.parse().ok()
        };
        let values: Vec<u64> = text.lines().filter_map(value).collect();
        assert!(!values.is_empty(), "no metric {name} in:\n{text}");
        values.iter().sum()
    }

    /// Its resident memory in bytes.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory is known");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number of kB") * 1024
    }
}

fn address(database: Database, data: &Scratch) -> String {
    match database {
        Database::Sqlite => format!("sqlite:{}", data.0.join("cerebelum.db").display()),
        Database::Postgres => test_postgres::database(),
    }
}

/// Settings as the variables of the environment that the engine reads.
fn variables(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| (format!("CEREBELUM_{name}"), (*value).to_owned())).collect()
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have died already, which is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the engine's log:\n{}", self.log());
        }
    }
}
