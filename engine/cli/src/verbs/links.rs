//! Links with which people answer questions.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::{ApprovalsVerb, Link};
use crate::exit::Outcome;
use crate::out::note;
use crate::render::{self, Now, Style, Table, ago};

impl ApiCommand {
    /// Creates, lists or revokes links of a question.
    pub(crate) async fn links(&self, verb: ApprovalsVerb) -> Outcome {
        match verb {
            ApprovalsVerb::Link(args) => self.create_link(args).await,
            ApprovalsVerb::Links { id } => {
                let mut client = self.client().await?;
                let request = proto::ApprovalLinksRequest { id };
                let answer = client.engine.approval_links(request).await.map_err(|e| client.stop(&e))?;
                self.list_links(&answer.into_inner().links)
            }
            ApprovalsVerb::Revoke { id, link } => {
                let mut client = self.client().await?;
                let request = proto::RevokeApprovalLinkRequest { id, link_id: link.clone() };
                client.engine.revoke_approval_link(request).await.map_err(|e| client.stop(&e))?;
                self.done(&link, "is revoked")
            }
        }
    }

    async fn create_link(&self, args: Link) -> Outcome {
        let mut client = self.client().await?;
        let (only, expires_in_ms) = (args.only.into_iter().collect(), Some(args.expires.ms));
        let request = proto::CreateApprovalLinkRequest { id: args.id, name: args.name, only, expires_in_ms };
        let mut created = client.engine.create_approval_link(request).await.map_err(|e| client.stop(&e))?.into_inner();
        let url = created.url.get_or_insert_with(|| client.address_of(&created.path)).clone();
        if self.global.json {
            return self.out.say(&json::of(&created));
        }
        let link = created.link.unwrap_or_default();
        note(&format!("a link for {} to {}; shown this once", link.name, link.decisions.join(" or ")));
        self.out.say(&url)
    }

    fn list_links(&self, links: &[proto::ApprovalLink]) -> Outcome {
        if self.global.json {
            return self.out.array(&links.iter().map(json::of).collect::<Vec<_>>());
        }
        if links.is_empty() {
            return self.out.say("no links");
        }
        let now = Now::measured();
        let mut table = Table::new(&["LINK", "FOR", "DECISIONS", "BY", "CREATED", "EXPIRES", "USED", "REVOKED"]);
        for link in links {
            let plain = |text: &str| render::Line::new(Style::Plain, text);
            let at = |at: Option<&_>| plain(&ago(at, now));
            table.row(vec![
                render::Line::new(Style::Bold, &link.link_id),
                plain(&link.name),
                plain(&link.decisions.join(", ")),
                plain(link.created_by()),
                at(link.created_at.as_ref()),
                at(link.expires_at.as_ref()),
                at(link.used_at.as_ref()),
                at(link.revoked_at.as_ref()),
            ]);
        }
        self.out.show(&table.lines())
    }
}
