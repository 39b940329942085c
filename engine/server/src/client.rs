//! The service as REST and pages ask it: in this process, in the name of the client whose request they translate.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use cerebelum_worker::{Caller, TenantEngine};
use futures::future::BoxFuture;
use tonic::{Request, Response, Status};

use crate::access::Access;
pub(crate) use crate::proto::engine_server::Engine as Verbs;
use crate::rest::Problem;
use crate::service::Service;

/// The service, asked in the name of one client.
pub(crate) struct Client {
    pub(crate) service: Arc<Service>,
    pub(crate) access: Access,
}

/// A method of the service, such as `Verbs::status`.
pub(crate) trait Method<'a, T, U>:
    FnOnce(&'a Service, Request<T>) -> BoxFuture<'a, Result<Response<U>, Status>>
{
}

impl<'a, T, U, F> Method<'a, T, U> for F where
    F: FnOnce(&'a Service, Request<T>) -> BoxFuture<'a, Result<Response<U>, Status>>
{
}

impl Client {
    /// What a method of the service answers.
    pub(crate) async fn ask<'a, T, U>(&'a self, method: impl Method<'a, T, U>, message: T) -> Result<U, Status> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.access.clone());
        Ok(method(&self.service, request).await?.into_inner())
    }

    /// Who asks.
    pub(crate) fn caller(&self) -> &Caller {
        &self.access.caller
    }

    /// The engine as the client's tenant sees it.
    pub(crate) fn engine(&self) -> TenantEngine {
        self.service.engine.of(&self.access.caller)
    }
}

impl<S: Sync> FromRequestParts<S> for Client
where
    Arc<Service>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let access = parts.extensions.get::<Access>().cloned();
        let access = access.ok_or_else(|| Status::unauthenticated("the request came without a caller"))?;
        Ok(Self { service: FromRef::from_ref(state), access })
    }
}
