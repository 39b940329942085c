//! Saved views of lists: a name for a filter and columns. Each caller may save views of their own; views that all of a
//! tenant see are changed by callers who may run executions.

use cerebelum_history::{Json, Timestamp};
use cerebelum_store::{NewView, StoredView, ViewKey, ViewLimits};
use serde::{Deserialize, Serialize};

use crate::api::ApiError;
use crate::engine::Engine;
use crate::execution_filter::ExecutionFilter;
use crate::identity::{Action, Caller};

/// The most views of one person, and the most that a tenant shares.
const VIEWS_MAX: u32 = 100;
/// The most views of a tenant, those of all its people included.
const VIEWS_OF_TENANT_MAX: u32 = 1_000;
/// The longest name of a view, in letters.
const VIEW_NAME_LETTERS_MAX: usize = 100;
/// The longest filter of a view with its columns, as JSON, in bytes.
const VIEW_BYTES_MAX: usize = 4 << 10;
/// The most columns of a view.
const VIEW_COLUMNS_MAX: usize = 16;

/// What a view shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewContent {
    /// The executions.
    #[serde(default)]
    pub filter: ExecutionFilter,
    /// The attributes that have a column each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

/// A saved view.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedView {
    /// Its name.
    pub name: String,
    /// Whether the whole tenant sees it.
    pub shared: bool,
    /// What it shows.
    pub content: ViewContent,
    /// The name of the caller who saved it; none if the engine had no tokens.
    pub saved_by: Option<String>,
    /// When it was last saved.
    pub saved_at: Timestamp,
}

impl SavedView {
    /// A stored view; none if an engine of a later version wrote something that this one does not know.
    fn read(stored: StoredView) -> Option<Self> {
        let StoredView { key, content, saved_by, saved_at } = stored;
        let content = serde_json::from_str(&content).ok()?;
        Some(Self { name: key.name, shared: key.owner.is_none(), content, saved_by, saved_at })
    }
}

impl Engine {
    /// Saves a view under a name, in the place of one of the same name. An engine without tokens knows no persons: there,
    /// each view is shared.
    ///
    /// # Errors
    /// When the caller may not, the view is not valid, there are too many, or the database does not answer.
    pub async fn save_view(
        &self,
        caller: &Caller,
        (name, shared): (&str, bool),
        content: ViewContent,
    ) -> Result<SavedView, ApiError> {
        let key = key(caller, name, shared)?;
        let text = checked(&content)?;
        let new = NewView { key: key.clone(), content: text, saved_by: caller.name.clone() };
        let limits = ViewLimits { of_owner: VIEWS_MAX, of_tenant: VIEWS_OF_TENANT_MAX };
        let act = self.act(caller, caller.tenant, ("SaveView", &key.name, whose(&key)));
        let _turn = self.node.turns.writes.next(caller.tenant).await;
        if !self.node.store.save_view(new, limits, act).await? {
            return Err(ApiError::Conflict(format!(
                "there are as many views as there may be: {VIEWS_MAX} that are shared, {VIEWS_MAX} of each person, \
                 {VIEWS_OF_TENANT_MAX} of the tenant; delete one"
            )));
        }
        let saved = self.views(caller).await?.into_iter();
        let is_it = |view: &SavedView| view.name == key.name && view.shared == key.owner.is_none();
        saved.into_iter().find(is_it).ok_or_else(|| no_view(&key))
    }

    /// The views that the caller sees: those of the whole tenant by name, then the caller's own.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn views(&self, caller: &Caller) -> Result<Vec<SavedView>, ApiError> {
        let stored = self.node.store.views(caller.tenant, caller.name.as_deref()).await?;
        Ok(stored.into_iter().filter_map(SavedView::read).collect())
    }

    /// Deletes a view.
    ///
    /// # Errors
    /// When the caller may not, there is no such view, or the database does not answer.
    pub async fn delete_view(&self, caller: &Caller, (name, shared): (&str, bool)) -> Result<(), ApiError> {
        let key = key(caller, name, shared)?;
        let act = self.act(caller, caller.tenant, ("DeleteView", &key.name, whose(&key)));
        let _turn = self.node.turns.writes.next(caller.tenant).await;
        match self.node.store.delete_view(key.clone(), act).await? {
            true => Ok(()),
            false => Err(no_view(&key)),
        }
    }
}

