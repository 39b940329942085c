//! Two tenants at once on two engines of one PostgreSQL, with the same ids in both and load beside them. One engine is
//! killed in the middle: everything ends, and nothing of one tenant reaches the other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, assert_one_writer, component, until};

use crate::assert_repeats_are_alike;
use crate::rest::curl;
use crate::tenants::token;

/// How many executions of each of the three kinds a tenant has.
const EACH: u32 = 6;
/// How many short ones it has beside them, before the kill and after it.
const LOAD: u32 = 150;

/// A tenant, and the only person who acts for it.
struct Tenant {
    name: &'static str,
    person: &'static str,
    token: String,
}

impl Tenant {
    fn ok(&self, engine: &Engine, line: &[&str]) -> String {
        engine.ok(&[line, &["--token", &self.token]].concat())
    }

    fn json(&self, engine: &Engine, line: &[&str]) -> Value {
        serde_json::from_str(&self.ok(engine, &[line, &["--json"]].concat())).unwrap()
    }

    /// The world of the fake cloud to which one of its executions posts.
    fn world(&self, id: &str) -> String {
        format!("{}-{id}", self.name)
    }

    /// Starts what is looked at, on both engines in turn.
    fn begin(&self, engines: [&Engine; 2], cloud: &Cloud) {
        for number in 0..EACH {
            let engine = engines[number as usize % 2];
            let base = |id: &str| format!("{}/of/{}", cloud.url(), self.world(id));
            let (ask, post, hear) = (format!("ask-{number}"), format!("post-{number}"), format!("hear-{number}"));
            for (id, workflow, input) in [
                (&ask, "asking_in_a_step", json!({"base_url": base(&ask), "path": self.name})),
                (&post, "posts", json!({"base_url": base(&post), "paths": ["notes/a", "slow/2500/b", "notes/c"]})),
                (&hear, "listening", json!({"names": ["go", "on"]})),
            ] {
                let workflow = format!("guests/{workflow}");
                self.ok(engine, &["start", &workflow, "--id", id, "--input", &input.to_string()]);
            }
        }
    }

    /// Starts many short ones in one request.
    fn load(&self, engine: &Engine, name: &str) {
        let start = |number| {
            let id = format!("{name}-{number}");
            json!({"workflow": "guests/sequence", "input": {"steps": 5}, "id": id}).to_string() + "\n"
        };
        let headers =
            [format!("authorization: Bearer {}", self.token), "content-type: application/x-ndjson".to_owned()];
        let headers: Vec<&str> = headers.iter().flat_map(|header| ["-H", header.as_str()]).collect();
        let told = curl(engine, ("POST", "/v1/starts"), &headers, (0..LOAD).map(start).collect::<String>().as_bytes());
        assert!(told.status == 200 && told.body.matches("\"execution_id\"").count() == LOAD as usize, "{told:?}");
    }

