//! What was done in a tenant, and by whom.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::Audit;
use crate::client::Client;
use crate::exit::{CliError, Outcome};
use crate::out::note;
use crate::render::{Line, Now, Style, Table, ago};

/// The most acts that are requested at once.
const PAGE: usize = 1_000;

impl ApiCommand {
    /// Lists what was done, the newest first.
    pub(crate) async fn audit(&self, args: Audit) -> Outcome {
        let mut client = self.client().await?;
        let limit = if args.all { usize::MAX } else { args.limit };
        if limit == 0 {
            return Err(CliError::usage("--limit takes 1 or more"));
        }
        let (acts, is_all) = acts(&mut client, args, limit).await?;
        match self.global.json {
            true => self.out.array(&acts.iter().map(json::of).collect::<Vec<_>>())?,
            false if acts.is_empty() => self.out.say("nothing was done, as far as the audit goes back")?,
            false => self.out.show(&table(&acts).lines())?,
        }
        if !is_all {
            note("there is more: --limit N or --all shows more");
        }
        Ok(())
    }
}

/// Up to `limit` acts, and whether these are all.
async fn acts(client: &mut Client, args: Audit, limit: usize) -> Outcome<(Vec<proto::Act>, bool)> {
    let Audit { operation, caller, object, since, tenant, .. } = args;
    let now_ms = Now::measured().0;
    let last_ms = since.map(|since| now_ms.saturating_sub(since.ms(now_ms)));
    let mut request = proto::AuditRequest { tenant, operation, caller, object, last_ms, cursor: None, limit: 0 };
    let mut acts = Vec::new();
    while acts.len() < limit {
        request.limit = u32::try_from((limit - acts.len()).min(PAGE)).unwrap_or(u32::MAX);
        let page = client.engine.audit(request.clone()).await.map_err(|e| client.stop(&e))?.into_inner();
        acts.extend(page.acts);
        request.cursor = page.next;
        if request.cursor.is_none() {
            return Ok((acts, true));
        }
    }
    Ok((acts, false))
}

fn table(acts: &[proto::Act]) -> Table {
    let now = Now::measured();
    let mut table = Table::new(&["WHEN", "CALLER", "TOKEN", "FROM", "OPERATION", "OBJECT", "OUTCOME"]);
    for act in acts {
        let cell = |text: Option<&String>| Line::new(Style::Plain, text.map_or("-", String::as_str));
        table.row(vec![
            cell(Some(&ago(act.at.as_ref(), now))),
            cell(act.caller.as_ref()),
            cell(act.token_id.as_ref()),
            cell(act.address.as_ref()),
            Line::new(Style::Bold, &act.operation),
            cell(Some(&act.object)),
            cell(Some(&act.outcome)),
        ]);
    }
    table
}
