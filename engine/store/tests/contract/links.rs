//! Links to questions: only digests are stored, each link answers once, and its end is its question's or its own.

use cerebelum_history::{Digest, Timestamp};
use cerebelum_store::{
    Allowed, Answer, AnswerOutcome, ApprovalChange, ApprovalLink, ApprovalState, Batch, Command, ExecutionRow,
    Incarnation, LinkOutcome, NewLink, TenantId,
};

use crate::audit::act;
use crate::bench::{Bench, T, answer, call, events, key};
use crate::on_all;

on_all!(
    a_link_is_found_by_its_digest_and_used_once,
    of_uses_at_once_one_wins,
    links_that_have_ended_answer_nothing,
    a_question_has_so_many_open_links,
    a_link_is_revoked_by_its_question_and_id,
    a_question_that_has_ended_gets_no_link,
    an_answer_to_an_earlier_asking_does_not_count,
    links_of_a_suspended_tenant_are_not_found,
    an_execution_takes_its_links_along;
    // Only on databases:
    an_expired_link_is_shown_as_that,
);

const HOUR_MS: u64 = 3_600_000;

async fn ask(bench: &Bench, node: Incarnation, head: &ExecutionRow, id: &str) {
    let mut batch = events(node, head, 1);
    let request = r#"{"title":"Go live?"}"#.into();
    batch.approvals = vec![ApprovalChange::Open { id: id.into(), call: call("1"), request, deadline: None }];
    assert_eq!(bench.write(batch).await, Ok(()));
}

/// An execution `a` that asks `q`.
async fn asking(bench: &Bench) -> (Incarnation, ExecutionRow) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    ask(bench, node, &head, "q").await;
    (node, head)
}

pub(crate) fn link(tenant: TenantId, question: &str, secret: &str, asked_at: Timestamp) -> NewLink {
    NewLink {
        tenant,
        approval: question.to_owned(),
        asked_at,
        digest: Digest::of(secret.as_bytes()),
        name: "ada \\0".to_owned(),
        allowed: Allowed::Reject,
        created_by: Some("bob".to_owned()),
        lives_ms: HOUR_MS,
    }
}

async fn asked_at(bench: &Bench, id: &str) -> Timestamp {
    bench.approval(T, id).await.unwrap().unwrap().requested_at
}

async fn create(bench: &Bench, secret: &str) -> LinkOutcome {
    let new = link(T, "q", secret, asked_at(bench, "q").await);
    bench.create_link(new, 3, Some(act("CreateApprovalLink", "q"))).await.unwrap()
}

async fn created(bench: &Bench, secret: &str) -> ApprovalLink {
    match create(bench, secret).await {
        LinkOutcome::Created(link) => link,
        other => panic!("{other:?}"),
    }
}

fn with(link: &ApprovalLink) -> Answer {
    Answer { link: Some(link.digest.clone()), ..answer((T, "q"), ApprovalState::Rejected, "\"no\"".into()) }
}

async fn a_link_is_found_by_its_digest_and_used_once(bench: Bench) {
    asking(&bench).await;
    let made = created(&bench, "s").await;
    assert_eq!((made.name.as_str(), made.created_by.as_deref()), ("ada \\0", Some("bob")));
    assert_eq!((made.allowed, made.approval.as_str(), made.id().len()), (Allowed::Reject, "q", 12));
    assert_eq!(made.expires_at, made.created_at.plus(HOUR_MS));
    let found = bench.find_link(&Digest::of(b"s")).await.unwrap().unwrap();
    assert_eq!((found.tenant, &found.link, found.is_expired), (T, &made, false));
    assert_eq!((found.question.id.as_str(), found.question.state), ("q", ApprovalState::Open));
    for other in ["", "S", "t"] {
        assert_eq!(bench.find_link(&Digest::of(other.as_bytes())).await.unwrap(), None);
    }
    let accepted = AnswerOutcome::Accepted("a".parse().unwrap());
    assert_eq!(bench.store.answer(with(&made), Some(act("Reject", "q"))).await.unwrap(), accepted);
    let again = bench.store.answer(with(&made), Some(act("Reject", "q"))).await.unwrap();
    assert_eq!(again, AnswerOutcome::TooLate(ApprovalState::Rejected));
    assert_eq!(bench.inbox("a").await, ["\"no\""]);
    let used = bench.find_link(&made.digest).await.unwrap().unwrap();
    assert!(used.link.used_at.is_some_and(|at| at >= made.created_at));
    assert_eq!(used.question.state, ApprovalState::Rejected);
    assert_eq!(bench.links(T, "q").await.unwrap(), [used.link]);
    let acts = bench.acts(T, cerebelum_store::AuditFilter { limit: 9, ..Default::default() }).await.unwrap().acts;
    let mut acts: Vec<String> = acts.into_iter().map(|act| act.operation).collect();
    acts.sort();
    assert_eq!(acts, ["CreateApprovalLink", "Reject"]);
}

