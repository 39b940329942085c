//! The gRPC service: every method decodes a message, asks the engine and builds the answer.

use std::time::Duration;

use cerebelum_worker::{
    ApiError, ApprovalsRequest, Caller, Count, Decision, Engine, LinkRequest, Operation, TenantEngine, TokenRequest,
};
use futures::StreamExt;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use crate::access::{ACTIONS, Access};
use crate::answers::{Budget, Pages};
use crate::convert::{or_default, refusal};
use crate::proto;
use crate::proto::engine_server::Engine as Verbs;
use crate::public_url::PublicUrl;
use crate::streams::{
    Answers, Ended, Reader, answers, feed_changes, feed_history, feed_list, feed_logs, stopped, stopping_refusal,
};
use crate::views::content;

/// The longest time that one call waits for an end; a client that wants to wait longer calls again.
const WAIT_MAX: Duration = Duration::from_secs(60);
type Answer<T> = Result<Response<T>, Status>;

/// The engine as seen from the wire.
pub(crate) struct Service {
    pub(crate) engine: Engine,
    stopping: watch::Receiver<bool>,
    budget: Budget,
    public_url: Option<PublicUrl>,
}

impl Service {
    pub(crate) fn new(
        engine: Engine,
        stopping: watch::Receiver<bool>,
        (budget, public_url): (Budget, Option<PublicUrl>),
    ) -> Self {
        Self { engine, stopping, budget, public_url }
    }

    /// Waits until a large answer may be made. It counts until the result is dropped.
    pub(crate) async fn pages(&self, access: &Access) -> Result<Pages, Status> {
        self.budget.of(Some(access.caller.tenant)).whole().await
    }

    /// A stream of answers to a message, fed beside its reader.
    fn stream<M, T, F>(
        &self,
        access: Access,
        message: M,
        feed: impl FnOnce(TenantEngine, M, Reader<T>) -> F,
    ) -> Answers<T>
    where
        T: prost::Message + 'static,
        F: Future<Output = Result<(), Ended>> + Send + 'static,
    {
        let budget = self.budget.of(Some(access.caller.tenant));
        let engine = self.engine.of(&access.caller);
        let feed = |reader| feed(engine, message, reader);
        answers(self.stopping.clone(), access.lost(self.engine.clone()), budget, feed)
    }

    /// An execution's list entry now and after every change.
    pub(crate) fn changes(&self, access: Access, id: String) -> Answers<proto::Summary> {
        self.stream(access, id, |engine, id, reader| feed_changes(engine.changes(&id), reader))
    }

    /// All executions that match, from the cursor on.
    pub(crate) fn list_all(&self, access: Access, request: proto::ListRequest) -> Answers<proto::Summary> {
        self.stream(access, request, feed_list)
    }

    /// The caller and the message of a request.
    async fn asked<T>(&self, request: Request<T>) -> Result<(Caller, T), Status> {
        let access = Access::of(&request)?;
        Ok((access.still(&self.engine).await?, request.into_inner()))
    }

    /// The engine as the tenant of the request's caller sees it, and the message.
    async fn of<T>(&self, request: Request<T>) -> Result<(TenantEngine, T), Status> {
        let (caller, message) = self.asked(request).await?;
        Ok((self.engine.of(&caller), message))
    }

    /// The same once an answer may be made that may be large.
    async fn of_large<T>(&self, request: Request<T>) -> Result<(TenantEngine, T, Pages), Status> {
        let access = Access::of(&request)?;
        let (engine, message) = self.of(request).await?;
        Ok((engine, message, self.pages(&access).await?))
    }

    /// Answers a question, in the name of the caller's token if there is one.
    async fn decide(
        &self,
        caller: Caller,
        (id, by): (&str, String),
        decision: Decision,
    ) -> Answer<proto::DecideResponse> {
        let engine = self.engine.of(&caller);
        let by = caller.name.unwrap_or_else(|| or_default(by, "unknown"));
        let execution = engine.decide(id, &by, decision).await.map_err(refusal)?;
        Ok(Response::new(proto::DecideResponse { execution_id: execution.to_string() }))
    }
}

#[tonic::async_trait]
impl Verbs for Service {
    type WatchStream = Answers<proto::ExecutionStatus>;
    type HistoryStream = Answers<proto::Event>;
    type LogsStream = Answers<proto::LogLine>;

