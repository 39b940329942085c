//! Conversions between the engine's types and those of the wire.

use cerebelum_history::{Failure, FirstWait, Json, Timestamp};
use cerebelum_worker::{
    ApiError, ApprovalLinkView, ApprovalView, AuditRequest, AuditRow, Caller, ComponentInfo, CreatedLink, CreatedToken,
    EventView, ExecutionStatus, LINK_PATH, LogView, NodeView, ProgressView, QuotaView, SecretView, StartRequest,
    StepView, Summary, TenantDetail, TenantView, TokenView, WaitingOn,
};

use crate::proto;

/// 9999-12-31T23:59:59.999Z, the last moment that the wire format can represent.
const MOMENT_MS_MAX: u64 = 253_402_300_799_999;

pub(crate) fn refusal(refused: ApiError) -> tonic::Status {
    let code = match &refused {
        ApiError::Invalid(_) => tonic::Code::InvalidArgument,
        ApiError::NotFound(_) => tonic::Code::NotFound,
        ApiError::Conflict(_) => tonic::Code::FailedPrecondition,
        ApiError::Unauthenticated(_) => tonic::Code::Unauthenticated,
        ApiError::Forbidden(_) => tonic::Code::PermissionDenied,
        ApiError::Quota(_) => tonic::Code::ResourceExhausted,
        ApiError::Unavailable(_) => tonic::Code::Unavailable,
    };
    tonic::Status::new(code, cut(one_line(&refused.to_string())))
}

/// The longest message of a refusal, in bytes. Some refusals repeat a part of the request.
const REFUSAL_BYTES_MAX: usize = 2 << 10;

/// The message, or its beginning.
pub(crate) fn cut(mut message: String) -> String {
    if message.len() > REFUSAL_BYTES_MAX {
        message.truncate(message.floor_char_boundary(REFUSAL_BYTES_MAX));
        message.push('…');
    }
    message
}

/// The message in one line: a line break would split the line in a terminal, and a header cannot contain one.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

pub(crate) fn moment(at: Timestamp) -> prost_types::Timestamp {
    let ms = i64::try_from(at.0.min(MOMENT_MS_MAX)).expect("the year 9999 fits into 63 bits");
    let nanos = i32::try_from(ms % 1_000 * 1_000_000).expect("less than a second of nanoseconds fits into 31 bits");
    prost_types::Timestamp { seconds: ms / 1_000, nanos }
}

fn text(json: Json) -> String {
    json.as_str().to_owned()
}

pub(crate) fn attributes(from: std::collections::HashMap<String, String>) -> Result<Vec<(String, Json)>, ApiError> {
    let mut parsed = Vec::with_capacity(from.len());
    for (name, value) in from {
        let json = Json::parse(value).map_err(|e| ApiError::Invalid(format!("attribute `{name}`: {e}")))?;
        parsed.push((name, json));
    }
    parsed.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(parsed)
}

impl TryFrom<proto::StartRequest> for StartRequest {
    type Error = ApiError;

    fn try_from(from: proto::StartRequest) -> Result<Self, ApiError> {
        Ok(Self {
            workflow: from.workflow,
            input: or_default(from.input, "null"),
            id: from.execution_id,
            attributes: attributes(from.attributes)?,
            delay_ms: from.delay_ms,
            deadline_ms: from.deadline_ms,
        })
    }
}

/// A JSON text that may be left out.
pub(crate) fn or_default(text: String, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text }
}

impl From<NodeView> for proto::Node {
    fn from(from: NodeView) -> Self {
        Self {
            name: from.name,
            incarnation: from.incarnation,
            lease_left_ms: u64::try_from(from.lease_left.as_millis()).unwrap_or(u64::MAX),
            executions: from.executions,
            is_this: from.is_this,
        }
    }
}

impl From<ComponentInfo> for proto::Component {
    fn from(from: ComponentInfo) -> Self {
        Self {
            name: from.name,
            digest: from.digest.to_string(),
            workflows: from.workflows,
            steps: from.steps,
            capabilities: from.capabilities,
            size: from.size,
            uploaded_at: Some(moment(from.uploaded_at)),
            current: from.current,
            proposed: from.proposed,
            not_granted: from.not_granted,
        }
    }
}

