//! Saved views of the list of executions.

use cerebelum_server::wording::matching;
use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::{SaveView, ViewVerb};
use crate::exit::Outcome;
use crate::render::{Line, Now, Style, Table, ago};

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
                let saved = client.engine.save_view(request).await.map_err(|e| client.stop(&e))?.into_inner();
                match self.global.json {
                    true => self.out.say(&json::of(&saved)),
                    false => self.done(&saved.name, &format!("is saved, {}", for_whom(&saved))),
                }
            }
            ViewVerb::List => {
                let answer = client.engine.views(proto::ViewsRequest {}).await;
                self.views(&answer.map_err(|e| client.stop(&e))?.into_inner().views)
            }
            ViewVerb::Delete { name, shared } => {
                let request = proto::DeleteViewRequest { name: name.clone(), shared };
                client.engine.delete_view(request).await.map_err(|e| client.stop(&e))?;
                self.done(&name, "is deleted")
            }
        }
    }

    fn views(&self, views: &[proto::View]) -> Outcome {
        if self.global.json {
            return self.out.array(&views.iter().map(json::of).collect::<Vec<_>>());
        }
        if views.is_empty() {
            return self.out.say("no views");
        }
        let now = Now::measured();
        let mut table = Table::new(&["VIEW", "FOR", "SHOWS", "COLUMNS", "SAVED"]);
        for view in views {
            let cell = |text: &str| Line::new(Style::Plain, text);
            table.row(vec![
                Line::new(Style::Bold, &view.name),
                cell(for_whom(view)),
                cell(&matching(&view.filter.clone().unwrap_or_default())),
                cell(&view.columns.join(", ")),
                cell(&ago(view.saved_at.as_ref(), now)),
            ]);
        }
        self.out.show(&table.lines())
    }
}

fn for_whom(view: &proto::View) -> &'static str {
    if view.shared { "for everybody" } else { "for you" }
}
