//! Grants and proposals: a version that waits to be accepted, and what a name was granted.

use cerebelum_history::{Digest, Timestamp};
use cerebelum_store::{AuditFilter, Removable, TenantId, Upload, Version, VersionChange, VersionState};

use crate::audit::{act, tick};
use crate::bench::{Bench, T, upload};
use crate::on_all;

on_all!(
    a_proposed_version_waits_beside_the_current_one,
    what_was_decided_before_another_upload_does_not_happen,
    grants_are_those_of_one_name_of_one_tenant,
    the_version_before_is_replaced_when_the_next_one_is_accepted;
    // Only on databases:
    a_name_that_is_removed_keeps_no_grants,
    an_engine_that_knows_no_proposals_makes_versions_current
);

/// Uploads a version in this state, and grants this to its name.
async fn put(bench: &Bench, (name, bytes): (&str, &[u8]), state: VersionState, granted: &str) -> Digest {
    let uploads = bench.uploads(T).await.unwrap();
    let change = VersionChange { state, granted: granted.to_owned(), uploads };
    assert!(bench.keep_component(Upload { change, ..upload(name, "{}", bytes) }, None).await.unwrap());
    Digest::of(bytes)
}

/// The versions of a name, current ones first: whether each is current, whether it is proposed, and the name's grants.
async fn versions(bench: &Bench, name: &str) -> Vec<(Digest, bool, bool, Option<String>)> {
    let all = bench.components(T).await.unwrap().into_iter().filter(|component| component.name == name);
    all.map(|component| (component.digest, component.current, component.proposed, component.granted)).collect()
}

fn version(name: &str, digest: &Digest) -> Version {
    Version { tenant: T, name: name.to_owned(), digest: digest.clone() }
}

async fn accept(bench: &Bench, name: &str, digest: &Digest, granted: &str) {
    let uploads = bench.uploads(T).await.unwrap();
    let change = VersionChange { state: VersionState::Current, granted: granted.to_owned(), uploads };
    let accepted = bench.change_version(version(name, digest), change, Some(act("AcceptComponent", name)));
    assert!(accepted.await.unwrap());
}

