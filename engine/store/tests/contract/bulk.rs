//! Bulk jobs: each step is carried out once, whichever node tries it, together with its acts.

use std::sync::Arc;

use cerebelum_store::{
    Actor, AuditFilter, BulkItem, BulkJob, BulkRefusal, BulkStep, Command, Count, Filter, NewBulkJob, REFUSALS_KEPT,
    TenantId,
};

use crate::audit::act;
use crate::bench::{Bench, T, key};
use crate::on_all;

on_all!(
    a_step_is_carried_out_once_with_its_acts,
    a_job_leaves_what_began_later_alone,
    a_command_that_does_not_apply_is_a_refusal,
    a_stopped_job_goes_no_further,
    a_tenant_has_so_many_open_jobs_and_keeps_so_many,
    a_job_is_of_one_living_node,
    tenants_take_turns_with_their_jobs,
    an_id_that_is_taken_creates_nothing,
    executions_are_counted_up_to_a_number;
    // Only on databases:
    so_many_refusals_are_kept,
    texts_of_any_kind_come_back,
);

pub(crate) fn job(tenant: TenantId, id: &str) -> NewBulkJob {
    let actor = Actor { name: Some("ada \\0".into()), token: Some("0a".into()), address: None };
    NewBulkJob {
        tenant,
        id: id.to_owned(),
        actor: Arc::new(actor),
        operation: r#"{"operation":"cancel"}"#.to_owned(),
        filter: "{}".to_owned(),
        matched: 3,
        at_most: 5,
    }
}

async fn create(bench: &Bench, id: &str) -> BulkJob {
    assert!(bench.create_bulk(job(T, id), (2, 1), Some(act("StartBulk", id))).await.unwrap());
    stored(bench, id).await
}

async fn stored(bench: &Bench, id: &str) -> BulkJob {
    bench.bulk_job(T, id).await.unwrap().unwrap()
}

fn message(execution: &str) -> BulkItem {
    let commands = vec![Command::Send("{}".to_owned())];
    BulkItem { execution: execution.parse().unwrap(), commands, act: Some(act("Cancel", execution)) }
}

fn step(job: &BulkJob, to: Option<&str>, items: Vec<BulkItem>) -> BulkStep {
    let (tenant, id, from) = (job.asked.tenant, job.asked.id.clone(), job.cursor.clone());
    BulkStep { tenant, id, from, to: to.map(str::to_owned), items, refusals: Vec::new() }
}

async fn cancels(bench: &Bench) -> usize {
    let filter = AuditFilter { operation: Some("Cancel".into()), limit: 1_000, ..AuditFilter::default() };
    bench.acts(T, filter).await.unwrap().acts.len()
}

async fn a_step_is_carried_out_once_with_its_acts(bench: Bench) {
    let node = bench.lease("n").await;
    bench.started(node, "a").await;
    bench.started(node, "b").await;
    let made = create(&bench, "j").await;
    let first = step(&made, Some("1"), vec![message("a"), message("b")]);
    assert!(bench.bulk_step(first.clone()).await.unwrap());
    // The engine was killed before it heard of it, or another one was faster.
    assert!(!bench.bulk_step(first).await.unwrap());
    assert_eq!((bench.unread(&key("a")).await.unwrap().0, bench.unread(&key("b")).await.unwrap().0), (1, 1));
    assert_eq!(cancels(&bench).await, 2);
    let after = stored(&bench, "j").await;
    assert_eq!((after.done, after.refused, after.cursor.as_str(), after.ended_at), (2, 0, "1", None));
    assert!(bench.bulk_step(step(&after, None, Vec::new())).await.unwrap());
    let ended = stored(&bench, "j").await;
    assert!(ended.ended_at.is_some() && !ended.stopped);
    assert!(!bench.bulk_step(step(&ended, None, vec![message("a")])).await.unwrap());
}

