//! The engines that share the database: who is alive, and who has what.

use maud::{Markup, html};

use super::layout::{self, Frame, Live};
use super::parts::Column::{Number, Text};
use super::parts::{table, text};
use super::{Client, Shown, Verbs};
use crate::proto;
use crate::wording::roughly;

pub(super) async fn show(client: Client) -> Shown {
    let all = client.ask(Verbs::nodes, proto::NodesRequest {}).await?;
    let body = html! {
        h1 { "Nodes" }
        p.note { "The engines with a lease on the database. When a lease is over, the others take over its executions." }
        section #list data-live { (listed(&all.nodes)) }
    };
    Ok(layout::page(&Frame::new("Nodes", client.caller(), "Nodes").live(Live::Often), &body))
}

/// Engines as rows.
pub(super) fn listed(nodes: &[proto::Node]) -> Markup {
    let columns = [Text("Name"), Number("Incarnation"), Number("Lease left"), Number("Executions")];
    let rows = html! {
        @for node in nodes {
            tr {
                th scope="row" { (text(&node.name)) @if node.is_this { span.note { " made this page" } } }
                td.number { (node.incarnation) }
                td.number { @if node.lease_left_ms == 0 { "over" } @else { (roughly(node.lease_left_ms)) } }
                td.number { (node.executions) }
            }
        }
    };
    table("Nodes", None, &columns, &rows)
}
