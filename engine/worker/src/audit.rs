//! The audit for readers, and the end of old acts.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::Timestamp;
use cerebelum_store::{AuditFilter, AuditRow, StoreError};

use crate::api::ApiError;
use crate::engine::Engine;
use crate::identity::{Action, Caller};
use crate::node::Node;
use crate::retention::Pace;

/// How many acts a page has, unless the request asks for fewer.
const PAGE: u32 = 1_000;
/// How often old acts are looked for.
const INTERVAL: Duration = Duration::from_secs(600);

/// A filter for acts.
#[derive(Debug, Clone, Default)]
pub struct AuditRequest {
    /// The tenant; that of the caller if there is none.
    pub tenant: Option<String>,
    /// Only acts with this method of the interface.
    pub operation: Option<String>,
    /// Only acts of the caller with this name.
    pub caller: Option<String>,
    /// Only what was done to this object.
    pub object: Option<String>,
    /// Only acts of the last so many milliseconds.
    pub last_ms: Option<u64>,
    /// Continue after this cursor.
    pub cursor: Option<String>,
    /// The most acts to return, up to 1,000; 0 means 1,000.
    pub limit: u32,
}

impl Engine {
    /// A page of what was done in a tenant, the newest first, and the cursor of the next page. With a filter, a page may be
    /// short or even empty and still have a cursor.
    ///
    /// # Errors
    /// When the caller may not, there is no such tenant, the cursor is not valid, or the database does not answer.
    pub async fn audit(
        &self,
        caller: &Caller,
        request: AuditRequest,
    ) -> Result<(Vec<AuditRow>, Option<String>), ApiError> {
        let of = self.tenant_of(caller, Action::Audit, request.tenant.as_deref()).await?;
        let AuditRequest { operation, caller, object, last_ms, cursor, limit, .. } = request;
        let since = last_ms.map(|last_ms| self.node.clock.ago(Duration::from_millis(last_ms)));
        let limit = if limit == 0 { PAGE } else { limit };
        let filter = AuditFilter { operation, caller, object, since, cursor, limit };
        let page = self.node.store.acts(of.id, filter).await?;
        Ok((page.acts, page.cursor))
    }
}

impl Engine {
    /// Notes in the log that a request was refused to its caller, at most once a second for each of three reasons.
    pub fn log_refusal(&self, address: Option<IpAddr>, path: &str, why: &ApiError) {
        // A tenant at its quota does not hide the others.
        let lines = match why {
            ApiError::Unauthenticated(_) => &self.identities.unauthenticated,
            ApiError::Forbidden(_) => &self.identities.forbidden,
            ApiError::Quota(_) => &self.identities.beyond_quota,
            _ => return,
        };
        let address = address.map(|address| address.to_string());
        lines.line(&*self.node.runtime, |held_back| {
            tracing::warn!(address, path, %why, held_back, "a request was refused");
        });
    }
}

/// Deletes acts that are older than `keep_audit`, tenant by tenant, forever.
pub(crate) async fn keep_deleting(node: Arc<Node>) {
    let mut pace = Pace::default();
    loop {
        if let Err(error) = delete_before(&node, node.clock.ago(node.config.keep_audit), &mut pace).await {
            tracing::warn!(%error, "cannot delete old acts");
        }
        node.runtime.sleep(INTERVAL.min(node.config.keep_audit)).await;
    }
}

async fn delete_before(node: &Node, before: Timestamp, pace: &mut Pace) -> Result<(), StoreError> {
    for tenant in node.store.tenants().await? {
        while !pace.delete(node, |limit| node.store.delete_acts(tenant.id, before, limit)).await?.1 {}
    }
    Ok(())
}
