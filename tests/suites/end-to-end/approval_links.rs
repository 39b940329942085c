//! Questions for named people, and links with which one person answers one question without a token.

use std::future::Future;

use cerebelum_worker::{ApiError, Config, Decision, LinkState};
use serde_json::{Value, json};
use test_engine::{Database, Engine, component, scratch, until};

use crate::rest::curl;
use crate::sql;
use crate::tenants::token;

on_both_databases!(
    only_named_approvers_answer,
    a_malformed_list_of_approvers_fails_the_call,
    without_tokens_every_client_answers,
    links_are_made_listed_and_revoked,
    a_link_is_made_for_an_approver_or_by_an_admin,
    a_link_answers_once_across_a_kill,
    a_link_that_has_ended_answers_nothing,
    links_of_other_tenants_and_of_nothing_look_alike,
    guesses_at_links_wait_for_each_other_and_none_is_refused,
);

const ADA: &str = "ada@example.com";
const NAMED: &str = r#"{"title":"Go?","approvers":["role:operator","ada@example.com"]}"#;

/// An engine with an admin `root`, and the admin's token.
fn with_admin(database: Database) -> (Engine, String) {
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "root"]);
    engine.ok(&["upload", &component("test-guests"), "--name", "guests", "--token", &admin]);
    (engine, admin)
}

/// Starts an execution that asks, and waits until it does.
fn ask(engine: &Engine, admin: &str, id: &str, question: &str) {
    engine.ok(&["start", "guests/asking", "--id", id, "--input", question, "--token", admin]);
    until("it asks", || {
        (engine.ok(&["approvals", "--execution", id, "--json", "--token", admin]) != "[]").then_some(())
    });
}

fn only_named_approvers_answer(database: Database) {
    let (engine, admin) = with_admin(database);
    let of = |role: &str, name: &str| token(&engine, &admin, &["--role", role, "--name", name]);
    let (bob, ada, grace) = (of("approver", "bob"), of("approver", ADA), of("operator", "grace"));
    ask(&engine, &admin, "a", NAMED);
    ask(&engine, &admin, "b", NAMED);
    let listed = engine.ok(&["approvals", "--json", "--token", &bob]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["approvers"], json!(["role:operator", ADA]));
    let why = "this question is for role:operator, ada@example.com";
    // The right to answer does not suffice, and neither does to be an admin.
    for outsider in [&bob, &admin] {
        for verb in ["approve", "reject"] {
            let refused = engine.cli(&[verb, "a", "--token", outsider]);
            assert!(refused.code == 5 && refused.err.contains(why), "{refused:?}");
            let bearer = format!("authorization: Bearer {outsider}");
            let path = format!("/v1/approvals/a/{verb}");
            let refused = curl(&engine, ("POST", &path), &["-H", &bearer], b"");
            assert_eq!(refused.problem().0, 403, "{refused:?}");
            assert!(refused.json()["detail"].as_str().unwrap().contains(why), "{refused:?}");
        }
    }
    // A developer of the right name has no right to answer.
    let developer = of("developer", ADA);
    let refused = engine.cli(&["approve", "a", "--token", &developer]);
    assert!(refused.code == 5 && refused.err.contains("role developer"), "{refused:?}");
    engine.ok(&["approve", "a", "--token", &ada]);
    let bearer = format!("authorization: Bearer {grace}");
    assert_eq!(curl(&engine, ("POST", "/v1/approvals/b/approve"), &["-H", &bearer], b"").status, 200);
    for (id, by) in [("a", ADA), ("b", "grace")] {
        let said = engine.ok(&["result", id, "--wait", "--token", &admin]);
        assert!(said.contains(&format!("by {by}")), "{said}");
    }
}

fn a_malformed_list_of_approvers_fails_the_call(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    for approvers in [json!([]), json!(["role:boss"]), json!([""]), json!(vec!["a"; 33])] {
        let id = engine.begin("asking", &json!({"title": "Go?", "approvers": approvers}));
        let ended = engine.wait_for_end(&id);
        assert_eq!(ended["failure"]["kind"], "invalid-argument", "{ended}");
        assert!(ended["failure"]["message"].as_str().unwrap().contains("approvers are not accepted"), "{ended}");
        engine.kill_and_restart();
        assert_eq!(engine.json(&["approvals", "--execution", &id]), json!([]));
    }
}

fn without_tokens_every_client_answers(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("asking", &serde_json::from_str(NAMED).unwrap());
    until("it asks", || (engine.json(&["approvals", "--execution", &id]) != json!([])).then_some(()));
    engine.ok(&["approve", &id]);
    assert_eq!(engine.wait_for_end(&id)["status"], "completed");
}

/// Makes a link and returns what is told of it.
fn link(engine: &Engine, token: &str, arguments: &[&str]) -> Value {
    let line = [&["approvals", "link"][..], arguments, &["--json", "--token", token]].concat();
    serde_json::from_str(&engine.ok(&line)).unwrap()
}

