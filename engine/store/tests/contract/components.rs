//! Components: bytes once per digest, and one current digest per name.

use cerebelum_history::Digest;
use cerebelum_store::StoreError;

use crate::bench::{Bench, T, upload};
use crate::on_both;

on_both!(
    the_latest_upload_of_a_name_is_current,
    one_component_may_have_two_names,
    a_large_component_survives,
    damaged_bytes_are_not_handed_out,
    concurrent_uploads_leave_one_current,
);

async fn keep(bench: &Bench, name: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    crate::bench::keep(&**bench, upload(name, &format!("{{\"of\":\"{name}\"}}"), bytes), None).await.unwrap();
    digest
}

async fn names(bench: &Bench) -> Vec<(String, Digest, bool)> {
    let components = bench.components(T).await.unwrap();
    components.into_iter().map(|component| (component.name, component.digest, component.current)).collect()
}

async fn the_latest_upload_of_a_name_is_current(bench: Bench) {
    assert_eq!(bench.current(T, "shop").await.unwrap(), None);
    let one = keep(&bench, "shop", b"one").await;
    let two = keep(&bench, "shop", b"two").await;
    let bar = keep(&bench, "bar", b"bar").await;
    let row = |name: &str, digest: &Digest, current| (name.to_owned(), digest.clone(), current);
    assert_eq!(names(&bench).await, [row("bar", &bar, true), row("shop", &two, true), row("shop", &one, false)]);
    assert_eq!(bench.current(T, "shop").await.unwrap().unwrap().digest, two);
    keep(&bench, "shop", b"one").await;
    assert_eq!(names(&bench).await, [row("bar", &bar, true), row("shop", &one, true), row("shop", &two, false)]);
    let component = bench.current(T, "shop").await.unwrap().unwrap();
    assert_eq!((component.name.as_str(), component.size, component.current), ("shop", 3, true));
    assert_eq!(component.manifest, "{\"of\":\"shop\"}");
    assert!(component.uploaded_at <= bench.now().await.unwrap());
    assert_eq!(bench.component_bytes(T, &Digest::of(b"none")).await.unwrap(), None);
}

async fn one_component_may_have_two_names(bench: Bench) {
    let one = keep(&bench, "a", b"same").await;
    keep(&bench, "b", b"same").await;
    assert_eq!(names(&bench).await, [("a".to_owned(), one.clone(), true), ("b".to_owned(), one.clone(), true)]);
    assert_eq!(bench.meddle("select count(*) from component_packs").await, 1);
    assert_eq!(bench.component_bytes(T, &one).await.unwrap().unwrap(), b"same");
}

async fn a_large_component_survives(bench: Bench) {
    let bytes: Vec<u8> = (0..20_u32 << 20).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let digest = keep(&bench, "large", &bytes).await;
    assert!(bench.component_bytes(T, &digest).await.unwrap().unwrap() == bytes);
}

async fn damaged_bytes_are_not_handed_out(bench: Bench) {
    let digest = keep(&bench, "a", b"good").await;
    let bad = if bench.folder.is_some() { "x'626164'" } else { "'\\x626164'::bytea" };
    bench.meddle(format!("update component_packs set packed = {bad}")).await;
    assert!(matches!(bench.component_bytes(T, &digest).await, Err(StoreError::Corrupt(_))));
}

async fn concurrent_uploads_leave_one_current(bench: Bench) {
    let mut uploads = Vec::new();
    for number in 0..8_u8 {
        let store = bench.second().await;
        uploads.push(tokio::spawn(async move {
            crate::bench::keep(&*store, upload("a", "{}", &[number]), None).await.unwrap();
        }));
    }
    for upload in uploads {
        upload.await.unwrap();
    }
    assert_eq!(bench.components(T).await.unwrap().iter().filter(|component| component.current).count(), 1);
    assert_eq!(bench.components(T).await.unwrap().len(), 8);
}
