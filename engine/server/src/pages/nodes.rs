//! The engines that share the database: who is alive, and who has what.

use axum::extract::State;
use maud::html;

use super::layout::{self, Frame, Live};
use super::parts::text;
use super::{Shown, Site};
use crate::access::Access;
use crate::proto;
use crate::proto::engine_server::Engine as _;
use crate::rest::asked;
use crate::wording::roughly;

pub(super) async fn show(State(site): State<Site>, access: Access) -> Shown {
    let all = site.service.nodes(asked(access.clone(), proto::NodesRequest {})).await?.into_inner();
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
    Ok(layout::page(&Frame::new("Nodes", &access.caller, "Nodes").live(Live::Often), &body))
}
