//! Messages and children: everything that is sent between executions (L10).

use cerebelum_history::{ChildResult, Digest, Event, EventData, Json, Message, Parent, Position, Seed, Timestamp};
use cerebelum_store::{Batch, Child, Command, ExecutionRow, InboxCursor, Size, State};

use crate::bench::{Bench, batch, call, end, events, fresh, key, new, release, scope, written};
use crate::on_all;

on_all!(
    the_inbox_keeps_the_order_of_arrival,
    consumed_messages_are_gone_and_seen_ones_stay,
    a_message_number_is_never_used_twice,
    messages_to_nobody_are_dropped_silently,
    l10_a_child_is_started_with_the_batch,
    a_child_that_is_there_already_is_accepted_again,
    a_child_that_has_ended_tells_the_call_that_started_it_again,
    a_child_of_a_deleted_parent_is_not_the_child_of_its_successor,
    an_id_that_belongs_to_something_else_is_refused_by_message,
    two_parents_that_want_one_id_get_one_child,
    a_message_during_a_release_is_not_overlooked,
    an_append_says_which_message_is_the_newest,
);

fn child(parent: &ExecutionRow, call_name: &str, id: &str) -> Child {
    let mut new = new(id);
    // The seed of a child comes from its parent and its call.
    new.head.seed = Seed(blake3_of(&format!("{} {call_name} {id}", parent.key.id)));
    new.head.parent = Some(Parent { id: parent.key.id.clone(), run: parent.run, call: call(call_name), awaited: true });
    Child { new, accepted: Some(format!("accepted {id}")), refused: format!("refused {id}") }
}

fn blake3_of(text: &str) -> [u8; 32] {
    Digest::of(text.as_bytes()).as_str().as_bytes()[..32].try_into().unwrap()
}

async fn the_inbox_keeps_the_order_of_arrival(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    bench.sleeping("b", None).await;
    let other = bench.second().await;
    for number in 0..10 {
        if number % 3 == 0 {
            let mut letters = batch(node, &head);
            letters.messages =
                vec![("b".parse().unwrap(), format!("{number}")), ("b".parse().unwrap(), format!("{number}b"))];
            assert_eq!(bench.write(letters).await, Ok(()));
        } else {
            assert!(other.command(&key("b"), Command::Send(format!("{number}")), None).await.unwrap());
        }
    }
    let expected = ["0", "0b", "1", "2", "3", "3b", "4", "5", "6", "6b", "7", "8", "9", "9b"];
    assert_eq!(bench.inbox("b").await, expected);
}

async fn consumed_messages_are_gone_and_seen_ones_stay(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    for message in ["one", "two", "three", "four"] {
        bench.send(&key("a"), message.into()).await.unwrap();
    }
    let inbox = bench.looked("a").await.inbox;
    let mut batch = events(node, &head, 1);
    batch.consumed = vec![inbox[1].seq, inbox[3].seq, 9_999];
    batch.seen = vec![inbox[0].seq, inbox[3].seq];
    assert_eq!(bench.write(batch).await, Ok(()));
    let left: Vec<_> = bench.looked("a").await.inbox.into_iter().map(|row| (row.message, row.seen)).collect();
    assert_eq!(left, [("one".to_owned(), true), ("three".to_owned(), false)]);
}

async fn a_message_number_is_never_used_twice(bench: Bench) {
    let node = bench.lease("n").await;
    let mut head = bench.started(node, "a").await;
    let mut last = 0;
    for _ in 0..4 {
        bench.send(&key("a"), "again".into()).await.unwrap();
        let seq = bench.looked("a").await.inbox[0].seq;
        assert!(seq > last);
        last = seq;
        let mut batch = events(node, &head, 1);
        batch.consumed = vec![seq];
        head = batch.head.clone();
        assert_eq!(bench.write(batch).await, Ok(()));
    }
}

