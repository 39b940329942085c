//! The gRPC service: every method decodes a message, asks the engine and builds the answer.

use std::time::Duration;

use cerebelum_worker::{
    ApprovalsRequest, Caller, Count, Decision, Engine, LinkRequest, Operation, TenantEngine, TokenRequest,
};
use futures::StreamExt;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use crate::access::Access;
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
    async fn whole<T: Sync>(&self, request: &Request<T>) -> Result<Pages, Status> {
        self.pages(&Access::of(request)?).await
    }

    /// The same for a caller.
    pub(crate) async fn pages(&self, access: &Access) -> Result<Pages, Status> {
        self.budget.of(Some(access.caller.tenant)).whole().await
    }

    /// A stream of answers, fed beside its reader.
    fn stream<T, F>(&self, access: Access, feed: impl FnOnce(Reader<T>) -> F) -> Response<Answers<T>>
    where
        T: prost::Message + 'static,
        F: Future<Output = Result<(), Ended>> + Send + 'static,
    {
        let budget = self.budget.of(Some(access.caller.tenant));
        let answers = answers(self.stopping.clone(), access.lost(self.engine.clone()), budget, feed);
        let leaving = answers.leaving();
        let mut response = Response::new(answers);
        response.extensions_mut().insert(leaving);
        response
    }

    /// An execution's list entry now and after every change.
    pub(crate) fn changes(&self, access: Access, id: String) -> Answers<proto::Summary> {
        let engine = self.engine.of(&access.caller);
        self.stream(access, |reader| feed_changes(engine.changes(&id), reader)).into_inner()
    }

    /// All executions that match, from the cursor on.
    pub(crate) fn list_all(&self, access: Access, request: proto::ListRequest) -> Answers<proto::Summary> {
        let engine = self.engine.of(&access.caller);
        self.stream(access, |reader| feed_list(engine, request, reader)).into_inner()
    }

    /// The caller of a request whose message is there.
    async fn caller<T: Sync>(&self, request: &Request<T>) -> Result<Caller, Status> {
        Access::of(request)?.still(&self.engine).await
    }

    /// The engine as the tenant of the request's caller sees it.
    async fn of<T: Sync>(&self, request: &Request<T>) -> Result<TenantEngine, Status> {
        Ok(self.engine.of(&self.caller(request).await?))
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
        let components = self.of(&request).await?.components().await.map_err(refusal)?;
        Ok(Response::new(proto::ComponentsResponse { components: components.into_iter().map(Into::into).collect() }))
    }

    async fn accept_component(&self, request: Request<proto::AcceptComponentRequest>) -> Answer<proto::Component> {
        let engine = self.of(&request).await?;
        let proto::AcceptComponentRequest { name, digest } = request.into_inner();
        Ok(Response::new(engine.accept_component(&name, &digest).await.map_err(refusal)?.into()))
    }

    async fn remove_component(
        &self,
        request: Request<proto::RemoveComponentRequest>,
    ) -> Answer<proto::RemoveComponentResponse> {
        let engine = self.of(&request).await?;
        let proto::RemoveComponentRequest { name, digest } = request.into_inner();
        let removed = engine.remove_component(&name, digest.as_deref()).await.map_err(refusal)?;
        Ok(Response::new(proto::RemoveComponentResponse { digests: removed.iter().map(ToString::to_string).collect() }))
    }

    async fn start(&self, request: Request<proto::StartRequest>) -> Answer<proto::Summary> {
        let engine = self.of(&request).await?;
        let wish = request.into_inner().try_into().map_err(refusal)?;
        let summary = engine.start(wish).await.map_err(refusal)?;
        Ok(Response::new(summary.into()))
    }

    async fn start_many(&self, request: Request<Streaming<proto::StartRequest>>) -> Answer<proto::StartManyResponse> {
        let access = Access::of(&request)?;
        let wishes = request.into_inner().map(|wish| wish.map(Ok));
        Ok(Response::new(proto::StartManyResponse { results: self.start_all(&access, wishes).await? }))
    }

    async fn status(&self, request: Request<proto::StatusRequest>) -> Answer<proto::ExecutionStatus> {
        let (engine, _page) = (self.of(&request).await?, self.whole(&request).await?);
        let status = engine.status(&request.into_inner().execution_id).await.map_err(refusal)?;
        Ok(Response::new(status.into()))
    }

    async fn wait(&self, request: Request<proto::WaitRequest>) -> Answer<proto::ExecutionStatus> {
        let engine = self.of(&request).await?;
        let request = request.into_inner();
        let timeout = request.timeout_ms.map_or(WAIT_MAX, Duration::from_millis).min(WAIT_MAX);
        tokio::select! {
            status = engine.wait(&request.execution_id, Some(timeout)) => {
                Ok(Response::new(status.map_err(refusal)?.into()))
            }
            () = stopped(self.stopping.clone()) => Err(stopping_refusal()),
        }
    }

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Answer<Self::WatchStream> {
        let (engine, access) = (self.of(&request).await?, Access::of(&request)?);
        let id = request.into_inner().execution_id;
        Ok(self.stream(access, |reader| feed_changes(engine.watch(&id), reader)))
    }

    async fn list(&self, request: Request<proto::ListRequest>) -> Answer<proto::ListResponse> {
        let (engine, _page) = (self.of(&request).await?, self.whole(&request).await?);
        let wish = request.into_inner().try_into().map_err(refusal)?;
        let (executions, next) = engine.list(wish).await.map_err(refusal)?;
        Ok(Response::new(proto::ListResponse { executions: executions.into_iter().map(Into::into).collect(), next }))
    }

    async fn count(&self, request: Request<proto::CountRequest>) -> Answer<proto::CountResponse> {
        let engine = self.of(&request).await?;
        let proto::CountRequest { filter, up_to } = request.into_inner();
        let filter = filter.unwrap_or_default().try_into().map_err(refusal)?;
        let Count { executions, is_exact } = engine.count(&filter, up_to).await.map_err(refusal)?;
        Ok(Response::new(proto::CountResponse { executions, is_exact }))
    }

    async fn start_bulk(&self, request: Request<proto::StartBulkRequest>) -> Answer<proto::BulkJob> {
        let caller = self.caller(&request).await?;
        let wish = request.into_inner().try_into().map_err(refusal)?;
        let job = self.engine.start_bulk(&caller, wish).await.map_err(refusal)?;
        Ok(Response::new(job.into()))
    }

    async fn bulk_jobs(&self, request: Request<proto::BulkJobsRequest>) -> Answer<proto::BulkJobsResponse> {
        let (engine, _page) = (self.of(&request).await?, self.whole(&request).await?);
        let jobs = engine.bulk_jobs().await.map_err(refusal)?;
        Ok(Response::new(proto::BulkJobsResponse { jobs: jobs.into_iter().map(Into::into).collect() }))
    }

    async fn show_bulk(&self, request: Request<proto::ShowBulkRequest>) -> Answer<proto::BulkJobDetail> {
        let (engine, id) = (self.of(&request).await?, request.into_inner().bulk_id);
        let job = engine.bulk_job(&id).await.map_err(refusal)?;
        let refusals = engine.bulk_refusals(&id).await.map_err(refusal)?.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::BulkJobDetail { job: Some(job.into()), refusals }))
    }

    async fn stop_bulk(&self, request: Request<proto::StopBulkRequest>) -> Answer<proto::BulkJob> {
        let engine = self.of(&request).await?;
        let job = engine.stop_bulk(&request.into_inner().bulk_id).await.map_err(refusal)?;
        Ok(Response::new(job.into()))
    }

    async fn nodes(&self, request: Request<proto::NodesRequest>) -> Answer<proto::NodesResponse> {
        let nodes = self.engine.nodes(&self.caller(&request).await?).await.map_err(refusal)?;
        Ok(Response::new(proto::NodesResponse { nodes: nodes.into_iter().map(Into::into).collect() }))
    }

    async fn history(&self, request: Request<proto::HistoryRequest>) -> Answer<Self::HistoryStream> {
        let (engine, access) = (self.of(&request).await?, Access::of(&request)?);
        let request = request.into_inner();
        Ok(self.stream(access, |reader| feed_history(engine, request, reader)))
    }

    async fn logs(&self, request: Request<proto::LogsRequest>) -> Answer<Self::LogsStream> {
        let (engine, access) = (self.of(&request).await?, Access::of(&request)?);
        let request = request.into_inner();
        Ok(self.stream(access, |reader| feed_logs(engine, request, reader)))
    }

    async fn approvals(&self, request: Request<proto::ApprovalsRequest>) -> Answer<proto::ApprovalsResponse> {
        let (engine, _page) = (self.of(&request).await?, self.whole(&request).await?);
        let proto::ApprovalsRequest { execution_id: execution, cursor, limit } = request.into_inner();
        let wish = ApprovalsRequest { execution, cursor, limit };
        let (approvals, next) = engine.approvals(wish).await.map_err(refusal)?;
        let approvals = approvals.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ApprovalsResponse { approvals, next }))
    }

    async fn approve(&self, request: Request<proto::ApproveRequest>) -> Answer<proto::DecideResponse> {
        let caller = self.caller(&request).await?;
        let request = request.into_inner();
        let decision = Decision::Approve { data: or_default(request.data, "{}"), comment: request.comment };
        self.decide(caller, (&request.id, request.by), decision).await
    }

    async fn reject(&self, request: Request<proto::RejectRequest>) -> Answer<proto::DecideResponse> {
        let caller = self.caller(&request).await?;
        let request = request.into_inner();
        self.decide(caller, (&request.id, request.by), Decision::Reject { reason: request.reason }).await
    }

    async fn create_approval_link(
        &self,
        request: Request<proto::CreateApprovalLinkRequest>,
    ) -> Answer<proto::CreatedApprovalLink> {
        let caller = self.caller(&request).await?;
        let proto::CreateApprovalLinkRequest { id, name, only, expires_in_ms } = request.into_inner();
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
        let caller = self.caller(&request).await?;
        let links = self.engine.approval_links(&caller, &request.into_inner().id).await.map_err(refusal)?;
        Ok(Response::new(proto::ApprovalLinksResponse { links: links.into_iter().map(Into::into).collect() }))
    }

    async fn revoke_approval_link(
        &self,
        request: Request<proto::RevokeApprovalLinkRequest>,
    ) -> Answer<proto::RevokeApprovalLinkResponse> {
        let caller = self.caller(&request).await?;
        let proto::RevokeApprovalLinkRequest { id, link_id } = request.into_inner();
        self.engine.revoke_approval_link(&caller, &id, &link_id).await.map_err(refusal)?;
        Ok(Response::new(proto::RevokeApprovalLinkResponse {}))
    }

    async fn signal(&self, request: Request<proto::SignalRequest>) -> Answer<proto::SignalResponse> {
        let engine = self.of(&request).await?;
        let request = request.into_inner();
        let data = or_default(request.data, "null");
        engine.signal(&request.execution_id, &request.name, &data).await.map_err(refusal)?;
        Ok(Response::new(proto::SignalResponse {}))
    }

    async fn cancel(&self, request: Request<proto::CancelRequest>) -> Answer<proto::CancelResponse> {
        let engine = self.of(&request).await?;
        engine.operate(&request.into_inner().execution_id, &Operation::Cancel).await.map_err(refusal)?;
        Ok(Response::new(proto::CancelResponse {}))
    }

    async fn terminate(&self, request: Request<proto::TerminateRequest>) -> Answer<proto::TerminateResponse> {
        let engine = self.of(&request).await?;
        engine.operate(&request.into_inner().execution_id, &Operation::Terminate).await.map_err(refusal)?;
        Ok(Response::new(proto::TerminateResponse {}))
    }

    async fn pause(&self, request: Request<proto::PauseRequest>) -> Answer<proto::PauseResponse> {
        let engine = self.of(&request).await?;
        engine.operate(&request.into_inner().execution_id, &Operation::Pause).await.map_err(refusal)?;
        Ok(Response::new(proto::PauseResponse {}))
    }

    async fn resume(&self, request: Request<proto::ResumeRequest>) -> Answer<proto::ResumeResponse> {
        let engine = self.of(&request).await?;
        let request = request.into_inner();
        let resume = Operation::Resume { force: request.force };
        engine.operate(&request.execution_id, &resume).await.map_err(refusal)?;
        Ok(Response::new(proto::ResumeResponse {}))
    }

    async fn delete(&self, request: Request<proto::DeleteRequest>) -> Answer<proto::DeleteResponse> {
        let engine = self.of(&request).await?;
        engine.operate(&request.into_inner().execution_id, &Operation::Delete).await.map_err(refusal)?;
        Ok(Response::new(proto::DeleteResponse {}))
    }

    async fn who_am_i(&self, request: Request<proto::WhoAmIRequest>) -> Answer<proto::Caller> {
        Ok(Response::new(self.caller(&request).await?.into()))
    }

    async fn create_token(&self, request: Request<proto::CreateTokenRequest>) -> Answer<proto::CreatedToken> {
        let caller = self.caller(&request).await?;
        let proto::CreateTokenRequest { tenant, role, name, expires_in_ms } = request.into_inner();
        let request = TokenRequest { tenant, role, name, expires_in_ms };
        let created = self.engine.create_token(&caller, request).await.map_err(refusal)?;
        Ok(Response::new(created.into()))
    }

    async fn tokens(&self, request: Request<proto::TokensRequest>) -> Answer<proto::TokensResponse> {
        let caller = self.caller(&request).await?;
        let tenant = request.into_inner().tenant;
        let tokens = self.engine.tokens(&caller, tenant.as_deref()).await.map_err(refusal)?;
        Ok(Response::new(proto::TokensResponse { tokens: tokens.into_iter().map(Into::into).collect() }))
    }

    async fn revoke_token(&self, request: Request<proto::RevokeTokenRequest>) -> Answer<proto::RevokeTokenResponse> {
        let caller = self.caller(&request).await?;
        let proto::RevokeTokenRequest { id, tenant } = request.into_inner();
        self.engine.revoke_token(&caller, tenant.as_deref(), &id).await.map_err(refusal)?;
        Ok(Response::new(proto::RevokeTokenResponse {}))
    }

    async fn create_tenant(&self, request: Request<proto::CreateTenantRequest>) -> Answer<proto::Tenant> {
        let caller = self.caller(&request).await?;
        let tenant = self.engine.create_tenant(&caller, &request.into_inner().name).await.map_err(refusal)?;
        Ok(Response::new(tenant.into()))
    }

    async fn tenants(&self, request: Request<proto::TenantsRequest>) -> Answer<proto::TenantsResponse> {
        let tenants = self.engine.tenants(&self.caller(&request).await?).await.map_err(refusal)?;
        Ok(Response::new(proto::TenantsResponse { tenants: tenants.into_iter().map(Into::into).collect() }))
    }

    async fn suspend_tenant(&self, request: Request<proto::SuspendTenantRequest>) -> Answer<proto::Tenant> {
        let caller = self.caller(&request).await?;
        let proto::SuspendTenantRequest { name, lift } = request.into_inner();
        let tenant = self.engine.suspend_tenant(&caller, &name, !lift).await.map_err(refusal)?;
        Ok(Response::new(tenant.into()))
    }

    async fn delete_tenant(&self, request: Request<proto::DeleteTenantRequest>) -> Answer<proto::Tenant> {
        let caller = self.caller(&request).await?;
        let tenant = self.engine.delete_tenant(&caller, &request.into_inner().name).await.map_err(refusal)?;
        Ok(Response::new(tenant.into()))
    }

    async fn show_tenant(&self, request: Request<proto::ShowTenantRequest>) -> Answer<proto::TenantDetail> {
        let caller = self.caller(&request).await?;
        let detail = self.engine.show_tenant(&caller, &request.into_inner().name).await.map_err(refusal)?;
        Ok(Response::new(detail.into()))
    }

    async fn set_hosts(&self, request: Request<proto::SetHostsRequest>) -> Answer<proto::TenantDetail> {
        let caller = self.caller(&request).await?;
        let proto::SetHostsRequest { name, hosts } = request.into_inner();
        let hosts = hosts.map(|hosts| hosts.hosts);
        let detail = self.engine.set_hosts(&caller, &name, hosts).await.map_err(refusal)?;
        Ok(Response::new(detail.into()))
    }

    async fn set_secret(&self, request: Request<proto::SetSecretRequest>) -> Answer<proto::Secret> {
        let caller = self.caller(&request).await?;
        let proto::SetSecretRequest { tenant, name, value, hosts } = request.into_inner();
        let set = self.engine.set_secret(&caller, tenant.as_deref(), (&name, &value), &hosts).await;
        Ok(Response::new(set.map_err(refusal)?.into()))
    }

    async fn secrets(&self, request: Request<proto::SecretsRequest>) -> Answer<proto::SecretsResponse> {
        let caller = self.caller(&request).await?;
        let tenant = request.into_inner().tenant;
        let secrets = self.engine.secrets(&caller, tenant.as_deref()).await.map_err(refusal)?;
        Ok(Response::new(proto::SecretsResponse { secrets: secrets.into_iter().map(Into::into).collect() }))
    }

    async fn delete_secret(&self, request: Request<proto::DeleteSecretRequest>) -> Answer<proto::DeleteSecretResponse> {
        let caller = self.caller(&request).await?;
        let proto::DeleteSecretRequest { tenant, name } = request.into_inner();
        self.engine.delete_secret(&caller, tenant.as_deref(), &name).await.map_err(refusal)?;
        Ok(Response::new(proto::DeleteSecretResponse {}))
    }

    async fn rotate_secrets_key(
        &self,
        request: Request<proto::RotateSecretsKeyRequest>,
    ) -> Answer<proto::RotateSecretsKeyResponse> {
        let caller = self.caller(&request).await?;
        let tenant = request.into_inner().tenant;
        let count = self.engine.rotate_secrets_key(&caller, tenant.as_deref()).await.map_err(refusal)?;
        Ok(Response::new(proto::RotateSecretsKeyResponse { secrets: count as u64 }))
    }

    async fn save_view(&self, request: Request<proto::SaveViewRequest>) -> Answer<proto::View> {
        let caller = self.caller(&request).await?;
        let proto::SaveViewRequest { name, shared, filter, columns } = request.into_inner();
        let content = content(filter, columns).map_err(refusal)?;
        let saved = self.engine.save_view(&caller, (&name, shared), content).await.map_err(refusal)?;
        Ok(Response::new(saved.into()))
    }

    async fn views(&self, request: Request<proto::ViewsRequest>) -> Answer<proto::ViewsResponse> {
        let views = self.engine.views(&self.caller(&request).await?).await.map_err(refusal)?;
        Ok(Response::new(proto::ViewsResponse { views: views.into_iter().map(Into::into).collect() }))
    }

    async fn delete_view(&self, request: Request<proto::DeleteViewRequest>) -> Answer<proto::DeleteViewResponse> {
        let caller = self.caller(&request).await?;
        let proto::DeleteViewRequest { name, shared } = request.into_inner();
        self.engine.delete_view(&caller, (&name, shared)).await.map_err(refusal)?;
        Ok(Response::new(proto::DeleteViewResponse {}))
    }

    async fn audit(&self, request: Request<proto::AuditRequest>) -> Answer<proto::AuditResponse> {
        let (caller, _page) = (self.caller(&request).await?, self.whole(&request).await?);
        let request = request.into_inner().into();
        let (acts, next) = self.engine.audit(&caller, request).await.map_err(refusal)?;
        Ok(Response::new(proto::AuditResponse { acts: acts.into_iter().map(Into::into).collect(), next }))
    }

    async fn set_quotas(&self, request: Request<proto::SetQuotasRequest>) -> Answer<proto::TenantDetail> {
        let caller = self.caller(&request).await?;
        let proto::SetQuotasRequest { name, changes } = request.into_inner();
        let changes = changes.into_iter().map(|change| (change.name, change.max)).collect();
        let detail = self.engine.set_quotas(&caller, &name, changes).await.map_err(refusal)?;
        Ok(Response::new(detail.into()))
    }
}