    async fn upload(&self, request: Request<Streaming<proto::UploadRequest>>) -> Answer<proto::Component> {
        let access = Access::of(&request)?;
        let mut pieces = request.into_inner();
        let first = pieces.next().await.transpose()?;
        let first = first.ok_or_else(|| Status::invalid_argument("the upload is empty; send at least one message"))?;
        let rest = pieces.map(|piece| piece.map(|piece| piece.chunk.into()));
        let bytes = futures::stream::iter([Ok(first.chunk.into())]).chain(rest);
        let component = self.upload_pieces(&access, (first.name, &first.file_name), bytes).await?;
        Ok(Response::new(component))
    }

    async fn components(&self, request: Request<proto::ComponentsRequest>) -> Answer<proto::ComponentsResponse> {
        let (engine, _) = self.of(request).await?;
        Ok(Response::new(proto::ComponentsResponse { components: all(engine.components().await)? }))
    }

    async fn show_component(&self, request: Request<proto::ShowComponentRequest>) -> Answer<proto::ComponentsResponse> {
        let (engine, proto::ShowComponentRequest { name }) = self.of(request).await?;
        Ok(Response::new(proto::ComponentsResponse { components: all(engine.component(&name).await)? }))
    }

    async fn accept_component(&self, request: Request<proto::AcceptComponentRequest>) -> Answer<proto::Component> {
        let (engine, proto::AcceptComponentRequest { name, digest }) = self.of(request).await?;
        told(engine.accept_component(&name, &digest).await)
    }

    async fn remove_component(
        &self,
        request: Request<proto::RemoveComponentRequest>,
    ) -> Answer<proto::RemoveComponentResponse> {
        let (engine, proto::RemoveComponentRequest { name, digest }) = self.of(request).await?;
        let removed = engine.remove_component(&name, digest.as_deref()).await.map_err(refusal)?;
        Ok(Response::new(proto::RemoveComponentResponse { digests: removed.iter().map(ToString::to_string).collect() }))
    }

    async fn start(&self, request: Request<proto::StartRequest>) -> Answer<proto::Summary> {
        let (engine, request) = self.of(request).await?;
        let wish = request.try_into().map_err(refusal)?;
        told(engine.start(wish).await)
    }

    async fn start_many(&self, request: Request<Streaming<proto::StartRequest>>) -> Answer<proto::StartManyResponse> {
        let access = Access::of(&request)?;
        let wishes = request.into_inner().map(|wish| wish.map(Ok));
        Ok(Response::new(proto::StartManyResponse { results: self.start_all(&access, wishes).await? }))
    }

    async fn status(&self, request: Request<proto::StatusRequest>) -> Answer<proto::ExecutionStatus> {
        let (engine, request, _page) = self.of_large(request).await?;
        told(engine.status(&request.execution_id).await)
    }

    async fn wait(&self, request: Request<proto::WaitRequest>) -> Answer<proto::ExecutionStatus> {
        let (engine, request) = self.of(request).await?;
        let timeout = request.timeout_ms.map_or(WAIT_MAX, Duration::from_millis).min(WAIT_MAX);
        tokio::select! {
            status = engine.wait(&request.execution_id, Some(timeout)) => told(status),
            () = stopped(self.stopping.clone()) => Err(stopping_refusal()),
        }
    }

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Answer<Self::WatchStream> {
        let access = Access::of(&request)?;
        let (_, request) = self.asked(request).await?;
        streamed(self.stream(access, request, |engine, request, reader| {
            feed_changes(engine.watch(&request.execution_id), reader)
        }))
    }

    async fn list(&self, request: Request<proto::ListRequest>) -> Answer<proto::ListResponse> {
        let (engine, request, _page) = self.of_large(request).await?;
        let wish = request.try_into().map_err(refusal)?;
        let (executions, next) = engine.list(wish).await.map_err(refusal)?;
        Ok(Response::new(proto::ListResponse { executions: executions.into_iter().map(Into::into).collect(), next }))
    }

    async fn count(&self, request: Request<proto::CountRequest>) -> Answer<proto::CountResponse> {
        let (engine, proto::CountRequest { filter, up_to }) = self.of(request).await?;
        let filter = filter.unwrap_or_default().try_into().map_err(refusal)?;
        let Count { executions, is_exact } = engine.count(&filter, up_to).await.map_err(refusal)?;
        Ok(Response::new(proto::CountResponse { executions, is_exact }))
    }

    async fn start_bulk(&self, request: Request<proto::StartBulkRequest>) -> Answer<proto::BulkJob> {
        let (caller, request) = self.asked(request).await?;
        let wish = request.try_into().map_err(refusal)?;
        told(self.engine.start_bulk(&caller, wish).await)
    }

