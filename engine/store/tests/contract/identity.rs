//! Tenants and tokens.

use cerebelum_history::{Digest, Timestamp};
use cerebelum_store::{TenantId, Token};

use crate::bench::Bench;
use crate::on_all;

on_all!(
    a_tenant_has_a_name_of_its_own_and_can_be_suspended,
    a_token_is_found_by_its_id_until_the_end_of_time,
    only_its_own_tenant_revokes_a_token_and_only_once,
    a_tenant_has_a_limited_number_of_valid_tokens,
    tenants_and_tokens_made_at_once_take_no_number_twice,
);

pub(crate) fn token(id: &str, tenant: TenantId) -> Token {
    Token {
        id: id.into(),
        tenant,
        role: "viewer".into(),
        name: "ada \"\\ 🌍".into(),
        secret_digest: Digest::of(id.as_bytes()),
        created_at: Timestamp(0),
        expires_at: Some(Timestamp(u64::MAX >> 2)),
        revoked_at: None,
        last_used_at: None,
    }
}

async fn a_tenant_has_a_name_of_its_own_and_can_be_suspended(bench: Bench) {
    let names = async || bench.tenants().await.unwrap().into_iter().map(|tenant| tenant.name).collect::<Vec<_>>();
    assert_eq!(names().await, ["default"]);
    let (b, a) = (
        bench.create_tenant("b", None).await.unwrap().unwrap(),
        bench.create_tenant("a", None).await.unwrap().unwrap(),
    );
    assert!(a != b && a != TenantId::DEFAULT && b != TenantId::DEFAULT);
    assert_eq!(bench.create_tenant("a", None).await.unwrap(), None);
    assert_eq!(names().await, ["a", "b", "default"]);
    let found = bench.find_tenant("b").await.unwrap();
    assert_eq!(found.map(|tenant| (tenant.id, tenant.name)), Some((b, "b".to_owned())));
    assert_eq!(bench.find_tenant("c").await.unwrap(), None);
    assert!(bench.suspend_tenant("a", true, None).await.unwrap());
    let since = bench.tenants().await.unwrap()[0].suspended_at.unwrap();
    assert!(bench.suspend_tenant("a", true, None).await.unwrap());
    let tenants = bench.tenants().await.unwrap();
    assert_eq!((tenants[0].suspended_at, tenants[1].suspended_at), (Some(since), None), "a suspension begins once");
    assert!(bench.suspend_tenant("a", false, None).await.unwrap());
    assert_eq!(bench.tenants().await.unwrap()[0].suspended_at, None);
    assert!(!bench.suspend_tenant("nobody", true, None).await.unwrap());
}

async fn a_token_is_found_by_its_id_until_the_end_of_time(bench: Bench) {
    assert!(!bench.has_tokens().await.unwrap());
    assert_eq!(bench.find_token("k").await.unwrap(), None);
    let tenant = bench.create_tenant("a", None).await.unwrap().unwrap();
    let now = bench.now().await.unwrap();
    assert!(bench.create_token(token("k", tenant), 10, None).await.unwrap());
    assert!(bench.has_tokens().await.unwrap());
    let found = async || bench.find_token("k").await.unwrap().unwrap();
    let (stored, of) = found().await;
    assert_eq!((of.id, of.name.as_str()), (tenant, "a"));
    assert!(stored.created_at >= now && stored.last_used_at.is_none());
    assert_eq!(stored, Token { created_at: stored.created_at, ..token("k", tenant) });
    bench.note_use("k").await.unwrap();
    let used = found().await.0.last_used_at.unwrap();
    assert!(used >= now);
    // A use within the same minute is not written again.
    bench.note_use("k").await.unwrap();
    assert_eq!(found().await.0.last_used_at, Some(used));
    assert!(bench.revoke_token(tenant, "k", None).await.unwrap());
    assert!(found().await.0.revoked_at.is_some());
    assert!(bench.has_tokens().await.unwrap(), "an engine that had a token is never open again");
}

async fn only_its_own_tenant_revokes_a_token_and_only_once(bench: Bench) {
    let (a, b) = (
        bench.create_tenant("a", None).await.unwrap().unwrap(),
        bench.create_tenant("b", None).await.unwrap().unwrap(),
    );
    assert!(bench.create_token(token("k", a), 10, None).await.unwrap());
    assert!(!bench.revoke_token(b, "k", None).await.unwrap());
    assert_eq!(bench.tokens(b).await.unwrap(), []);
    assert!(bench.tokens(a).await.unwrap()[0].revoked_at.is_none());
    assert!(bench.revoke_token(a, "k", None).await.unwrap());
    assert!(!bench.revoke_token(a, "k", None).await.unwrap());
}

async fn a_tenant_has_a_limited_number_of_valid_tokens(bench: Bench) {
    let a = bench.create_tenant("a", None).await.unwrap().unwrap();
    for (id, taken) in [("1", true), ("2", true), ("3", false)] {
        assert_eq!(bench.create_token(token(id, a), 2, None).await.unwrap(), taken, "{id}");
    }
    assert!(bench.create_token(token("4", TenantId::DEFAULT), 2, None).await.unwrap());
    assert!(bench.revoke_token(a, "1", None).await.unwrap());
    assert!(bench.create_token(token("3", a), 2, None).await.unwrap());
    // Expired tokens do not count, and only so many ended tokens are kept.
    for number in 0..5 {
        let over = Token { expires_at: Some(Timestamp(1)), ..token(&format!("over{number}"), TenantId::DEFAULT) };
        assert!(bench.create_token(over, 2, None).await.unwrap());
    }
    let kept = bench.tokens(TenantId::DEFAULT).await.unwrap();
    assert_eq!((kept.len(), kept[0].id.as_str()), (3, "4"), "the valid one comes first");
    let nobody = TenantId(4_711);
    assert!(!bench.create_token(token("5", nobody), 2, None).await.unwrap(), "there is no such tenant");
}

async fn tenants_and_tokens_made_at_once_take_no_number_twice(bench: Bench) {
    let other = bench.second().await;
    let names: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for name in &names {
        let (left, right) = tokio::join!(bench.create_tenant(name, None), other.create_tenant(name, None));
        let ids: Vec<TenantId> = [left.unwrap(), right.unwrap()].into_iter().flatten().collect();
        assert_eq!(ids.len(), 1, "one of them has it");
        here.extend(ids);
    }
    for number in 0..8 {
        let (left, right) = (token(&format!("l{number}"), here[0]), token(&format!("r{number}"), here[0]));
        let (left, right) = tokio::join!(bench.create_token(left, 5, None), other.create_token(right, 5, None));
        there.extend([left.unwrap(), right.unwrap()]);
    }
    here.sort_unstable();
    here.dedup();
    assert_eq!(here.len(), 8);
    assert_eq!(there.iter().filter(|taken| **taken).count(), 5);
}
