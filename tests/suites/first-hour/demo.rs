//! The demo of the README, on both databases.

use std::process::{Command, Stdio};

use test_engine::root;

fn demo(database: &str) {
    let script = root().join("examples/droplet-deployment/demo");
    let done = Command::new(&script).arg(database).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}\n{err}");
    for told in
        ["4. kill -9", "the engine was killed here", "No completed step ran again", "and none of the 8 was repeated"]
    {
        assert!(out.contains(told), "`{told}` is missing:\n{out}\n{err}");
    }
}

#[test]
fn the_demo_runs_on_sqlite() {
    demo("sqlite");
}

#[test]
fn the_demo_runs_on_postgres() {
    demo("postgres");
}
