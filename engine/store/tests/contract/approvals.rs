//! Approvals: each has exactly one outcome, whatever races there are (L9).

use cerebelum_history::Timestamp;
use cerebelum_store::{
    AnswerOutcome, AppendError, ApprovalChange, ApprovalFilter, ApprovalRow, ApprovalState, Batch, ExecutionRow,
    Incarnation,
};

use crate::bench::{Bench, T, answer, batch, call, events, fresh, key};
use crate::on_all;

on_all!(
    a_question_is_listed_answered_and_told,
    the_first_answer_counts,
    an_answer_after_the_deadline_is_too_late,
    a_question_is_not_timed_out_before_its_deadline,
    closing_an_answered_question_refuses_the_whole_batch,
    an_answer_and_a_withdrawal_have_one_winner,
    l09_a_timeout_and_an_answer_have_one_winner,
    a_question_may_be_asked_and_withdrawn_in_one_batch,
    a_question_belongs_to_its_execution,
);

fn ask(node: Incarnation, head: &ExecutionRow, id: &str, deadline: Option<Timestamp>) -> Batch {
    let mut batch = events(node, head, 1);
    let request = "{\"title\": \"Go live?\"}".into();
    batch.approvals = vec![ApprovalChange::Open { id: id.into(), call: call("2.1"), request, deadline }];
    batch
}

fn close(node: Incarnation, head: &ExecutionRow, id: &str, to: ApprovalState) -> Batch {
    let mut batch = events(node, head, 1);
    batch.approvals = vec![ApprovalChange::Close { id: id.into(), to }];
    batch
}

async fn listed(bench: &Bench, execution: Option<&str>) -> Vec<ApprovalRow> {
    let execution = execution.map(|id| id.parse().unwrap());
    let page = bench.approvals(T, ApprovalFilter { execution, limit: 99, ..ApprovalFilter::default() }).await.unwrap();
    assert_eq!(page.cursor, None);
    page.approvals
}

async fn approve(bench: &Bench, id: &str) -> AnswerOutcome {
    bench.answer((T, id), ApprovalState::Approved, "\"yes\"".into(), None).await.unwrap()
}

async fn a_question_is_listed_answered_and_told(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, b) = (bench.started(node, "a").await, bench.started(node, "b").await);
    assert_eq!(bench.write(ask(node, &a, "q1", None)).await, Ok(()));
    let mut later = ask(node, &b, "q2", Some(Timestamp(u64::MAX)));
    later.head.stamp = Timestamp(9_000);
    assert_eq!(bench.write(later).await, Ok(()));
    let open = listed(&bench, None).await;
    assert_eq!(open.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["q2", "q1"]);
    let question = bench.approval(T, "q2").await.unwrap().unwrap();
    assert_eq!((question.execution.as_str(), question.requested_at), ("b", Timestamp(9_000)));
    assert_eq!((question.call.clone(), question.deadline), (call("2.1"), Some(Timestamp(u64::MAX))));
    assert_eq!((question.request.as_str(), question.state), ("{\"title\": \"Go live?\"}", ApprovalState::Open));
    assert_eq!(approve(&bench, "q1").await, AnswerOutcome::Accepted("a".parse().unwrap()));
    assert_eq!(bench.inbox("a").await, ["\"yes\""]);
    assert_eq!(listed(&bench, None).await.len(), 1);
    let of_a = listed(&bench, Some("a")).await;
    assert_eq!(of_a.iter().map(|row| row.state).collect::<Vec<_>>(), [ApprovalState::Approved]);
    assert_eq!(bench.approval(T, "nothing\0").await.unwrap(), None);
}

/// The deadline passes while an answer that came in time is being written.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_too_late_waits_for_the_answer_that_came_in_time() {
    use sqlx::{Connection, Executor};
    let bench = Bench::postgres().await;
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    assert_eq!(bench.write(ask(node, &head, "q", Some(Timestamp(1)))).await, Ok(()));
    let mut other = sqlx::PgConnection::connect(&bench.url).await.unwrap();
    let mut answering = other.begin().await.unwrap();
    answering.execute("update approvals set state = 2 where id = 'q'").await.unwrap();
    let late = {
        let store = bench.store.clone();
        tokio::spawn(
            async move { store.answer(answer((T, "q"), ApprovalState::Approved, "\"yes\"".into()), None).await },
        )
    };
    // The late answer waits for the lock of the one that came in time.
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while bench.meddle(waiting).await == 0 {
        assert!(!late.is_finished(), "it did not wait: {:?}", late.await);
    }
    answering.commit().await.unwrap();
    assert_eq!(late.await.unwrap().unwrap(), AnswerOutcome::TooLate(ApprovalState::Rejected));
}

