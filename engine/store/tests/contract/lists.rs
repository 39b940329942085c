//! Lists: pages, filters, counts.

use cerebelum_history::{Parent, Status, Timestamp};
use cerebelum_store::{ChildCounts, Command, Count, Filter, NewExecution, Size, State, StoreError, TenantId};

use crate::bench::{Bench, T, batch, end, key, new};
use crate::on_all;

on_all!(
    pages_follow_each_other_newest_first,
    the_census_counts_by_status,
    children_are_listed_and_counted_while_their_parent_is_and_after,
    lists_are_filtered_by_what_is_waited_for_why_it_failed_the_id_and_the_start;
    // Only on databases:
    lists_are_filtered_by_status_workflow_and_attributes,
    attributes_follow_the_head,
    what_no_list_returned_and_what_is_empty_is_refused,
    tenants_do_not_see_each_other,
);

async fn ids(bench: &Bench, filter: Filter) -> Vec<String> {
    let page = bench.list(T, Filter { limit: 100, ..filter }).await.unwrap();
    page.executions.into_iter().map(|head| head.key.id.to_string()).collect()
}

fn attributes(of: &[(&str, &str)]) -> Filter {
    Filter {
        attributes: of.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ..Filter::default()
    }
}

async fn pages_follow_each_other_newest_first(bench: Bench) {
    for number in 0..7 {
        bench.sleeping(&format!("e{number}"), None).await;
    }
    let (mut cursor, mut pages) = (None, Vec::new());
    loop {
        let page = bench.list(T, Filter { cursor, limit: 3, ..Filter::default() }).await.unwrap();
        pages.push(page.executions.iter().map(|head| head.key.id.to_string()).collect::<Vec<_>>().join(" "));
        // New executions do not disturb the pages.
        bench.sleeping(&format!("new{}", pages.len()), None).await;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, ["e6 e5 e4", "e3 e2 e1", "e0"]);
}

