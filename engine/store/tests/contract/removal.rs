//! Removal of components: first the name, then the bytes, and never anything that an execution may still need.

use cerebelum_history::{CallName, Digest, ExecutionId, Timestamp};
use cerebelum_store::{Chunk, NewExecution, Removable, State, Version};

use crate::bench::{Bench, T, batch, chunk, end, key, new, opened, upload};
use crate::on_all;

on_all!(
    a_removed_version_is_found_no_more_and_its_bytes_go_later,
    only_what_was_replaced_long_ago_is_old,
    what_has_another_name_or_a_new_one_stays,
    executions_that_may_run_it_are_its_users,
    calls_of_its_steps_make_users;
    uploads_and_deletions_of_the_same_component_take_turns
);

/// Later than anything in a test.
const LATER: Timestamp = Timestamp(1 << 50);

async fn keep(bench: &Bench, name: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    crate::bench::keep(&**bench, upload(name, "{}", bytes), None).await.unwrap();
    digest
}

fn version(name: &str, digest: &Digest) -> Version {
    Version { tenant: T, name: name.to_owned(), digest: digest.clone() }
}

async fn remove(bench: &Bench, name: &str, digest: &Digest) -> bool {
    bench.remove_component(version(name, digest), Removable::Any, None).await.unwrap()
}

/// Names and digests, current ones first.
async fn names(bench: &Bench) -> Vec<(String, Digest)> {
    let components = bench.components(T).await.unwrap();
    components.into_iter().map(|component| (component.name, component.digest)).collect()
}

async fn users(bench: &Bench, digest: &Digest) -> Vec<String> {
    let users = bench.component_users(T, digest, 9).await.unwrap();
    users.iter().map(ToString::to_string).collect()
}

async fn a_removed_version_is_found_no_more_and_its_bytes_go_later(bench: Bench) {
    let (old, now) = (keep(&bench, "shop", b"old").await, keep(&bench, "shop", b"now").await);
    let uploads = bench.uploads(T).await.unwrap();
    assert!(!remove(&bench, "bar", &old).await, "another name");
    assert!(!remove(&bench, "shop", &Digest::of(b"none")).await, "another version");
    assert_eq!(bench.uploads(T).await.unwrap(), uploads, "nothing changed, and names need not be read again");
    assert!(remove(&bench, "shop", &now).await);
    assert!(!remove(&bench, "shop", &now).await, "it is gone");
    assert_ne!(bench.uploads(T).await.unwrap(), uploads, "names are read again");
    assert_eq!(names(&bench).await, [("shop".to_owned(), old.clone())]);
    assert_eq!(bench.current(T, "shop").await.unwrap(), None, "an older version does not come back by itself");
    assert_eq!(bench.component_bytes(T, &now).await.unwrap().unwrap(), b"now", "what is on its way may still need it");
    assert_eq!(bench.nameless_components(Timestamp(1)).await.unwrap(), []);
    assert!(!bench.delete_component(T, &now, Timestamp(1)).await.unwrap(), "too early");
    assert_eq!(bench.nameless_components(LATER).await.unwrap(), [(T, now.clone())]);
    assert!(bench.delete_component(T, &now, LATER).await.unwrap());
    assert!(!bench.delete_component(T, &now, LATER).await.unwrap(), "it is gone");
    assert_eq!(bench.component_bytes(T, &now).await.unwrap(), None);
    assert_eq!(bench.component_bytes(T, &old).await.unwrap().unwrap(), b"old");
    assert_eq!(bench.digests().await.unwrap(), [old]);
    // The name is free for another component, and the bytes may be uploaded again.
    keep(&bench, "shop", b"now").await;
    assert_eq!(bench.current(T, "shop").await.unwrap().unwrap().digest, now);
}

async fn only_what_was_replaced_long_ago_is_old(bench: Bench) {
    let one = keep(&bench, "shop", b"one").await;
    let replaced = async |before| bench.replaced_components(before).await.unwrap();
    assert_eq!(replaced(LATER).await, [], "it is the current one, however old");
    let uploaded_at = bench.current(T, "shop").await.unwrap().unwrap().uploaded_at;
    while bench.now().await.unwrap() <= uploaded_at.plus(1) {
        tokio::task::yield_now().await;
    }
    let two = keep(&bench, "shop", b"two").await;
    let at = bench.current(T, "shop").await.unwrap().unwrap().uploaded_at;
    assert_eq!(replaced(at).await, [], "replaced no longer ago than that");
    assert_eq!(replaced(at.plus(1)).await, [version("shop", &one)]);
    let old = |digest: &Digest| bench.remove_component(version("shop", digest), Removable::Replaced, None);
    assert!(!old(&two).await.unwrap(), "the current one is not old");
    assert!(old(&one).await.unwrap());
    assert_eq!(names(&bench).await, [("shop".to_owned(), two)]);
}