async fn messages_to_nobody_are_dropped_silently(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, gone) = (bench.started(node, "a").await, bench.started(node, "gone").await);
    assert_eq!(bench.write(end(node, &gone, State::Completed)).await, Ok(()));
    let mut letters = batch(node, &a);
    letters.messages = vec![
        ("nobody".parse().unwrap(), "1".into()),
        ("gone".parse().unwrap(), "2".into()),
        ("a".parse().unwrap(), "to myself".into()),
    ];
    assert_eq!(bench.write(letters).await, Ok(()));
    assert_eq!(bench.inbox("a").await, ["to myself"]);
    assert_eq!(bench.inbox("gone").await, [""; 0]);
    assert!(!bench.send(&key("nobody"), "3".into()).await.unwrap());
    assert!(!bench.send(&key("gone"), "4".into()).await.unwrap());
}

async fn l10_a_child_is_started_with_the_batch(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut batch = events(node, &head, 1);
    batch.children = vec![child(&head, "1", "c"), child(&head, "2", "d")];
    batch.children[1].accepted = None;
    batch.messages = vec![("d".parse().unwrap(), "welcome".into())];
    let expected = batch.children[0].new.head.clone();
    assert_eq!(bench.write(batch).await, Ok(()));
    assert_eq!(bench.inbox("a").await, ["accepted c"]);
    assert_eq!(bench.head("c").await, expected);
    assert_eq!(bench.inbox("d").await, ["welcome"]);
    assert_eq!(bench.history(&key("c"), 1, Position(1), Position(9)).await.unwrap().len(), 1);
    assert_eq!(bench.claimed(node).await, ["c", "d"]);
}

async fn a_child_that_is_there_already_is_accepted_again(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut batch = events(node, &head, 1);
    batch.children = vec![child(&head, "1", "c")];
    assert_eq!(bench.write(batch.clone()).await, Ok(()));
    let first = bench.head("c").await;
    let mut again = events(node, &batch.head, 1);
    again.children = vec![child(&head, "1", "c")];
    assert_eq!(bench.write(again).await, Ok(()));
    assert_eq!(bench.inbox("a").await, ["accepted c", "accepted c"]);
    assert_eq!(bench.head("c").await, first);
}

/// A call that is made again has heard the end of its child before, and waits for it anew.
async fn a_child_that_has_ended_tells_the_call_that_started_it_again(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let starting = |mut from: Batch, awaited: bool| {
        let mut child = child(&head, "1", "c");
        child.new.head.parent.as_mut().unwrap().awaited = awaited;
        from.children = vec![child];
        from
    };
    let first = starting(events(node, &head, 1), true);
    assert_eq!(bench.write(first.clone()).await, Ok(()));
    let child = bench.claim_one(node, &key("c")).await.unwrap().unwrap().head;
    let mut ending = end(node, &child, State::Completed);
    let data = EventData::ExecutionCompleted { output: Json::of(&7) };
    ending.chunks[0].events = Event::encode([&Event { at: Timestamp(5), scope: scope(""), data }]);
    assert_eq!(bench.write(ending).await, Ok(()));
    let again = starting(events(node, &first.head, 1), true);
    assert_eq!(bench.write(again.clone()).await, Ok(()));
    let started = starting(events(node, &again.head, 1), false);
    assert_eq!(bench.write(started).await, Ok(()));
    let inbox = bench.inbox("a").await;
    let told: Message = serde_json::from_str(&inbox[1]).unwrap();
    assert!(matches!(told, Message::Child { result: ChildResult::Completed(output), .. } if output == Json::of(&7)));
    assert_eq!((inbox[0].as_str(), inbox[2].as_str(), inbox.len()), ("accepted c", "accepted c", 3));
}

/// Another execution under the id of a deleted one has nothing to do with the children of that one.
async fn a_child_of_a_deleted_parent_is_not_the_child_of_its_successor(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    for seed in [[1; 32], [2; 32]] {
        let mut child = child(&head, "1", "c");
        child.new.head.seed = Seed(seed);
        let mut batch = events(node, &bench.head("a").await, 1);
        batch.children = vec![child];
        assert_eq!(bench.write(batch).await, Ok(()));
    }
    assert_eq!(bench.inbox("a").await, ["accepted c", "refused c"]);
}

