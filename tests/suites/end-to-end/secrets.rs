//! Secrets of tenants: they reach the hosts that they are for and stand nowhere else, whatever is killed or renewed.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, Said, component, program, scratch, within};

use crate::rest::curl;
use crate::tenants::token;

on_both_databases!(
    a_secret_of_a_tenant_reaches_its_hosts_only,
    secrets_outlive_kills_and_new_keys,
    an_engine_without_a_key_says_so,
    an_answer_that_repeats_a_secret_is_recorded_without_it,
    a_tenant_reaches_the_hosts_that_the_operator_allows,
);

const SECRET: &str = "hush-7f3a-hush";

/// A file with these keys, each a digit that is repeated.
fn keys(digits: &[char]) -> (test_engine::Scratch, PathBuf) {
    let folder = scratch();
    let file = folder.0.join("keys");
    let lines: Vec<String> = digits.iter().map(|digit| digit.to_string().repeat(64)).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    (folder, file)
}

/// An engine with a key, a tenant `acme`, and the tokens of both admins.
struct Scene {
    engine: Engine,
    admin: String,
    acme: String,
    keys: (test_engine::Scratch, PathBuf),
    cloud: Cloud,
}

impl Scene {
    fn new(database: Database) -> Self {
        let (keys, cloud) = (keys(&['1']), Cloud::start());
        let engine = Engine::start_with(database, &[("SECRETS_KEY", keys.1.to_str().unwrap())]);
        let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
        engine.ok(&["tenant", "create", "acme", "--token", &admin]);
        let acme = token(&engine, &admin, &["--role", "admin", "--name", "bob", "--tenant", "acme"]);
        let scene = Self { engine, admin, acme, keys, cloud };
        scene.ok(&["upload", &component("test-guests"), "--name", "guests"]);
        scene.engine.ok(&["tenant", "set-hosts", "acme", &scene.host(), "--token", &scene.admin]);
        scene
    }

    fn host(&self) -> String {
        self.cloud.url().trim_start_matches("http://").to_owned()
    }

    /// Runs the command line for `acme`.
    fn ok(&self, line: &[&str]) -> String {
        self.engine.ok(&[line, &["--token", &self.acme]].concat())
    }

