//! What clients did is stored together with it, or not at all.

use std::sync::Arc;

use cerebelum_history::{Digest, Timestamp};
use cerebelum_store::{
    Act, Actor, AppendError, ApprovalChange, ApprovalState, AuditFilter, AuditPage, Batch, Command, Removable, Store,
    StoreError, TenantId, Token, Upload, Version, VersionChange, VersionState,
};

use crate::bench::{Bench, T, call, events, fresh, key, new};
use crate::on_all;

on_all!(
    each_change_of_a_client_is_stored_with_its_act,
    what_changes_nothing_has_no_act,
    a_start_is_stored_with_its_act_and_once,
    acts_are_listed_newest_first_by_tenant_and_filter,
    old_acts_are_deleted_and_new_ones_stay;
    // Only on databases:
    texts_of_any_kind_are_stored_and_long_ones_are_cut,
    a_page_with_a_filter_reads_no_more_than_it_may,
);

pub(crate) fn act(operation: &'static str, object: &str) -> Act {
    static CHANCE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let chance = CHANCE.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
    let actor = Actor { name: Some("ada".into()), token: Some("0a".into()), address: Some("127.0.0.1".into()) };
    let (object, outcome) = (object.to_owned(), "done".to_owned());
    Act { tenant: T, chance, actor: Arc::new(actor), operation, object, outcome }
}

async fn acts(store: &dyn Store) -> Vec<(String, String)> {
    let filter = AuditFilter { limit: 1_000, ..AuditFilter::default() };
    let page = store.acts(T, filter).await.unwrap();
    // Acts of one millisecond have no order.
    let mut acts: Vec<_> = page.acts.into_iter().map(|act| (act.operation, act.object)).collect();
    acts.sort();
    acts
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(operation, object)| ((*operation).to_owned(), (*object).to_owned())).collect()
}

/// Waits until the clock of the database shows another millisecond.
pub(crate) async fn tick(bench: &Bench) {
    let before = bench.now().await.unwrap();
    while bench.now().await.unwrap() <= before.plus(1) {
        tokio::task::yield_now().await;
    }
}

fn upload(bytes: &[u8]) -> Upload {
    let (name, manifest) = ("shop".to_owned(), "{}".to_owned());
    let change = VersionChange { state: VersionState::Current, granted: "[]".to_owned(), uploads: 0 };
    Upload { tenant: T, name, digest: Digest::of(bytes), manifest, bytes: Arc::new(bytes.to_vec()), change }
}

