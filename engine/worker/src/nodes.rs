//! The engines on one database, for people who operate them.

use std::time::Duration;

use crate::api::ApiError;
use crate::engine::Engine;
use crate::identity::{Action, Caller};

/// An engine on the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its name, which its data folder keeps.
    pub name: String,
    /// How often an engine has begun a lease on this database, up to this one.
    pub incarnation: i64,
    /// How long its lease lasts still; zero if it is over and other engines have yet to notice.
    pub lease_left: Duration,
    /// The number of executions that it has claimed.
    pub executions: u64,
    /// Whether it is the engine that answers.
    pub is_this: bool,
}

impl Engine {
    /// The engines that have a lease on the database, by name.
    ///
    /// # Errors
    /// When the caller may not, or the database does not answer.
    pub async fn nodes(&self, caller: &Caller) -> Result<Vec<NodeView>, ApiError> {
        caller.check(Action::Metrics)?;
        let own = self.node.lease.incarnation();
        let rows = self.node.store.nodes().await?;
        let view = |row: cerebelum_store::NodeRow| NodeView {
            name: row.name,
            incarnation: row.incarnation.0,
            lease_left: row.lease_left,
            executions: row.executions,
            is_this: own == Some(row.incarnation),
        };
        Ok(rows.into_iter().map(view).collect())
    }
}
