//! The list of executions: filtered, page by page, bounded.

use cerebelum_server::wording::WaitsFor;
use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::List;
use crate::client::Client;
use crate::exit::{CliError, Code, Outcome};
use crate::out::note;
use crate::render::{Line, Now, Style, Table, ago, moment_ms};
use crate::values;

/// The number of executions that are requested at once.
const PAGE: usize = 100;
/// How far the order of a list and the start times may disagree, because of several engines' clocks and slow commits.
const DISORDER_MS: u64 = 60_000;

/// The executions that were found, and the cursor of the next page.
struct ListedPage {
    executions: Vec<proto::Summary>,
    next: Option<String>,
}

/// The range of start times, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Times {
    since_ms: u64,
    until_ms: u64,
}

impl Times {
    fn contain(self, one: &proto::Summary) -> bool {
        let started_ms = started_ms(one);
        self.since_ms <= started_ms && started_ms < self.until_ms
    }

    /// Whether every execution after this one in the list is too old.
    fn end_at(self, one: &proto::Summary) -> bool {
        started_ms(one).saturating_add(DISORDER_MS) < self.since_ms
    }
}

impl ApiCommand {
    /// Lists executions.
    pub(crate) async fn list(&self, args: List) -> Outcome {
        let mut client = self.client().await?;
        let workflow = args.workflow.clone();
        let found = pages(&mut client, args).await?;
        let unknown = match workflow.filter(|_| found.executions.is_empty()) {
            Some(workflow) => unknown_workflow(&mut client, &workflow).await?,
            None => None,
        };
        match self.global.json {
            true => self.out.array(&found.executions.iter().map(json::summary).collect::<Vec<_>>())?,
            false if found.executions.is_empty() && unknown.is_none() => self.out.say("no executions")?,
            false if found.executions.is_empty() => {}
            false => self.out.show(&table(&found.executions).lines())?,
        }
        if let Some(next) = found.next {
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
    let mut table = Table::new(&["EXECUTION", "WORKFLOW", "STATUS", "WHY", "STARTED", "ENDED", "EVENTS", "ATTRIBUTES"]);
    for one in executions {
        let cell = |text: &str| Line::new(Style::Plain, text);
        let attributes = json::compact(&one.attributes);
        table.row(vec![
            Line::new(Style::Bold, &one.execution_id),
            cell(&one.workflow),
            Line::new(Style::of_status(&one.status), &one.status),
            cell(&WaitsFor::line(one, now)),
            cell(&ago(one.started_at.as_ref(), now)),
            cell(&ago(one.ended_at.as_ref(), now)),
            cell(&one.events.to_string()),
            Line::new(Style::Dim, if attributes == "{}" { "" } else { &attributes }),
        ]);
    }
    table
}

async fn pages(client: &mut Client, args: List) -> Outcome<ListedPage> {
    let limit = if args.all { usize::MAX } else { args.limit };
    let now_ms = Now::measured().0;
    let times = Times {
        since_ms: args.since.map_or(0, |moment| moment.ms(now_ms)),
        until_ms: args.until.map_or(u64::MAX, |moment| moment.ms(now_ms)),
    };
    let mut request = proto::ListRequest {
        status: args.status.map(|status| status.to_string()),
        workflow: args.workflow,
        attributes: values::attributes(&args.attr)?,
        parent: args.parent,
        cursor: args.cursor,
        limit: 0,
    };
    let mut executions: Vec<proto::Summary> = Vec::new();
    // While all executions so far are too new, whole pages are requested. A page must not contain more than is
    // wanted, because its end would be lost; such a page is requested again with a smaller size.
    let mut size = if times.until_ms == u64::MAX { limit.min(PAGE) } else { PAGE };
    while executions.len() < limit {
        request.limit = u32::try_from(size).unwrap_or(u32::MAX);
        let answer = client.engine.list(request.clone()).await.map_err(|e| client.stop(&e))?.into_inner();
        let left = limit - executions.len();
        let wanted = |one: &&proto::Summary| times.contain(one);
        if let Some(end) = answer.executions.iter().enumerate().filter(|(_, one)| wanted(one)).nth(left) {
            size = end.0;
            continue;
        }
        let is_end = answer.executions.iter().any(|one| times.end_at(one));
        executions.extend(answer.executions.into_iter().filter(|one| times.contain(one)));
        request.cursor = answer.next.filter(|_| !is_end);
        if request.cursor.is_none() {
            break;
        }
        size = (limit - executions.len()).min(PAGE);
    }
    Ok(ListedPage { executions, next: request.cursor })
}

fn started_ms(one: &proto::Summary) -> u64 {
    one.started_at.as_ref().map_or(0, moment_ms)
}

/// The error for a workflow that no component has.
async fn unknown_workflow(client: &mut Client, wanted: &str) -> Outcome<Option<CliError>> {
    let answer = client.engine.components(proto::ComponentsRequest {}).await.map_err(|e| client.stop(&e))?;
    Ok(refusal(&answer.into_inner().components, wanted))
}

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

    #[test]
    fn times_take_what_was_started_between_them_and_know_when_nothing_more_can_come() {
        let times = Times { since_ms: 100_000, until_ms: 200_000 };
        let at = |ms: u64| proto::Summary { started_at: Some(Now(ms).timestamp()), ..Default::default() };
        let contained = [99_999, 100_000, 199_999, 200_000].map(|ms| times.contain(&at(ms)));
        assert_eq!(contained, [false, true, true, false]);
        assert!(!times.end_at(&at(40_000)) && times.end_at(&at(39_999)));
    }
}