    /// `secret set` for `acme`, with the value on stdin.
    fn set(&self, name: &str, host: &str, value: &str) -> Said {
        let mut command = Command::new(program("cerebelum"));
        command.args(["--url", self.engine.url(), "--token", &self.acme, "secret", "set", name, "--host", host]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{value}\n").as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
    }

    /// Runs a workflow that posts with the secret, and returns how it ended.
    fn post(&self) -> Value {
        let input = json!({"base_url": self.cloud.url(), "path": "notes/guarded"}).to_string();
        let line = ["start", "guests/secrets", "--input", &input, "--wait", "--json", "--token", &self.acme];
        serde_json::from_str(&self.engine.cli(&line).out).unwrap()
    }

    /// The last header `authorization` that the cloud was sent.
    fn sent(&self) -> Value {
        self.cloud.ledger().last().map(|request| request["headers"]["authorization"].clone()).unwrap_or_default()
    }

    /// Posts until it ends like this: engines go by a change within five seconds.
    fn post_until(&self, status: &str) -> Value {
        within(Duration::from_secs(10), "the change is there", || {
            Some(self.post()).filter(|end| end["status"] == status)
        })
    }
}

fn a_secret_of_a_tenant_reaches_its_hosts_only(database: Database) {
    let scene = Scene::new(database);
    let without = scene.post();
    assert_eq!(without["failure"]["kind"], "not-granted", "{without:#}");
    assert!(without["failure"]["message"].as_str().unwrap().contains("cerebelum secret set"), "{without:#}");
    let said = scene.set("TEST_TOKEN", &scene.host(), SECRET);
    assert!(said.code == 0 && !said.out.contains(SECRET), "{said:?}");
    let done = scene.post_until("completed");
    assert_eq!(scene.sent(), format!("Bearer {SECRET}"));
    // It stands nowhere.
    let id = done["execution_id"].as_str().unwrap();
    let listed = scene.ok(&["secret", "list"]);
    assert!(listed.contains("TEST_TOKEN") && listed.contains(&scene.host()) && listed.contains("yes"), "{listed}");
    for shown in [done.to_string(), scene.ok(&["history", id]), scene.ok(&["audit"]), listed, scene.engine.log()] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    if let Some(file) = scene.engine.database().strip_prefix("sqlite:") {
        for suffix in ["", "-wal"] {
            let bytes = std::fs::read(format!("{file}{suffix}")).unwrap_or_default();
            assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{file}{suffix}");
        }
    }
    // For another host it is not there.
    scene.set("TEST_TOKEN", "api.example.com", SECRET);
    let elsewhere = scene.post_until("failed");
    assert!(elsewhere["failure"]["message"].as_str().unwrap().contains("may not go to 127.0.0.1"), "{elsewhere:#}");
    assert!(!elsewhere.to_string().contains(SECRET));
    scene.set("TEST_TOKEN", &format!("api.example.com,{}", scene.host()), SECRET);
    scene.post_until("completed");
    // A value that a header cannot have is refused whole.
    let said = scene.set("PEM", &scene.host(), "line1\nline2");
    assert!(said.code == 2 && said.err.contains("control characters"), "{said:?}");
    // Another tenant has none of it, and only admins manage secrets.
    let theirs = scene.engine.ok(&["secret", "list", "--token", &scene.admin]);
    assert!(theirs.contains("no secrets"), "{theirs}");
    let developer = token(&scene.engine, &scene.acme, &["--role", "developer", "--name", "eve"]);
    assert_eq!(scene.engine.cli(&["secret", "list", "--token", &developer]).code, 5);
    let bearer = format!("authorization: Bearer {}", scene.acme);
    let headers = ["-H", bearer.as_str(), "-H", "content-type: application/json"];
    for (body, status) in [
        (json!({"name": "A", "value": "x", "hosts": ["*"]}), 400),
        (json!({"name": "A B", "value": "x", "hosts": ["a"]}), 400),
        (json!({"name": "A", "value": "x\n", "hosts": ["a"]}), 400),
        (json!({"name": "A", "value": "x", "hosts": []}), 400),
        (json!({"name": "A", "value": "x", "hosts": ["a"], "tenant": "default"}), 403),
    ] {
        let told = curl(&scene.engine, ("POST", "/v1/secrets"), &headers, body.to_string().as_bytes());
        assert_eq!(told.problem().0, status, "{body}: {told:?}");
    }
    scene.ok(&["secret", "delete", "TEST_TOKEN"]);
    assert_eq!(scene.engine.cli(&["secret", "delete", "TEST_TOKEN", "--token", &scene.acme]).code, 3);
    scene.post_until("failed");
}

fn secrets_outlive_kills_and_new_keys(database: Database) {
    let mut scene = Scene::new(database);
    scene.set("TEST_TOKEN", &scene.host(), SECRET);
    scene.set("OTHER", "api.example.com", "another value");
    scene.engine.kill_and_restart();
    assert_eq!(scene.post()["status"], "completed");
    // A new first key seals; the old one still opens what it sealed.
    std::fs::write(&scene.keys.1, format!("{}\n{}\n", "2".repeat(64), "1".repeat(64))).unwrap();
    scene.engine.kill_and_restart();
    assert_eq!(scene.post()["status"], "completed");
    assert!(scene.ok(&["secret", "rotate-key"]).starts_with("2 secrets"));
    std::fs::write(&scene.keys.1, "2".repeat(64)).unwrap();
    scene.engine.kill_and_restart();
    assert_eq!(scene.post()["status"], "completed");
    assert_eq!(scene.sent(), format!("Bearer {SECRET}"));
    // Without the key nothing is sent, and nothing is lost.
    std::fs::write(&scene.keys.1, "3".repeat(64)).unwrap();
    scene.engine.kill_and_restart();
    let sent = scene.cloud.ledger().len();
    let refused = scene.post();
    assert!(refused["failure"]["message"].as_str().unwrap().contains("lacks the key"), "{refused:#}");
    assert_eq!(scene.cloud.ledger().len(), sent);
    assert!(scene.ok(&["secret", "list"]).contains("the engine lacks the key"));
    let said = scene.set("NEW", "api.example.com", "x");
    assert!(said.code == 5 && said.err.contains("--secrets-key"), "{said:?}");
    // A lost key is of no use once all its secrets are gone.
    scene.ok(&["secret", "delete", "OTHER"]);
    let said = scene.set("TEST_TOKEN", &scene.host(), SECRET);
    assert_eq!(said.code, 0, "{said:?}");
    scene.post_until("completed");
    std::fs::write(&scene.keys.1, "2".repeat(64)).unwrap();
    scene.engine.kill_and_restart();
    assert!(scene.ok(&["secret", "list"]).contains("the engine lacks the key"));
}

fn an_engine_without_a_key_says_so(database: Database) {
    let mut engine = Engine::start(database);
    let line = json!({"name": "A", "value": "x", "hosts": ["a"]}).to_string();
    let headers = ["-H", "content-type: application/json"];
    let told = curl(&engine, ("POST", "/v1/secrets"), &headers, line.as_bytes());
    assert_eq!(told.problem(), (409, "conflict".to_owned()));
    assert!(told.body.contains("--secrets-key"), "{told:?}");
    assert!(engine.ok(&["secret", "list"]).contains("no secrets"));
    assert_eq!(engine.cli(&["secret", "rotate-key"]).code, 5);
    engine.kill();
    let (folder, file) = keys(&['x']);
    assert!(
        !engine.launch(&[("CEREBELUM_SECRETS_KEY", file.to_str().unwrap())]),
        "a file that holds no key is refused"
    );
    assert!(engine.log().contains("line 1") && !engine.log().contains("xxxx"), "{}", engine.log());
    drop(folder);
}

/// A server that answers each request with its own head, in a header and as the body.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
            let repeated = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("-");
            let length = head.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\nx-echo: {repeated}\r\ncontent-length: {length}\r\n\r\n{head}"
            );
        }
    });
    port
}

