//! Checks of the engine's laws in the sources: each law has its test, and two laws are held in one place of the code.

use std::collections::BTreeSet;

use crate::complain;
use crate::sources::{Source, all};

/// L1 to L20, and L22.
fn laws() -> impl Iterator<Item = u32> {
    (1..=20).chain([22])
}

#[test]
fn each_law_has_a_test_of_its_name() {
    let tests: BTreeSet<String> = all().iter().flat_map(|source| source.tests()).collect();
    let mut problems = Vec::new();
    for law in laws() {
        if !tests.iter().any(|test| test.starts_with(&format!("l{law:02}_"))) {
            problems.push(format!(
                "no test is named `l{law:02}_…`: law L{law} needs one that fails when the law is broken; if you renamed \
                 the last one, keep the prefix, and if you removed it, write another first"
            ));
        }
    }
    complain(&problems);
}

/// The files of the engine's own code in which these words appear, once for each time.
fn places(words: &str) -> Vec<&'static str> {
    let engine = all().iter().filter(|source| source.path.starts_with("engine/") && source.path.contains("/src/"));
    engine.flat_map(|source| source.code().matches(words).map(|_| source.path.as_str()).collect::<Vec<_>>()).collect()
}

/// Checks words that may appear only in these places, once for each place; with the reason.
fn check_places(rules: &[(&str, &[&str], &str)]) {
    let mut problems = Vec::new();
    for (words, may, why) in rules {
        let are = places(words);
        if are != *may {
            problems.push(format!("`{words}` stands in {are:?}, it may in {may:?}: {why}"));
        }
    }
    complain(&problems);
}

#[test]
fn l06_effects_leave_through_one_door() {
    const DOOR: &str = "engine/worker/src/effects.rs";
    const CLIENT: &str = "engine/worker/src/fetch.rs";
    const OUTLETS: &str = "engine/worker/src/fetch/outlets.rs";
    const CONNECTOR: &str = "engine/worker/src/fetch/connector.rs";
    const METER: &str = "engine/worker/src/fetch/meter.rs";
    const PERMITS: &str = "engine/worker/src/fetch/permits.rs";
    check_places(&[
        ("async fn leave(", &[DOOR], "there is one door"),
        (".web.fetch(", &[DOOR], "only the door may send"),
        (".web", &[DOOR; 4], "the web is handed to no other file: the door prepares a request, looks, and sends it"),
        ("Web::fetch", &[], "the web is asked by the door only"),
        ("Fetcher::new(", &["engine/worker/src/engine.rs"], "one client"),
        ("HttpConnector::new(", &[CONNECTOR], "it opens connections in one way"),
        ("lookup_host", &[], "a look-up of a name is an effect as well"),
        ("to_socket_addrs", &[PERMITS], "a look-up of a name is an effect as well"),
        ("TcpStream", &[CONNECTOR; 2], "what the one client opens is counted; nothing else opens connections"),
        ("UdpSocket", &[], "nothing in the engine opens connections of its own"),
        ("wasmtime_wasi_http", &[], "a guest's requests are calls, which are recorded"),
    ]);
    let knows = |source: &&Source| source.path.starts_with("engine/") && source.code().contains("hyper_util::client");
    let clients: BTreeSet<&str> = all().iter().filter(knows).map(|source| source.path.as_str()).collect();
    assert_eq!(
        clients,
        BTreeSet::from([CLIENT, OUTLETS, CONNECTOR, METER]),
        "one client, how it connects, and what counts its bytes"
    );
    let door = all().iter().find(|source| source.path == DOOR).expect("there is a door").code();
    let order = ["async fn leave(", "barrier.opens(lsn)", "has_margin(", ".web.fetch("].map(|words| door.find(words));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "what caused an effect is durable first");
}

#[test]
fn l10_between_executions_only_rows_travel() {
    const INBOX: &str = "engine/worker/src/inbox.rs";
    const SCHEDULER: &str = "engine/worker/src/scheduler.rs";
    check_places(&[
        ("execution.receive(", &[INBOX], "an execution hears what stands in its inbox, from one place"),
        ("pg_notify", &["engine/store/src/hints.rs"], "a notice is no part of the transaction that commits"),
    ]);
    // The only message of others to a live activation is that it should look at its rows.
    let code = |path: &str| all().iter().find(|source| source.path == path).expect("it is there").code();
    assert!([INBOX, SCHEDULER].iter().all(|path| code(path).contains("nudge: Arc<Notify>")), "a nudge carries nothing");
    let activation = code("engine/worker/src/activation.rs");
    assert!(!activation.contains("Receiver") && !code(INBOX).contains("Receiver"), "a nudge is the only way in");
}
