//! The engines that share the database: who is alive, and who has what.

use maud::html;

use super::layout::{self, Frame, Live};
use super::parts::text;
use super::{Client, Shown, Verbs};
use crate::proto;
use crate::wording::roughly;

pub(super) async fn show(client: Client) -> Shown {
    let all = client.ask(Verbs::nodes, proto::NodesRequest {}).await?;
    let body = html! {
        h1 { "Nodes" }
        p.note { "The engines with a lease on the database. When a lease is over, the others take over its executions." }
        section #list data-live {
            div.wide tabindex="0" role="region" aria-label="Nodes" {
                table {
                    thead { tr {
                        th scope="col" { "Name" } th.number scope="col" { "Incarnation" } th.number scope="col" { "Lease left" }
                        th.number scope="col" { "Executions" }
                    } }
                    tbody {
                        @for node in &all.nodes {
                            tr {
                                th scope="row" { (text(&node.name)) @if node.is_this { span.note { " made this page" } } }
                                td.number { (node.incarnation) }
                                td.number { @if node.lease_left_ms == 0 { "over" } @else { (roughly(node.lease_left_ms)) } }
                                td.number { (node.executions) }
                            }
                        }
                    }
                }
            }
        }
    };
    Ok(layout::page(&Frame::new("Nodes", client.caller(), "Nodes").live(Live::Often), &body))
}
