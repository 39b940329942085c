//! Saved views between the wire and the engine.

use cerebelum_worker::{ApiError, SavedView, ViewContent};

use crate::convert::moment;
use crate::proto;

/// What a view shows.
pub(crate) fn content(filter: Option<proto::ExecutionFilter>, columns: Vec<String>) -> Result<ViewContent, ApiError> {
    Ok(ViewContent { filter: filter.unwrap_or_default().try_into()?, columns })
}

impl From<SavedView> for proto::View {
    fn from(from: SavedView) -> Self {
        let SavedView { name, shared, content, saved_by, saved_at } = from;
        let (filter, columns) = (Some(content.filter.into()), content.columns);
        Self { name, shared, filter, columns, saved_by, saved_at: Some(moment(saved_at)) }
    }
}