fn links_are_made_listed_and_revoked(database: Database) {
    let (mut engine, admin) = with_admin(database);
    ask(&engine, &admin, "q", r#"{"title":"Go?"}"#);
    let made = link(&engine, &admin, &["q", "--for", ADA]);
    let secret = made["token"].as_str().unwrap();
    assert_eq!(secret.len(), 43, "{made}");
    assert_eq!(made["path"], format!("/a/{secret}"));
    assert_eq!(made["url"], format!("{}/a/{secret}", engine.url()));
    assert_eq!((&made["name"], &made["decisions"]), (&json!(ADA), &json!(["approve", "reject"])));
    assert_eq!((&made["created_by"], &made["used_at"]), (&json!("root"), &Value::Null));
    let shown = engine.cli(&["approvals", "link", "q", "--for", "bob", "--only", "reject", "--token", &admin]);
    assert!(shown.out.starts_with(&format!("{}/a/", engine.url())) && shown.err.contains("to reject"), "{shown:?}");
    let bearer = format!("authorization: Bearer {admin}");
    let headers = ["-H", bearer.as_str(), "-H", "content-type: application/json"];
    let body = json!({"name": "eve", "only": ["approve"], "expires": "30d"}).to_string();
    let by_rest = curl(&engine, ("POST", "/v1/approvals/q/links"), &headers, body.as_bytes()).json();
    assert!(by_rest["path"].as_str().unwrap().starts_with("/a/") && by_rest.get("url").is_none(), "{by_rest}");
    for (wrong, why) in [
        (json!({"name": ""}), "one person"),
        (json!({"name": "eve", "expires": "31d"}), "30 days"),
        (json!({"name": "eve", "only": ["delete"]}), "`reject`"),
    ] {
        let refused = curl(&engine, ("POST", "/v1/approvals/q/links"), &headers, wrong.to_string().as_bytes());
        assert_eq!(refused.problem().0, 400);
        assert!(refused.body.contains(why), "{refused:?}");
    }
    engine.kill_and_restart();
    let all = engine.ok(&["approvals", "links", "q", "--json", "--token", &admin]);
    assert!(!all.contains(secret) && !all.contains("token"), "{all}");
    let all: Value = serde_json::from_str(&all).unwrap();
    let mut names: Vec<&str> = all.as_array().unwrap().iter().map(|link| link["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, [ADA, "bob", "eve"]);
    assert_eq!(curl(&engine, ("GET", "/v1/approvals/q/links"), &headers, b"").json()["links"], all);
    let id = made["link_id"].as_str().unwrap();
    assert!(engine.ok(&["approvals", "links", "q", "--token", &admin]).contains(id));
    engine.ok(&["approvals", "revoke", "q", id, "--token", &admin]);
    let again = engine.cli(&["approvals", "revoke", "q", id, "--token", &admin]);
    assert!(again.code == 3 && again.err.contains("no link"), "{again:?}");
    let path = format!("/v1/approvals/q/links/{}", by_rest["link_id"].as_str().unwrap());
    assert_eq!(curl(&engine, ("DELETE", &path), &headers, b"").status, 204);
    let acts = engine.ok(&["audit", "--json", "--token", &admin]);
    let acts: Vec<Value> = serde_json::from_str(&acts).unwrap();
    let told = |operation: &str| {
        let of = acts.iter().filter(|act| act["operation"] == operation).map(|act| act["outcome"].as_str().unwrap());
        of.collect::<Vec<_>>()
    };
    let made_for = ["approve for eve", "reject for bob", "approve or reject for ada@example.com"];
    assert_eq!(told("CreateApprovalLink"), made_for);
    assert_eq!(told("RevokeApprovalLink").last(), Some(&id));
    assert!(!acts.iter().any(|act| act.to_string().contains(secret)), "the audit has no secret");
}

fn a_link_is_made_for_an_approver_or_by_an_admin(database: Database) {
    let (engine, admin) = with_admin(database);
    let grace = token(&engine, &admin, &["--role", "operator", "--name", "grace"]);
    let viewer = token(&engine, &admin, &["--role", "viewer", "--name", "eve"]);
    ask(&engine, &admin, "q", NAMED);
    for name in ["bob", "grace", "Ada@example.com"] {
        let refused = engine.cli(&["approvals", "link", "q", "--for", name, "--token", &grace]);
        assert!(refused.code == 5 && refused.err.contains("role:operator, ada@example.com"), "{refused:?}");
    }
    link(&engine, &grace, &["q", "--for", ADA]);
    link(&engine, &admin, &["q", "--for", "bob"]);
    let refused = engine.cli(&["approvals", "link", "q", "--for", ADA, "--token", &viewer]);
    assert!(refused.code == 5 && refused.err.contains("role viewer"), "{refused:?}");
    for _ in 2..32 {
        link(&engine, &admin, &["q", "--for", "bob"]);
    }
    let refused = engine.cli(&["approvals", "link", "q", "--for", "bob", "--token", &admin]);
    assert!(refused.code == 5 && refused.err.contains("links-max"), "{refused:?}");
    engine.ok(&["approve", "q", "--token", &grace]);
    let refused = engine.cli(&["approvals", "link", "q", "--for", ADA, "--token", &grace]);
    assert!(refused.code == 5 && refused.err.contains("is approved"), "{refused:?}");
}

/// Kills the engine, and runs a test on another one in this process, on the same database.
fn in_process<F: Future<Output = ()>>(engine: &mut Engine, test: impl FnOnce(cerebelum_worker::Engine) -> F) {
    engine.kill();
    let data = scratch();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config { database: engine.database().to_owned(), ..Config::new(&data.0) };
        let here = cerebelum_worker::Engine::open(config).await.map_err(|e| e.to_string()).unwrap();
        test(here.clone()).await;
        here.stop().await;
    });
}

fn yes() -> Decision {
    Decision::Approve { data: r#"{"n":7}"#.to_owned(), comment: None }
}

fn no() -> Decision {
    Decision::Reject { reason: "too dear".to_owned() }
}

fn secret(made: &Value) -> String {
    made["token"].as_str().unwrap().to_owned()
}

fn a_link_answers_once_across_a_kill(database: Database) {
    let (mut engine, admin) = with_admin(database);
    ask(&engine, &admin, "q", NAMED);
    let ((made, other), id) =
        ((link(&engine, &admin, &["q", "--for", ADA]), link(&engine, &admin, &["q", "--for", "bob"])), "q");
    in_process(&mut engine, async |here| {
        let view = here.approval_by_link(&secret(&made)).await.unwrap();
        assert_eq!((view.name.as_str(), view.state), (ADA, LinkState::Open));
        assert_eq!((view.question.title.as_str(), view.question.execution.as_str()), ("Go?", id));
        assert_eq!(view.decisions, ["approve", "reject"]);
        assert!(view.question.schema.is_some() && view.question.approvers.len() == 2);
        // Looking changes nothing.
        assert_eq!(here.approval_by_link(&secret(&made)).await.unwrap(), view);
        let wrong = Decision::Approve { data: "{".to_owned(), comment: None };
        let refused = here.decide_by_link(&secret(&made), wrong, None).await;
        assert!(matches!(refused, Err(ApiError::Invalid(_))), "{refused:?}");
        let address = Some("192.0.2.7".parse().unwrap());
        let uses = (0..6).map(|_| {
            let (here, secret) = (here.clone(), secret(&made));
            tokio::spawn(async move { here.decide_by_link(&secret, yes(), address).await })
        });
        let uses = futures::future::join_all(uses).await;
        let mut accepted = 0;
        for answer in uses {
            match answer.unwrap() {
                Ok(execution) => {
                    accepted += 1;
                    assert_eq!(execution.as_str(), id);
                }
                Err(ApiError::Conflict(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(accepted, 1);
        let used = here.approval_by_link(&secret(&made)).await.unwrap();
        assert_eq!((used.state, used.question.state.as_str()), (LinkState::Used, "approved"));
        assert!(used.question.schema.is_none() && used.question.data.as_str() == "null", "it shows no more than that");
        let lost = here.approval_by_link(&secret(&other)).await.unwrap();
        assert_eq!(lost.state, LinkState::Decided("approved"));
        let refused = here.decide_by_link(&secret(&other), no(), None).await.unwrap_err().to_string();
        assert!(refused.contains("is approved"), "{refused}");
        let refused = here.decide_by_link(&secret(&made), no(), None).await.unwrap_err().to_string();
        assert!(refused.contains("used already"), "{refused}");
    });
    engine.restart();
    let said = engine.ok(&["result", "q", "--wait", "--token", &admin]);
    assert!(said.contains(r#"{"n":7} by ada@example.com"#) || said.contains("by ada@example.com"), "{said}");
    let acts = engine.ok(&["audit", "--json", "--operation", "Approve", "--token", &admin]);
    let acts: Vec<Value> = serde_json::from_str(&acts).unwrap();
    assert_eq!(acts.len(), 1, "{acts:?}");
    assert_eq!((&acts[0]["caller"], &acts[0]["address"]), (&json!(ADA), &json!("192.0.2.7")));
    assert_eq!(acts[0]["outcome"], "q, by a link of root");
    assert_eq!(acts[0]["token_id"], format!("link-{}", made["link_id"].as_str().unwrap()));
}

fn a_link_that_has_ended_answers_nothing(database: Database) {
    let (mut engine, admin) = with_admin(database);
    for id in ["a", "b", "c", "d"] {
        ask(&engine, &admin, id, r#"{"title":"Go?"}"#);
    }
    let for_ada = |id: &str| link(&engine, &admin, &[id, "--for", ADA, "--only", "reject"]);
    let (a, b, c, d) = (for_ada("a"), for_ada("b"), for_ada("c"), for_ada("d"));
    let expired = a["link_id"].as_str().unwrap();
    sql(&engine, &format!("update approval_links set expires_at = created_at where digest like '{expired}%'"));
    engine.ok(&["reject", "b", "--token", &admin]);
    engine.ok(&["approvals", "revoke", "c", c["link_id"].as_str().unwrap(), "--token", &admin]);
    in_process(&mut engine, async |here| {
        assert_eq!(here.approval_by_link(&secret(&a)).await.unwrap().state, LinkState::Expired);
        let refused = here.decide_by_link(&secret(&a), no(), None).await.unwrap_err().to_string();
        assert!(refused.contains("expired"), "{refused}");
        assert_eq!(here.approval_by_link(&secret(&b)).await.unwrap().state, LinkState::Decided("rejected"));
        assert!(matches!(here.approval_by_link(&secret(&c)).await, Err(ApiError::NotFound(_))));
        let refused = here.decide_by_link(&secret(&d), yes(), None).await;
        assert!(matches!(refused, Err(ApiError::Forbidden(_))), "{refused:?}");
        here.decide_by_link(&secret(&d), no(), None).await.unwrap();
    });
    engine.restart();
    until("it is told", || {
        let said = engine.cli(&["result", "d", "--wait", "--token", &admin]);
        said.err.contains("too dear").then_some(())
    });
    assert!(engine.ok(&["status", "a", "--token", &admin]).contains("waiting-for-approval"));
    // An execution takes its links along.
    engine.ok(&["delete", "d", "--token", &admin]);
    in_process(&mut engine, async |here| {
        assert!(matches!(here.approval_by_link(&secret(&d)).await, Err(ApiError::NotFound(_))));
    });
}

fn links_of_other_tenants_and_of_nothing_look_alike(database: Database) {
    let (mut engine, admin) = with_admin(database);
    engine.ok(&["tenant", "create", "acme", "--token", &admin]);
    let acme = token(&engine, &admin, &["--role", "admin", "--name", "acme", "--tenant", "acme"]);
    engine.ok(&["upload", &component("test-guests"), "--name", "guests", "--token", &acme]);
    ask(&engine, &acme, "q", r#"{"title":"Go?"}"#);
    let made = link(&engine, &acme, &["q", "--for", ADA]);
    let refused = engine.cli(&["approvals", "links", "q", "--token", &admin]);
    assert_eq!(refused.code, 3, "{refused:?}");
    engine.ok(&["tenant", "suspend", "acme", "--token", &admin]);
    let unknown = async |here: &cerebelum_worker::Engine, token: &str| match here.approval_by_link(token).await {
        Err(ApiError::NotFound(why)) => why,
        other => panic!("{other:?}"),
    };
    in_process(&mut engine, async |here| {
        let why = unknown(&here, &secret(&made)).await;
        let absent = format!("{}A", "B".repeat(42));
        for token in [absent.as_str(), "", "q", "../../etc", &secret(&made)[..42], &"ü".repeat(43)] {
            assert_eq!(unknown(&here, token).await, why, "{token}");
        }
        let refused = here.decide_by_link(&secret(&made), yes(), None).await.unwrap_err();
        assert!(matches!(&refused, ApiError::NotFound(told) if *told == why), "{refused:?}");
    });
    engine.restart();
    engine.ok(&["tenant", "suspend", "acme", "--lift", "--token", &admin]);
    in_process(&mut engine, async |here| {
        assert_eq!(here.approval_by_link(&secret(&made)).await.unwrap().state, LinkState::Open);
        here.decide_by_link(&secret(&made), yes(), None).await.unwrap();
    });
    engine.restart();
    assert!(engine.ok(&["result", "q", "--wait", "--token", &acme]).contains("by ada@example.com"));
}

fn guesses_at_links_wait_for_each_other_and_none_is_refused(database: Database) {
    let mut engine = Engine::start(database);
    in_process(&mut engine, async |here| {
        let guesses: Vec<String> = (0..2_000).map(|number| format!("{}{number:04}AAA", "A".repeat(36))).collect();
        let told = futures::future::join_all(guesses.iter().map(|guess| here.approval_by_link(guess))).await;
        assert!(told.iter().all(|told| matches!(told, Err(ApiError::NotFound(_)))), "{told:?}");
        // A text that cannot be a token is refused without a look.
        assert!(matches!(here.approval_by_link("AAAA").await, Err(ApiError::NotFound(_))));
    });
}
