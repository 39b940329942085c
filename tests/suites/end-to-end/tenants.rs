//! Tenants who know nothing of each other, and tokens whose roles say what they may do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, Said, until, within};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

on_both_databases!(
    the_first_token_closes_an_engine_for_good,
    every_role_may_what_the_table_says_and_nothing_else,
    nothing_of_another_tenant_is_found,
    a_token_ends_when_it_is_revoked_or_expires_or_its_tenant_is_suspended,
    an_answer_carries_the_name_of_the_token,
    a_token_is_created_without_an_engine,
    hosts_and_secrets_of_the_configuration_are_for_the_first_tenant,
    a_request_that_began_before_its_token_ended_is_refused_when_it_is_there,
);

/// Creates a token and returns it whole.
pub(crate) fn token(engine: &Engine, admin: &str, arguments: &[&str]) -> String {
    let mut line = vec!["token", "create", "--json"];
    line.extend(arguments);
    if !admin.is_empty() {
        line.extend(["--token", admin]);
    }
    let said = engine.ok(&line);
    let created: Value = serde_json::from_str(&said).unwrap();
    created["token"].as_str().unwrap().to_owned()
}

fn with(engine: &Engine, token: &str, arguments: &[&str]) -> Said {
    engine.cli(&[arguments, &["--token", token]].concat())
}

fn the_first_token_closes_an_engine_for_good(database: Database) {
    let mut engine = Engine::start(database);
    until("the log says that it is open", || engine.log().contains("no tokens").then_some(()));
    assert_eq!(engine.json(&["whoami"])["role"], "admin");
    assert!(engine.ok(&["token", "list"]).contains("open to this machine"));
    let refused = engine.cli(&["token", "create", "--role", "viewer", "--name", "eve"]);
    assert!(refused.code == 5 && refused.err.contains("admin"), "{refused:?}");
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    for _ in 0..2 {
        let without = engine.cli(&["list"]);
        assert!(without.code == 5 && without.err.contains("cerebelum login"), "{without:?}");
        let wrong = with(&engine, &admin.replace(&admin[20..22], "zz"), &["list"]);
        assert!(wrong.code == 5 && wrong.err.contains("unknown"), "{wrong:?}");
        let other = format!("{}{}", &admin[..60], "0".repeat(20));
        assert_eq!(with(&engine, &other, &["list"]).code, 5);
        let known = with(&engine, &admin, &["whoami", "--json"]);
        let known: Value = serde_json::from_str(&known.out).unwrap();
        assert_eq!((&known["tenant"], &known["name"]), (&json!("default"), &json!("ada")));
        engine.kill_and_restart();
    }
    // Health needs no token, the figures of the whole engine do.
    let page = |path: &str| test_engine::http_get(&format!("{}{path}", engine.url()));
    assert_eq!(page("/healthz").trim(), "ready");
    assert!(page("/metrics").contains("wants a token"), "{}", page("/metrics"));
    // After a login the token need not be named again.
    engine.ok(&["login", "--token", &admin]);
    assert_eq!(engine.json(&["list"]), json!([]));
    let kept = engine.ok(&["context"]);
    assert!(kept.contains('*') && !kept.contains(&admin), "{kept}");
    // A revoked token was there all the same.
    let id = engine.json(&["token", "list"])[0]["id"].as_str().unwrap().to_owned();
    let last = engine.cli(&["token", "revoke", &id]);
    assert_eq!(last.code, 5, "{last:?}");
    assert!(last.err.contains("create another one first"), "{last:?}");
    let other = token(&engine, &admin, &["--role", "admin", "--name", "bob"]);
    engine.ok(&["token", "revoke", &id, "--token", &other]);
    assert_eq!(engine.cli(&["list"]).code, 5);
}

/// The rows of the table of roles in the page for operators: methods, and the cell of each role.
pub(crate) fn table_of_roles() -> Vec<(String, String, [&'static str; 5])> {
    let page = std::fs::read_to_string(test_engine::root().join("docs/operating.md")).unwrap();
    let mut rows = Vec::new();
    let table =
        page.lines().skip_while(|line| !line.starts_with("| May | | admin")).take_while(|line| line.starts_with('|'));
    for line in table.skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        for method in cells[1].split(", ") {
            let may = std::array::from_fn(|role| match cells[role + 2] {
                "yes" => "yes",
                "no" => "no",
                "in `default`" => "in default",
                other => panic!("{other}"),
            });
            rows.push((cells[0].to_owned(), method.trim_matches('`').to_owned(), may));
        }
    }
    rows
}