async fn of_uses_at_once_one_wins(bench: Bench) {
    asking(&bench).await;
    let (one, two) = (created(&bench, "one").await, created(&bench, "two").await);
    let other = bench.second().await;
    let plain = answer((T, "q"), ApprovalState::Approved, "\"no\"".into());
    let uses = [with(&one), with(&one), with(&two), plain];
    let outcomes = futures::future::join_all(uses.into_iter().enumerate().map(|(number, answer)| {
        let store = if number % 2 == 0 { bench.store.clone() } else { other.clone() };
        async move { store.answer(answer, None).await.unwrap() }
    }))
    .await;
    let (accepted, refused): (Vec<_>, Vec<_>) =
        outcomes.into_iter().partition(|outcome| matches!(outcome, AnswerOutcome::Accepted(_)));
    assert_eq!(accepted.len(), 1);
    assert!(refused.iter().all(|outcome| matches!(outcome, AnswerOutcome::TooLate(_))), "{refused:?}");
    assert_eq!(bench.inbox("a").await, ["\"no\""]);
    let used = bench.links(T, "q").await.unwrap().into_iter().filter(|link| link.used_at.is_some()).count();
    assert!(used <= 1, "a link that lost is not used up");
}

async fn links_that_have_ended_answer_nothing(bench: Bench) {
    let (node, _) = asking(&bench).await;
    let absent = ApprovalLink { digest: Digest::of(b"absent"), ..created(&bench, "s").await };
    assert_eq!(bench.store.answer(with(&absent), None).await.unwrap(), AnswerOutcome::LinkEnded);
    let head = bench.started(node, "b").await;
    ask(&bench, node, &head, "other").await;
    let of_other = link(T, "other", "o", asked_at(&bench, "other").await);
    let LinkOutcome::Created(of_other) = bench.create_link(of_other, 3, None).await.unwrap() else { panic!() };
    assert_eq!(bench.store.answer(with(&of_other), None).await.unwrap(), AnswerOutcome::LinkEnded);
    let made = created(&bench, "t").await;
    assert!(bench.revoke_link((T, "q"), made.id(), None).await.unwrap());
    assert_eq!(bench.store.answer(with(&made), None).await.unwrap(), AnswerOutcome::LinkEnded);
    let question = bench.approval(T, "q").await.unwrap().unwrap();
    assert_eq!((question.state, bench.inbox("a").await.len()), (ApprovalState::Open, 0), "nothing of it happened");
}

async fn a_question_has_so_many_open_links(bench: Bench) {
    asking(&bench).await;
    let first = created(&bench, "0").await;
    for secret in ["1", "2"] {
        created(&bench, secret).await;
    }
    assert_eq!(create(&bench, "3").await, LinkOutcome::TooMany);
    assert!(bench.revoke_link((T, "q"), first.id(), None).await.unwrap());
    let mut latest = created(&bench, "3").await;
    assert_eq!(create(&bench, "4").await, LinkOutcome::TooMany);
    for number in 5..12 {
        assert!(bench.revoke_link((T, "q"), latest.id(), None).await.unwrap());
        latest = created(&bench, &number.to_string()).await;
    }
    let links = bench.links(T, "q").await.unwrap();
    let open = links.iter().filter(|link| link.revoked_at.is_none()).count();
    assert_eq!((open, links.len()), (3, 6), "as many are kept that have ended");
    // Two engines at once do not exceed the number together.
    assert!(bench.revoke_link((T, "q"), latest.id(), None).await.unwrap());
    let (other, asked_at) = (bench.second().await, asked_at(&bench, "q").await);
    let new = |secret: &str| link(T, "q", secret, asked_at);
    let (a, b) = tokio::join!(bench.create_link(new("a"), 3, None), other.create_link(new("b"), 3, None));
    let too_many = [a.unwrap(), b.unwrap()].into_iter().filter(|outcome| *outcome == LinkOutcome::TooMany).count();
    assert_eq!(too_many, 1);
}

async fn a_link_is_revoked_by_its_question_and_id(bench: Bench) {
    asking(&bench).await;
    let (one, two) = (created(&bench, "1").await, created(&bench, "2").await);
    for (tenant, question, id) in [(T, "p", one.id()), (TenantId(2), "q", one.id()), (T, "q", "0"), (T, "q", "")] {
        assert!(!bench.revoke_link((tenant, question), id, Some(act("RevokeApprovalLink", "q"))).await.unwrap());
    }
    assert!(bench.revoke_link((T, "q"), one.id(), Some(act("RevokeApprovalLink", "q"))).await.unwrap());
    assert!(!bench.revoke_link((T, "q"), one.id(), Some(act("RevokeApprovalLink", "q"))).await.unwrap());
    assert!(bench.find_link(&one.digest).await.unwrap().is_none());
    assert!(bench.find_link(&two.digest).await.unwrap().is_some());
    let filter = cerebelum_store::AuditFilter {
        operation: Some("RevokeApprovalLink".to_owned()),
        limit: 9,
        ..Default::default()
    };
    assert_eq!(bench.acts(T, filter).await.unwrap().acts.len(), 1);
}

