//! The engines that share a database.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::exit::Outcome;
use crate::render::{Line, Style, Table, roughly};

impl ApiCommand {
    /// Lists the engines that share the database.
    pub(crate) async fn nodes(&self) -> Outcome {
        let mut client = self.client().await?;
        let answer = client.engine.nodes(proto::NodesRequest {}).await.map_err(|e| client.stop(&e))?;
        let nodes = answer.into_inner().nodes;
        if self.global.json {
            return self.out.array(&nodes.iter().map(json::of).collect::<Vec<_>>());
        }
        let mut table = Table::new(&["NODE", "INCARNATION", "LEASE LEFT", "EXECUTIONS", ""]);
        for node in &nodes {
            let cell = |text: &str| Line::new(Style::Plain, text);
            table.row(vec![
                Line::new(Style::Bold, &node.name),
                cell(&node.incarnation.to_string()),
                match node.lease_left_ms {
                    0 => Line::new(Style::Bad, "over"),
                    ms => cell(&roughly(ms)),
                },
                cell(&node.executions.to_string()),
                Line::new(Style::Dim, if node.is_this { "answers" } else { "" }),
            ]);
        }
        self.out.show(&table.lines())
    }
}