fn every_role_may_what_the_table_says_and_nothing_else(database: Database) {
    const ROLES: [&str; 5] = ["admin", "developer", "operator", "approver", "viewer"];
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "other", "--token", &admin]);
    let table = table_of_roles();
    let mut methods: Vec<&str> = table.iter().map(|(_, method, _)| method.as_str()).collect();
    methods.sort_unstable();
    let mut all: Vec<&str> = cerebelum_server::ACTIONS.iter().map(|(method, _)| *method).collect();
    all.sort_unstable();
    assert_eq!(methods, all, "the table has every method once");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let channel = Channel::from_shared(engine.url().to_owned()).unwrap();
    let channel = runtime.block_on(channel.connect()).unwrap();
    for tenant in ["default", "other"] {
        for (number, role) in ROLES.into_iter().enumerate() {
            let it = token(&engine, &admin, &["--role", role, "--name", role, "--tenant", tenant]);
            for (_, method, may) in &table {
                let code = runtime.block_on(call(channel.clone(), method, Some(&it)));
                let is_refused = matches!(code, Code::PermissionDenied | Code::Unauthenticated);
                let expected = may[number] == "yes" || may[number] == "in default" && tenant == "default";
                assert_eq!(!is_refused, expected, "{role} of {tenant} calls {method}: {code:?}");
            }
        }
    }
    for (_, method, _) in &table {
        assert_eq!(runtime.block_on(call(channel.clone(), method, None)), Code::Unauthenticated, "{method}");
    }
    assert_eq!(runtime.block_on(call(channel, "Nothing", Some(&admin))), Code::NotFound);
}

/// Calls a method with an empty message, and returns how that ended.
async fn call(channel: Channel, method: &str, token: Option<&str>) -> Code {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = Request::new(futures::stream::iter([Vec::new()]));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let path = format!("/cerebelum.v1.Engine/{method}").parse().unwrap();
    let mut answers = match grpc.streaming(request, path, Raw).await {
        Ok(answer) => answer.into_inner(),
        Err(refused) => return code_of(&refused),
    };
    match answers.message().await {
        Ok(_) => Code::Ok,
        Err(refused) => code_of(&refused),
    }
}

/// The code of a refusal. Its details say the same as a problem over REST.
fn code_of(refused: &Status) -> Code {
    let info = refused.get_details_error_info().unwrap_or_else(|| panic!("it does not say its code: {refused:?}"));
    let expected = match refused.code() {
        Code::InvalidArgument => "INVALID",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::PermissionDenied => "FORBIDDEN",
        Code::NotFound => "NOT_FOUND",
        Code::FailedPrecondition => "CONFLICT",
        other => panic!("no method refuses an empty message like this: {other:?}"),
    };
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("cerebelum", expected));
    refused.code()
}

/// Messages as they are on the wire.
#[derive(Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, length).to_vec()))
    }
}

