//! Saved views of the list of executions.

use cerebelum_server::wording::matching;
use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::{SaveView, ViewVerb};
use crate::client::Api;
use crate::exit::Outcome;
use crate::render::{Line, Now, Table, ago};

impl ApiCommand {
    /// Saves, lists and deletes views.
    pub(crate) async fn view(&self, verb: ViewVerb) -> Outcome {
        let mut client = self.client().await?;
        match verb {
            ViewVerb::Save(view) => {
                let SaveView { name, shared, filter, columns } = *view;
                let filter = filter.read()?;
                client.check_knows(&filter).await?;
                let request = proto::SaveViewRequest { name, shared, filter: Some(filter), columns };
                let saved = client.ask(Api::save_view, request).await?;
                self.answer(&json::of(&saved), &format!("{} is saved, {}", saved.name, for_whom(&saved)))
            }
            ViewVerb::List => self.views(&client.ask(Api::views, proto::ViewsRequest {}).await?.views),
            ViewVerb::Delete { name, shared } => {
                let request = proto::DeleteViewRequest { name: name.clone(), shared };
                client.ask(Api::delete_view, request).await?;
                self.done(&name, "is deleted")
            }
        }
    }

    fn views(&self, views: &[proto::View]) -> Outcome {
        let now = Now::measured();
        let row = |view: &proto::View| {
            [
                Line::bold(&view.name),
                for_whom(view).into(),
                matching(&view.filter.clone().unwrap_or_default()).into(),
                view.columns.join(", ").into(),
                ago(view.saved_at.as_ref(), now).into(),
            ]
        };
        let table = Table::new(["VIEW", "FOR", "SHOWS", "COLUMNS", "SAVED"], views.iter().map(row));
        self.list(views.iter().map(json::of), &table, "no views")
    }
}

fn for_whom(view: &proto::View) -> &'static str {
    if view.shared { "for everybody" } else { "for you" }
}