async fn an_id_that_belongs_to_something_else_is_refused_by_message(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, b) = (bench.started(node, "a").await, bench.started(node, "b").await);
    bench.sleeping("taken", None).await;
    let mut first = events(node, &a, 1);
    first.children = vec![child(&a, "1", "taken"), child(&a, "2", "c"), child(&a, "3", "c")];
    assert_eq!(bench.write(first).await, Ok(()));
    assert_eq!(bench.inbox("a").await, ["refused taken", "accepted c", "refused c"]);
    let mut second = events(node, &b, 1);
    second.children = vec![child(&b, "2", "c")];
    assert_eq!(bench.write(second).await, Ok(()));
    assert_eq!(bench.inbox("b").await, ["refused c"]);
    assert_eq!(bench.head("c").await.parent.unwrap().id, a.key.id);
}

async fn two_parents_that_want_one_id_get_one_child(bench: Bench) {
    let other = bench.second().await;
    let (here, there) = (bench.lease("here").await, bench.lease("there").await);
    for round in 0..20 {
        let (a, b) =
            (bench.started(here, &format!("a{round}")).await, bench.started(there, &format!("b{round}")).await);
        let ids = [format!("x{round}"), format!("y{round}"), format!("z{round}")];
        let (mut left, mut right) = (events(here, &a, 1), events(there, &b, 1));
        // The children are in opposite orders, which makes a deadlock most likely.
        left.children = ids.iter().map(|id| child(&a, "1", id)).collect();
        right.children = ids.iter().rev().map(|id| child(&b, "1", id)).collect();
        let (left, right) = tokio::join!(bench.append(fresh(), vec![left]), other.append(fresh(), vec![right]));
        assert_eq!((written(left.unwrap()), written(right.unwrap())), (vec![Ok(())], vec![Ok(())]));
        let mut accepted = 0;
        for parent in [&a, &b] {
            let messages = bench.inbox(parent.key.id.as_str()).await;
            assert_eq!(messages.len(), 3);
            accepted += messages.iter().filter(|message| message.starts_with("accepted")).count();
        }
        assert_eq!(accepted, 3, "round {round}");
    }
}

async fn a_message_during_a_release_is_not_overlooked(bench: Bench) {
    let node = bench.lease("n").await;
    let other = bench.second().await;
    let head = bench.started(node, "a").await;
    for round in 0..40 {
        let (released, sent) = tokio::join!(
            bench.append(fresh(), vec![release(node, &head, None)]),
            other.command(&head.key, Command::Send(format!("{round}")), None)
        );
        assert_eq!((written(released.unwrap()), sent.unwrap()), (vec![Ok(())], true));
        let claimed = bench.claim(node, 9, Size::Any).await.unwrap();
        assert_eq!(claimed.len(), 1, "round {round}");
        let mut read = batch(node, &head);
        read.consumed = claimed[0].inbox.iter().map(|row| row.seq).collect();
        assert_eq!(bench.write(read).await, Ok(()));
    }
}

/// The number of the newest message allows a worker to read it before any effect leaves (L16).
async fn an_append_says_which_message_is_the_newest(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let first = events(node, &head, 1);
    let next = events(node, &first.head, 1);
    assert_eq!(bench.append(fresh(), vec![first]).await.unwrap(), [Ok(InboxCursor(0))]);
    for message in ["\"one\"", "\"two\""] {
        assert!(bench.send(&key("a"), message.into()).await.unwrap());
    }
    let newest = bench.looked("a").await.inbox[1].seq;
    let id = fresh();
    assert_eq!(bench.append(id, vec![next.clone()]).await.unwrap(), [Ok(InboxCursor(newest))]);
    assert!(matches!(bench.append(id, vec![next]).await.unwrap()[..], [Ok(again)] if again >= InboxCursor(newest)));
}
