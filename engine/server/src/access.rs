//! Lets a request in: its token becomes a caller, whose role must allow the method. No method is reached in another way.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cerebelum_worker::{Action, ApiError, Caller, CallerSpan, Engine};
use http_body_util::Limited;

use crate::convert::refusal;
use crate::entries::{Entries, Entry};
use crate::guard::{Origins, PROBES};
use crate::kinds;
use crate::pages::{self, session};
use crate::places::Connection;
use crate::proto::engine_server::SERVICE_NAME;
use crate::public_url::{PublicUrl, below};
use crate::rest::{PREFIX, Problem};

/// How often the token of an open stream is checked again.
const RECHECK: Duration = Duration::from_secs(30);

/// The largest body of a request that needs no caller: health and reflection.
const OPEN_BODY_BYTES_MAX: usize = 16 << 10;

/// What each method of the service does. A method that is missing here is refused.
pub const ACTIONS: [(&str, Action); 50] = [
    ("Upload", Action::Develop),
    ("Components", Action::Read),
    ("ShowComponent", Action::Read),
    ("AcceptComponent", Action::Accept),
    ("RemoveComponent", Action::Develop),
    ("Start", Action::Run),
    ("StartMany", Action::Run),
    ("Status", Action::Read),
    ("Wait", Action::Read),
    ("Watch", Action::Read),
    ("List", Action::Read),
    ("Count", Action::Read),
    ("History", Action::Read),
    ("Logs", Action::Read),
    ("Approvals", Action::Read),
    ("Approve", Action::Decide),
    ("Reject", Action::Decide),
    ("CreateApprovalLink", Action::Decide),
    ("ApprovalLinks", Action::Decide),
    ("RevokeApprovalLink", Action::Decide),
    ("Signal", Action::Run),
    ("Cancel", Action::Run),
    ("Terminate", Action::Run),
    ("Pause", Action::Run),
    ("Resume", Action::Run),
    ("Delete", Action::Delete),
    ("StartBulk", Action::Run),
    ("BulkJobs", Action::Read),
    ("ShowBulk", Action::Read),
    ("StopBulk", Action::Run),
    ("SaveView", Action::Read),
    ("Views", Action::Read),
    ("DeleteView", Action::Read),
    ("Nodes", Action::Metrics),
    ("WhoAmI", Action::Read),
    ("CreateToken", Action::Tokens),
    ("Tokens", Action::Tokens),
    ("RevokeToken", Action::Tokens),
    ("CreateTenant", Action::Tenants),
    ("Tenants", Action::Tenants),
    ("SuspendTenant", Action::Tenants),
    ("DeleteTenant", Action::Tenants),
    ("ShowTenant", Action::Tenants),
    ("SetQuotas", Action::Tenants),
    ("SetHosts", Action::Tenants),
    ("SetSecret", Action::Secrets),
    ("Secrets", Action::Secrets),
    ("DeleteSecret", Action::Secrets),
    ("RotateSecretsKey", Action::Secrets),
    ("Audit", Action::Audit),
];

/// The caller of a request that was let in, and the token with which it came.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) caller: Caller,
    action: Action,
    token: Option<String>,
}

impl Access {
    /// The access of a request. There is one, because [`admit`] stands before every method.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, tonic::Status> {
        let found = request.extensions().get::<Self>().cloned();
        found.ok_or_else(|| tonic::Status::unauthenticated("the request came without a caller"))
    }

    /// Checks the access again, once the body of the request is there: that may take as long as the client likes, and the
    /// token may have ended meanwhile.
    pub(crate) async fn still(&self, engine: &Engine) -> Result<Caller, tonic::Status> {
        let caller = engine.authenticate(self.token.as_deref()).await.map_err(refusal)?;
        caller.check(self.action).map_err(refusal)?;
        if caller.tenant != self.caller.tenant || caller.token != self.caller.token {
            return Err(tonic::Status::unauthenticated("the token came after the request: ask again"));
        }
        Ok(Caller { address: self.caller.address, span: self.caller.span.clone(), ..caller })
    }

    /// Resolves when the token is refused: it was revoked or has expired since, or its tenant was suspended.
    pub(crate) async fn lost(self, engine: Engine) -> ApiError {
        loop {
            tokio::time::sleep(RECHECK).await;
            // A database that does not answer takes no rights away.
            if let Err(refused @ (ApiError::Unauthenticated(_) | ApiError::Forbidden(_))) =
                engine.authenticate(self.token.as_deref()).await
            {
                return refused;
            }
        }
    }
}

/// What [`admit`] goes by.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) engine: Engine,
    /// Of REST.
    pub(crate) operations: Entries,
    pub(crate) pages: Entries,
    pub(crate) origins: Origins,
    pub(crate) public_url: Option<PublicUrl>,
}

