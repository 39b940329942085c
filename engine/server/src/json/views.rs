//! The JSON of saved views.

use serde::Serialize;
use utoipa::ToSchema;

use super::bulk::FilterJson;
use super::members::shape;
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

shape! { proto::ViewsResponse as ViewsJson<'a>: views }

shape! { proto::View as ViewJson<'a>: name, shared, filter, columns, saved_by, saved_at }