impl From<Summary> for proto::Summary {
    fn from(from: Summary) -> Self {
        Self {
            execution_id: from.id.to_string(),
            workflow: from.workflow,
            digest: from.digest.to_string(),
            status: from.status.to_string(),
            attributes: text(from.attributes),
            started_at: Some(moment(from.started_at)),
            ended_at: from.ended_at.map(moment),
            run: from.run,
            events: from.events,
            parent: from.parent.map(|id| id.to_string()),
            other_waits: from.waits_for.as_ref().map_or(0, |wait| wait.others),
            waits_for: from.waits_for.map(Into::into),
            failure: from.failure.map(Into::into),
            runs_from: from.runs_from,
        }
    }
}

impl From<FirstWait> for proto::WaitingOn {
    fn from(from: FirstWait) -> Self {
        Self {
            kind: from.kind,
            name: from.name,
            scope: from.scope.to_string(),
            since: Some(moment(from.since)),
            until: from.until.map(moment),
            attempts: from.attempts,
            last: None,
        }
    }
}

impl From<ExecutionStatus> for proto::ExecutionStatus {
    fn from(from: ExecutionStatus) -> Self {
        Self {
            summary: Some(from.summary.into()),
            input: text(from.input),
            output: from.output.map(text),
            failure: from.failure.map(Into::into),
            waiting_on: from.waiting_on.into_iter().map(Into::into).collect(),
            progress: from.progress.into_iter().map(Into::into).collect(),
            steps: from.steps.into_iter().map(Into::into).collect(),
            earlier_events: from.earlier_events,
            trace_ids: from.trace_ids,
            unread_signals: from.unread_signals,
        }
    }
}

impl From<Failure> for proto::Failure {
    fn from(from: Failure) -> Self {
        Self { kind: from.kind, message: from.message, details: from.details.map(text), retryable: from.retryable }
    }
}

impl From<WaitingOn> for proto::WaitingOn {
    fn from(from: WaitingOn) -> Self {
        Self {
            kind: from.kind,
            name: from.name,
            scope: from.scope.to_string(),
            since: Some(moment(from.since)),
            until: from.until.map(moment),
            attempts: from.attempts,
            last: from.last.map(text),
        }
    }
}

impl From<ProgressView> for proto::Progress {
    fn from(from: ProgressView) -> Self {
        Self { name: from.name, scope: from.scope.to_string(), percent: from.percent.into(), message: from.message }
    }
}

impl From<StepView> for proto::Step {
    fn from(from: StepView) -> Self {
        Self {
            name: from.name,
            scope: from.scope.to_string(),
            status: from.status.to_string(),
            attempt: from.attempt,
            started_at: Some(moment(from.started_at)),
            ended_at: from.ended_at.map(moment),
            output: from.output.map(text),
            failure: from.failure.map(Into::into),
            input_preview: from.input_preview,
        }
    }
}

impl From<EventView> for proto::Event {
    fn from(from: EventView) -> Self {
        Self {
            position: from.position.0,
            time: Some(moment(from.time)),
            kind: from.kind,
            scope: from.scope.to_string(),
            fields: text(from.fields),
        }
    }
}

impl From<LogView> for proto::LogLine {
    fn from(from: LogView) -> Self {
        Self {
            seq: from.seq,
            time: Some(moment(from.time)),
            level: from.level.as_str().to_owned(),
            scope: from.scope.to_string(),
            attempt: from.attempt,
            text: from.text,
        }
    }
}

impl From<ApprovalView> for proto::Approval {
    fn from(from: ApprovalView) -> Self {
        Self {
            approval_id: from.id,
            execution_id: from.execution.to_string(),
            kind: from.kind,
            title: from.title,
            data: text(from.data),
            schema: from.schema.map(text),
            requested_at: Some(moment(from.requested_at)),
            deadline: from.deadline.map(moment),
            state: from.state,
            approvers: from.approvers,
        }
    }
}

impl From<ApprovalLinkView> for proto::ApprovalLink {
    fn from(from: ApprovalLinkView) -> Self {
        Self {
            link_id: from.id,
            approval_id: from.approval,
            name: from.name,
            decisions: from.decisions.into_iter().map(str::to_owned).collect(),
            created_by: from.created_by,
            created_at: Some(moment(from.created_at)),
            expires_at: Some(moment(from.expires_at)),
            used_at: from.used_at.map(moment),
            revoked_at: from.revoked_at.map(moment),
        }
    }
}

impl From<CreatedLink> for proto::CreatedApprovalLink {
    fn from(from: CreatedLink) -> Self {
        Self { link: Some(from.view.into()), path: format!("{LINK_PATH}{}", from.token), token: from.token, url: None }
    }
}