/// The interface that a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interface {
    Grpc,
    Rest,
    Pages,
    /// Health, metrics and the description of the service.
    Other,
}

impl Gate {
    /// The interface of a request, and what it asks for there; none if there is no such thing.
    fn entry(&self, request: &Request) -> (Interface, Option<Entry>) {
        let path = request.uri().path();
        let matched = matched(request);
        if let Some(method) = path.strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME)) {
            let action = ACTIONS.into_iter().find(|(name, _)| method.strip_prefix('/') == Some(name));
            return (Interface::Grpc, action.map(|(_, action)| Entry::Callers(action)));
        }
        if self.pages.has(matched) {
            return (Interface::Pages, self.pages.of(request.method(), matched));
        }
        match path {
            _ if path == PROBES[1] => (Interface::Other, Some(Entry::Callers(Action::Metrics))),
            _ if path.starts_with(PREFIX) => (Interface::Rest, self.operations.of(request.method(), matched)),
            _ => (Interface::Other, Some(Entry::Anyone)),
        }
    }
}

/// The route of a request, if it has one.
fn matched(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str)
}

/// Lets a request pass with its caller, or answers with the reason for refusing it. Health and the description of the
/// service need no caller, and of their bodies little is read.
pub(crate) async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let (interface, entry) = gate.entry(&request);
    let action = match (interface, entry) {
        (_, Some(Entry::Callers(action))) => Some(action),
        (Interface::Grpc, None) => None,
        (_, Some(Entry::Anyone) | None) => {
            // Of a form for a link that is not one, no byte is read.
            if let Some(token) = link_of_form(&request)
                && let Err(refused) = gate.engine.approval_by_link(token).await
            {
                return below(gate.public_url.as_ref(), pages::refused(refusal(refused), &request)).await;
            }
            // The answer to a question may be large, and its token is in the path.
            let bytes_max = if matched(&request) == pages::LINK { pages::FORM_BYTES_MAX } else { OPEN_BODY_BYTES_MAX };
            return next.run(request.map(|body| Body::new(Limited::new(body, bytes_max)))).await;
        }
    };
    let Gate { engine, origins, public_url, .. } = gate;
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let address = connection.as_ref().map(|connection| address(request.headers(), connection.peer, origins));
    let token = match interface {
        Interface::Pages => Ok(session::token(request.headers(), origins)),
        _ => token(request.headers()),
    };
    let checked = check(&engine, (token, address), action).await.and_then(|access| {
        connection.map_or(Ok(()), |connection| connection.belongs_to(access.caller.tenant)).map(|()| access)
    });
    let uri = request.uri().clone();
    if let Err(refused) = &checked {
        engine.log_refusal(address, uri.path(), refused);
    }
    let mut answer = match checked {
        Ok(mut access) => {
            // The pages are for people, whose browser has no trace.
            access.caller.span =
                Some(request.headers()).filter(|_| interface != Interface::Pages).and_then(caller_span);
            let tenant = access.caller.tenant;
            request.extensions_mut().insert(access);
            let answer = engine.fair(tenant, next.run(request)).await;
            if let Some(why) = refused_with(&answer) {
                engine.log_refusal(address, uri.path(), &why);
            }
            answer
        }
        Err(refused) => below(public_url.as_ref(), refuse(interface, refused, &request)).await,
    };
    kinds::explain(answer.headers_mut());
    answer
}

/// The link that a form is sent to.
fn link_of_form(request: &Request) -> Option<&str> {
    let is_form = request.method() == Method::POST && matched(request) == pages::LINK;
    request.uri().path().rsplit('/').next().filter(|_| is_form)
}

/// The span from which a request came, if it says so.
fn caller_span(headers: &HeaderMap) -> Option<Arc<CallerSpan>> {
    let mut parents = headers.get_all("traceparent").iter();
    // With two of them it is not known which is meant.
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let states: Option<Vec<&str>> = headers.get_all("tracestate").iter().map(|state| state.to_str().ok()).collect();
    let state = states.filter(|states| !states.is_empty()).map(|states| states.join(","));
    CallerSpan::of(parent.to_str().ok()?, state.as_deref()).map(Arc::new)
}

/// The answer to a request that is not let in.
fn refuse(interface: Interface, refused: ApiError, request: &Request) -> Response {
    match interface {
        Interface::Grpc => refusal(refused).into_http(),
        Interface::Rest => Problem::from(refusal(refused)).into_response(),
        Interface::Pages => pages::refused(refusal(refused), request),
        Interface::Other => {
            let status = match refused {
                ApiError::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
                ApiError::Forbidden(_) => StatusCode::FORBIDDEN,
                ApiError::Quota(_) => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, format!("{refused}\n")).into_response()
        }
    }
}

