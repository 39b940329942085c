//! The binary as scripts see it: exit codes, one line on stderr, precedence of settings, starting and stopping the engine.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its tests share")]

mod python;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_cerebelum");

fn cerebelum(line: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.args(line.split_whitespace()).env_clear();
    for kept in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        command.envs(std::env::var_os(kept).map(|value| (kept, value)));
    }
    command
}

/// Runs a command and checks the exit code, and that a failure is reported in one line.
fn check(command: &mut Command, code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{command:?}\n{out}\n{err}");
    if code != 0 {
        assert!(err.starts_with("error: ") && err.trim_end().lines().count() == 1, "{command:?}: {err}");
    }
    (out, err)
}

/// An engine on a free port.
struct Running {
    process: Child,
    url: String,
    _out: BufReader<ChildStdout>,
}

impl Running {
    fn start(folder: &Path) -> Self {
        let mut command = cerebelum("serve --listen 127.0.0.1:0");
        let mut process = command.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut ready = String::new();
        out.read_line(&mut ready).unwrap();
        let url = ready.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        assert_eq!(ready, format!("cerebelum is ready on {url} (database sqlite:.cerebelum/cerebelum.db)\n"));
        Self { process, url, _out: out }
    }

    fn ask(&self, line: &str) -> Command {
        let mut command = cerebelum(line);
        command.env("CEREBELUM_URL", &self.url);
        command
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn without_an_engine_every_question_is_exit_4_and_says_how_to_start_one() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for line in ["list", "components", "status x", "watch x", "start w", "approvals", "cancel x", "logs x --follow"] {
        let (_, err) = check(&mut cerebelum(&format!("{line} --url http://{free}")), 4);
        assert!(err.contains("cerebelum serve"), "{line}: {err}");
    }
}

#[test]
fn wrong_usage_is_exit_2() {
    let lines = [
        "",
        "strat",
        "start",
        "start w --input {",
        "start w --input @/nowhere.json",
        "start w --attr x",
        "start w --delay soon",
        "list --status bogus",
        "build /nowhere",
        "build /nowhere.py",
        "upload /nowhere.wasm",
        "new x --lang cobol",
        "new Wrong --lang python",
        "new Wrong",
        "serve --config /nowhere.toml",
        "list --url ftp://localhost",
    ];
    for line in lines {
        let Output { status, stderr, .. } = cerebelum(line).output().unwrap();
        assert_eq!(status.code(), Some(2), "{line}: {}", String::from_utf8_lossy(&stderr));
    }
    for line in &lines[1..] {
        check(&mut cerebelum(line), 2);
    }
    let (_, err) = check(&mut cerebelum("start w --input ada@example.com"), 2);
    assert!(err.contains(r#"a text has quotes: '"ada@example.com"'"#), "{err}");
}

#[test]
fn help_and_version_are_answers() {
    assert!(check(&mut cerebelum("--version"), 0).0.starts_with("cerebelum "));
    assert!(check(&mut cerebelum("start --help"), 0).0.contains("--deadline"));
    assert!(!check(&mut cerebelum("--help"), 0).0.contains("help-markdown"));
}

#[test]
fn a_flag_beats_a_variable_and_a_variable_beats_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "lease = \"1m\"\nactivations_max = 7\n[secrets]\nA = \"hush\"\n").unwrap();
    let print = |flags: &str, variables: &[(&str, &str)]| {
        let mut command = cerebelum(&format!("serve --print-config --config {} {flags}", file.display()));
        check(command.envs(variables.iter().copied()), 0).0
    };
    let shown = print("", &[("CEREBELUM_SECRET_B", "hush")]);
    assert!(shown.contains("\nlease = \"1m\"\n") && shown.contains("\nactivations_max = 7\n"), "{shown}");
    assert!(shown.contains("# A\n# B") && !shown.contains("hush"), "{shown}");
    assert!(print("", &[("CEREBELUM_LEASE", "2m")]).contains("\nlease = \"2m\"\n"));
    assert!(print("--lease 3m", &[("CEREBELUM_LEASE", "2m")]).contains("\nlease = \"3m\"\n"));
    for short in ["0s", "1ms", "1s", "2999ms"] {
        for command in ["serve", "serve --print-config"] {
            let (_, err) = check(&mut cerebelum(&format!("{command} --lease {short}")), 2);
            assert!(err.contains("lease") && err.contains("3s or more"), "{err}");
        }
    }
    assert!(print("--lease 3s", &[]).contains("\nlease = \"3s\"\n"));
    std::fs::write(&file, "leese = \"1m\"\n").unwrap();
    let (_, err) = check(&mut cerebelum(&format!("serve --config {}", file.display())), 2);
    assert!(err.contains("line 1") && err.contains("leese"), "{err}");
}

#[test]
fn an_engine_starts_answers_and_stops_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(folder.path());
    assert_eq!(check(&mut running.ask("list --json"), 0).0, "[]\n");
    assert_eq!(check(&mut running.ask("components --json"), 0).0, "[]\n");
    assert_eq!(check(&mut running.ask("approvals --json"), 0).0, "[]\n");
    for line in ["status x", "result x", "watch x", "history x", "logs x", "cancel x", "approve x", "start nothing"] {
        check(&mut running.ask(line), 3);
    }
    std::fs::write(folder.path().join("x.wasm"), "garbage").unwrap();
    check(running.ask("upload x.wasm").current_dir(folder.path()), 5);

