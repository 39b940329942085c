//! Messages of people to executions: approvals, rejections, signals.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::{Approve, Reject, Signal};
use crate::exit::Outcome;
use crate::out::note;
use crate::render::{Line, Now, Style, Table, ago};
use crate::values;

/// Pages are requested until this many questions have come.
const APPROVALS_MAX: usize = 10_000;

impl ApiCommand {
    /// Lists open questions.
    pub(crate) async fn approvals(&self, execution_id: Option<String>) -> Outcome {
        let mut client = self.client().await?;
        let mut request = proto::ApprovalsRequest { execution_id, ..Default::default() };
        let mut approvals = Vec::new();
        while approvals.len() < APPROVALS_MAX {
            let answer = client.engine.approvals(request.clone()).await.map_err(|e| client.stop(&e))?.into_inner();
            approvals.extend(answer.approvals);
            request.cursor = answer.next;
            if request.cursor.is_none() {
                break;
            }
        }
        if request.cursor.is_some() {
            note(&format!("there are more than these {}: --execution ID shows those of one", approvals.len()));
        }
        if self.global.json {
            return self.out.array(&approvals.iter().map(json::of).collect::<Vec<_>>());
        }
        let now = Now::measured();
        let mut table = Table::new(&["APPROVAL", "EXECUTION", "KIND", "ASKED", "UNTIL", "TITLE", "DATA"]);
        for approval in &approvals {
            let cell = |text: &str| Line::new(Style::Plain, text);
            table.row(vec![
                Line::new(Style::Bold, &approval.approval_id),
                cell(&approval.execution_id),
                cell(&approval.kind),
                cell(&ago(approval.requested_at.as_ref(), now)),
                cell(&ago(approval.deadline.as_ref(), now)),
                Line::new(Style::ActionNeeded, &approval.title),
                Line::new(Style::Dim, &json::compact(&approval.data)),
            ]);
        }
        match table.is_empty() {
            true => self.out.say("nothing waits for a person"),
            false => self.out.show(&table.lines()),
        }
    }

    /// Approves.
    pub(crate) async fn approve(&self, args: Approve) -> Outcome {
        let data = values::json(&args.data, "--data")?;
        let mut client = self.client().await?;
        let request = proto::ApproveRequest { id: args.id, data, comment: args.comment, by: whoami() };
        let answer = client.engine.approve(request).await.map_err(|e| client.stop(&e))?;
        self.done(&answer.into_inner().execution_id, "is approved")
    }

    /// Rejects.
    pub(crate) async fn reject(&self, args: Reject) -> Outcome {
        let mut client = self.client().await?;
        let request = proto::RejectRequest { id: args.id, reason: args.reason, by: whoami() };
        let answer = client.engine.reject(request).await.map_err(|e| client.stop(&e))?;
        self.done(&answer.into_inner().execution_id, "is rejected")
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, args: Signal) -> Outcome {
        let data = values::json(&args.data, "--data")?;
        let mut client = self.client().await?;
        let (id, name) = (args.id.clone(), args.name);
        let request = proto::SignalRequest { execution_id: args.id, name: name.clone(), data };
        client.engine.signal(request).await.map_err(|e| client.stop(&e))?;
        self.done(&id, &format!("has the signal {name}"))
    }
}

/// The user name on this machine. An engine takes it only if it has no tokens.
fn whoami() -> String {
    let known = ["USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    // In a container or a systemd timer neither variable is set.
    known.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| {
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        account(&accounts, rustix::process::getuid().as_raw())
    })
}

/// The name of an account in `/etc/passwd`, or its number.
fn account(accounts: &str, uid: u32) -> String {
    let number = uid.to_string();
    let named = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(number.as_str()) && !name.is_empty()).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("user {number}"))
}

#[cfg(test)]
mod tests {
    use super::account;

    #[test]
    fn who_decides_is_known_without_a_variable() {
        let accounts = "root:x:0:0:root:/root:/bin/bash\n:x:7:7::/:\nada:x:1000:1000::/home/ada:/bin/sh\nhalf a line\n";
        assert_eq!(account(accounts, 0), "root");
        assert_eq!(account(accounts, 1000), "ada");
        assert_eq!(account(accounts, 7), "user 7");
        assert_eq!(account("", 12), "user 12");
    }
}