async fn a_job_leaves_what_began_later_alone(bench: Bench) {
    let node = bench.lease("n").await;
    bench.started(node, "a").await;
    bench.started(node, "b").await;
    let made = create(&bench, "j").await;
    bench.started(node, "c").await;
    let listed = |cursor: String| Filter { cursor: Some(cursor), limit: 9, ..Filter::default() };
    let page = bench.list(T, listed(made.cursor)).await.unwrap();
    let ids: Vec<_> = page.executions.iter().map(|row| row.key.id.as_str().to_owned()).collect();
    assert_eq!(ids, ["b", "a"]);
}

async fn a_command_that_does_not_apply_is_a_refusal(bench: Bench) {
    let node = bench.lease("n").await;
    bench.started(node, "a").await;
    let made = create(&bench, "j").await;
    let told = BulkRefusal { execution: "x".parse().unwrap(), reason: "execution `x` is completed\0".into() };
    let step = BulkStep { refusals: vec![told.clone()], ..step(&made, Some("1"), vec![message("gone"), message("a")]) };
    assert!(bench.bulk_step(step).await.unwrap());
    let after = stored(&bench, "j").await;
    assert_eq!((after.done, after.refused), (1, 2));
    let refusals = bench.bulk_refusals(T, "j").await.unwrap();
    assert_eq!((&refusals[0], refusals.len()), (&told, 2));
    assert!(refusals[1].reason.contains("`gone` changed"), "{refusals:?}");
    // What was not done has no act.
    assert_eq!(cancels(&bench).await, 1);
    assert!(bench.bulk_refusals(TenantId(9), "j").await.unwrap().is_empty());
}

async fn a_stopped_job_goes_no_further(bench: Bench) {
    let node = bench.lease("n").await;
    bench.started(node, "a").await;
    let made = create(&bench, "j").await;
    assert!(!bench.stop_bulk(TenantId(9), "j", None).await.unwrap());
    assert!(bench.stop_bulk(T, "j", Some(act("StopBulk", "j"))).await.unwrap());
    assert!(!bench.stop_bulk(T, "j", Some(act("StopBulk", "j"))).await.unwrap());
    assert!(!bench.bulk_step(step(&made, Some("1"), vec![message("a")])).await.unwrap());
    assert_eq!(bench.unread(&key("a")).await.unwrap().0, 0);
    let stopped = stored(&bench, "j").await;
    assert!(stopped.stopped && stopped.ended_at.is_some());
    assert!(bench.claim_bulk(node).await.unwrap().is_empty());
    let filter = AuditFilter { object: Some("j".into()), limit: 9, ..AuditFilter::default() };
    assert_eq!(bench.acts(T, filter).await.unwrap().acts.len(), 2);
}

async fn a_tenant_has_so_many_open_jobs_and_keeps_so_many(bench: Bench) {
    bench.lease("n").await;
    create(&bench, "a").await;
    create(&bench, "b").await;
    assert!(!bench.create_bulk(job(T, "c"), (2, 1), Some(act("StartBulk", "c"))).await.unwrap());
    let other = bench.create_tenant("other", None).await.unwrap().unwrap();
    assert!(bench.create_bulk(job(other, "a"), (2, 1), None).await.unwrap());
    assert!(bench.stop_bulk(T, "a", None).await.unwrap());
    assert!(bench.stop_bulk(T, "b", None).await.unwrap());
    create(&bench, "c").await;
    let mut ids: Vec<_> = bench.bulk_jobs(T).await.unwrap().into_iter().map(|job| job.asked.id).collect();
    ids.sort();
    assert_eq!((ids.len(), ids[1].as_str()), (2, "c"));
}

async fn a_job_is_of_one_living_node(bench: Bench) {
    let (one, two) = (bench.lease("one").await, bench.lease("two").await);
    create(&bench, "j").await;
    assert_eq!(bench.claim_bulk(one).await.unwrap().len(), 1);
    assert_eq!(bench.claim_bulk(one).await.unwrap().len(), 1);
    assert!(bench.claim_bulk(two).await.unwrap().is_empty());
    bench.end_lease(one).await.unwrap();
    assert_eq!(bench.claim_bulk(two).await.unwrap().len(), 1);
}