async fn what_has_another_name_or_a_new_one_stays(bench: Bench) {
    let same = keep(&bench, "a", b"same").await;
    keep(&bench, "b", b"same").await;
    assert!(remove(&bench, "a", &same).await);
    assert_eq!(bench.nameless_components(LATER).await.unwrap(), []);
    assert!(!bench.delete_component(T, &same, LATER).await.unwrap(), "it is `b` as well");
    assert!(remove(&bench, "b", &same).await);
    assert_eq!(bench.nameless_components(LATER).await.unwrap(), [(T, same.clone())]);
    keep(&bench, "c", b"same").await;
    assert_eq!(bench.nameless_components(LATER).await.unwrap(), []);
    assert!(!bench.delete_component(T, &same, LATER).await.unwrap(), "it was uploaded again");
    assert_eq!(bench.component_bytes(T, &same).await.unwrap().unwrap(), b"same");
}

async fn executions_that_may_run_it_are_its_users(bench: Bench) {
    let node = bench.lease("n").await;
    let shop = Digest::of(b"shop");
    for (id, state) in
        [("done", State::Completed), ("gone", State::Cancelled), ("broken", State::Failed), ("open", State::Open)]
    {
        let head = bench.started(node, id).await;
        if state != State::Open {
            assert_eq!(bench.write(end(node, &head, state)).await, Ok(()), "{id}");
        }
    }
    assert_eq!(
        users(&bench, &shop).await,
        ["broken", "open"],
        "failed ones can be reopened, the others never run again"
    );
    assert_eq!(bench.component_users(T, &shop, 1).await.unwrap().len(), 1);
    assert_eq!(users(&bench, &Digest::of(b"bar")).await, [""; 0]);
    assert!(bench.delete(&key("broken")).await.unwrap());
    assert_eq!(users(&bench, &shop).await, ["open"]);
}

async fn calls_of_its_steps_make_users(bench: Bench) {
    let node = bench.lease("n").await;
    let step = Digest::of(b"a step's");
    let names_it = format!("{{\"component\":\"{step}\"}}");
    let head = bench.started(node, "calls").await;
    let mut calling = batch(node, &head);
    calling.opened = vec![opened("1", &names_it)];
    assert_eq!(bench.write(calling.clone()).await, Ok(()));
    assert_eq!(users(&bench, &step).await, ["calls"], "its call is open");
    let call: CallName = "1".parse().unwrap();
    let mut called = batch(node, &calling.head);
    called.closed = vec![call];
    assert_eq!(bench.write(called).await, Ok(()));
    assert_eq!(users(&bench, &step).await, [""; 0], "its outcome is recorded");
    // A failed execution may be reopened at a call in its history.
    let first = Chunk { events: names_it, ..chunk(1, 1) };
    let failing = NewExecution { first, ..new("failed") };
    bench.start(vec![failing.clone()]).await;
    assert!(bench.claim_one(node, &failing.head.key).await.unwrap().is_some());
    assert_eq!(users(&bench, &step).await, [""; 0]);
    assert_eq!(bench.write(end(node, &failing.head, State::Failed)).await, Ok(()));
    let id: ExecutionId = "failed".parse().unwrap();
    assert_eq!(bench.component_users(T, &step, 9).await.unwrap(), [id]);
}

/// In either order, an uploaded component has its bytes.
async fn uploads_and_deletions_of_the_same_component_take_turns(bench: Bench) {
    let (digest, other) = (Digest::of(b"same"), bench.second().await);
    for round in 0..40 {
        keep(&bench, "a", b"same").await;
        assert!(remove(&bench, "a", &digest).await);
        let upload = crate::bench::keep(&*other, upload("a", "{}", b"same"), None);
        let delete = bench.delete_component(T, &digest, LATER);
        let (uploaded, _) = tokio::join!(upload, delete);
        uploaded.unwrap();
        assert_eq!(bench.component_bytes(T, &digest).await.unwrap().unwrap(), b"same", "round {round}");
        assert_eq!(names(&bench).await, [("a".to_owned(), digest.clone())], "round {round}");
    }
}
