//! The list of executions: filtered, page by page, bounded.

use cerebelum_server::wording::WaitsFor;
use cerebelum_server::{json, proto};

use super::ApiCommand;
use super::pages::pages;
use crate::args::List;
use crate::client::Api;
use crate::exit::{CliError, Code, Outcome};
use crate::out::note;
use crate::render::{Line, Now, Style, Table, ago};

/// The most executions that are requested at once.
const PAGE: u32 = 100;

impl ApiCommand {
    /// Lists executions.
    pub(crate) async fn list_executions(&self, args: List) -> Outcome {
        let mut client = self.client().await?;
        let workflow = args.filter.workflow.clone();
        let filter = args.filter.read()?;
        client.check_knows(&filter).await?;
        let limit = if args.all { usize::MAX } else { args.limit };
        let (executions, next) = pages(args.cursor, limit, async |cursor, wanted| {
            let request = proto::ListRequest { cursor, limit: wanted.min(PAGE), ..filter.clone().list() };
            let page = client.ask(Api::list, request).await?;
            Ok((page.executions, page.next))
        })
        .await?;
        let unknown = match workflow.filter(|_| executions.is_empty()) {
            Some(workflow) => refusal(&client.components().await?, &workflow),
            None => None,
        };
        // To a person the refusal says enough.
        if unknown.is_none() || self.global.json {
            self.list(executions.iter().map(json::of), &table(&executions), "no executions")?;
        }
        if let Some(next) = next {
            match self.global.json {
                true => note(&serde_json::json!({ "next": next }).to_string()),
                false => {
                    note(&format!("there are more: --cursor {next} goes on, --limit N or --all shows more at once"))
                }
            }
        }
        unknown.map_or(Ok(()), Err)
    }
}

pub(super) fn table(executions: &[proto::Summary]) -> Table {
    let now = Now::measured();
    let row = |one: &proto::Summary| {
        let attributes = json::compact(&one.attributes);
        [
            Line::bold(&one.execution_id),
            one.workflow.as_str().into(),
            Line::new(Style::of_status(&one.status), &one.status),
            WaitsFor::line(one, now).into(),
            ago(one.started_at.as_ref(), now).into(),
            ago(one.ended_at.as_ref(), now).into(),
            one.events.to_string().into(),
            Line::new(Style::Dim, if attributes == "{}" { "" } else { &attributes }),
        ]
    };
    let columns = ["EXECUTION", "WORKFLOW", "STATUS", "WHY", "STARTED", "ENDED", "EVENTS", "ATTRIBUTES"];
    Table::new(columns, executions.iter().map(row))
}

/// The error for a workflow that no component has.
fn refusal(components: &[proto::Component], wanted: &str) -> Option<CliError> {
    let names = |one: &proto::Component| {
        let of = one.name.clone();
        one.workflows.iter().map(move |workflow| format!("{of}/{workflow}")).collect::<Vec<_>>()
    };
    let mut known: Vec<String> = components.iter().flat_map(names).collect();
    known.sort();
    known.dedup();
    if known.iter().any(|name| name == wanted || name.split_once('/').is_some_and(|(_, bare)| bare == wanted)) {
        return None;
    }
    let of_component: Vec<&String> =
        known.iter().filter(|name| name.split_once('/').is_some_and(|(component, _)| component == wanted)).collect();
    let line = match (of_component.as_slice(), known.as_slice()) {
        ([], []) => format!("there is no workflow `{wanted}`, as there are no components yet"),
        ([], known) => format!("there is no workflow `{wanted}`; there are {}", some(known.iter())),
        (workflows, _) => {
            format!("`{wanted}` is a component, not a workflow; it has {}", some(workflows.iter().copied()))
        }
    };
    Some(CliError::new(Code::NotFound, line))
}

/// The first few of many names.
fn some<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    const SHOWN_MAX: usize = 8;
    let more = names.len().saturating_sub(SHOWN_MAX);
    let shown = names.take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more, see `cerebelum components`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_that_nobody_has_is_told_from_one_that_has_not_run() {
        let component = |name: &str, workflows: &[&str]| proto::Component {
            name: name.into(),
            workflows: workflows.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let components = [component("shop", &["saga", "buy"]), component("bank", &["pay"])];
        for known in ["saga", "shop/saga", "pay"] {
            assert!(refusal(&components, known).is_none(), "{known}");
        }
        let cases = [
            ("sagga", "there is no workflow `sagga`; there are bank/pay, shop/buy, shop/saga"),
            ("bank/saga", "there is no workflow `bank/saga`; there are bank/pay, shop/buy, shop/saga"),
            ("shop", "`shop` is a component, not a workflow; it has shop/buy, shop/saga"),
        ];
        for (wanted, told) in cases {
            let stop = refusal(&components, wanted).unwrap();
            assert_eq!((stop.code, stop.line.as_str()), (Some(Code::NotFound), told));
        }
        assert!(refusal(&[], "x").unwrap().line.contains("no components yet"));
        let many: Vec<_> = (0..20).map(|n| component(&format!("c{n:02}"), &["w"])).collect();
        assert!(refusal(&many, "x").unwrap().line.ends_with("c07/w and 12 more, see `cerebelum components`"));
    }
}