/// The deadline passes while an answer waits for the row.
#[tokio::test(flavor = "multi_thread")]
async fn l09_an_answer_that_waited_beyond_the_deadline_is_too_late() {
    use sqlx::{Connection, Executor};
    let bench = Bench::postgres().await;
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let now = bench.meddle("select floor(extract(epoch from clock_timestamp()) * 1000)::bigint").await;
    let deadline = u64::try_from(now).unwrap() + 3_000;
    assert_eq!(bench.write(ask(node, &head, "q", Some(Timestamp(deadline)))).await, Ok(()));
    let mut other = sqlx::PgConnection::connect(&bench.url).await.unwrap();
    let mut looking = other.begin().await.unwrap();
    looking.execute("select 1 from approvals where id = 'q' for no key update").await.unwrap();
    let store = bench.store.clone();
    let late =
        tokio::spawn(
            async move { store.answer(answer((T, "q"), ApprovalState::Approved, "\"yes\"".into()), None).await },
        );
    let is_over = format!("select (extract(epoch from clock_timestamp()) * 1000 > {deadline})::int::bigint");
    while bench.meddle(is_over.clone()).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!late.is_finished(), "it did not wait: {:?}", late.await);
    // Nothing of the row has changed, so PostgreSQL does not look at it again.
    looking.commit().await.unwrap();
    assert_eq!(late.await.unwrap().unwrap(), AnswerOutcome::TooLate(ApprovalState::TimedOut));
    assert_eq!(bench.inbox("a").await, [""; 0]);
}

async fn the_first_answer_counts(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    assert_eq!(bench.write(ask(node, &head, "q", None)).await, Ok(()));
    let no = bench.answer((T, "q"), ApprovalState::Rejected, "\"no\"".into(), None).await.unwrap();
    assert_eq!(no, AnswerOutcome::Accepted("a".parse().unwrap()));
    assert_eq!(approve(&bench, "q").await, AnswerOutcome::TooLate(ApprovalState::Rejected));
    assert_eq!(bench.inbox("a").await, ["\"no\""]);
    assert_eq!(approve(&bench, "nothing").await, AnswerOutcome::Unknown);
}

async fn an_answer_after_the_deadline_is_too_late(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let asked = ask(node, &head, "q", Some(Timestamp(1)));
    assert_eq!(bench.write(asked.clone()).await, Ok(()));
    assert_eq!(approve(&bench, "q").await, AnswerOutcome::TooLate(ApprovalState::TimedOut));
    assert_eq!(bench.inbox("a").await, [""; 0]);
    assert_eq!(bench.write(close(node, &asked.head, "q", ApprovalState::TimedOut)).await, Ok(()));
    assert_eq!(approve(&bench, "q").await, AnswerOutcome::TooLate(ApprovalState::TimedOut));
}

async fn a_question_is_not_timed_out_before_its_deadline(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let deadline = bench.now().await.unwrap().plus(60_000);
    let asked = ask(node, &head, "q", Some(deadline));
    assert_eq!(bench.write(asked.clone()).await, Ok(()));
    let early = close(node, &asked.head, "q", ApprovalState::TimedOut);
    assert_eq!(bench.write(early).await, Err(AppendError::TooEarly));
    assert_eq!(bench.write(close(node, &asked.head, "q", ApprovalState::Withdrawn)).await, Ok(()));
    assert_eq!(approve(&bench, "q").await, AnswerOutcome::TooLate(ApprovalState::Withdrawn));
}