    async fn bulk_jobs(&self, request: Request<proto::BulkJobsRequest>) -> Answer<proto::BulkJobsResponse> {
        let (engine, _, _page) = self.of_large(request).await?;
        Ok(Response::new(proto::BulkJobsResponse { jobs: all(engine.bulk_jobs().await)? }))
    }

    async fn show_bulk(&self, request: Request<proto::ShowBulkRequest>) -> Answer<proto::BulkJobDetail> {
        let (engine, proto::ShowBulkRequest { bulk_id }) = self.of(request).await?;
        let job = engine.bulk_job(&bulk_id).await.map_err(refusal)?;
        let refusals = all(engine.bulk_refusals(&bulk_id).await)?;
        Ok(Response::new(proto::BulkJobDetail { job: Some(job.into()), refusals }))
    }

    async fn stop_bulk(&self, request: Request<proto::StopBulkRequest>) -> Answer<proto::BulkJob> {
        let (engine, request) = self.of(request).await?;
        told(engine.stop_bulk(&request.bulk_id).await)
    }

    async fn nodes(&self, request: Request<proto::NodesRequest>) -> Answer<proto::NodesResponse> {
        let (caller, _) = self.asked(request).await?;
        Ok(Response::new(proto::NodesResponse { nodes: all(self.engine.nodes(&caller).await)? }))
    }

    async fn history(&self, request: Request<proto::HistoryRequest>) -> Answer<Self::HistoryStream> {
        let access = Access::of(&request)?;
        let (_, request) = self.asked(request).await?;
        streamed(self.stream(access, request, feed_history))
    }

    async fn logs(&self, request: Request<proto::LogsRequest>) -> Answer<Self::LogsStream> {
        let access = Access::of(&request)?;
        let (_, request) = self.asked(request).await?;
        streamed(self.stream(access, request, feed_logs))
    }