async fn a_proposed_version_waits_beside_the_current_one(bench: Bench) {
    let one = put(&bench, ("shop", b"one"), VersionState::Current, r#"["http:a"]"#).await;
    let two = put(&bench, ("shop", b"two"), VersionState::Proposed, r#"["http:a"]"#).await;
    let (before, after) = (Some(r#"["http:a"]"#.to_owned()), Some(r#"["http:a","http:b"]"#.to_owned()));
    let rows = [(one.clone(), true, false, before.clone()), (two.clone(), false, true, before.clone())];
    assert_eq!(versions(&bench, "shop").await, rows);
    put(&bench, ("shop", b"two"), VersionState::Proposed, r#"["http:a"]"#).await;
    assert_eq!(versions(&bench, "shop").await, rows, "it is proposed once more");
    accept(&bench, "shop", &two, r#"["http:a","http:b"]"#).await;
    let rows = [(two.clone(), true, false, after.clone()), (one.clone(), false, false, after.clone())];
    assert_eq!(versions(&bench, "shop").await, rows);
    let acts = bench.acts(T, AuditFilter { limit: 9, ..AuditFilter::default() }).await.unwrap().acts;
    assert_eq!(acts.iter().map(|act| act.operation.as_str()).collect::<Vec<_>>(), ["AcceptComponent"]);
    put(&bench, ("shop", b"two"), VersionState::Proposed, r#"["http:a","http:b"]"#).await;
    assert_eq!(versions(&bench, "shop").await, rows, "what is current is not proposed");
    assert_eq!(bench.component_bytes(T, &two).await.unwrap().unwrap(), b"two");
}

async fn what_was_decided_before_another_upload_does_not_happen(bench: Bench) {
    let one = put(&bench, ("shop", b"one"), VersionState::Current, "[]").await;
    let old = VersionChange {
        state: VersionState::Current,
        granted: r#"["http:*"]"#.into(),
        uploads: bench.uploads(T).await.unwrap(),
    };
    put(&bench, ("shop", b"two"), VersionState::Current, "[]").await;
    let before = versions(&bench, "shop").await;
    let late = Upload { change: old.clone(), ..upload("shop", "{}", b"late") };
    assert!(!bench.keep_component(late, Some(act("Upload", "shop"))).await.unwrap());
    assert!(!bench.change_version(version("shop", &one), old, Some(act("AcceptComponent", "shop"))).await.unwrap());
    assert_eq!(versions(&bench, "shop").await, before);
    assert_eq!(bench.acts(T, AuditFilter { limit: 9, ..AuditFilter::default() }).await.unwrap().acts, []);
    assert_eq!(bench.component_bytes(T, &Digest::of(b"late")).await.unwrap(), None);
    let next = bench.uploads(T).await.unwrap();
    put(&bench, ("shop", b"one"), VersionState::Current, "[]").await;
    assert_eq!(bench.uploads(T).await.unwrap(), next + 1, "what did not happen does not count");
}

async fn grants_are_those_of_one_name_of_one_tenant(bench: Bench) {
    let other = bench.create_tenant("other", None).await.unwrap().unwrap();
    let one = put(&bench, ("shop", b"one"), VersionState::Current, r#"["http:a"]"#).await;
    let two = put(&bench, ("shop", b"two"), VersionState::Current, r#"["http:a"]"#).await;
    put(&bench, ("bar", b"one"), VersionState::Current, "[]").await;
    let change = VersionChange {
        state: VersionState::Proposed,
        granted: "[]".into(),
        uploads: bench.uploads(other).await.unwrap(),
    };
    let theirs = Upload { tenant: other, change, ..upload("shop", "{}", b"one") };
    assert!(bench.keep_component(theirs, None).await.unwrap());
    let granted = async |tenant: TenantId, name: &str| {
        let all = bench.components(tenant).await.unwrap();
        all.into_iter().find(|component| component.name == name).unwrap().granted
    };
    assert_eq!(granted(T, "shop").await.unwrap(), r#"["http:a"]"#);
    assert_eq!((granted(T, "bar").await.unwrap(), granted(other, "shop").await.unwrap()), ("[]".into(), "[]".into()));
    // The other tenant cannot reach this one's version, nor the other way round.
    let uploads = bench.uploads(other).await.unwrap();
    let change = VersionChange { state: VersionState::Current, granted: r#"["http:b"]"#.into(), uploads };
    let theirs = Version { tenant: other, ..version("shop", &one) };
    assert!(bench.change_version(theirs, change, None).await.unwrap());
    assert_eq!(granted(T, "shop").await.unwrap(), r#"["http:a"]"#);
    assert_eq!(versions(&bench, "shop").await[0].0, two);
    assert_eq!(granted(other, "shop").await.unwrap(), r#"["http:b"]"#);
}

async fn the_version_before_is_replaced_when_the_next_one_is_accepted(bench: Bench) {
    put(&bench, ("shop", b"one"), VersionState::Current, "[]").await;
    tick(&bench).await;
    let two = put(&bench, ("shop", b"two"), VersionState::Proposed, "[]").await;
    tick(&bench).await;
    let late = bench.now().await.unwrap();
    assert_eq!(bench.replaced_components(Timestamp(1 << 50)).await.unwrap(), [], "it only waits");
    accept(&bench, "shop", &two, "[]").await;
    assert_eq!(bench.replaced_components(late).await.unwrap(), [], "it was current until now");
    assert_eq!(bench.replaced_components(Timestamp(1 << 50)).await.unwrap().len(), 1);
}

async fn a_name_that_is_removed_keeps_no_grants(bench: Bench) {
    let one = put(&bench, ("shop", b"one"), VersionState::Current, r#"["http:a"]"#).await;
    let two = put(&bench, ("shop", b"two"), VersionState::Current, r#"["http:a"]"#).await;
    put(&bench, ("bar", b"one"), VersionState::Current, "[]").await;
    for (digest, left) in [(one, 2), (two, 1)] {
        assert!(bench.remove_component(version("shop", &digest), Removable::Any, None).await.unwrap());
        assert_eq!(bench.meddle("select count(*) from grants").await, left);
    }
}

/// The statements of the version before grants.
async fn an_engine_that_knows_no_proposals_makes_versions_current(bench: Bench) {
    put(&bench, ("shop", b"one"), VersionState::Current, "[]").await;
    let two = put(&bench, ("shop", b"two"), VersionState::Proposed, "[]").await;
    bench.meddle("update names set current = 0 where tenant_id = 1 and name = 'shop'").await;
    bench.meddle(format!("update names set current = 1, uploaded_at = uploaded_at + 7 where digest = '{two}'")).await;
    assert_eq!(versions(&bench, "shop").await[0], (two.clone(), true, false, Some("[]".into())));
    bench.meddle(format!("update names set current = 0 where digest = '{two}'")).await;
    assert!(versions(&bench, "shop").await.iter().all(|(_, current, proposed, _)| !current && !proposed));
    bench.meddle("delete from grants").await;
    assert!(versions(&bench, "shop").await.iter().all(|(.., granted)| granted.is_none()));
}