    /// Answers the questions and sends the signals of these executions.
    fn talk(&self, engine: &Engine, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            let (ask, hear) = (format!("ask-{number}"), format!("hear-{number}"));
            until("it takes the answer", || {
                let said = engine.cli(&["approve", &ask, "--token", &self.token]);
                (said.code == 0).then_some(())
            });
            for name in ["go", "on"] {
                let data = json!(self.world(name)).to_string();
                self.ok(engine, &["signal", &hear, name, "--data", &data]);
            }
        }
    }

    /// All ids that it has started.
    fn ids(&self) -> BTreeSet<String> {
        let kinds = ["ask", "post", "hear"].into_iter();
        let looked_at = kinds.flat_map(|kind| (0..EACH).map(move |number| format!("{kind}-{number}")));
        let load = ["before", "after"].into_iter();
        looked_at.chain(load.flat_map(|name| (0..LOAD).map(move |number| format!("{name}-{number}")))).collect()
    }

    /// Waits until all have ended, and checks that each returned what its own tenant told it.
    fn check_ends(&self, engine: &Engine) {
        until("all have ended", || {
            let listed = self.json(engine, &["list", "--all"]);
            listed.as_array().unwrap().iter().all(|one| !one["ended_at"].is_null()).then_some(())
        });
        let listed = self.json(engine, &["list", "--all"]);
        let listed = listed.as_array().unwrap();
        let ids: BTreeSet<String> = listed.iter().map(|one| one["execution_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!((listed.len(), &ids), (ids.len(), &self.ids()), "{} has its own executions", self.name);
        for one in listed {
            assert_eq!(one["status"], "completed", "{one:#}");
        }
        for number in 0..EACH {
            let output = |kind: &str| self.json(engine, &["status", &format!("{kind}-{number}")])["output"].clone();
            assert_eq!(output("ask"), json!(self.person));
            assert_eq!(output("post"), json!(3));
            assert_eq!(output("hear"), json!([self.world("go"), self.world("on")]));
            for kind in ["ask", "post", "hear"] {
                let id = format!("{kind}-{number}");
                let lines = self.ok(engine, &["history", &id, "--json"]);
                let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                assert_one_writer(&events);
            }
        }
    }

    /// Checks that the audit has each of its acts once, by its own person, and none of another tenant.
    fn check_audit(&self, engine: &Engine) {
        let acts = self.json(engine, &["audit", "--all"]);
        let acts = acts.as_array().unwrap();
        let of = |operation: &str, field: &str| -> Vec<String> {
            let acts = acts.iter().filter(|act| act["operation"] == operation);
            acts.map(|act| {
                assert_eq!(act["caller"], self.person, "{act:#}");
                act[field].as_str().unwrap().to_owned()
            })
            .collect()
        };
        let started = of("Start", "object");
        assert_eq!((started.len(), started.into_iter().collect::<BTreeSet<_>>()), (self.ids().len(), self.ids()));
        let answered = of("Approve", "outcome");
        let asked: BTreeSet<String> = (0..EACH).map(|number| format!("ask-{number}")).collect();
        assert_eq!((answered.len(), answered.into_iter().collect()), (asked.len(), asked));
        let mut told: BTreeMap<String, u32> = BTreeMap::new();
        of("Signal", "object").into_iter().for_each(|id| *told.entry(id).or_default() += 1);
        assert_eq!(told, (0..EACH).map(|number| (format!("hear-{number}"), 2)).collect());
    }
}

/// Checks that each effect has one key, which no other effect has, and that the world is that of its tenant.
fn check_effects(cloud: &Cloud, tenants: &[Tenant]) {
    let ledger = cloud.ledger();
    assert_repeats_are_alike(&ledger);
    let mut keys: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for request in &ledger {
        let text = |name: &str| request[name].as_str().unwrap_or_else(|| panic!("{request:#}")).to_owned();
        keys.entry((text("world"), text("path"))).or_default().insert(text("idempotency_key"));
    }
    let mut expected = BTreeSet::new();
    for tenant in tenants {
        for number in 0..EACH {
            for (kind, path) in [
                ("ask", "/notes/before"),
                ("ask", "/notes/after"),
                ("post", "/notes/a"),
                ("post", "/slow/2500/b"),
                ("post", "/notes/c"),
            ] {
                expected.insert((tenant.world(&format!("{kind}-{number}")), path.to_owned()));
            }
        }
    }
    assert_eq!(keys.keys().cloned().collect::<BTreeSet<_>>(), expected);
    for (effect, keys) in &keys {
        assert_eq!(keys.len(), 1, "{effect:?} happened more than once: {keys:?}");
    }
    let all: BTreeSet<&String> = keys.values().flatten().collect();
    assert_eq!(all.len(), expected.len(), "effects share a key");
}

#[test]
fn two_tenants_at_once_share_two_engines_and_nothing_else_when_one_engine_is_killed() {
    let cloud = Cloud::start();
    let mut first = Engine::start_with(Database::Postgres, &[("LEASE", "3s")]);
    let ada = token(&first, "", &["--role", "admin", "--name", "ada"]);
    first.ok(&["tenant", "create", "other", "--token", &ada]);
    let host = cloud.url().trim_start_matches("http://");
    first.ok(&["tenant", "set-hosts", "other", host, "--token", &ada]);
    let bob = token(&first, &ada, &["--role", "admin", "--name", "bob", "--tenant", "other"]);
    let tenants =
        [Tenant { name: "default", person: "ada", token: ada }, Tenant { name: "other", person: "bob", token: bob }];
    for tenant in &tenants {
        tenant.ok(&first, &["upload", &component("test-guests"), "--name", "guests"]);
    }
    let second = Engine::beside(&first);
    // Some of the answers and signals come before the kill, others while nothing has taken over yet.
    std::thread::scope(|scope| {
        for tenant in &tenants {
            scope.spawn(|| tenant.load(&first, "before"));
            scope.spawn(|| {
                tenant.begin([&first, &second], &cloud);
                tenant.talk(&first, (0..EACH).step_by(2));
            });
        }
    });
    let is_under_way = |tenant: &Tenant| {
        let slow = cloud.requests("POST", "/slow");
        slow.iter().any(|request| request["world"].as_str().unwrap().starts_with(tenant.name))
    };
    until("both tenants have slow requests", || tenants.iter().all(is_under_way).then_some(()));
    first.kill();
    std::thread::scope(|scope| {
        for tenant in &tenants {
            scope.spawn(|| tenant.load(&second, "after"));
            scope.spawn(|| tenant.talk(&second, (1..EACH).step_by(2)));
        }
    });
    for tenant in &tenants {
        tenant.check_ends(&second);
        tenant.check_audit(&second);
    }
    check_effects(&cloud, &tenants);
}
