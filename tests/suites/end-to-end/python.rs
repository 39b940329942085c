//! Every example in Python runs on the engine, is killed in the middle, and the outside world's ledger agrees with its
//! history. The same programs run in local mode in the tests beside them.

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, until};

use crate::assert_each_once;

on_both_databases!(
    hello,
    a_droplet_in_three_ways,
    certificate_and_database,
    a_build_ends_well_or_badly,
    a_health_check_is_told_about,
    reminders,
    pauses_of_minutes_and_decorators,
    a_day_between_deployment_and_verification,
    progress_is_kept_and_not_repeated,
    onboarding,
    onboarding_has_ends_of_other_kinds,
    python_and_rust_call_each_other,
);

fn hello(database: Database) {
    let (engine, cloud) = (Engine::start(database), Cloud::start());
    engine.upload("python-hello");
    let user = |id: &str| json!({"base_url": cloud.url(), "user_id": id});
    assert_eq!(engine.run("welcome", &user("7"))["output"], json!({"sent_to": "ada@example.com", "number": 1}));
    assert_eq!(engine.run("double", &Value::Null)["output"], 84);
    assert_eq!(engine.run("hello", &json!("Ada"))["output"], "Hello, Ada!");
    let failed = engine.run("welcome", &user("8"));
    assert_eq!(
        (&failed["failure"]["kind"], &failed["failure"]["message"]),
        (&json!("failure"), &json!("there is no user 8"))
    );
    assert_eq!(failed["failure"]["details"], json!({"error": "there is no user 8"}));
    assert_eq!(cloud.requests("POST", "/mails").len(), 1, "nothing is sent to nobody");
}

/// A droplet, written in three forms; the engine dies in a wait between two checks, and between two SSH attempts.
fn a_droplet_in_three_ways(database: Database) {
    let cloud = Cloud::start_with(&["--ready-after", "1", "--refuse", "1"]);
    let mut engine = Engine::start(database);
    engine.upload("python-droplet");
    let configured = json!({"name": "web", "banner": "SSH-2.0-OpenSSH_9.9"});
    for (number, (workflow, output)) in [
        ("quick_droplet", json!("SSH-2.0-OpenSSH_9.9")),
        ("configured_droplet", configured.clone()),
        ("verified_droplet", configured),
    ]
    .into_iter()
    .enumerate()
    {
        let order = json!({"base_url": cloud.url(), "name": "web", "poll_ms": 700, "ssh_delay_ms": 700,
            "look_seconds": 0.7, "ssh_seconds": 0.7});
        let id = engine.begin(workflow, &order);
        for sleeps in [1, 2] {
            until("it waits", || (engine.count(&id, "SleepStarted") == sleeps).then_some(()));
            engine.kill_and_restart();
        }
        let done = engine.wait_for_end(&id);
        assert_eq!(done["output"], output, "{done:#}");
        let id_of_droplet = number + 1;
        let asked = |method, path: &str| cloud.requests(method, path).len();
        assert_eq!(asked("GET", &format!("/droplets/{id_of_droplet}")), 2, "{workflow}");
        assert_eq!(asked("POST", &format!("/ssh/203.0.113.{id_of_droplet}")), 2, "{workflow}");
        assert_eq!(asked("POST", &format!("/droplets/{id_of_droplet}/configure")), usize::from(number > 0));
        assert_eq!(engine.count(&id, "SleepStarted"), 2, "one wait for the address, one for SSH");
        assert_eq!(engine.count(&id, "FetchStarted"), 5 + usize::from(number > 0));
    }
    assert_each_once(&cloud.ledger());
}

