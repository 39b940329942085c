//! Stored bytes of components: bytes that similar components share are stored once, and are deleted with the last of
//! them.

use cerebelum_history::{Digest, Timestamp};
use cerebelum_store::{Removable, StoreError, Version};

use crate::bench::{Bench, T, upload};
use crate::on_both;

on_both!(
    similar_components_are_stored_as_differences,
    what_a_difference_is_made_of_stays_until_the_last_one_goes,
    a_component_that_shares_bytes_with_one_that_goes_is_whole,
    bytes_that_an_earlier_engine_stored_can_be_read_and_go,
    an_engine_of_the_version_before_finds_whole_bytes,
    a_missing_base_is_missed,
);

/// Later than anything in a test.
const LATER: Timestamp = Timestamp(1 << 50);
const SIZE: usize = 400_000;

/// Random-looking bytes, with a few that differ by number.
fn variant(number: u8) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(SIZE).collect();
    for place in (0..SIZE).step_by(10_000) {
        bytes[place] = bytes[place].wrapping_add(number);
    }
    bytes
}

async fn keep(store: &dyn cerebelum_store::Store, name: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    crate::bench::keep(store, upload(name, "{}", bytes), None).await.unwrap();
    digest
}

async fn unname(bench: &Bench, name: &str, digest: &Digest) {
    let version = Version { tenant: T, name: name.to_owned(), digest: digest.clone() };
    assert!(bench.remove_component(version, Removable::Any, None).await.unwrap());
}

async fn remove(bench: &Bench, name: &str, digest: &Digest) {
    unname(bench, name, digest).await;
    assert!(bench.delete_component(T, digest, LATER).await.unwrap());
}

/// The number of packs that are stored whole, and of all packs.
async fn packs(bench: &Bench) -> (i64, i64) {
    let whole = bench.meddle("select count(*) from component_packs where base is null").await;
    (whole, bench.meddle("select count(*) from component_packs").await)
}

async fn read(bench: &Bench, digest: &Digest) -> Option<Vec<u8>> {
    bench.component_bytes(T, digest).await.unwrap()
}

async fn similar_components_are_stored_as_differences(bench: Bench) {
    for number in 0..5 {
        let digest = keep(&*bench, "a", &variant(number)).await;
        assert!(read(&bench, &digest).await == Some(variant(number)), "{number}");
    }
    assert_eq!(packs(&bench).await, (1, 5));
    let shared = bench.meddle("select cast(sum(length(packed)) as bigint) from component_packs where base is not null");
    assert!(shared.await < 20_000, "four differences");
    // A component that is not similar is stored whole, and others may differ from it.
    let other: Vec<u8> = variant(0).iter().rev().copied().collect();
    let digest = keep(&*bench, "b", &other).await;
    assert!(read(&bench, &digest).await == Some(other));
    assert_eq!(packs(&bench).await, (2, 6));
}

async fn what_a_difference_is_made_of_stays_until_the_last_one_goes(bench: Bench) {
    let [base, one, two] = [0, 1, 2].map(|number| Digest::of(&variant(number)));
    for (name, number) in [("base", 0), ("one", 1), ("two", 2)] {
        keep(&*bench, name, &variant(number)).await;
    }
    remove(&bench, "base", &base).await;
    assert_eq!(read(&bench, &base).await, None, "it is gone for everybody who asks for it");
    assert_eq!(packs(&bench).await, (1, 3), "the others are made of it");
    assert!(read(&bench, &one).await == Some(variant(1)));
    remove(&bench, "one", &one).await;
    assert_eq!(packs(&bench).await, (1, 2));
    // The component is uploaded again without being stored once more.
    keep(&*bench, "base", &variant(0)).await;
    assert!(read(&bench, &base).await == Some(variant(0)));
    assert_eq!(packs(&bench).await, (1, 2));
    remove(&bench, "base", &base).await;
    remove(&bench, "two", &two).await;
    assert_eq!(packs(&bench).await, (0, 0), "nothing is left");
}

/// An upload finds a similar component, which is removed before the upload is stored, in either order.
async fn a_component_that_shares_bytes_with_one_that_goes_is_whole(bench: Bench) {
    let (base, mine) = (Digest::of(&variant(0)), Digest::of(&variant(1)));
    let other = bench.second().await;
    for round in 0..40 {
        keep(&*bench, "base", &variant(0)).await;
        unname(&bench, "base", &base).await;
        let bytes = variant(1);
        let upload = keep(&*other, "mine", &bytes);
        let delete = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
                bench.now().await.unwrap();
                bench.uploads(T).await.unwrap();
            }
            bench.delete_component(T, &base, LATER).await.unwrap()
        };
        let (_, is_deleted) = tokio::join!(upload, delete);
        assert!(is_deleted, "round {round}");
        assert!(read(&bench, &mine).await == Some(variant(1)), "round {round}");
        remove(&bench, "mine", &mine).await;
        assert_eq!(packs(&bench).await, (0, 0), "round {round}");
    }
}

async fn bytes_that_an_earlier_engine_stored_can_be_read_and_go(bench: Bench) {
    let digest = keep(&*bench, "old", b"bytes").await;
    bench.meddle("delete from component_packs").await;
    let bytes = if bench.folder.is_some() { "x'6279746573'" } else { "'\\x6279746573'::bytea" };
    bench
        .meddle(format!("insert into component_bytes (tenant_id, digest, bytes) values ({}, '{digest}', {bytes})", T.0))
        .await;
    assert_eq!(read(&bench, &digest).await.unwrap(), b"bytes");
    keep(&*bench, "new", b"bytes").await;
    assert_eq!(packs(&bench).await, (0, 0), "it is there");
    unname(&bench, "new", &digest).await;
    remove(&bench, "old", &digest).await;
    assert_eq!(bench.meddle("select count(*) from component_bytes").await, 0);
}

async fn an_engine_of_the_version_before_finds_whole_bytes(bench: Bench) {
    let whole = async || bench.meddle("select count(*) from component_bytes").await;
    bench.lease("new").await;
    keep(&*bench, "a", &variant(0)).await;
    assert_eq!(whole().await, 0);
    bench.lease("old").await;
    bench.meddle("update nodes set reads_packs = null where name = 'old'").await;
    let digest = keep(&*bench, "a", &variant(1)).await;
    assert_eq!((whole().await, packs(&bench).await), (1, (1, 2)));
    assert_eq!(
        bench.meddle("select cast(length(bytes) as bigint) from component_bytes").await,
        i64::try_from(SIZE).unwrap()
    );
    bench.meddle("update nodes set ended_at = 1 where name = 'old'").await;
    keep(&*bench, "a", &variant(2)).await;
    assert_eq!(whole().await, 0, "no engine reads them any more");
    assert!(read(&bench, &digest).await == Some(variant(1)));
}

async fn a_missing_base_is_missed(bench: Bench) {
    keep(&*bench, "a", &variant(0)).await;
    let digest = keep(&*bench, "a", &variant(1)).await;
    bench.meddle("delete from component_packs where base is null").await;
    let read = bench.component_bytes(T, &digest).await;
    assert!(matches!(&read, Err(StoreError::Corrupt(cause)) if cause.contains("are gone")), "{:?}", read.err());
}
