//! Links with which people answer questions.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::{ApprovalsVerb, Link};
use crate::client::Api;
use crate::exit::Outcome;
use crate::out::note;
use crate::render::{Line, Now, Table, ago};

impl ApiCommand {
    /// Creates, lists or revokes links of a question.
    pub(crate) async fn links(&self, verb: ApprovalsVerb) -> Outcome {
        match verb {
            ApprovalsVerb::Link(args) => self.create_link(args).await,
            ApprovalsVerb::Links { id } => {
                let request = proto::ApprovalLinksRequest { id };
                self.list_links(&self.client().await?.ask(Api::approval_links, request).await?.links)
            }
            ApprovalsVerb::Revoke { id, link } => {
                let request = proto::RevokeApprovalLinkRequest { id, link_id: link.clone() };
                self.client().await?.ask(Api::revoke_approval_link, request).await?;
                self.done(&link, "is revoked")
            }
        }
    }

    async fn create_link(&self, args: Link) -> Outcome {
        let mut client = self.client().await?;
        let (only, expires_in_ms) = (args.only.into_iter().collect(), Some(args.expires.ms));
        let request = proto::CreateApprovalLinkRequest { id: args.id, name: args.name, only, expires_in_ms };
        let mut created = client.ask(Api::create_approval_link, request).await?;
        let url = created.url.get_or_insert_with(|| client.address_of(&created.path)).clone();
        if self.global.json {
            return self.out.say(&json::of(&created));
        }
        let link = created.link.unwrap_or_default();
        note(&format!("a link for {} to {}; shown this once", link.name, link.decisions.join(" or ")));
        self.out.say(&url)
    }

    fn list_links(&self, links: &[proto::ApprovalLink]) -> Outcome {
        let now = Now::measured();
        let row = |link: &proto::ApprovalLink| {
            [
                Line::bold(&link.link_id),
                link.name.as_str().into(),
                link.decisions.join(", ").into(),
                link.created_by().into(),
                ago(link.created_at.as_ref(), now).into(),
                ago(link.expires_at.as_ref(), now).into(),
                ago(link.used_at.as_ref(), now).into(),
                ago(link.revoked_at.as_ref(), now).into(),
            ]
        };
        let columns = ["LINK", "FOR", "DECISIONS", "BY", "CREATED", "EXPIRES", "USED", "REVOKED"];
        self.list(links.iter().map(json::of), &Table::new(columns, links.iter().map(row)), "no links")
    }
}
