//! Questions to people: each has one referee.

use cerebelum_history::ExecutionId;
use cerebelum_store::{Answered, ApprovalRow, ApprovalState, ExecutionKey, TenantId};

use crate::tables::Tables;

impl Tables {
    pub(crate) fn approvals(&self, tenant: TenantId, execution: Option<&ExecutionId>) -> Vec<ApprovalRow> {
        let wanted = |question: &&ApprovalRow| match execution {
            Some(execution) => question.execution == *execution,
            None => question.state == ApprovalState::Open,
        };
        let of_tenant = self.questions.iter().filter(|((of, _), _)| *of == tenant).map(|(_, question)| question);
        let mut rows: Vec<ApprovalRow> = of_tenant.filter(wanted).cloned().collect();
        rows.sort_by(|a, b| (b.requested_at, &a.id).cmp(&(a.requested_at, &b.id)));
        rows
    }

    pub(crate) fn answer(&mut self, id: (TenantId, String), to: ApprovalState, message: String) -> Answered {
        let (tenant, now) = (id.0, self.now);
        let Some(question) = self.questions.get_mut(&id) else { return Answered::Unknown };
        if question.state != ApprovalState::Open {
            return Answered::TooLate(question.state);
        }
        if question.deadline.is_some_and(|deadline| deadline <= now) {
            // Nobody has written it down yet, but its time is over.
            return Answered::TooLate(ApprovalState::TimedOut);
        }
        question.state = to;
        let execution = question.execution.clone();
        self.put(&ExecutionKey { tenant, id: execution.clone() }, message);
        Answered::Accepted(execution)
    }
}
