//! A backup and its restore, as docs/deploying.md walks through them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, component, within};

use crate::tenants::token;

const KEYS: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A running engine with something of each kind.
struct Scene {
    engine: Engine,
    admin: String,
    cloud: Cloud,
    keys: test_engine::Scratch,
}

impl Scene {
    fn new(database: Database) -> Self {
        let (keys, cloud) = (test_engine::scratch(), Cloud::start());
        let file = keys.0.join("keys");
        std::fs::write(&file, KEYS).unwrap();
        let engine = Engine::start_with(database, &[("SECRETS_KEY", file.to_str().unwrap())]);
        let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
        let scene = Self { engine, admin, cloud, keys };
        scene.ok(&["upload", &component("test-guests"), "--name", "guests"]);
        scene.start("before", "guests/naps", &json!({"base_url": scene.cloud.url(), "naps": 2, "sleep_ms": 3_000}));
        scene.start("asks", "guests/asking", &json!({"title": "Go?"}));
        within(Duration::from_secs(10), "the first request is answered", || {
            scene.ok(&["status", "before"]).contains("sleeping").then_some(())
        });
        scene
    }

    fn ok(&self, line: &[&str]) -> String {
        self.engine.ok(&[line, &["--token", &self.admin]].concat())
    }

    fn start(&self, id: &str, workflow: &str, input: &Value) {
        self.ok(&["start", workflow, "--id", id, "--input", &input.to_string()]);
    }

    /// What happens between the backup and its restore is gone afterwards.
    fn go_on(&self) {
        self.start("after", "guests/sleeper", &json!(86_400_000));
        self.ok(&["approve", "asks"]);
        self.ok(&["tenant", "create", "later"]);
        within(Duration::from_secs(10), "the second request left", || {
            (self.cloud.requests("POST", "/notes/1").len() == 1).then_some(())
        });
    }
}

/// What the engine is after the restore.
fn is_as_it_was(engine: &Engine, admin: &str, cloud: &Cloud) {
    let ok = |line: &[&str]| engine.ok(&[line, &["--token", admin]].concat());
    let status = |id: &str| -> Value { serde_json::from_str(&ok(&["status", id, "--json"])).unwrap() };
    assert_eq!(engine.cli(&["status", "after", "--token", admin]).code, 3, "it was started later");
    assert!(!ok(&["tenant", "list"]).contains("later"));
    assert!(!ok(&["audit"]).contains("Approve"));
    // The question is open again; what slept goes on.
    ok(&["approve", "asks"]);
    for id in ["asks", "before"] {
        let ended = within(Duration::from_secs(30), "it has ended", || {
            Some(status(id)).filter(|now| now["ended_at"].is_string())
        });
        assert_eq!(ended["status"], "completed", "{ended:#}");
    }
    // A request that left again has the key that it had.
    let keys = |path: &str| -> Vec<Value> {
        cloud.requests("POST", path).into_iter().map(|request| request["idempotency_key"].clone()).collect()
    };
    assert_eq!(keys("/notes/0").len(), 1);
    let again = keys("/notes/1");
    assert!(again.len() == 2 && again[0] == again[1], "{again:?}");
}

/// The address without the settings of this driver.
fn plain(url: &str) -> &str {
    url.split_once('?').map_or(url, |(url, _)| url)
}

fn run(mut command: Command) {
    let said = command.output().unwrap();
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn a_copy_of_a_sqlite_database_goes_on_where_it_was_made() {
    let mut scene = Scene::new(Database::Sqlite);
    let file = PathBuf::from(scene.engine.database().strip_prefix("sqlite:").unwrap());
    let folder = file.parent().unwrap();
    let copy = folder.join("copy.db");
    // The same call as `.backup` of the shell `sqlite3`.
    let mut backup = test_engine::python();
    let code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))";
    backup.args(["-c", code]).args([&file, &copy]);
    run(backup);
    scene.go_on();
    scene.engine.kill();
    let old = folder.join("old");
    std::fs::create_dir(&old).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("{}{suffix}", file.file_name().unwrap().to_str().unwrap());
        if folder.join(&name).exists() {
            std::fs::rename(folder.join(&name), old.join(&name)).unwrap();
        }
    }
    std::fs::copy(&copy, &file).unwrap();
    scene.engine.restart();
    is_as_it_was(&scene.engine, &scene.admin, &scene.cloud);
}

#[test]
fn a_dump_of_a_postgres_database_goes_on_in_another_one() {
    let mut scene = Scene::new(Database::Postgres);
    let dump = scene.keys.0.join("cerebelum.dump");
    let mut backup = Command::new(test_postgres::program("pg_dump"));
    backup.args(["--format", "custom", "--file"]).arg(&dump).arg(plain(scene.engine.database()));
    run(backup);
    scene.go_on();
    scene.engine.kill();
    let fresh = test_postgres::database();
    let mut restore = Command::new(test_postgres::program("pg_restore"));
    restore.args(["--no-owner", "--exit-on-error", "--single-transaction", "--dbname", plain(&fresh)]).arg(&dump);
    run(restore);
    let keys = scene.keys.0.join("keys");
    let engine = Engine::start_at(&fresh, &[("SECRETS_KEY", keys.to_str().unwrap())]);
    assert!(!engine.log().contains("does not separate the tenants"), "the wall was restored as well");
    is_as_it_was(&engine, &scene.admin, &scene.cloud);
}
