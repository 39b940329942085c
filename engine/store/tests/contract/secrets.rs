//! Sealed secrets: each change fits the version that it was made from, and key and secrets belong together.

use cerebelum_history::Timestamp;
use cerebelum_store::{DataKey, Egress, SecretChange, StoredSecret, TenantId};

use crate::audit::act;
use crate::bench::{Bench, T};
use crate::on_all;

on_all!(
    a_secret_is_set_replaced_and_deleted,
    a_change_that_was_made_from_another_version_is_refused,
    hosts_are_set_for_a_tenant,
    changes_at_once_happen_one_after_the_other,
);

pub(crate) fn key(id: &str) -> DataKey {
    DataKey { key_id: id.to_owned(), wrapped: format!("wrapped {id}").into_bytes() }
}

pub(crate) fn secret(name: &str, sealed: &[u8]) -> StoredSecret {
    let hosts = r#"["api.example.com"]"#.to_owned();
    let (name, sealed) = (name.to_owned(), sealed.to_vec());
    StoredSecret { name, hosts, sealed, created_at: Timestamp(0), changed_at: Timestamp(0) }
}

fn names(egress: &Egress) -> Vec<(&str, &[u8])> {
    egress.secrets.iter().map(|secret| (secret.name.as_str(), secret.sealed.as_slice())).collect()
}

async fn a_secret_is_set_replaced_and_deleted(bench: Bench) {
    assert_eq!(bench.egress(T).await.unwrap(), Egress { quotas: "{}".into(), ..Egress::default() });
    assert!(bench.set_quotas("default", ("{}", "{\"a\":1}"), None).await.unwrap());
    assert_eq!(bench.egress(T).await.unwrap().quotas, "{\"a\":1}");
    let put = |secret, key| SecretChange::Put(secret, key);
    assert!(
        bench.change_secrets(T, 0, put(secret("B", b"1"), Some(key("k"))), Some(act("SetSecret", "B"))).await.unwrap()
    );
    assert!(bench.change_secrets(T, 1, put(secret("A", b"\0\xff"), None), None).await.unwrap());
    let there = bench.egress(T).await.unwrap();
    assert_eq!((there.version, there.key.clone()), (2, Some(key("k"))));
    assert_eq!(names(&there), [("A", b"\0\xff".as_slice()), ("B", b"1")]);
    let first = there.secrets[1].clone();
    assert!(first.created_at > Timestamp(0) && first.created_at == first.changed_at);
    assert_eq!(first.hosts, r#"["api.example.com"]"#);
    assert!(bench.change_secrets(T, 2, put(secret("B", b"2"), None), None).await.unwrap());
    let again = bench.egress(T).await.unwrap().secrets[1].clone();
    assert!(again.created_at == first.created_at && again.changed_at >= first.changed_at && again.sealed == b"2");
    let all = vec![secret("A", b"a"), secret("B", b"b")];
    assert!(bench.change_secrets(T, 3, SecretChange::Replace(key("n"), all), None).await.unwrap());
    let replaced = bench.egress(T).await.unwrap();
    assert_eq!((replaced.version, replaced.key.clone()), (4, Some(key("n"))));
    assert_eq!(names(&replaced), [("A", b"a".as_slice()), ("B", b"b")]);
    assert!(bench.change_secrets(T, 4, SecretChange::Delete("A".into()), None).await.unwrap());
    assert_eq!(names(&bench.egress(T).await.unwrap()), [("B", b"b".as_slice())]);
    assert_eq!(bench.egress(TenantId(7)).await.unwrap(), Egress::default());
}

async fn a_change_that_was_made_from_another_version_is_refused(bench: Bench) {
    let put = |version, key| bench.change_secrets(T, version, SecretChange::Put(secret("A", b"1"), key), None);
    assert!(!put(1, None).await.unwrap(), "there is no version 1");
    assert!(!put(0, None).await.unwrap(), "the first one brings the key");
    assert!(put(0, Some(key("k"))).await.unwrap());
    for version in [0, 2, -1] {
        assert!(!put(version, None).await.unwrap());
        assert!(!put(version, Some(key("x"))).await.unwrap());
        assert!(!bench.change_secrets(T, version, SecretChange::Delete("A".into()), None).await.unwrap());
        let replace = SecretChange::Replace(key("x"), vec![]);
        assert!(!bench.change_secrets(T, version, replace, None).await.unwrap());
    }
    let there = bench.egress(T).await.unwrap();
    assert_eq!((there.version, there.key.clone(), there.secrets.len()), (1, Some(key("k")), 1));
}

async fn hosts_are_set_for_a_tenant(bench: Bench) {
    let other = bench.create_tenant("b", None).await.unwrap().unwrap();
    let hosts = Some(r#"["*","10.0.0.7:8080"]"#.to_owned());
    assert!(bench.set_hosts("b", hosts.clone(), Some(act("SetHosts", "b"))).await.unwrap());
    assert!(!bench.set_hosts("nobody", None, None).await.unwrap());
    let of = async |tenant| bench.egress(tenant).await.unwrap().hosts;
    assert_eq!((of(other).await, of(T).await), (hosts, None));
    assert!(bench.set_hosts("b", None, None).await.unwrap());
    assert_eq!(of(other).await, None);
}

async fn changes_at_once_happen_one_after_the_other(bench: Bench) {
    let other = bench.second().await;
    for version in 0..20 {
        let put = |name: &str| SecretChange::Put(secret(name, b"1"), (version == 0).then(|| key(name)));
        let (left, right) = tokio::join!(
            bench.change_secrets(T, version, put("left"), None),
            other.change_secrets(T, version, put("right"), None)
        );
        assert!(left.unwrap() != right.unwrap(), "one of two");
        assert_eq!(bench.egress(T).await.unwrap().version, version + 1);
    }
}
