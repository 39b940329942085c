//! Answers to questions: which question is meant, who may answer it, and the answer itself.

use cerebelum_history::{Approval, Approvers, Digest, ExecutionId, Json, MESSAGE_BYTES_MAX, Message, planted};
use cerebelum_store::{Answer, AnswerOutcome, ApprovalFilter, ApprovalRow, ApprovalState, ExecutionKey};

use crate::api::{ApiError, Decision};
use crate::convert;
use crate::schema::{Input, Unfit};
use crate::tenant_engine::TenantEngine;

/// How many of an execution's questions are searched for the open one.
const QUESTIONS_MAX: u32 = 1_000;

/// The person or program that answers, for the event and for the audit.
pub(crate) struct Author<'a> {
    /// The name that the event carries.
    pub(crate) by: &'a str,
    /// What the audit says besides.
    pub(crate) note: String,
    /// The link with which the answer came. It takes the place of the check for approvers.
    pub(crate) link: Option<Digest>,
}

impl TenantEngine {
    /// Answers a question: by its own id, or by the id of its execution if exactly one question is open.
    ///
    /// # Errors
    /// When there is no such question, it has ended, it is for other approvers, or the answer does not fit.
    pub async fn decide(&self, id: &str, by: &str, decision: Decision) -> Result<ExecutionId, ApiError> {
        let row = self.question(id).await?;
        let author = Author { by, note: String::new(), link: None };
        self.answer(row, author, decision).await
    }

    /// Answers a question that was just read.
    pub(crate) async fn answer(
        &self,
        row: ApprovalRow,
        author: Author<'_>,
        decision: Decision,
    ) -> Result<ExecutionId, ApiError> {
        let request = convert::request(&row)?;
        if author.link.is_none() && !planted("approvers-not-asked") {
            self.may_answer(&approvers(&row.id, request.schema.as_ref())?)?;
        }
        let operation = if matches!(decision, Decision::Approve { .. }) { "Approve" } else { "Reject" };
        let act = self.act(operation, &row.id, format!("{}{}", row.execution, author.note));
        let cause = self.cause();
        check_remark(&decision)?;
        self.has_inbox_room(&ExecutionKey { tenant: self.tenant, id: row.execution.clone() }).await?;
        let (to, message) = match decision {
            Decision::Approve { data, comment } => {
                let data = Json::parse(data).map_err(|e| ApiError::Invalid(format!("the answer is {e}")))?;
                if let Some(schema) = request.schema {
                    self.fits(schema, &data).await?;
                }
                let approval = Approval { data, by: author.by.to_owned(), comment };
                (
                    ApprovalState::Approved,
                    Message::Approved { call: row.call.clone(), id: row.id.clone(), approval, cause },
                )
            }
            Decision::Reject { reason } => {
                let (call, id, by) = (row.call.clone(), row.id.clone(), author.by.to_owned());
                (ApprovalState::Rejected, Message::Rejected { call, id, by, reason, cause })
            }
        };
        let answer = Answer {
            tenant: self.tenant,
            id: row.id.clone(),
            // What was read is what is answered: the approvers and the schema are those of this asking.
            asked_at: Some(row.requested_at),
            to,
            message: Json::of(&message).to_string(),
            link: author.link,
        };
        let _turn = self.node.turns.writes.next(self.tenant).await;
        match self.node.store.answer(answer, act).await? {
            AnswerOutcome::Accepted(execution) => {
                let waited_ms = self.node.clock.now().since(row.requested_at);
                let wait = &self.node.metrics.outside.approval_wait;
                wait.of(convert::approval_state(to)).observe(waited_ms as f64 / 1_000.0);
                Ok(execution)
            }
            AnswerOutcome::TooLate(state) => Err(too_late(&row, state)),
            AnswerOutcome::AskedAgain => Err(asked_again(&row.id)),
            AnswerOutcome::LinkEnded => {
                Err(ApiError::Conflict("the link was used, has expired or was revoked meanwhile".to_owned()))
            }
            AnswerOutcome::Unknown => Err(no_question(&row.id)),
        }
    }