async fn lists_are_filtered_by_status_workflow_and_attributes(bench: Bench) {
    let specs = [
        ("a", "shop/order", Status::Running, r#"{"customer":"ann","vip":true}"#),
        ("b", "shop/order", Status::Sleeping, r#"{"customer":"bob", "n": 9007199254740993}"#),
        ("c", "other/order", Status::Running, r#"{"customer":"\u0061nn","big":"XXXX"}"#),
        ("d", "shop/border", Status::Running, "{}"),
    ];
    for (id, workflow, status, attributes) in specs {
        let mut new = new(id);
        (new.head.workflow, new.head.status) = (workflow.into(), status);
        new.head.attributes = attributes.replace("XXXX", &"x".repeat(5_000));
        bench.start(vec![new]).await;
    }
    let status = |status| Filter { status: Some(status), ..Filter::default() };
    let workflow = |workflow: &str| Filter { workflow: Some(workflow.into()), ..Filter::default() };
    assert_eq!(ids(&bench, Filter::default()).await, ["d", "c", "b", "a"]);
    assert_eq!(ids(&bench, status(Status::Running)).await, ["d", "c", "a"]);
    assert_eq!(ids(&bench, status(Status::Cancelled)).await, [""; 0]);
    assert_eq!(ids(&bench, workflow("shop/order")).await, ["b", "a"]);
    assert_eq!(ids(&bench, workflow("order")).await, ["c", "b", "a"]);
    assert_eq!(ids(&bench, workflow("%")).await, [""; 0]);
    assert_eq!(ids(&bench, attributes(&[("customer", r#""ann""#)])).await, ["c", "a"]);
    assert_eq!(ids(&bench, attributes(&[("customer", r#""ann""#), ("vip", "true")])).await, ["a"]);
    assert_eq!(ids(&bench, attributes(&[("n", "9007199254740993")])).await, ["b"]);
    assert_eq!(ids(&bench, attributes(&[("n", "9007199254740992")])).await, [""; 0]);
    assert_eq!(ids(&bench, attributes(&[("big", &format!("{:?}", "x".repeat(5_000)))])).await, ["c"]);
    let all = Filter { workflow: Some("order".into()), ..attributes(&[("customer", r#""ann""#)]) };
    assert_eq!(ids(&bench, Filter { status: Some(Status::Running), ..all }).await, ["c", "a"]);
}

async fn lists_are_filtered_by_what_is_waited_for_why_it_failed_the_id_and_the_start(bench: Bench) {
    let node = bench.lease("n").await;
    let wait = |at: u64, rest: &str| Some(format!(r#"{{"at":{at},{rest},"scope":"","since":1}}"#));
    let (signal, sleep) = (r#""kind":"signal","name":"paid""#, r#""kind":"sleep""#);
    let failure = |kind: &str| Some(format!(r#"{{"at":1,"failure":{{"kind":"{kind}","message":"no"}}}}"#));
    for (id, waits_for) in [("f-1", failure("http")), ("f-2", failure("http-status"))] {
        let head = bench.started(node, id).await;
        let mut failed = end(node, &head, State::Failed);
        failed.head.waits_for = waits_for.map(|text| text.replacen(":1,", &format!(":{},", failed.head.position.0), 1));
        assert_eq!(bench.write(failed).await, Ok(()));
    }
    for (number, (id, waits_for)) in [
        ("a-1", wait(1, signal)),
        // It was derived for an earlier position.
        ("a-2", wait(9, signal)),
        ("a_3", wait(1, sleep)),
        ("b-1", wait(1, r#""kind":"signal","name":"paid \"twice\"""#)),
        ("b-2", None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut new = new(id);
        new.head.waits_for = waits_for;
        new.head.started_at = Timestamp(1_000_000 + 100_000 * number as u64);
        bench.start(vec![new]).await;
    }
    let parked = Command::Park { incarnation: node, reason: "http: it died".into() };
    assert!(bench.command(&key("b-2"), parked, None).await.unwrap());
    let waits = |filter: &str| Filter { waits_for: Some(filter.parse().unwrap()), ..Filter::default() };
    assert_eq!(ids(&bench, waits("signal")).await, ["b-1", "a-1"]);
    assert_eq!(ids(&bench, waits("signal:paid")).await, ["a-1"]);
    assert_eq!(ids(&bench, waits("signal:paid \"twice\"")).await, ["b-1"]);
    assert_eq!(ids(&bench, waits("sleep")).await, ["a_3"]);
    assert_eq!(ids(&bench, waits("approval")).await, [""; 0]);
    let failed = |kind: &str| Filter { failure: Some(kind.into()), ..Filter::default() };
    assert_eq!(ids(&bench, failed("http")).await, ["f-1"]);
    assert_eq!(ids(&bench, failed("http-status")).await, ["f-2"]);
    assert_eq!(ids(&bench, Filter { status: Some(Status::Parked), ..failed("http") }).await, ["b-2"]);
    assert_eq!(ids(&bench, Filter { status: Some(Status::Parked), ..failed("htt") }).await, [""; 0]);
    let begins = |prefix: &str| Filter { id_prefix: Some(prefix.into()), ..Filter::default() };
    assert_eq!(ids(&bench, begins("a-")).await, ["a-2", "a-1"]);
    assert_eq!(ids(&bench, begins("a_")).await, ["a_3"]);
    assert_eq!(ids(&bench, begins("A")).await, [""; 0]);
    let between = |since: u64, until: u64| Filter {
        since: Some(Timestamp(since)),
        until: Some(Timestamp(until)),
        ..Filter::default()
    };
    assert_eq!(ids(&bench, between(1_100_000, 1_300_000)).await, ["a_3", "a-2"]);
    assert_eq!(ids(&bench, between(1_100_001, 1_300_001)).await, ["b-1", "a_3"]);
    assert_eq!(ids(&bench, between(0, 1_000_000)).await, ["f-2", "f-1"]);
    assert_eq!(ids(&bench, between(0, u64::MAX)).await.len(), 7);
    // The numbers of what remains need not begin at 1, nor follow the starts.
    assert!(bench.command(&key("f-1"), Command::Delete, None).await.unwrap());
    assert_eq!(ids(&bench, between(0, 1_000_000)).await, ["f-2"]);
    let mut new = new("early");
    new.head.started_at = Timestamp(7);
    bench.start(vec![new]).await;
    assert_eq!(ids(&bench, between(0, 1_000_000)).await, ["early", "f-2"]);
    assert_eq!(ids(&bench, between(1_400_000, u64::MAX)).await, ["b-2"]);
    let all = Filter { workflow: Some("order".into()), ..between(1_000_000, 1_200_000) };
    assert_eq!(ids(&bench, Filter { waits_for: waits("signal").waits_for, ..all.clone() }).await, ["a-1"]);
    assert_eq!(bench.count(T, all, 9).await.unwrap(), Count { executions: 2, is_exact: true });
}

async fn attributes_follow_the_head(bench: Bench) {
    let node = bench.lease("n").await;
    let mut head = bench.started(node, "a").await;
    for (written, found, lost) in [("{\"x\":1}", "1", "2"), ("{\"x\":2,\"y\":1}", "2", "1"), ("{\"x\":3}", "3", "2")] {
        let mut change = batch(node, &head);
        change.attributes_before = Some(head.attributes);
        change.head.attributes = written.into();
        head = change.head.clone();
        assert_eq!(bench.write(change).await, Ok(()));
        assert_eq!(ids(&bench, attributes(&[("x", found)])).await, ["a"]);
        assert_eq!(ids(&bench, attributes(&[("x", lost)])).await, [""; 0]);
    }
    // A batch that does not change the attributes leaves them as they are.
    let mut other = batch(node, &head);
    other.head.attributes = "{}".into();
    assert_eq!(bench.write(other).await, Ok(()));
    assert_eq!(bench.head("a").await.attributes, head.attributes);
    assert_eq!(bench.meddle("select count(*) from attributes").await, 1);
    let mut none = batch(node, &head);
    none.attributes_before = Some(head.attributes.clone());
    none.head.attributes = "{}".into();
    assert_eq!(bench.write(none).await, Ok(()));
    assert_eq!(bench.meddle("select count(*) from attributes").await, 0);
}

async fn what_no_list_returned_and_what_is_empty_is_refused(bench: Bench) {
    for cursor in ["", "x", "-1", "'; drop table executions", "ffffffffffffffffffff", "\0"] {
        let filter = Filter { cursor: Some(cursor.into()), limit: 3, ..Filter::default() };
        assert!(matches!(bench.list(T, filter).await, Err(StoreError::Invalid(_))), "{cursor:?}");
    }
    for filter in [
        Filter { id_prefix: Some(String::new()), ..Filter::default() },
        Filter { failure: Some(String::new()), ..Filter::default() },
    ] {
        assert!(matches!(bench.list(T, filter.clone()).await, Err(StoreError::Invalid(_))), "{filter:?}");
        assert!(matches!(bench.count(T, filter.clone(), 9).await, Err(StoreError::Invalid(_))), "{filter:?}");
    }
}

async fn the_census_counts_by_status(bench: Bench) {
    let node = bench.lease("n").await;
    assert_eq!(bench.count_by_status().await.unwrap(), []);
    for id in ["a", "b", "c"] {
        bench.started(node, id).await;
    }
    let head = bench.head("a").await;
    assert_eq!(bench.write(end(node, &head, State::Failed)).await, Ok(()));
    assert_eq!(bench.count_by_status().await.unwrap(), [(Status::Running, 2), (Status::Failed, 1)]);
}

/// An execution that begins as the child of another one.
fn child(id: &str, parent: &str) -> NewExecution {
    let mut child = new(id);
    let call = "1".parse().unwrap();
    child.head.parent = Some(Parent { id: parent.parse().unwrap(), run: 1, call, awaited: true });
    child
}

async fn children_are_listed_and_counted_while_their_parent_is_and_after(bench: Bench) {
    let node = bench.lease("n").await;
    let parent = bench.started(node, "p").await;
    bench.started(node, "other").await;
    for number in 0..5 {
        bench.start(vec![child(&format!("c{number}"), "p"), child(&format!("d{number}"), "c0")]).await;
    }
    let of = |parent: &str| Filter { parent: parent.parse().ok(), ..Filter::default() };
    assert_eq!(ids(&bench, of("p")).await, ["c4", "c3", "c2", "c1", "c0"]);
    assert_eq!(ids(&bench, of("c0")).await.len(), 5);
    assert_eq!(ids(&bench, of("d0")).await, [""; 0]);
    let page = bench.list(T, Filter { limit: 3, ..of("p") }).await.unwrap();
    assert_eq!(ids(&bench, Filter { cursor: page.cursor, ..of("p") }).await, ["c1", "c0"]);
    let claimed = bench.claim(node, 99, Size::Any).await.unwrap();
    let head = claimed.into_iter().find(|claimed| claimed.head.key == key("c1")).unwrap().head;
    assert_eq!(bench.write(end(node, &head, State::Failed)).await, Ok(()));
    assert_eq!(ids(&bench, Filter { status: Some(Status::Failed), ..of("p") }).await, ["c1"]);
    assert_eq!(bench.count(T, of("p"), 9).await.unwrap(), Count { executions: 5, is_exact: true });
    let running = Filter { status: Some(Status::Running), ..of("p") };
    assert_eq!(bench.count(T, running, 9).await.unwrap().executions, 4);
    let counts = |parents: &[&str], max| {
        let parents = parents.iter().map(|id| id.parse().unwrap()).collect();
        bench.children_by_status(T, parents, max)
    };
    let both = vec![(Status::Running, 4), (Status::Failed, 1)];
    let expected = [
        ChildCounts { by_status: both.clone(), is_exact: true },
        ChildCounts { by_status: Vec::new(), is_exact: true },
        ChildCounts { by_status: vec![(Status::Running, 5)], is_exact: true },
    ];
    assert_eq!(counts(&["p", "none", "c0"], 5).await.unwrap(), expected);
    let few = counts(&["p"], 2).await.unwrap();
    assert_eq!((few[0].total(), few[0].is_exact), (3, false));
    let of_others = bench.children_by_status(TenantId(2), vec!["p".parse().unwrap()], 5).await.unwrap();
    assert_eq!(of_others[0].total(), 0);
    // The children of what has been deleted are still found.
    assert_eq!(bench.write(end(node, &parent, State::Completed)).await, Ok(()));
    assert!(bench.command(&key("p"), Command::Delete, None).await.unwrap());
    assert_eq!(ids(&bench, of("p")).await.len(), 5);
    assert_eq!(counts(&["p"], 5).await.unwrap()[0].by_status, both);
}

async fn tenants_do_not_see_each_other(bench: Bench) {
    bench.meddle("insert into tenants (tenant_id, name) values (2, 'other')").await;
    let node = bench.lease("n").await;
    bench.started(node, "a").await;
    let mut theirs = new("a");
    theirs.head.key.tenant = TenantId(2);
    theirs.head.workflow = "their/own".into();
    bench.start(vec![theirs.clone()]).await;
    bench.send(&theirs.head.key, "hello".into()).await.unwrap();
    assert_eq!(bench.inbox("a").await, [""; 0]);
    assert_eq!(bench.head("a").await.workflow, "shop/order");
    assert_eq!(bench.execution(&theirs.head.key).await.unwrap().unwrap(), theirs.head);
    assert_eq!(bench.list(TenantId(2), Filter { limit: 9, ..Filter::default() }).await.unwrap().executions.len(), 1);
    assert_eq!(bench.list(TenantId(3), Filter { limit: 9, ..Filter::default() }).await.unwrap().executions.len(), 0);
    // One node claims executions of all tenants.
    let claimed = bench.claim(node, 9, Size::Any).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| &claimed.head.key).collect::<Vec<_>>(), [&theirs.head.key]);
    assert_ne!(theirs.head.key, key("a"));
}