fn certificate_and_database(database: Database) {
    let cloud = Cloud::start_with(&["--ready-after", "1"]);
    let mut engine = Engine::start(database);
    engine.upload("python-waiting");
    let order = |timeout_ms: u64| json!({"base_url": cloud.url(), "domain": "example.com", "poll_ms": 900, "timeout_ms": timeout_ms});
    let certificate = engine.begin("certificate", &order(60_000));
    let new = json!({"base_url": cloud.url(), "name": "main", "poll_ms": 900});
    let postgres = engine.begin("database", &new);
    for id in [&certificate, &postgres] {
        until("it waits", || (engine.count(id, "SleepStarted") >= 1).then_some(()));
    }
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end(&certificate)["output"], 1);
    assert_eq!(engine.wait_for_end(&postgres)["output"], 1);
    let asked = |method, path| cloud.requests(method, path).len();
    assert_eq!((asked("GET", "/certificates/1"), asked("POST", "/certificates/1/install")), (2, 1));
    assert_eq!((asked("GET", "/databases/1"), asked("POST", "/databases/1/migrate")), (2, 1));
    assert!(cloud.requests("POST", "/certificates/1/install")[0]["body"].as_str().unwrap().contains("BEGIN"));
    let failed = engine.run("certificate", &order(400));
    assert_eq!(failed["failure"]["kind"], "poll-timeout", "{failed:#}");
    assert!(failed["failure"]["message"].as_str().unwrap().ends_with("(timeout: 400ms)"), "{failed:#}");
    assert_eq!(asked("POST", "/certificates/2/install"), 0);
}

/// Ends on success or failure of the build; a failure is a `RuntimeError` with the build's output.
fn a_build_ends_well_or_badly(database: Database) {
    let cloud = Cloud::start_with(&["--ready-after", "1"]);
    let mut engine = Engine::start(database);
    engine.upload("python-waiting");
    let release = |commit: &str| json!({"base_url": cloud.url(), "commit": commit, "build_poll_ms": 900});
    let ids = ["c0ffee", "broken"].map(|commit| engine.begin("ci_build", &release(commit)));
    for id in &ids {
        until("it waits", || (engine.count(id, "SleepStarted") >= 1).then_some(()));
    }
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end(&ids[0])["output"], 1);
    let failure = &engine.wait_for_end(&ids[1])["failure"];
    assert_eq!((&failure["kind"], &failure["message"]), (&json!("exception"), &json!("2 of 7 tests failed")));
    assert_eq!(failure["details"]["type"], "RuntimeError");
    assert!(
        failure["details"]["traceback"].as_str().unwrap().contains("raise RuntimeError(build[\"error\"]"),
        "{failure:#}"
    );
    assert_eq!(cloud.requests("POST", "/deployments").len(), 1, "what failed is not deployed");
    assert_each_once(&cloud.ledger());
}

fn a_health_check_is_told_about(database: Database) {
    let cloud = Cloud::start_with(&["--ready-after", "1"]);
    let mut engine = Engine::start(database);
    engine.upload("python-waiting");
    let release = json!({"base_url": cloud.url(), "commit": "c0ffee", "health_poll_ms": 900});
    let id = engine.begin("health_check", &release);
    until("it waits", || (engine.count(&id, "SleepStarted") == 1).then_some(()));
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end(&id)["output"], "c0ffee is healthy");
    let requests: Vec<_> = cloud.ledger().iter().map(|request| request["path"].clone()).collect();
    let look = "/deployments/1";
    assert_eq!(requests, ["/deployments", look, look, "/mails"]);
}

/// Exactly two mails, with a pause inside a step and with one as a step of its own, even when the engine is killed in
/// between.
fn reminders(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("python-reminders");
    let to = json!({"base_url": cloud.url(), "email": "ada@example.com", "pause_ms": 900});
    let ids = ["reminders", "droplet_reminder"].map(|workflow| engine.begin(workflow, &to));
    for id in &ids {
        until("it sleeps", || (engine.count(id, "SleepStarted") == 1).then_some(()));
    }
    engine.kill_and_restart();
    let ends = ids.each_ref().map(|id| engine.wait_for_end(id));
    assert_eq!(cloud.requests("POST", "/mails").len(), 3);
    let numbers = ends[0]["output"].as_array().unwrap();
    assert_eq!((numbers.len(), &numbers[0]), (2, &json!(1)), "{:#}", ends[0]);
    assert!(
        cloud.requests("POST", "/mails").iter().any(|mail| mail["body"].as_str().unwrap().contains("Droplet 1 is"))
    );
    assert_each_once(&cloud.ledger());
    // The real duration: a day, whose end this test does not wait for.
    let day = engine.begin("reminders", &json!({"base_url": cloud.url(), "email": "ada@example.com"}));
    engine.wait_for(&day, &["sleeping"]);
    let slept = engine.history(&day).into_iter().find(|event| event["kind"] == "SleepStarted").unwrap();
    assert_eq!(slept["duration_ms"], json!(86_400_000), "{slept:#}");
}