fn token(id: &str) -> Token {
    Token {
        id: id.into(),
        tenant: T,
        role: "viewer".into(),
        name: "ada".into(),
        secret_digest: Digest::of(id.as_bytes()),
        created_at: Timestamp(0),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

async fn page(bench: &Bench, tenant: TenantId, filter: AuditFilter) -> AuditPage {
    bench.acts(tenant, AuditFilter { limit: filter.limit.max(2), ..filter }).await.unwrap()
}

async fn each_change_of_a_client_is_stored_with_its_act(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut ask = events(node, &head, 1);
    ask.approvals =
        vec![ApprovalChange::Open { id: "q".into(), call: call("1"), request: "{}".into(), deadline: None }];
    assert_eq!(bench.write(ask).await, Ok(()));
    assert_eq!(acts(&*bench).await, [], "the engine's own doings are no acts");
    let what = |operation, object: &str| Some(act(operation, object));
    assert!(bench.command(&key("a"), Command::Send("{}".into()), what("Signal", "a")).await.unwrap());
    bench.answer((T, "q"), ApprovalState::Approved, "{}".into(), what("Approve", "q")).await.unwrap();
    crate::bench::keep(&*bench, upload(b"one"), what("Upload", "shop")).await.unwrap();
    let version = Version { tenant: T, name: "shop".into(), digest: Digest::of(b"one") };
    assert!(bench.remove_component(version, Removable::Any, what("RemoveComponent", "shop")).await.unwrap());
    assert!(bench.create_tenant("b", what("CreateTenant", "b")).await.unwrap().is_some());
    assert!(bench.suspend_tenant("b", true, what("SuspendTenant", "b")).await.unwrap());
    assert!(bench.set_quotas("b", ("{}", "{\"x\":1}"), what("SetQuotas", "b")).await.unwrap());
    assert!(bench.create_token(token("k"), 9, what("CreateToken", "k")).await.unwrap());
    assert!(bench.revoke_token(T, "k", what("RevokeToken", "k")).await.unwrap());
    assert!(bench.command(&key("a"), Command::Bury { messages: vec![] }, what("Terminate", "a")).await.unwrap());
    assert!(bench.command(&key("a"), Command::Delete, what("Delete", "a")).await.unwrap());
    let all = [
        ("Approve", "q"),
        ("CreateTenant", "b"),
        ("CreateToken", "k"),
        ("Delete", "a"),
        ("RemoveComponent", "shop"),
        ("RevokeToken", "k"),
        ("SetQuotas", "b"),
        ("Signal", "a"),
        ("SuspendTenant", "b"),
        ("Terminate", "a"),
        ("Upload", "shop"),
    ];
    assert_eq!(acts(&*bench).await, pairs(&all));
}

async fn what_changes_nothing_has_no_act(bench: Bench) {
    let node = bench.lease("n").await;
    bench.started(node, "a").await;
    let what = || Some(act("None", "none"));
    assert!(!bench.command(&key("nobody"), Command::Send("{}".into()), what()).await.unwrap());
    assert!(!bench.command(&key("a"), Command::Delete, what()).await.unwrap());
    assert!(!bench.command(&key("a"), Command::Unpark, what()).await.unwrap());
    bench.answer((T, "nobody"), ApprovalState::Approved, "{}".into(), what()).await.unwrap();
    let version = Version { tenant: T, name: "shop".into(), digest: Digest::of(b"one") };
    assert!(!bench.remove_component(version, Removable::Any, what()).await.unwrap());
    assert!(bench.create_tenant("default", what()).await.unwrap().is_none());
    assert!(!bench.suspend_tenant("nobody", true, what()).await.unwrap());
    assert!(!bench.set_quotas("default", ("{\"x\":2}", "{}"), what()).await.unwrap());
    assert!(!bench.create_token(token("k"), 0, what()).await.unwrap());
    assert!(!bench.revoke_token(T, "k", what()).await.unwrap());
    assert_eq!(acts(&*bench).await, []);
}

async fn a_start_is_stored_with_its_act_and_once(bench: Bench) {
    let node = bench.lease("n").await;
    let begin = |id: &str| Batch { act: Some(act("Start", id)), ..Batch::start(node, new(id)) };
    assert_eq!(bench.write(begin("a")).await, Ok(()));
    // The second append takes the optimistic path; then an id is taken, and the group is judged batch by batch.
    assert_eq!(bench.write(begin("b")).await, Ok(()));
    let id = fresh();
    let group = vec![begin("c"), begin("a"), begin("d")];
    let answers = bench.append(id, group.clone()).await.unwrap();
    assert_eq!(answers[1].map(|_| ()), Err(AppendError::Exists));
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert!(bench.append(id, group).await.unwrap()[0].is_ok(), "the same append again");
    let all = [("Start", "a"), ("Start", "b"), ("Start", "c"), ("Start", "d")];
    assert_eq!(acts(&*bench).await, pairs(&all));
}

async fn acts_are_listed_newest_first_by_tenant_and_filter(bench: Bench) {
    let other = bench.create_tenant("b", None).await.unwrap().unwrap();
    let before = bench.now().await.unwrap();
    for (index, operation) in ["CreateToken", "CreateToken", "Start"].into_iter().enumerate() {
        let id = format!("k{index}");
        assert!(bench.create_token(token(&id), 9, Some(act(operation, &id))).await.unwrap());
        tick(&bench).await;
    }
    let theirs = Act { tenant: other, ..act("CreateToken", "theirs") };
    assert!(bench.create_token(Token { tenant: other, ..token("t") }, 9, Some(theirs)).await.unwrap());
    let first = page(&bench, T, AuditFilter::default()).await;
    assert_eq!(first.acts.iter().map(|act| act.object.as_str()).collect::<Vec<_>>(), ["k2", "k1"]);
    assert_eq!(first.acts[0].actor, *act("Start", "k2").actor);
    assert_eq!((first.acts[0].outcome.as_str(), first.acts[0].at >= before), ("done", true));
    let rest = page(&bench, T, AuditFilter { cursor: first.cursor, ..AuditFilter::default() }).await;
    assert_eq!((rest.acts.len(), rest.acts[0].object.as_str(), rest.cursor), (1, "k0", None));
    let only = |filter: AuditFilter| {
        let bench = &bench;
        async move { page(bench, T, filter).await.acts.into_iter().map(|act| act.object).collect::<Vec<_>>() }
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(only(AuditFilter { operation: some("Start"), ..AuditFilter::default() }).await, ["k2"]);
    assert_eq!(only(AuditFilter { object: some("k1"), ..AuditFilter::default() }).await, ["k1"]);
    assert_eq!(only(AuditFilter { caller: some("bob"), ..AuditFilter::default() }).await, [""; 0]);
    assert_eq!(only(AuditFilter { caller: some("ada"), ..AuditFilter::default() }).await, ["k2", "k1"]);
    let since = Some(first.acts[0].at);
    assert_eq!(only(AuditFilter { since, ..AuditFilter::default() }).await, ["k2"]);
    assert_eq!(page(&bench, other, AuditFilter::default()).await.acts[0].object, "theirs");
}

async fn old_acts_are_deleted_and_new_ones_stay(bench: Bench) {
    for id in ["a", "b", "c"] {
        assert!(bench.create_token(token(id), 9, Some(act("CreateToken", id))).await.unwrap());
        tick(&bench).await;
    }
    let newest = page(&bench, T, AuditFilter::default()).await.acts[0].at;
    assert_eq!(bench.delete_acts(TenantId(7), newest, 9).await.unwrap(), 0);
    assert_eq!(bench.delete_acts(T, newest, 1).await.unwrap(), 1);
    assert_eq!(acts(&*bench).await, pairs(&[("CreateToken", "b"), ("CreateToken", "c")]));
    assert_eq!(bench.delete_acts(T, newest, 9).await.unwrap(), 1);
    assert_eq!(acts(&*bench).await, pairs(&[("CreateToken", "c")]));
}

async fn texts_of_any_kind_are_stored_and_long_ones_are_cut(bench: Bench) {
    let strange = "a\0b\\0 \u{202e}é";
    assert!(bench.create_token(token("a"), 9, Some(act("CreateToken", strange))).await.unwrap());
    assert!(bench.create_token(token("b"), 9, Some(act("CreateToken", &"é".repeat(1_000)))).await.unwrap());
    let without_actor = Act { actor: Arc::default(), ..act("CreateToken", "") };
    assert!(bench.create_token(token("c"), 9, Some(without_actor)).await.unwrap());
    assert_eq!(
        acts(&*bench).await,
        pairs(&[("CreateToken", ""), ("CreateToken", strange), ("CreateToken", &"é".repeat(256))])
    );
    let wrong = AuditFilter { cursor: Some("7".into()), ..AuditFilter::default() };
    assert!(matches!(bench.acts(T, wrong).await, Err(StoreError::Invalid(_))));
}

async fn a_page_with_a_filter_reads_no_more_than_it_may(bench: Bench) {
    const COUNT: u32 = 10_500;
    bench
        .meddle(format!(
            "with recursive n(n) as (select 1 union all select n + 1 from n where n < {COUNT})
            insert into audit (tenant_id, at, chance, operation, object, outcome) select 1, n, 7, 'Start', 'x', '' from n"
        ))
        .await;
    let filter = AuditFilter { operation: Some("Delete".into()), limit: 1_000, ..AuditFilter::default() };
    let first = bench.acts(T, filter.clone()).await.unwrap();
    assert!(first.acts.is_empty() && first.cursor.is_some(), "{first:?}");
    let rest = bench.acts(T, AuditFilter { cursor: first.cursor, ..filter }).await.unwrap();
    assert_eq!(rest, AuditPage::default());
}