    async fn approvals(&self, request: Request<proto::ApprovalsRequest>) -> Answer<proto::ApprovalsResponse> {
        let (engine, request, _page) = self.of_large(request).await?;
        let proto::ApprovalsRequest { execution_id: execution, cursor, limit } = request;
        let wish = ApprovalsRequest { execution, cursor, limit };
        let (approvals, next) = engine.approvals(wish).await.map_err(refusal)?;
        let approvals = approvals.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ApprovalsResponse { approvals, next }))
    }

    async fn approve(&self, request: Request<proto::ApproveRequest>) -> Answer<proto::DecideResponse> {
        let (caller, request) = self.asked(request).await?;
        let decision = Decision::Approve { data: or_default(request.data, "{}"), comment: request.comment };
        self.decide(caller, (&request.id, request.by), decision).await
    }

    async fn reject(&self, request: Request<proto::RejectRequest>) -> Answer<proto::DecideResponse> {
        let (caller, request) = self.asked(request).await?;
        self.decide(caller, (&request.id, request.by), Decision::Reject { reason: request.reason }).await
    }

    async fn create_approval_link(
        &self,
        request: Request<proto::CreateApprovalLinkRequest>,
    ) -> Answer<proto::CreatedApprovalLink> {
        let (caller, proto::CreateApprovalLinkRequest { id, name, only, expires_in_ms }) = self.asked(request).await?;
        let request = LinkRequest { id, name, only, expires_in_ms };
        let created = self.engine.create_approval_link(&caller, request).await.map_err(refusal)?;
        let created = proto::CreatedApprovalLink::from(created);
        let url = self.public_url.as_ref().map(|public| format!("{public}{}", created.path));
        Ok(Response::new(proto::CreatedApprovalLink { url, ..created }))
    }

    async fn approval_links(
        &self,
        request: Request<proto::ApprovalLinksRequest>,
    ) -> Answer<proto::ApprovalLinksResponse> {
        let (caller, request) = self.asked(request).await?;
        let links = all(self.engine.approval_links(&caller, &request.id).await)?;
        Ok(Response::new(proto::ApprovalLinksResponse { links }))
    }

    async fn revoke_approval_link(
        &self,
        request: Request<proto::RevokeApprovalLinkRequest>,
    ) -> Answer<proto::RevokeApprovalLinkResponse> {
        let (caller, proto::RevokeApprovalLinkRequest { id, link_id }) = self.asked(request).await?;
        done(self.engine.revoke_approval_link(&caller, &id, &link_id).await)
    }

    async fn signal(&self, request: Request<proto::SignalRequest>) -> Answer<proto::SignalResponse> {
        let (engine, request) = self.of(request).await?;
        let data = or_default(request.data, "null");
        done(engine.signal(&request.execution_id, &request.name, &data).await)
    }

    async fn cancel(&self, request: Request<proto::CancelRequest>) -> Answer<proto::CancelResponse> {
        let (engine, request) = self.of(request).await?;
        done(engine.operate(&request.execution_id, &Operation::Cancel).await)
    }

    async fn terminate(&self, request: Request<proto::TerminateRequest>) -> Answer<proto::TerminateResponse> {
        let (engine, request) = self.of(request).await?;
        done(engine.operate(&request.execution_id, &Operation::Terminate).await)
    }

    async fn pause(&self, request: Request<proto::PauseRequest>) -> Answer<proto::PauseResponse> {
        let (engine, request) = self.of(request).await?;
        done(engine.operate(&request.execution_id, &Operation::Pause).await)
    }

    async fn resume(&self, request: Request<proto::ResumeRequest>) -> Answer<proto::ResumeResponse> {
        let (engine, proto::ResumeRequest { execution_id, force }) = self.of(request).await?;
        done(engine.operate(&execution_id, &Operation::Resume { force }).await)
    }

    async fn delete(&self, request: Request<proto::DeleteRequest>) -> Answer<proto::DeleteResponse> {
        let (engine, request) = self.of(request).await?;
        done(engine.operate(&request.execution_id, &Operation::Delete).await)
    }

    async fn who_am_i(&self, request: Request<proto::WhoAmIRequest>) -> Answer<proto::Caller> {
        Ok(Response::new(self.asked(request).await?.0.into()))
    }

    async fn create_token(&self, request: Request<proto::CreateTokenRequest>) -> Answer<proto::CreatedToken> {
        let (caller, proto::CreateTokenRequest { tenant, role, name, expires_in_ms }) = self.asked(request).await?;
        let request = TokenRequest { tenant, role, name, expires_in_ms };
        told(self.engine.create_token(&caller, request).await)
    }

    async fn tokens(&self, request: Request<proto::TokensRequest>) -> Answer<proto::TokensResponse> {
        let (caller, proto::TokensRequest { tenant }) = self.asked(request).await?;
        let tokens = all(self.engine.tokens(&caller, tenant.as_deref()).await)?;
        Ok(Response::new(proto::TokensResponse { tokens }))
    }

    async fn revoke_token(&self, request: Request<proto::RevokeTokenRequest>) -> Answer<proto::RevokeTokenResponse> {
        let (caller, proto::RevokeTokenRequest { id, tenant }) = self.asked(request).await?;
        done(self.engine.revoke_token(&caller, tenant.as_deref(), &id).await)
    }

    async fn create_tenant(&self, request: Request<proto::CreateTenantRequest>) -> Answer<proto::Tenant> {
        let (caller, request) = self.asked(request).await?;
        told(self.engine.create_tenant(&caller, &request.name).await)
    }

    async fn tenants(&self, request: Request<proto::TenantsRequest>) -> Answer<proto::TenantsResponse> {
        let (caller, _) = self.asked(request).await?;
        Ok(Response::new(proto::TenantsResponse { tenants: all(self.engine.tenants(&caller).await)? }))
    }

    async fn suspend_tenant(&self, request: Request<proto::SuspendTenantRequest>) -> Answer<proto::Tenant> {
        let (caller, proto::SuspendTenantRequest { name, lift }) = self.asked(request).await?;
        told(self.engine.suspend_tenant(&caller, &name, !lift).await)
    }

    async fn delete_tenant(&self, request: Request<proto::DeleteTenantRequest>) -> Answer<proto::Tenant> {
        let (caller, request) = self.asked(request).await?;
        told(self.engine.delete_tenant(&caller, &request.name).await)
    }

    async fn show_tenant(&self, request: Request<proto::ShowTenantRequest>) -> Answer<proto::TenantDetail> {
        let (caller, request) = self.asked(request).await?;
        told(self.engine.show_tenant(&caller, &request.name).await)
    }

    async fn set_hosts(&self, request: Request<proto::SetHostsRequest>) -> Answer<proto::TenantDetail> {
        let (caller, proto::SetHostsRequest { name, hosts }) = self.asked(request).await?;
        let hosts = hosts.map(|hosts| hosts.hosts);
        told(self.engine.set_hosts(&caller, &name, hosts).await)
    }

    async fn set_secret(&self, request: Request<proto::SetSecretRequest>) -> Answer<proto::Secret> {
        let (caller, proto::SetSecretRequest { tenant, name, value, hosts }) = self.asked(request).await?;
        told(self.engine.set_secret(&caller, tenant.as_deref(), (&name, &value), &hosts).await)
    }

    async fn secrets(&self, request: Request<proto::SecretsRequest>) -> Answer<proto::SecretsResponse> {
        let (caller, proto::SecretsRequest { tenant }) = self.asked(request).await?;
        let secrets = all(self.engine.secrets(&caller, tenant.as_deref()).await)?;
        Ok(Response::new(proto::SecretsResponse { secrets }))
    }

    async fn delete_secret(&self, request: Request<proto::DeleteSecretRequest>) -> Answer<proto::DeleteSecretResponse> {
        let (caller, proto::DeleteSecretRequest { tenant, name }) = self.asked(request).await?;
        done(self.engine.delete_secret(&caller, tenant.as_deref(), &name).await)
    }

    async fn rotate_secrets_key(
        &self,
        request: Request<proto::RotateSecretsKeyRequest>,
    ) -> Answer<proto::RotateSecretsKeyResponse> {
        let (caller, proto::RotateSecretsKeyRequest { tenant }) = self.asked(request).await?;
        let count = self.engine.rotate_secrets_key(&caller, tenant.as_deref()).await.map_err(refusal)?;
        Ok(Response::new(proto::RotateSecretsKeyResponse { secrets: count as u64 }))
    }

    async fn save_view(&self, request: Request<proto::SaveViewRequest>) -> Answer<proto::View> {
        let (caller, proto::SaveViewRequest { name, shared, filter, columns }) = self.asked(request).await?;
        let content = content(filter, columns).map_err(refusal)?;
        told(self.engine.save_view(&caller, (&name, shared), content).await)
    }

    async fn views(&self, request: Request<proto::ViewsRequest>) -> Answer<proto::ViewsResponse> {
        let (caller, _) = self.asked(request).await?;
        Ok(Response::new(proto::ViewsResponse { views: all(self.engine.views(&caller).await)? }))
    }

    async fn delete_view(&self, request: Request<proto::DeleteViewRequest>) -> Answer<proto::DeleteViewResponse> {
        let (caller, proto::DeleteViewRequest { name, shared }) = self.asked(request).await?;
        done(self.engine.delete_view(&caller, (&name, shared)).await)
    }

    async fn audit(&self, request: Request<proto::AuditRequest>) -> Answer<proto::AuditResponse> {
        let access = Access::of(&request)?;
        let (caller, request) = self.asked(request).await?;
        let _page = self.pages(&access).await?;
        if let Some(unknown) = request.operation.as_deref().filter(|name| !is_method(name)) {
            let why =
                format!("`{}` is not a method that the audit knows, such as Start or Approve", unknown.escape_debug());
            return Err(Status::invalid_argument(why));
        }
        let (acts, next) = self.engine.audit(&caller, request.into()).await.map_err(refusal)?;
        Ok(Response::new(proto::AuditResponse { acts: acts.into_iter().map(Into::into).collect(), next }))
    }

    async fn set_quotas(&self, request: Request<proto::SetQuotasRequest>) -> Answer<proto::TenantDetail> {
        let (caller, proto::SetQuotasRequest { name, changes }) = self.asked(request).await?;
        let changes = changes.into_iter().map(|change| (change.name, change.max)).collect();
        told(self.engine.set_quotas(&caller, &name, changes).await)
    }
}

/// Whether there is a method of this name, whatever its case.
fn is_method(name: &str) -> bool {
    ACTIONS.iter().any(|(method, _)| method.eq_ignore_ascii_case(name))
}

/// The answer that says what the engine has answered.
fn told<T, U: From<T>>(answer: Result<T, ApiError>) -> Answer<U> {
    Ok(Response::new(answer.map_err(refusal)?.into()))
}

/// The answer that says that something is done.
fn done<U: Default>(done: Result<(), ApiError>) -> Answer<U> {
    done.map_err(refusal).map(|()| Response::new(U::default()))
}

/// A list as the wire has it.
fn all<T, U: From<T>>(found: Result<Vec<T>, ApiError>) -> Result<Vec<U>, Status> {
    Ok(found.map_err(refusal)?.into_iter().map(Into::into).collect())
}

/// The answer that is a stream, whose messages count until they are in a piece of the body.
fn streamed<T>(answers: Answers<T>) -> Answer<Answers<T>> {
    let leaving = answers.leaving();
    let mut response = Response::new(answers);
    response.extensions_mut().insert(leaving);
    Ok(response)
}
