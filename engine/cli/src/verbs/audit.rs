//! What was done in a tenant, and by whom.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use super::pages::pages;
use crate::args::Audit;
use crate::client::Api;
use crate::exit::{CliError, Outcome};
use crate::out::note;
use crate::render::{Line, Now, Table, ago};

/// The most acts that are requested at once.
const PAGE: u32 = 1_000;

impl ApiCommand {
    /// Lists what was done, the newest first.
    pub(crate) async fn audit(&self, args: Audit) -> Outcome {
        let mut client = self.client().await?;
        let limit = if args.all { usize::MAX } else { args.limit };
        if limit == 0 {
            return Err(CliError::usage("--limit takes 1 or more"));
        }
        let Audit { operation, caller, object, since, tenant, .. } = args;
        let now = Now::measured();
        let last_ms = since.map(|since| now.0.saturating_sub(since.ms(now.0)));
        let filter = proto::AuditRequest { tenant, operation, caller, object, last_ms, cursor: None, limit: 0 };
        let (acts, next) = pages(None, limit, async |cursor, wanted| {
            let request = proto::AuditRequest { cursor, limit: wanted.min(PAGE), ..filter.clone() };
            let page = client.ask(Api::audit, request).await?;
            Ok((page.acts, page.next))
        })
        .await?;
        self.list(acts.iter().map(json::of), &table(&acts), "nothing was done, as far as the audit goes back")?;
        if next.is_some() {
            note("there is more: --limit N or --all shows more");
        }
        Ok(())
    }
}

fn table(acts: &[proto::Act]) -> Table {
    let now = Now::measured();
    let or_none = |text: &Option<String>| text.as_deref().unwrap_or("-").into();
    let row = |act: &proto::Act| {
        [
            ago(act.at.as_ref(), now).into(),
            or_none(&act.caller),
            or_none(&act.token_id),
            or_none(&act.address),
            Line::bold(&act.operation),
            act.object.as_str().into(),
            act.outcome.as_str().into(),
        ]
    };
    Table::new(["WHEN", "CALLER", "TOKEN", "FROM", "OPERATION", "OBJECT", "OUTCOME"], acts.iter().map(row))
}