async fn a_question_that_has_ended_gets_no_link(bench: Bench) {
    asking(&bench).await;
    let before = created(&bench, "before").await;
    let at = asked_at(&bench, "q").await;
    assert_eq!(bench.create_link(link(T, "absent", "s", at), 3, None).await.unwrap(), LinkOutcome::Unknown);
    assert_eq!(bench.create_link(link(TenantId(2), "q", "s", at), 3, None).await.unwrap(), LinkOutcome::Unknown);
    let early = link(T, "q", "s", Timestamp(at.0 + 1));
    assert_eq!(bench.create_link(early, 3, None).await.unwrap(), LinkOutcome::AskedAgain);
    bench.answer((T, "q"), ApprovalState::Approved, "\"yes\"".into(), None).await.unwrap();
    assert_eq!(create(&bench, "s").await, LinkOutcome::TooLate(ApprovalState::Approved));
    let found = bench.find_link(&before.digest).await.unwrap().unwrap();
    assert_eq!((found.question.state, found.link.used_at), (ApprovalState::Approved, None));
}

async fn an_answer_to_an_earlier_asking_does_not_count(bench: Bench) {
    asking(&bench).await;
    let at = asked_at(&bench, "q").await;
    let early =
        Answer { asked_at: Some(Timestamp(at.0 + 1)), ..answer((T, "q"), ApprovalState::Approved, "\"yes\"".into()) };
    assert_eq!(bench.store.answer(early.clone(), None).await.unwrap(), AnswerOutcome::AskedAgain);
    assert!(bench.inbox("a").await.is_empty());
    let right = Answer { asked_at: Some(at), ..early };
    assert_eq!(bench.store.answer(right, None).await.unwrap(), AnswerOutcome::Accepted("a".parse().unwrap()));
}

async fn links_of_a_suspended_tenant_are_not_found(bench: Bench) {
    let node = bench.lease("n").await;
    let tenant = bench.create_tenant("acme", None).await.unwrap().unwrap();
    let mut new = crate::bench::new("a");
    new.head.key.tenant = tenant;
    let question = ApprovalChange::Open { id: "q".into(), call: call("1"), request: "{}".into(), deadline: None };
    let batch = Batch { approvals: vec![question], release: false, ..Batch::start(node, new) };
    assert_eq!(bench.write(batch).await, Ok(()));
    let at = {
        let filter = cerebelum_store::ApprovalFilter { limit: 9, ..Default::default() };
        bench.approvals(tenant, filter).await.unwrap().approvals[0].requested_at
    };
    let LinkOutcome::Created(made) = bench.create_link(link(tenant, "q", "s", at), 3, None).await.unwrap() else {
        panic!()
    };
    let answer = Answer { tenant, ..with(&made) };
    assert!(bench.suspend_tenant("acme", true, None).await.unwrap());
    assert_eq!(bench.find_link(&made.digest).await.unwrap(), None);
    assert_eq!(bench.store.answer(answer.clone(), None).await.unwrap(), AnswerOutcome::LinkEnded);
    assert!(bench.suspend_tenant("acme", false, None).await.unwrap());
    assert_eq!(bench.find_link(&made.digest).await.unwrap().unwrap().tenant, tenant);
    assert_eq!(bench.find_link(&made.digest).await.unwrap().unwrap().link, bench.links(tenant, "q").await.unwrap()[0]);
    assert!(bench.links(T, "q").await.unwrap().is_empty());
    assert!(
        bench.suspend_tenant("acme", true, None).await.unwrap() && bench.delete_tenant("acme", None).await.unwrap()
    );
    assert_eq!(bench.find_link(&made.digest).await.unwrap(), None);
    assert_eq!(bench.store.answer(answer, None).await.unwrap(), AnswerOutcome::LinkEnded);
}

async fn an_execution_takes_its_links_along(bench: Bench) {
    asking(&bench).await;
    let made = created(&bench, "s").await;
    assert!(bench.command(&key("a"), Command::Bury { messages: Vec::new() }, None).await.unwrap());
    let found = bench.find_link(&made.digest).await.unwrap().unwrap();
    assert_eq!(found.question.state, ApprovalState::Withdrawn);
    assert!(bench.command(&key("a"), Command::Delete, None).await.unwrap());
    assert_eq!(bench.find_link(&made.digest).await.unwrap(), None);
    if bench.url.is_empty() {
        return;
    }
    bench.delete_remains(9).await.unwrap();
    assert_eq!(bench.meddle("select count(*) from approval_links").await, 0);
}

async fn an_expired_link_is_shown_as_that(bench: Bench) {
    asking(&bench).await;
    let made = created(&bench, "s").await;
    bench.meddle("update approval_links set expires_at = created_at").await;
    let found = bench.find_link(&made.digest).await.unwrap().unwrap();
    assert!(found.is_expired && found.question.state == ApprovalState::Open);
    assert_eq!(bench.store.answer(with(&made), None).await.unwrap(), AnswerOutcome::LinkEnded);
    for secret in ["1", "2", "3"] {
        created(&bench, secret).await;
    }
}