async fn closing_an_answered_question_refuses_the_whole_batch(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut asked = ask(node, &head, "q", None);
    asked.approvals.extend(ask(node, &head, "r", None).approvals);
    assert_eq!(bench.write(asked.clone()).await, Ok(()));
    approve(&bench, "q").await;
    let mut both = close(node, &asked.head, "r", ApprovalState::Withdrawn);
    both.approvals.push(ApprovalChange::Close { id: "q".into(), to: ApprovalState::Withdrawn });
    let bystander = bench.started(node, "b").await;
    let answers = bench.append_all(fresh(), vec![both, events(node, &bystander, 1)]).await;
    assert_eq!(answers, [Err(AppendError::AlreadyAnswered), Ok(())]);
    assert_eq!(bench.approval(T, "r").await.unwrap().unwrap().state, ApprovalState::Open);
    assert_eq!(bench.head("a").await.position, asked.head.position);
    let unknown = close(node, &asked.head, "nothing", ApprovalState::Withdrawn);
    assert_eq!(bench.write(unknown).await, Err(AppendError::AlreadyAnswered));
}

async fn an_answer_and_a_withdrawal_have_one_winner(bench: Bench) {
    race(bench, |_| None, ApprovalState::Withdrawn).await;
}

async fn l09_a_timeout_and_an_answer_have_one_winner(bench: Bench) {
    // The deadline is right now, so that both sides are sometimes refused and sometimes accepted.
    race(bench, |now| Some(now.plus(3)), ApprovalState::TimedOut).await;
}

/// Runs many rounds of an answer against a batch that closes the same question. Each round has exactly one winner.
async fn race(bench: Bench, deadline: fn(Timestamp) -> Option<Timestamp>, to: ApprovalState) {
    let node = bench.lease("n").await;
    let other = bench.second().await;
    let (mut answered, mut closed) = (0, 0);
    for round in 0..60 {
        let id = format!("e{round}");
        let head = bench.started(node, &id).await;
        let asked = ask(node, &head, &id, deadline(bench.now().await.unwrap()));
        assert_eq!(bench.write(asked.clone()).await, Ok(()));
        let answering = {
            let (other, id) = (other.clone(), id.clone());
            tokio::spawn(async move {
                other.answer(answer((T, &id), ApprovalState::Approved, "\"yes\"".into()), None).await.unwrap()
            })
        };
        let closing = loop {
            match bench.write(close(node, &asked.head, &id, to)).await {
                Err(AppendError::TooEarly) => tokio::task::yield_now().await,
                decided => break decided,
            }
        };
        let answer = answering.await.unwrap();
        let state = bench.approval(T, &id).await.unwrap().unwrap().state;
        match closing {
            Ok(()) => {
                closed += 1;
                assert_eq!(
                    (answer, state, bench.inbox(&id).await.len()),
                    (AnswerOutcome::TooLate(to), to, 0),
                    "round {round}"
                );
            }
            Err(refusal) => {
                answered += 1;
                assert_eq!(refusal, AppendError::AlreadyAnswered);
                assert_eq!(
                    (answer, state),
                    (AnswerOutcome::Accepted(key(&id).id), ApprovalState::Approved),
                    "round {round}"
                );
                assert_eq!((bench.inbox(&id).await.len(), bench.head(&id).await.position), (1, asked.head.position));
            }
        }
    }
    assert_eq!(answered + closed, 60);
}

async fn a_question_may_be_asked_and_withdrawn_in_one_batch(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut both = ask(node, &head, "q", None);
    both.approvals.push(ApprovalChange::Close { id: "q".into(), to: ApprovalState::Withdrawn });
    assert_eq!(bench.write(both).await, Ok(()));
    assert_eq!(approve(&bench, "q").await, AnswerOutcome::TooLate(ApprovalState::Withdrawn));
}

async fn a_question_belongs_to_its_execution(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, b) = (bench.started(node, "a").await, bench.started(node, "b").await);
    let asked = ask(node, &a, "q", None);
    assert_eq!(bench.write(asked.clone()).await, Ok(()));
    assert_eq!(bench.write(close(node, &b, "q", ApprovalState::Withdrawn)).await, Err(AppendError::AlreadyAnswered));
    approve(&bench, "q").await;
    // When a failed call is made again, it asks again.
    assert_eq!(bench.write(ask(node, &asked.head, "q", None)).await, Ok(()));
    assert_eq!(bench.approval(T, "q").await.unwrap().unwrap().state, ApprovalState::Open);
    assert_eq!(bench.write(batch(node, &b)).await, Ok(()));
}
