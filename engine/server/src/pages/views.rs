//! Saved views: the names above the list of executions, and the forms that save and delete them.

use cerebelum_worker::{Action, Caller};
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::may;
use super::parts::{escaped, text};
use super::read::{Form, FormOf, Path};
use super::wanted::Wanted;
use super::{Client, Shown, Verbs};
use crate::proto;
use crate::wording::matching;

/// The longest name of a view, in letters, as the engine takes it.
const NAME_LETTERS_MAX: u32 = 100;

/// The views that a reader sees. The one that the list shows is marked.
pub(super) fn links(views: &[proto::View], wanted: &Wanted) -> Markup {
    let here = wanted.query(None);
    html! {
        @if !views.is_empty() {
            nav.tabs aria-label="Saved views" {
                @for view in views { (link(view, &here)) }
            }
        }
    }
}

/// The forms that save and delete views.
pub(super) fn forms(views: &[proto::View], wanted: &Wanted, caller: &Caller) -> Markup {
    let may_change = |view: &proto::View| !view.shared || may(caller, Action::Run);
    html! {
        section #views aria-label="Views" {
            details {
                summary { "Save or delete views" }
                (save_form(wanted, caller))
                @for view in views.iter().filter(|view| may_change(view)) {
                    form.actions method="post" action={ "/views/" (escaped(&view.name)) "/delete" } {
                        input type="hidden" name="shared" value=(view.shared);
                        button.danger aria-label={ "Delete the view " (text(&view.name)) } { "Delete" }
                        " " strong { (text(&view.name)) } " "
                        span.note { (whose(view)) ", " (text(&matching(&view.filter.clone().unwrap_or_default()))) }
                    }
                }
            }
        }
    }
}

fn link(view: &proto::View, here: &str) -> Markup {
    let title = format!("{}, {}", matching(&view.filter.clone().unwrap_or_default()), whose(view));
    html! {
        @match Wanted::of(view) {
            Some(wanted) => {
                @let query = wanted.query(None);
                a href={ "/executions?" (query) } title=(text(&title)) aria-current=[(query == here).then_some("page")] {
                    (text(&view.name))
                }
            }
            // Only programs can save such a filter, and only they can use it.
            None => { span.note title=(text(&title)) { (text(&view.name)) " (not for pages)" } }
        }
    }
}

fn whose(view: &proto::View) -> String {
    match (view.shared, &view.saved_by) {
        (true, Some(by)) => format!("shared by {}", crate::wording::plain(by)),
        (true, None) => "shared".to_owned(),
        (false, _) => "your own".to_owned(),
    }
}

fn save_form(wanted: &Wanted, caller: &Caller) -> Markup {
    html! {
        form.stack method="post" action="/views" {
            @for (name, value) in wanted.fields() { input type="hidden" name=(name) value=(value); }
            input type="hidden" name="columns" value=(wanted.columns().join(", "));
            label for="view-name" { "Save this list, its filter and columns, as" }
            input #view-name name="name" required maxlength=(NAME_LETTERS_MAX) autocomplete="off";
            @if caller.name.is_some() && may(caller, Action::Run) {
                label for="view-shared" { "For" }
                select #view-shared name="shared" {
                    option value="false" { "me" }
                    option value="true" { "everybody in this tenant" }
                }
            }
            button { "Save" }
            p.note { "A view of the same name is replaced." }
        }
    }
}

/// A view as a reader saves it.
#[derive(Deserialize)]
pub(super) struct NewView {
    name: String,
    #[serde(default)]
    shared: Option<String>,
}

pub(super) async fn save(client: Client, FormOf(new, wanted): FormOf<NewView, Wanted>) -> Shown {
    let NewView { name, shared } = new;
    let columns: Vec<String> = wanted.columns().into_iter().map(str::to_owned).collect();
    let filter = Some(wanted.filter()?);
    let request = proto::SaveViewRequest { name, shared: shared.as_deref() == Some("true"), filter, columns };
    client.change(Verbs::save_view, request, &format!("/executions?{}", wanted.query(None))).await
}

/// Whose view is deleted.
#[derive(Deserialize)]
pub(super) struct Whose {
    shared: bool,
}

pub(super) async fn delete(client: Client, Path(name): Path<String>, Form(Whose { shared }): Form<Whose>) -> Shown {
    client.change(Verbs::delete_view, proto::DeleteViewRequest { name, shared }, "/executions").await
}