async fn tenants_take_turns_with_their_jobs(bench: Bench) {
    let node = bench.lease("n").await;
    let other = bench.create_tenant("other", None).await.unwrap().unwrap();
    for (tenant, id) in [(other, "a"), (other, "b"), (T, "c")] {
        assert!(bench.create_bulk(job(tenant, id), (9, 9), None).await.unwrap());
        crate::audit::tick(&bench).await;
    }
    let claimed = bench.claim_bulk(node).await.unwrap();
    let claimed: Vec<_> = claimed.iter().map(|(tenant, id)| (*tenant, id.as_str())).collect();
    assert_eq!(claimed, [(other, "a"), (T, "c"), (other, "b")]);
}

async fn an_id_that_is_taken_creates_nothing(bench: Bench) {
    bench.lease("n").await;
    create(&bench, "j").await;
    assert!(!bench.create_bulk(job(T, "j"), (9, 9), Some(act("StartBulk", "j"))).await.unwrap());
    let filter = AuditFilter { object: Some("j".into()), limit: 9, ..AuditFilter::default() };
    assert_eq!(bench.acts(T, filter).await.unwrap().acts.len(), 1);
}

async fn executions_are_counted_up_to_a_number(bench: Bench) {
    let node = bench.lease("n").await;
    for id in ["a", "b", "c"] {
        bench.started(node, id).await;
    }
    let of = |workflow: &str| Filter { workflow: Some(workflow.to_owned()), ..Filter::default() };
    let count = |filter, max| bench.count(T, filter, max);
    let exactly = |executions| Count { executions, is_exact: true };
    assert_eq!(count(Filter::default(), 3).await.unwrap(), exactly(3));
    assert_eq!(count(Filter::default(), 2).await.unwrap(), Count { executions: 2, is_exact: false });
    assert_eq!(count(of("none/such"), 9).await.unwrap(), exactly(0));
    let workflow = bench.execution(&key("a")).await.unwrap().unwrap().workflow;
    assert_eq!(count(of(&workflow), 9).await.unwrap(), exactly(3));
    assert_eq!(bench.count(TenantId(9), Filter::default(), 9).await.unwrap(), exactly(0));
}

async fn so_many_refusals_are_kept(bench: Bench) {
    bench.lease("n").await;
    let made = create(&bench, "j").await;
    let refusal = |n: u32| BulkRefusal { execution: format!("e{n}").parse().unwrap(), reason: "no".into() };
    let of = |job: &BulkJob, to: &str, range: std::ops::Range<u32>| BulkStep {
        refusals: range.map(refusal).collect(),
        ..step(job, Some(to), Vec::new())
    };
    assert!(bench.bulk_step(of(&made, "2", 0..REFUSALS_KEPT - 1)).await.unwrap());
    let then = stored(&bench, "j").await;
    assert!(bench.bulk_step(of(&then, "1", REFUSALS_KEPT - 1..REFUSALS_KEPT + 9)).await.unwrap());
    let kept = bench.bulk_refusals(T, "j").await.unwrap();
    assert_eq!((kept.len(), stored(&bench, "j").await.refused), (REFUSALS_KEPT as usize, u64::from(REFUSALS_KEPT) + 9));
    assert_eq!(kept.last(), Some(&refusal(REFUSALS_KEPT - 1)));
}

async fn texts_of_any_kind_come_back(bench: Bench) {
    bench.lease("n").await;
    let strange = NewBulkJob { operation: "a\0b\\".into(), filter: "\\0\0".into(), ..job(T, "j") };
    assert!(bench.create_bulk(strange.clone(), (2, 1), None).await.unwrap());
    assert_eq!(stored(&bench, "j").await.asked, strange);
}