impl From<Caller> for proto::Caller {
    fn from(from: Caller) -> Self {
        Self { tenant: from.tenant_name, role: from.role.to_string(), name: from.name, token_id: from.token }
    }
}

impl From<CreatedToken> for proto::CreatedToken {
    fn from(from: CreatedToken) -> Self {
        Self { token: Some(from.view.into()), secret: from.secret }
    }
}

impl From<SecretView> for proto::Secret {
    fn from(from: SecretView) -> Self {
        let SecretView { name, hosts, created_at, changed_at, is_open } = from;
        let (created_at, changed_at) = (Some(moment(created_at)), Some(moment(changed_at)));
        Self { name, hosts, created_at, changed_at, is_open }
    }
}

impl From<proto::AuditRequest> for AuditRequest {
    fn from(from: proto::AuditRequest) -> Self {
        let proto::AuditRequest { tenant, operation, caller, object, last_ms, cursor, limit } = from;
        Self { tenant, operation, caller, object, last_ms, cursor, limit }
    }
}

impl From<AuditRow> for proto::Act {
    fn from(from: AuditRow) -> Self {
        let AuditRow { at, actor, operation, object, outcome } = from;
        Self {
            at: Some(moment(at)),
            caller: actor.name,
            token_id: actor.token,
            address: actor.address,
            operation,
            object,
            outcome,
        }
    }
}

impl From<TokenView> for proto::Token {
    fn from(from: TokenView) -> Self {
        Self {
            id: from.id,
            tenant: from.tenant,
            role: from.role,
            name: from.name,
            created_at: Some(moment(from.created_at)),
            expires_at: from.expires_at.map(moment),
            revoked_at: from.revoked_at.map(moment),
            last_used_at: from.last_used_at.map(moment),
        }
    }
}

impl From<TenantView> for proto::Tenant {
    fn from(from: TenantView) -> Self {
        Self {
            name: from.name,
            number: from.number,
            created_at: (from.created_at.0 > 0).then(|| moment(from.created_at)),
            suspended_at: from.suspended_at.map(moment),
            deleted_at: from.deleted_at.map(moment),
        }
    }
}

impl From<TenantDetail> for proto::TenantDetail {
    fn from(from: TenantDetail) -> Self {
        let quota = |quota: QuotaView| proto::Quota {
            name: quota.name.to_owned(),
            max: quota.max,
            is_set: quota.is_set,
            used: quota.used,
        };
        let hosts = from.hosts.map(|hosts| proto::Hosts { hosts });
        let (tenant, quotas) = (Some(from.tenant.into()), from.quotas.into_iter().map(quota).collect());
        Self { tenant, quotas, hosts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_one_line_with_the_right_code() {
        let cases = [
            (ApiError::Invalid("a\n  b\r\n".into()), tonic::Code::InvalidArgument, "a; b"),
            (ApiError::NotFound("x".into()), tonic::Code::NotFound, "x"),
            (ApiError::Conflict("x".into()), tonic::Code::FailedPrecondition, "x"),
            (ApiError::Unauthenticated("x".into()), tonic::Code::Unauthenticated, "x"),
            (ApiError::Forbidden("x".into()), tonic::Code::PermissionDenied, "x"),
            (ApiError::Quota("x".into()), tonic::Code::ResourceExhausted, "x"),
            (ApiError::Unavailable("x".into()), tonic::Code::Unavailable, "x"),
        ];
        for (refused, code, message) in cases {
            let status = refusal(refused);
            assert_eq!((status.code(), status.message()), (code, message));
        }
        let long = refusal(ApiError::Invalid("é".repeat(3_000)));
        assert!(long.message().ends_with("é…") && long.message().len() < 2_100, "{}", long.message().len());
    }

    #[test]
    fn moments_keep_their_milliseconds_and_the_end_of_time_is_in_the_year_9999() {
        assert_eq!(
            moment(Timestamp(1_700_000_000_123)),
            prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 }
        );
        assert_eq!(moment(Timestamp(u64::MAX)).seconds, 253_402_300_799);
    }

    #[test]
    fn a_start_without_input_has_the_input_null_and_a_bad_attribute_is_named() {
        let request = proto::StartRequest { workflow: "w".into(), ..Default::default() };
        assert_eq!(StartRequest::try_from(request.clone()).unwrap().input, "null");
        let bad = proto::StartRequest { attributes: [("team".into(), "{".into())].into(), ..request };
        let refused = StartRequest::try_from(bad).unwrap_err();
        assert!(matches!(&refused, ApiError::Invalid(why) if why.contains("`team`")), "{refused}");
    }
}