/// A decorator's numbers are part of the program: the wait of a minute survives a kill, and a person has an hour.
fn pauses_of_minutes_and_decorators(database: Database) {
    let cloud = Cloud::start_with(&["--ready-after", "0"]);
    let mut engine = Engine::start(database);
    engine.upload("python-reminders");
    let to = json!({"base_url": cloud.url(), "email": "ada@example.com"});
    let sleepers = [engine.begin("settled", &to), engine.begin("short_break", &json!(15))];
    let person = engine.begin("handed_over", &to);
    let dues = sleepers.each_ref().map(|id| engine.wait_for(id, &["sleeping"])["waiting_on"][0]["until"].clone());
    engine.wait_for(&person, &["waiting-for-approval"]);
    engine.kill_and_restart();
    for ((id, due), duration_ms) in sleepers.iter().zip(dues).zip([60_000, 15 * 60_000]) {
        assert_eq!(engine.status(id)["waiting_on"][0]["until"], due);
        let history = engine.history(id);
        let slept = history.iter().find(|event| event["kind"] == "SleepStarted").unwrap();
        assert_eq!(slept["duration_ms"], json!(duration_ms));
        engine.ok(&["cancel", id]);
        assert_eq!(engine.wait_for_end(id)["status"], "cancelled");
    }
    let history = engine.history(&person);
    let asked = &history.iter().find(|event| event["kind"] == "ApprovalRequested").unwrap()["request"];
    assert_eq!((&asked["title"], &asked["timeout_ms"]), (&json!("hand_over"), &json!(3_600_000)), "{asked:#}");
    engine.ok(&["approve", &person]);
    assert_eq!(engine.wait_for_end(&person)["output"], json!({"ip": "203.0.113.1", "mail": 1}));
    let soon = engine.run("short_break", &json!(0.01));
    assert_eq!(soon["status"], "completed", "{soon:#}");
}

