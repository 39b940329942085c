//! The JSON of saved views.

use serde::Serialize;
use utoipa::ToSchema;

use super::bulk::FilterJson;
use super::{line, rfc3339};
use crate::proto;

/// A saved view of the list of executions.
#[derive(Serialize, ToSchema)]
#[schema(as = View)]
pub(crate) struct ViewJson<'a> {
    name: &'a str,
    /// Whether the whole tenant sees it.
    shared: bool,
    filter: FilterJson<'a>,
    /// The attributes that have a column each.
    columns: &'a [String],
    /// Null if the engine had no tokens.
    saved_by: Option<&'a str>,
    saved_at: Option<String>,
}

/// The views that the caller sees: shared ones by name, then the caller's own.
#[derive(Serialize, ToSchema)]
#[schema(as = Views)]
pub(crate) struct ViewsJson<'a> {
    views: Vec<ViewJson<'a>>,
}

impl<'a> From<&'a proto::View> for ViewJson<'a> {
    fn from(from: &'a proto::View) -> Self {
        Self {
            name: &from.name,
            shared: from.shared,
            filter: from.filter.as_ref().map_or_else(FilterJson::default, FilterJson::from),
            columns: &from.columns,
            saved_by: from.saved_by.as_deref(),
            saved_at: from.saved_at.as_ref().map(rfc3339),
        }
    }
}

/// A saved view.
#[must_use]
pub fn view(view: &proto::View) -> String {
    line(&ViewJson::from(view))
}

/// Saved views.
#[must_use]
pub fn views(all: &proto::ViewsResponse) -> String {
    line(&ViewsJson { views: all.views.iter().map(Into::into).collect() })
}
