//! Questions to people, each decided once.

use cerebelum_store::{
    AnswerOutcome, ApprovalFilter, ApprovalPage, ApprovalRow, ApprovalState, ExecutionKey, TenantId,
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

    pub(crate) fn answer(&mut self, id: (TenantId, String), to: ApprovalState, message: String) -> AnswerOutcome {
        let (tenant, now) = (id.0, self.now);
        let Some(question) = self.questions.get_mut(&id) else { return AnswerOutcome::Unknown };
        if question.state != ApprovalState::Open {
            return AnswerOutcome::TooLate(question.state);
        }
        if question.deadline.is_some_and(|deadline| deadline <= now) {
            // The question has timed out, although no batch has recorded that yet.
            return AnswerOutcome::TooLate(ApprovalState::TimedOut);
        }
        question.state = to;
        let execution = question.execution.clone();
        self.put(&ExecutionKey { tenant, id: execution.clone() }, message);
        AnswerOutcome::Accepted(execution)
    }
}