fn nothing_of_another_tenant_is_found(database: Database) {
    let mut engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "other", "--token", &admin]);
    let again = engine.cli(&["tenant", "create", "other", "--token", &admin]);
    assert!(again.code == 5 && again.err.contains("already"), "{again:?}");
    let other = token(&engine, &admin, &["--role", "admin", "--name", "bob", "--tenant", "other"]);
    let component = test_engine::component("test-guests");
    assert_eq!(with(&engine, &admin, &["upload", &component, "--name", "mine"]).code, 0);
    let start = ["start", "mine/asking", "--id", "q", "--input", r#"{"title":"May I?"}"#];
    assert_eq!(with(&engine, &admin, &start).code, 0);
    until("it asks", || with(&engine, &admin, &["approvals"]).out.contains("May I?").then_some(()));
    engine.kill_and_restart();
    for verb in [
        &["status", "q"][..],
        &["result", "q"],
        &["watch", "q"],
        &["history", "q"],
        &["logs", "q"],
        &["approvals", "--execution", "q"],
        &["approve", "q"],
        &["reject", "q"],
        &["signal", "q", "go"],
        &["cancel", "q"],
        &["terminate", "q"],
        &["pause", "q"],
        &["resume", "q"],
        &["delete", "q"],
        &["components", "remove", "mine"],
        &start,
    ] {
        let said = with(&engine, &other, verb);
        assert!(said.code == 3 && !said.err.contains("May I?"), "{verb:?}: {said:?}");
    }
    for list in [&["list"][..], &["components"], &["approvals"]] {
        assert_eq!(with(&engine, &other, &[list, &["--json"]].concat()).out.trim(), "[]", "{list:?}");
    }
    // The same id and the same component name mean something else there.
    assert_eq!(with(&engine, &other, &["upload", &component, "--name", "mine"]).code, 0);
    let sleep = ["start", "mine/sleeper", "--id", "q", "--input", "86400000"];
    assert_eq!(with(&engine, &other, &sleep).code, 0);
    assert_eq!(with(&engine, &other, &["terminate", "q"]).code, 0);
    assert_eq!(with(&engine, &admin, &["approve", "q"]).code, 0);
    let ended = within(Duration::from_secs(30), "it ends", || {
        let said = with(&engine, &admin, &["status", "q", "--json"]);
        let status: Value = serde_json::from_str(&said.out).ok()?;
        (status["status"] == "completed").then_some(status)
    });
    assert_eq!(ended["workflow"], "mine/asking");
    // Only an admin of `default` manages tenants, and the tokens of others.
    for verb in [&["tenant", "list"][..], &["token", "list", "--tenant", "default"], &["tenant", "suspend", "default"]]
    {
        let said = with(&engine, &other, verb);
        assert!(said.code == 5 && said.err.contains("whole engine"), "{verb:?}: {said:?}");
    }
    let theirs = with(&engine, &other, &["token", "list", "--json"]);
    assert!(theirs.out.contains("bob") && !theirs.out.contains("ada"), "{theirs:?}");
    let id = &admin[3..15];
    assert_eq!(with(&engine, &other, &["token", "revoke", id]).code, 3, "a token of another tenant is not found");
}

fn a_token_ends_when_it_is_revoked_or_expires_or_its_tenant_is_suspended(database: Database) {
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "other", "--token", &admin]);
    let viewer = |arguments: &[&str]| {
        token(&engine, &admin, &[&["--role", "viewer", "--name", "v", "--tenant", "other"], arguments].concat())
    };
    let (revoked, short, suspended) = (viewer(&[]), viewer(&["--expires", "3s"]), viewer(&[]));
    for it in [&revoked, &short, &suspended] {
        assert_eq!(with(&engine, it, &["list"]).code, 0);
    }
    let began = Instant::now();
    engine.ok(&["token", "revoke", &revoked[3..15], "--tenant", "other", "--token", &admin]);
    assert_eq!(with(&engine, &revoked, &["list"]).code, 5);
    within(Duration::from_secs(10), "it expires", || (with(&engine, &short, &["list"]).code == 5).then_some(()));
    assert!(began.elapsed() < Duration::from_secs(9), "an expired token is refused at once");
    engine.ok(&["tenant", "suspend", "other", "--token", &admin]);
    let said = with(&engine, &suspended, &["list"]);
    assert!(said.code == 5 && said.err.contains("suspended"), "{said:?}");
    engine.ok(&["tenant", "suspend", "other", "--lift", "--token", &admin]);
    assert_eq!(with(&engine, &suspended, &["list"]).code, 0);
    let own = engine.cli(&["tenant", "suspend", "default", "--token", &admin]);
    assert!(own.code == 5 && own.err.contains("cannot be suspended"), "{own:?}");
}

