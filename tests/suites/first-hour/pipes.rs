//! Readers that go away: a pipe that is closed early ends a command quietly, and does not end an engine.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use test_engine::{Database, Engine, http_get, program, scratch, until};

/// A shell command with the built binary as `$C`.
fn shell(engine: &Engine, command: &str) -> (i32, String) {
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", command]).env("C", program("cerebelum")).env("CEREBELUM_URL", engine.url());
    let done = shell.stdin(Stdio::null()).output().unwrap();
    (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    let id = engine.run("sequence", &json!({"steps": 200}))["execution_id"].as_str().unwrap().to_owned();
    let commands = [
        "status ID --all",
        "status ID --json",
        "history ID",
        "history ID --json",
        "logs ID",
        "watch ID",
        "list",
        "list --json",
        "components",
        "approvals",
        "result ID",
        "help-markdown",
        "completions bash",
        "--help",
        "start --help",
        "--version",
    ];
    for command in commands {
        let command = command.replace("ID", &id);
        let (code, err) = shell(&engine, &format!("\"$C\" {command} | true"));
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
        // Also when neither stdout nor stderr is open.
        let (code, err) = shell(&engine, &format!("\"$C\" {command} >&- 2>&-"));
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
    }
    // An error without a reader keeps its exit code.
    for (command, code) in [("status nobody", 3), ("strat", 2), ("list --json --limit x", 2), ("build /nowhere", 2)] {
        let (ended, _) = shell(&engine, &format!("\"$C\" {command} 2>&1 >&- | true"));
        assert_eq!(ended, code, "{command}");
        let (ended, _) = shell(&engine, &format!("\"$C\" {command} 2>&-"));
        assert_eq!(ended, code, "{command}");
    }
}

#[test]
fn a_disk_that_is_full_is_said_and_no_panic() {
    let engine = Engine::start(Database::Sqlite);
    for command in ["list", "components --json", "help-markdown", "completions fish"] {
        let (code, err) = shell(&engine, &format!("\"$C\" {command} > /dev/full"));
        assert!(code == 1 && err.contains("cannot write the answer: No space left"), "{command}: {code} {err}");
    }
}

/// A process that is killed when this is dropped.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_engine_outlives_the_readers_of_its_output() {
    let data = scratch();
    let serve = |stdout: Stdio, stderr: Stdio| {
        let mut command = Command::new(program("cerebelum"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.0.join("data"));
        Held(command.stdout(stdout).stderr(stderr).stdin(Stdio::null()).spawn().unwrap())
    };
    // `cerebelum serve | head -1`
    let mut engine = serve(Stdio::piped(), Stdio::null());
    let mut out = BufReader::new(engine.0.stdout.take().unwrap());
    let mut ready = String::new();
    out.read_line(&mut ready).unwrap();
    drop(out);
    let url = ready.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    until("it is healthy", || http_get(&format!("{url}/healthz")).eq("ready\n").then_some(()));
    assert!(engine.0.try_wait().unwrap().is_none());
    drop(engine);
    // There is no reader from the very beginning.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(program("cerebelum"));
    command.args(["serve", "--listen", &port.to_string(), "--data"]).arg(data.0.join("data"));
    let mut engine = Held(command.stdout(writer).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap());
    until("it listens", || std::net::TcpStream::connect(port).ok());
    until("it is ready", || http_get(&format!("http://{port}/healthz")).eq("ready\n").then_some(()));
    engine.0.kill().unwrap();
    let mut said = String::new();
    engine.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!said.contains("panicked"), "{said}");
}