fn an_answer_that_repeats_a_secret_is_recorded_without_it(database: Database) {
    let engine = Engine::start_with(database, &[("SECRET_TEST_TOKEN", SECRET)]);
    engine.upload("test-guests");
    let headers = json!([["authorization", "Bearer {{secret:TEST_TOKEN}}"]]);
    let url = format!("http://127.0.0.1:{}/?q={{{{secret:TEST_TOKEN}}}}", echo());
    let done = engine.run("asks", &json!({"method": "GET", "url": url, "headers": headers}));
    assert_eq!(done["status"], "completed", "{done:#}");
    let id = done["execution_id"].as_str().unwrap();
    let history = format!("{:?}", engine.history(id));
    assert!(!history.contains(SECRET), "{history}");
    let plain = engine.run("asks", &json!({"method": "GET", "url": url.replace("{{secret:TEST_TOKEN}}", SECRET)}));
    let (removed, whole) = (done["output"][1].as_u64().unwrap(), plain["output"][1].as_u64().unwrap());
    // The header line is there once more, and both places are shorter.
    let line = format!("authorization: Bearer {SECRET}\r\n").len() as u64;
    assert_eq!(removed, whole + line - 2 * (SECRET.len() as u64 - 8), "{done:#} {plain:#}");
}

fn a_tenant_reaches_the_hosts_that_the_operator_allows(database: Database) {
    let scene = Scene::new(database);
    let ask = || {
        let input = json!({"method": "GET", "url": format!("{}/droplets", scene.cloud.url())}).to_string();
        let line = ["start", "guests/asks", "--input", &input, "--wait", "--json", "--token", &scene.acme];
        serde_json::from_str::<Value>(&scene.engine.cli(&line).out).unwrap()
    };
    let until = |status: &str| {
        within(Duration::from_secs(10), "it holds", || Some(ask()).filter(|end| end["status"] == status))
    };
    let allow = |line: &[&str]| {
        scene.engine.cli(&[&["tenant", "set-hosts", "acme"], line, &["--token", &scene.admin]].concat())
    };
    assert_eq!(ask()["status"], "completed");
    assert!(allow(&["api.example.com"]).out.contains("steps may reach: api.example.com"));
    assert_eq!(until("failed")["failure"]["kind"], "not-granted");
    assert!(allow(&["127.0.0.1"]).out.contains("127.0.0.1"));
    until("completed");
    assert!(allow(&[]).out.contains("steps may reach: none"));
    until("failed");
    assert!(allow(&["--default"]).out.contains("configuration"));
    // The configuration allows loopback to the tenant `default` only.
    assert_eq!(ask()["failure"]["kind"], "not-granted");
    for wrong in ["https://a", "a b", ""] {
        let said = allow(&[wrong]);
        assert!(said.code == 2 && said.err.contains("is not a host"), "{wrong}: {said:?}");
    }
    let said = scene.engine.cli(&["tenant", "set-hosts", "acme", "*", "--token", &scene.acme]);
    assert_eq!(said.code, 5, "{said:?}");
    // What is never allowed stays so.
    let own = scene.engine.url().trim_start_matches("http://").to_owned();
    allow(&[&own]);
    let input = json!({"method": "GET", "url": format!("http://{own}/healthz")}).to_string();
    let line = ["start", "guests/asks", "--input", &input, "--wait", "--json", "--token", &scene.acme];
    within(Duration::from_secs(10), "the engine itself is refused", || {
        let end: Value = serde_json::from_str(&scene.engine.cli(&line).out).unwrap();
        end["failure"]["message"].as_str().is_some_and(|why| why.contains("this engine itself")).then_some(())
    });
}