fn an_answer_carries_the_name_of_the_token(database: Database) {
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    let grace = token(&engine, &admin, &["--role", "approver", "--name", "grace"]);
    let component = test_engine::component("test-guests");
    assert_eq!(with(&engine, &admin, &["upload", &component, "--name", "test-guests"]).code, 0);
    let start = ["start", "asking", "--id", "q", "--input", r#"{"title":"May I?"}"#];
    assert_eq!(with(&engine, &admin, &start).code, 0);
    until("she may answer", || (with(&engine, &grace, &["approve", "q"]).code == 0).then_some(()));
    let said = with(&engine, &grace, &["result", "q", "--wait"]);
    assert!(said.out.contains("by grace"), "{said:?}");
}

fn a_token_is_created_without_an_engine(database: Database) {
    let mut engine = Engine::start(database);
    let url = engine.database().to_owned();
    let create = ["token", "create", "--role", "admin", "--name", "ada", "--json", "--database", &url];
    if database == Database::Sqlite {
        let busy = engine.cli(&create);
        assert!(busy.code == 5 && busy.err.contains("running engine"), "{busy:?}");
    }
    engine.kill();
    let created: Value = serde_json::from_str(&engine.ok(&create)).unwrap();
    engine.restart();
    assert_eq!(engine.cli(&["list"]).code, 5);
    assert_eq!(with(&engine, created["token"].as_str().unwrap(), &["list"]).code, 0);
}

fn hosts_and_secrets_of_the_configuration_are_for_the_first_tenant(database: Database) {
    let cloud = Cloud::start();
    let engine = Engine::start_with(database, &[("SECRET_TEST_TOKEN", "s3cret")]);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "other", "--token", &admin]);
    let other = token(&engine, &admin, &["--role", "admin", "--name", "bob", "--tenant", "other"]);
    let component = test_engine::component("test-guests");
    let input = json!({"base_url": cloud.url(), "path": "notes/guarded"}).to_string();
    let run = |token: &str| {
        assert_eq!(with(&engine, token, &["upload", &component, "--name", "test-guests"]).code, 0);
        let said = with(&engine, token, &["start", "secrets", "--input", &input, "--wait", "--json"]);
        serde_json::from_str::<Value>(&said.out).unwrap()
    };
    let refused = run(&other);
    assert_eq!(refused["failure"]["kind"], "not-granted", "{refused:#}");
    assert_eq!(cloud.requests("POST", "/notes/guarded").len(), 0);
    assert_eq!(run(&admin)["status"], "completed");
    assert_eq!(cloud.requests("POST", "/notes/guarded").len(), 1);
}

/// The head of a request comes at once, and its message when the client likes: what counts is the token at that time.
fn a_request_that_began_before_its_token_ended_is_refused_when_it_is_there(database: Database) {
    /// The role `admin` and the name `eve`, as `CreateTokenRequest` is encoded.
    const FOR_EVE: &[u8] = b"\x12\x05admin\x1a\x03eve";
    let engine = Engine::start(database);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let channel = Channel::from_shared(engine.url().to_owned()).unwrap();
    let channel = runtime.block_on(channel.connect()).unwrap();
    let slow = |token: Option<&str>| {
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let message = async {
            begin.send(()).unwrap();
            released.await.unwrap();
            FOR_EVE.to_vec()
        };
        let mut request = Request::new(futures::stream::once(message));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        let call = runtime.spawn(async move {
            grpc.ready().await.unwrap();
            let path = "/cerebelum.v1.Engine/CreateToken".parse().unwrap();
            grpc.client_streaming(request, path, Raw).await.map(drop).map_err(|refused| refused.code())
        });
        // A client that asks for the message has sent the head, and on one connection the engine reads it before this.
        runtime.block_on(begun).unwrap();
        let _ = runtime.block_on(self::call(channel.clone(), "WhoAmI", token));
        (release, call)
    };
    let (release, call) = slow(None);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    release.send(()).unwrap();
    assert_eq!(runtime.block_on(call).unwrap(), Err(Code::Unauthenticated), "the engine was closed meanwhile");
    let other = token(&engine, &admin, &["--role", "admin", "--name", "bob"]);
    let (release, call) = slow(Some(&other));
    engine.ok(&["token", "revoke", &other[3..15], "--token", &admin]);
    release.send(()).unwrap();
    assert_eq!(runtime.block_on(call).unwrap(), Err(Code::Unauthenticated), "the token was revoked meanwhile");
    let (release, call) = slow(Some(&admin));
    release.send(()).unwrap();
    assert_eq!(runtime.block_on(call).unwrap(), Ok(()));
}

/// The token of a login is for its user alone, whatever mask the user has and whatever file was there.
#[test]
fn a_login_is_kept_in_a_file_that_only_its_user_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let engine = Engine::start(Database::Sqlite);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    let home = test_engine::scratch();
    let file = home.0.join("cerebelum/contexts.toml");
    let login = |name: &str| {
        let done = std::process::Command::new("sh")
            .args(["-c", "umask 000; exec \"$0\" \"$@\""])
            .arg(test_engine::program("cerebelum"))
            .args(["--url", engine.url(), "--token", &admin, "login", "--name", name])
            .env("XDG_CONFIG_HOME", &home.0)
            .status();
        assert!(done.unwrap().success());
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(login("one"), 0o600);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(login("two"), 0o600);
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains("[contexts.one]") && kept.contains("[contexts.two]") && kept.contains(&admin), "{kept}");
}
