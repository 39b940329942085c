//! Questions to people, each decided once.

use cerebelum_history::Timestamp;
use cerebelum_store::{
    Answer, AnswerOutcome, ApprovalFilter, ApprovalPage, ApprovalRow, ApprovalState, ExecutionKey, TenantId,
};

use crate::tables::Tables;

impl Tables {
    pub(crate) fn approvals(&self, tenant: TenantId, filter: &ApprovalFilter) -> ApprovalPage {
        let wanted = |question: &&ApprovalRow| match (&filter.id, &filter.execution) {
            (Some(id), _) => question.id == *id,
            (None, Some(execution)) => question.execution == *execution,
            (None, None) => question.state == ApprovalState::Open,
        };
        let of_tenant = self.questions.iter().filter(|((of, _), _)| *of == tenant).map(|(_, question)| question);
        let mut rows: Vec<ApprovalRow> = of_tenant.filter(wanted).cloned().collect();
        rows.sort_by(|a, b| (b.requested_at, &b.id).cmp(&(a.requested_at, &a.id)));
        let skip = filter.cursor.as_ref().and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        let limit = filter.limit.clamp(1, 1_000) as usize;
        let cursor = (rows.len() > skip + limit).then(|| (skip + limit).to_string());
        ApprovalPage { approvals: rows.into_iter().skip(skip).take(limit).collect(), cursor }
    }

    pub(crate) fn answer(&mut self, answer: Answer) -> AnswerOutcome {
        let now = self.now;
        let Answer { tenant, id, asked_at, to, message, link } = answer;
        let Some(question) = self.questions.get(&(tenant, id.clone())) else { return AnswerOutcome::Unknown };
        if asked_at.is_some_and(|asked_at| asked_at != question.requested_at) {
            return AnswerOutcome::AskedAgain;
        }
        match standing(question, now) {
            ApprovalState::Open => {}
            ended => return AnswerOutcome::TooLate(ended),
        }
        let execution = question.execution.clone();
        if link.is_some_and(|link| !self.consume((tenant, &id), &link)) {
            return AnswerOutcome::LinkEnded;
        }
        self.questions.get_mut(&(tenant, id)).expect("it is there").state = to;
        self.put(&ExecutionKey { tenant, id: execution.clone() }, message);
        AnswerOutcome::Accepted(execution)
    }
}

/// The state of a question, which has timed out once its deadline is over, although no batch has recorded that yet.
pub(crate) fn standing(question: &ApprovalRow, now: Timestamp) -> ApprovalState {
    let is_over = question.deadline.is_some_and(|deadline| deadline <= now);
    if question.state == ApprovalState::Open && is_over { ApprovalState::TimedOut } else { question.state }
}