    let port = running.url.trim_start_matches("http://").to_owned();
    check(&mut cerebelum(&format!("serve --listen {port}")), 5);
    check(&mut cerebelum("serve --listen 0.0.0.0:0"), 2);
    check(cerebelum("serve --listen 127.0.0.1:0").current_dir(folder.path()), 5);

    let id = rustix::process::Pid::from_raw(running.process.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_new_project_builds_is_tested_and_runs_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let target = Path::new(BINARY).ancestors().nth(2).unwrap().join("new-project");
    let cache = folder.path().join("cache");
    let here = |line: &str| {
        let mut command = cerebelum(line);
        command.current_dir(folder.path()).env("XDG_CACHE_HOME", &cache).env("CARGO_TARGET_DIR", &target);
        command
    };
    check(&mut here("new first-steps"), 0);
    // A missing file in the cache is written again.
    std::fs::remove_dir_all(&cache).unwrap();
    check(&mut here("build first-steps -o x.wasm"), 0);
    let mut tests = Command::new("cargo");
    tests.args(["test", "--quiet"]).current_dir(folder.path().join("first-steps")).env("CARGO_TARGET_DIR", &target);
    assert!(tests.status().unwrap().success());

    let running = Running::start(folder.path());
    let (out, _) = check(running.ask("upload x.wasm --name first --json").current_dir(folder.path()), 0);
    assert!(out.contains(r#""workflows":["visit"],"steps":["say_goodbye","welcome"],"capabilities":[]"#), "{out}");
    let (out, _) = check(running.ask("start visit --id v --wait --json --attr n=1 --input -").stdin(input()), 0);
    assert!(out.contains(r#""status":"completed""#) && out.contains(r#""attributes":{"n":1}"#), "{out}");
    assert_eq!(check(&mut running.ask("result v"), 0).0, "[\"Welcome, Ada!\",\"Goodbye, Ada!\"]\n");
    let (out, _) = check(&mut running.ask("history v --json"), 0);
    assert!(out.lines().all(|line| line.starts_with(r#"{"position":"#)), "{out}");
    assert!(check(&mut running.ask("watch v"), 0).0.contains("completed with"));
    let (out, err) = check(running.ask("start visit --id v --delay 1h --input -").stdin(input()), 0);
    assert_eq!(out, "v\n");
    assert!(err.contains("v exists already and is completed: nothing was started"), "{err}");
    let (_, err) = check(running.ask("start visit --delay 400d --input -").stdin(input()), 2);
    assert!(err.contains("begins within a year"), "{err}");
    check(running.ask("start visit").current_dir(folder.path()), 2);
    check(&mut running.ask("delete v"), 0);
    check(&mut running.ask("status v"), 3);
}

/// The input that is piped into the command.
fn input() -> Stdio {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, br#"{ "name": "Ada", "stay_seconds": 0 }"#).unwrap();
    reader.into()
}