async fn check(
    engine: &Engine,
    (token, address): (Result<Option<&str>, ApiError>, Option<IpAddr>),
    action: Option<Action>,
) -> Result<Access, ApiError> {
    let token = token?;
    let caller = match action {
        Some(Action::Metrics) => engine.authenticate_for_metrics(token).await?,
        _ => engine.authenticate(token).await?,
    };
    let caller = Caller { address, ..caller };
    let action = action.ok_or_else(|| ApiError::NotFound("there is no such method".to_owned()))?;
    caller.check(action)?;
    // With these, an admin can always mend a quota that is too small.
    if !matches!(action, Action::Tenants | Action::Tokens) {
        engine.count_call(caller.tenant)?;
    }
    Ok(Access { caller, action, token: token.map(str::to_owned) })
}

/// Why a method refused a caller whose role allows it in general: another tenant's things, or a quota.
fn refused_with(answer: &Response) -> Option<ApiError> {
    let grpc = grpc_code(answer);
    let is = |code: tonic::Code, status| grpc == Some(code as i32) || answer.status() == status;
    let why = answer.headers().get("grpc-message").and_then(|why| why.to_str().ok()).unwrap_or("see its answer");
    match () {
        () if is(tonic::Code::PermissionDenied, StatusCode::FORBIDDEN) => Some(ApiError::Forbidden(why.to_owned())),
        () if is(tonic::Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS) => {
            Some(ApiError::Quota(why.to_owned()))
        }
        () => None,
    }
}

/// The code of a gRPC answer that ends with its head.
pub(crate) fn grpc_code(answer: &Response) -> Option<i32> {
    answer.headers().get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok())
}

/// The address from which a request comes: that of the connection or, behind a proxy, the one that the proxy noted last.
pub(crate) fn address(headers: &HeaderMap, peer: IpAddr, origins: Origins) -> IpAddr {
    if origins != Origins::BehindProxy {
        return peer;
    }
    let noted = headers.get_all("x-forwarded-for").iter().next_back().and_then(|held| held.to_str().ok());
    noted.and_then(|noted| noted.rsplit(',').next()?.trim().parse().ok()).unwrap_or(peer)
}

/// The token of a request: what follows `Bearer` in its one `authorization` header.
fn token(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let refused = || ApiError::Unauthenticated("the header `authorization` must be `Bearer cb_ID_SECRET`".to_owned());
    let mut held = headers.get_all(header::AUTHORIZATION).iter();
    let Some(first) = held.next() else { return Ok(None) };
    if held.next().is_some() {
        return Err(refused());
    }
    let (scheme, token) = first.to_str().ok().and_then(|held| held.split_once(' ')).ok_or_else(refused)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused());
    }
    Ok(Some(token.trim()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;

    use super::*;
    use crate::proto::FILE_DESCRIPTOR_SET;

    #[test]
    fn every_method_has_an_action_and_no_other() {
        let all = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let services = all.file.iter().flat_map(|file| &file.service);
        let methods: BTreeSet<&str> =
            services.flat_map(|service| &service.method).map(|method| method.name()).collect();
        let listed: BTreeSet<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
        assert_eq!((listed.len(), listed), (ACTIONS.len(), methods));
    }

    #[test]
    fn behind_a_proxy_the_address_is_the_one_that_the_proxy_noted_last() {
        let peer: IpAddr = "127.0.0.1".parse().unwrap();
        let of = |noted: &[&str], origins| {
            let mut headers = HeaderMap::new();
            for value in noted {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            address(&headers, peer, origins).to_string()
        };
        assert_eq!(of(&["1.1.1.1"], Origins::ThisMachine), "127.0.0.1");
        assert_eq!(of(&["1.1.1.1"], Origins::Tls), "127.0.0.1");
        for (noted, address) in [
            (&[][..], "127.0.0.1"),
            (&["1.1.1.1, 2.2.2.2"], "2.2.2.2"),
            (&["1.1.1.1", "2.2.2.2,::7"], "::7"),
            (&["1.1.1.1, elsewhere"], "127.0.0.1"),
        ] {
            assert_eq!(of(noted, Origins::BehindProxy), address);
        }
    }

    #[test]
    fn a_token_stands_in_one_header_behind_bearer() {
        let read = |held: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in held {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            token(&headers).map(|token| token.map(str::to_owned)).map_err(|refused| refused.to_string())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Bearer cb_1_2"]), Ok(Some("cb_1_2".to_owned())));
        assert_eq!(read(&["bearer  cb_1_2 "]), Ok(Some("cb_1_2".to_owned())));
        for wrong in [&["cb_1_2"][..], &["Basic cb_1_2"], &["Bearer a", "Bearer a"], &[""]] {
            assert!(read(wrong).unwrap_err().contains("Bearer"), "{wrong:?}");
        }
    }
}