    /// Checks that the caller is one of the approvers. An engine without tokens knows no names, so there every caller is.
    fn may_answer(&self, approvers: &Approvers) -> Result<(), ApiError> {
        match &self.actor.name {
            Some(name) if !approvers.allow(name, self.role.as_str()) => {
                Err(ApiError::Forbidden(format!("this question is for {approvers}")))
            }
            _ => Ok(()),
        }
    }

    /// Checks the answer to a question against the question's schema.
    async fn fits(&self, schema: Json, answer: &Json) -> Result<(), ApiError> {
        self.checker.check(&Input::new(schema), answer).await.map_err(|unfit| match unfit {
            Unfit::Value(line) => ApiError::Invalid(format!("the answer does not fit what was asked for: {line}")),
            Unfit::Schema(why) => {
                ApiError::Conflict(format!("the answer cannot be checked by the schema of the question: {why}"))
            }
            Unfit::EngineError(cause) => ApiError::Unavailable(cause),
        })
    }

    /// The question with this id, or the only open one of the execution with this id.
    pub(crate) async fn question(&self, id: &str) -> Result<ApprovalRow, ApiError> {
        let by_id = ApprovalFilter { id: Some(id.to_owned()), ..ApprovalFilter::default() };
        let mut found = self.node.store.approvals(self.tenant, by_id).await?;
        if let Some(row) = found.approvals.pop() {
            return Ok(row);
        }
        let key = self.key(id).map_err(|_| no_question(id))?;
        if self.node.store.execution(&key).await?.is_none() {
            return Err(no_question(id));
        }
        let filter = ApprovalFilter { execution: Some(key.id), limit: QUESTIONS_MAX, ..ApprovalFilter::default() };
        let mut rows = self.node.store.approvals(self.tenant, filter).await?.approvals;
        let last = rows.first().cloned();
        rows.retain(|row| row.state == ApprovalState::Open);
        match (rows.len(), last) {
            (1, _) => Ok(rows.remove(0)),
            (0, Some(last)) => Err(too_late(&last, last.state)),
            (0, None) => Err(ApiError::Conflict(format!("execution `{id}` asks for no approval"))),
            (count, _) => {
                let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
                Err(ApiError::Conflict(format!(
                    "execution `{id}` has {count} open approvals: say which of {}",
                    ids.join(", ")
                )))
            }
        }
    }
}

/// Checks the length of what the person says beside the answer.
fn check_remark(decision: &Decision) -> Result<(), ApiError> {
    let (what, bytes) = match decision {
        Decision::Approve { comment, .. } => ("comment", comment.as_ref().map_or(0, String::len)),
        Decision::Reject { reason } => ("reason", reason.len()),
    };
    match bytes > MESSAGE_BYTES_MAX {
        true => Err(ApiError::Invalid(format!("the {what} has {bytes} bytes, at most {MESSAGE_BYTES_MAX} are kept"))),
        false => Ok(()),
    }
}

/// The approvers of a question. A list that cannot be read lets no caller answer.
pub(crate) fn approvers(id: &str, schema: Option<&Json>) -> Result<Approvers, ApiError> {
    Approvers::of(schema)
        .map_err(|why| ApiError::Conflict(format!("the approvers of approval `{id}` are unknown: {why}")))
}

pub(crate) fn asked_again(id: &str) -> ApiError {
    ApiError::Unavailable(format!("approval `{id}` was asked again meanwhile: look at it and try again"))
}

pub(crate) fn no_question(id: &str) -> ApiError {
    ApiError::NotFound(format!("there is no approval or execution `{id}`: see `cerebelum approvals`"))
}

pub(crate) fn too_late(row: &ApprovalRow, state: ApprovalState) -> ApiError {
    ApiError::Conflict(format!(
        "approval `{}` is {}: your answer changes nothing",
        row.id,
        convert::approval_state(state)
    ))
}
