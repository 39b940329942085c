//! The engines that share a database.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::client::Api;
use crate::exit::Outcome;
use crate::render::{Line, Style, Table, roughly};

impl ApiCommand {
    /// Lists the engines that share the database.
    pub(crate) async fn nodes(&self) -> Outcome {
        let nodes = self.client().await?.ask(Api::nodes, proto::NodesRequest {}).await?.nodes;
        let row = |node: &proto::Node| {
            [
                Line::bold(&node.name),
                node.incarnation.to_string().into(),
                match node.lease_left_ms {
                    0 => Line::new(Style::Bad, "over"),
                    ms => roughly(ms).into(),
                },
                node.executions.to_string().into(),
                Line::new(Style::Dim, if node.is_this { "answers" } else { "" }),
            ]
        };
        let columns = ["NODE", "INCARNATION", "LEASE LEFT", "EXECUTIONS", ""];
        self.list(nodes.iter().map(json::of), &Table::new(columns, nodes.iter().map(row)), "no engine has a lease")
    }
}