/// The view that the caller means, if it is one that the caller may change.
fn key(caller: &Caller, name: &str, shared: bool) -> Result<ViewKey, ApiError> {
    let owner = caller.name.clone().filter(|_| !shared);
    if owner.is_none() {
        caller.check(Action::Run)?;
    }
    let name = name.trim();
    let letters = name.chars().count();
    // A part of a path that is nothing but dots leads elsewhere; nothing at all is nothing but dots as well.
    let is_path = name.chars().all(|c| c == '.');
    if is_path || letters > VIEW_NAME_LETTERS_MAX || name.chars().any(char::is_control) {
        return Err(ApiError::Invalid(format!(
            "the name of a view has 1 to {VIEW_NAME_LETTERS_MAX} letters, not only dots, and no control characters"
        )));
    }
    Ok(ViewKey { tenant: caller.tenant, owner, name: name.to_owned() })
}

fn whose(key: &ViewKey) -> &'static str {
    if key.owner.is_some() { "own" } else { "shared" }
}

fn no_view(key: &ViewKey) -> ApiError {
    ApiError::NotFound(format!("there is no view `{}` that is {}", key.name, whose(key)))
}

/// What a view shows, as text.
fn checked(content: &ViewContent) -> Result<String, ApiError> {
    if content.columns.len() > VIEW_COLUMNS_MAX || content.columns.iter().any(|name| name.trim().is_empty()) {
        return Err(ApiError::Invalid(format!("a view has at most {VIEW_COLUMNS_MAX} columns, each with a name")));
    }
    let text = Json::of(content).to_string();
    match text.len() {
        bytes if bytes > VIEW_BYTES_MAX => Err(ApiError::Invalid(format!(
            "the filter of a view and its columns have at most {VIEW_BYTES_MAX} bytes, these have {bytes}"
        ))),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;

    fn caller(name: Option<&str>, role: Role) -> Caller {
        Caller { name: name.map(str::to_owned), role, ..Caller::of_open_engine() }
    }

    #[test]
    fn everybody_changes_their_own_views_and_those_who_run_executions_the_shared_ones() {
        for role in Role::ALL {
            let ada = caller(Some("ada"), role);
            assert_eq!(key(&ada, " v ", false).unwrap().owner.as_deref(), Some("ada"));
            let is_runner = matches!(role, Role::Admin | Role::Developer | Role::Operator);
            assert_eq!(key(&ada, "v", true).is_ok(), is_runner, "{role}");
        }
        let nobody = key(&caller(None, Role::Admin), " v ", false).unwrap();
        assert_eq!((nobody.owner, nobody.name.as_str()), (None, "v"));
    }

    #[test]
    fn names_filters_and_columns_are_bounded() {
        let ada = caller(Some("ada"), Role::Viewer);
        let long = "ü".repeat(VIEW_NAME_LETTERS_MAX);
        assert!(key(&ada, &long, false).is_ok());
        for wrong in ["", "  ", "a\nb", "a\0", &format!("{long}x")] {
            assert!(matches!(key(&ada, wrong, false), Err(ApiError::Invalid(_))), "{wrong:?}");
        }
        let of = |bytes: usize, columns: usize| ViewContent {
            filter: ExecutionFilter { workflow: Some("w".repeat(bytes)), ..ExecutionFilter::default() },
            columns: vec!["c".to_owned(); columns],
        };
        assert!(checked(&of(VIEW_BYTES_MAX - 100, 0)).is_ok() && checked(&of(1, VIEW_COLUMNS_MAX)).is_ok());
        assert!(checked(&of(VIEW_BYTES_MAX, 0)).is_err() && checked(&of(1, VIEW_COLUMNS_MAX + 1)).is_err());
        assert!(checked(&ViewContent { columns: vec![" ".to_owned()], ..ViewContent::default() }).is_err());
    }
}