/// Every stage of a deployment that waits for a day, one by one, with a real kill and a short day.
fn a_day_between_deployment_and_verification(database: Database) {
    const DAY_MS: u64 = 4_000;
    let cloud = Cloud::start_with(&["--ready-after", "0"]);
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("python-deployment");
    let id = engine.begin("deployment", &json!({"base_url": cloud.url(), "version": "1.2", "wait_ms": DAY_MS}));
    let before = engine.wait_for(&id, &["sleeping"]);
    let history = engine.history(&id);
    let told: Vec<_> = history.iter().map(|event| (event["kind"].as_str().unwrap(), &event["scope"])).collect();
    let (flow, first, second) = (json!(""), json!("1"), json!("2"));
    // The first step ran.
    assert_eq!(told[..2], [("ExecutionStarted", &flow), ("StepStarted", &flow)]);
    assert_eq!(told[2..5], [("FetchStarted", &first), ("FetchCompleted", &first), ("StepCompleted", &flow)]);
    assert_eq!(cloud.requests("POST", "/deployments").len(), 1);
    // The second one began and asked for its sleep, and the sleep is recorded as such.
    assert_eq!(told[5..], [("StepStarted", &flow), ("SleepStarted", &second)]);
    assert_eq!(history[6]["duration_ms"], json!(DAY_MS));
    // Nothing of the execution is in memory.
    until("it hibernates", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
    assert_eq!(engine.metric("cerebelum_guests"), 0);
    // The engine dies, and another process finds the execution asleep until the same moment.
    engine.kill();
    assert!(engine.was_killed());
    engine.restart();
    let after = engine.status(&id);
    assert_eq!((&after["status"], &after["waiting_on"]), (&json!("sleeping"), &before["waiting_on"]));
    assert_eq!(engine.history(&id), history, "nothing is lost and nothing is added");
    // It wakes at its time, the third step begins then and runs, and the execution completes.
    let done = engine.wait_for_end(&id);
    let verified = json!({"id": 1, "was": "deployed", "is": "healthy"});
    assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &verified), "{done:#}");
    let history = engine.history(&id);
    let kinds: Vec<_> = history[7..].iter().map(|event| event["kind"].as_str().unwrap()).collect();
    let third = ["StepStarted", "FetchStarted", "FetchCompleted", "StepCompleted"];
    assert_eq!(kinds[..2], ["SleepCompleted", "StepCompleted"]);
    assert_eq!((&kinds[2..6], &kinds[6..]), (&third[..], &["ExecutionCompleted"][..]));
    assert!(history[7]["time"].as_str() >= before["waiting_on"][0]["until"].as_str(), "it woke too early");
    let attempts: Vec<_> = done["steps"].as_array().unwrap().iter().map(|step| step["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 1, 1]);
    assert_each_once(&cloud.ledger());
    assert_eq!(cloud.ledger().len(), 2);
    // By default the day has 24 hours.
    let real = engine.begin("deployment", &json!({"base_url": cloud.url(), "version": "1.2"}));
    engine.wait_for(&real, &["sleeping"]);
    assert_eq!(engine.history(&real)[6]["duration_ms"], json!(86_400_000));
}

/// 0, 33, 66, 100 with messages; a kill in between neither repeats a report nor loses the latest.
fn progress_is_kept_and_not_repeated(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("python-deployment");
    let id = engine.begin("progress_deployment", &json!({"base_url": cloud.url(), "version": "1.2", "pause_ms": 700}));
    let mut seen = Vec::new();
    for sleeps in 1..=3 {
        until("the next part is deployed", || (engine.count(&id, "SleepStarted") == sleeps).then_some(()));
        seen.push(engine.status(&id)["progress"].clone());
        engine.kill_and_restart();
        assert_eq!(engine.status(&id)["progress"], seen[sleeps - 1], "the latest report survives the engine");
    }
    let done = engine.wait_for_end(&id);
    seen.push(done["progress"].clone());
    let told: Vec<_> =
        seen.iter().map(|all| (all.as_array().unwrap().len(), &all[0]["percent"], &all[0]["message"])).collect();
    let message = |text: &str| json!(text);
    let (droplet, database, application) =
        ("Deploying the droplet", "Deploying the database", "Deploying the application");
    let texts = [droplet, database, application, "Everything is deployed"].map(message);
    let percents = [0, 33, 66, 100].map(|percent| json!(percent));
    let expected: Vec<_> = percents.iter().zip(&texts).map(|(percent, text)| (1, percent, text)).collect();
    assert_eq!(told, expected);
    assert_eq!(done["output"], "1.2");
    assert_eq!(cloud.requests("POST", "/deployments").len(), 3);
    assert_each_once(&cloud.ledger());
}

/// Twelve steps, three groups at the same time, rules and a person, with a kill while the person thinks and a kill in
/// the wait for the first day.
fn onboarding(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("python-onboarding");
    let person = json!({"base_url": cloud.url(), "name": "Ada", "contract": "freelance", "laptop": "gone-for-good",
        "is_remote": true, "first_day_ms": 900});
    let id = engine.begin("onboarding", &person);
    engine.wait_for(&id, &["waiting-for-approval"]);
    engine.kill_and_restart();
    let asked = engine.status(&id)["waiting_on"][0].clone();
    assert_eq!(asked["kind"], "approval", "{asked:#}");
    engine.ok(&["approve", &id]);
    engine.wait_for(&id, &["sleeping"]);
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    let output = json!({"account": "ada", "laptop": "a used one", "agreement": "signed", "welcome": 1});
    assert_eq!(done["output"], output, "{done:#}");
    let mut steps: Vec<_> =
        done["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!((steps[0], steps[1], steps[steps.len() - 1]), ("check_contract", "sign_agreement", "report"));
    // The twelve steps of the timeline, and those that rules added; but no badge, which is only for work in the office.
    steps.sort_unstable();
    let twelve = ["approve_access", "assign_mentor", "check_contract", "create_account", "grant_code", "grant_mail"]
        .into_iter()
        .chain(["order_laptop", "report", "reserve_desk", "schedule_training", "send_welcome", "wait_for_first_day"]);
    let mut expected: Vec<_> = twelve.chain(["lend_laptop", "send_headset", "sign_agreement"]).collect();
    expected.sort_unstable();
    assert_eq!(steps, expected);
    assert_each_once(&cloud.ledger());
    for group in [
        &["create_account", "order_laptop", "reserve_desk"][..],
        &["grant_mail", "grant_code"],
        &["send_welcome", "schedule_training"],
    ] {
        assert_at_the_same_time(&engine, &id, group);
    }
}

/// Asserts that each of these steps began before the first of them ended.
fn assert_at_the_same_time(engine: &Engine, id: &str, group: &[&str]) {
    let history = engine.history(id);
    let begun = |event: &&Value| group.iter().any(|step| event["call"]["step"] == *step);
    let begins: Vec<&Value> = history.iter().filter(begun).collect();
    let ends = |event: &&Value| {
        event["scope"] == ""
            && event["kind"].as_str().unwrap().starts_with("Step")
            && event["kind"] != "StepStarted"
            && begins.iter().any(|begin| begin["ordinal"] == event["ordinal"])
    };
    let first_end = history.iter().find(ends).unwrap();
    assert_eq!(begins.len(), group.len());
    for begin in begins {
        assert!(begin["position"].as_u64() < first_end["position"].as_u64(), "{group:?} did not run together");
    }
}

fn onboarding_has_ends_of_other_kinds(database: Database) {
    let cloud = Cloud::start();
    let engine = Engine::start(database);
    engine.upload("python-onboarding");
    let person = |more: &Value| {
        let mut person = json!({"base_url": cloud.url(), "name": "Ada", "first_day_ms": 20});
        person.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        person
    };
    let refused = engine.run("onboarding", &person(&json!({"contract": "verbal"})));
    assert_eq!(refused["failure"]["message"], "this contract is one for the lawyers", "{refused:#}");
    assert!(cloud.ledger().is_empty());
    // A person rejects: the steps that depend on it are skipped. The laptop comes at the third attempt.
    let id = engine.begin("onboarding", &person(&json!({"laptop": "rare-one"})));
    engine.wait_for(&id, &["waiting-for-approval"]);
    engine.ok(&["reject", &id, "--reason", "not in the first week"]);
    let done = engine.wait_for_end(&id);
    let output = json!({"account": "ada", "laptop": "rare-one", "agreement": null, "welcome": null});
    assert_eq!(done["output"], output, "{done:#}");
    assert_eq!(cloud.requests("POST", "/orders/rare-one").len(), 3);
    assert_eq!((cloud.requests("POST", "/notes/badge").len(), cloud.requests("POST", "/notes/headset").len()), (1, 0));
    // No answer comes.
    let silent = engine.run("onboarding", &person(&json!({"answer_ms": 50})));
    assert_eq!(silent["failure"]["kind"], "approval-timeout", "{silent:#}");
}

/// Values of any size and failures with all their parts are passed both ways, even across a kill.
fn python_and_rust_call_each_other(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("python-and-rust");
    engine.upload("rust-and-python");
    let id = engine.begin("fingerprints", &json!(["cafe", "tea"]));
    let done = engine.wait_for_end(&id);
    engine.kill_and_restart();
    // Their sum does not fit into 64 bits; Python's numbers are not bounded.
    let sum = "19319675673197146737";
    let said = engine.ok(&["result", &id]);
    assert_eq!(said.trim(), format!(r#"{{"fingerprints":[13058325180887633960,6261350492309512777],"sum":{sum}}}"#));
    assert_eq!(done["output"]["fingerprints"][0], json!(13_058_325_180_887_633_960_u64));
    let labelled = json!({"labelled": {"fingerprint": 13_058_325_180_887_633_960_u64, "label": "brave-ibex"}});
    assert_eq!(engine.run("label", &json!("cafe"))["output"], labelled);
    let refused = json!({"refused": {"kind": "unlucky", "message": "2371587123764378936 is a multiple of 13",
        "details": {"number": 2_371_587_123_764_378_936_u64, "of": [13, null]}}});
    assert_eq!(engine.run("label", &json!("lager"))["output"], refused);
    let refused = json!({"kind": "nothing-to-hash", "message": "an empty text has no fingerprint",
        "details": {"length": 0}, "retryable": false});
    assert_eq!(engine.run("refused", &json!(""))["output"], refused);
    // A failure that is not caught fails the execution with the same words.
    let failed = engine.run("fingerprints", &json!(["tea", ""]));
    assert_eq!((&failed["failure"]["kind"], &failed["failure"]["details"]), (&refused["kind"], &refused["details"]));
}
