//! Messages of people to executions: approvals, rejections, signals.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use super::pages::pages;
use crate::args::{Approve, Reject, Signal};
use crate::client::Api;
use crate::exit::Outcome;
use crate::out::note;
use crate::render::{Line, Now, Style, Table, ago};
use crate::values;

/// The most questions that are listed.
const APPROVALS_MAX: usize = 10_000;
/// The most questions that are requested at once.
const PAGE: u32 = 1_000;

impl ApiCommand {
    /// Lists open questions.
    pub(crate) async fn approvals(&self, execution_id: Option<String>) -> Outcome {
        let mut client = self.client().await?;
        let (approvals, next) = pages(None, APPROVALS_MAX, async |cursor, wanted| {
            let execution_id = execution_id.clone();
            let request = proto::ApprovalsRequest { execution_id, cursor, limit: wanted.min(PAGE) };
            let page = client.ask(Api::approvals, request).await?;
            Ok((page.approvals, page.next))
        })
        .await?;
        if next.is_some() {
            note(&format!("there are more than these {}: --execution ID shows those of one", approvals.len()));
        }
        let now = Now::measured();
        let row = |approval: &proto::Approval| {
            [
                Line::bold(&approval.approval_id),
                approval.execution_id.as_str().into(),
                approval.kind.as_str().into(),
                ago(approval.requested_at.as_ref(), now).into(),
                ago(approval.deadline.as_ref(), now).into(),
                Line::new(Style::ActionNeeded, &approval.title),
                Line::new(Style::Dim, &json::compact(&approval.data)),
            ]
        };
        let columns = ["APPROVAL", "EXECUTION", "KIND", "ASKED", "UNTIL", "TITLE", "DATA"];
        let table = Table::new(columns, approvals.iter().map(row));
        self.list(approvals.iter().map(json::of), &table, "nothing waits for a person")
    }

    /// Approves.
    pub(crate) async fn approve(&self, args: Approve) -> Outcome {
        let data = values::json(&args.data, "--data")?;
        let request = proto::ApproveRequest { id: args.id, data, comment: args.comment, by: whoami() };
        let answer = self.client().await?.ask(Api::approve, request).await?;
        self.done(&answer.execution_id, "is approved")
    }

    /// Rejects.
    pub(crate) async fn reject(&self, args: Reject) -> Outcome {
        let request = proto::RejectRequest { id: args.id, reason: args.reason, by: whoami() };
        let answer = self.client().await?.ask(Api::reject, request).await?;
        self.done(&answer.execution_id, "is rejected")
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, args: Signal) -> Outcome {
        let data = values::json(&args.data, "--data")?;
        let Signal { id, name, .. } = args;
        let request = proto::SignalRequest { execution_id: id.clone(), name: name.clone(), data };
        let mut client = self.client().await?;
        client.ask(Api::signal, request).await?;
        self.done(&id, &format!("has the signal {name}"))?;
        // The signal has been sent, whatever comes of this question.
        if !self.global.json
            && let Ok(status) = client.status(&id).await
            && let Some(waits) = waits_for_others(&status, &name)
        {
            note(&format!("it {waits} now: `{name}` stays in its inbox until it asks for it"));
        }
        Ok(())
    }
}

/// What an execution waits for that has not read a signal of this name and does not wait for one.
fn waits_for_others(status: &proto::ExecutionStatus, name: &str) -> Option<String> {
    let signals = || status.waiting_on.iter().filter(|wait| wait.kind == "signal").map(|wait| &*wait.name);
    if signals().any(|signal| signal == name) || !status.unread_signals.iter().any(|unread| unread == name) {
        return None;
    }
    Some(
        signals()
            .next()
            .map_or_else(|| "does not wait for a signal".to_owned(), |other| format!("waits for the signal `{other}`")),
    )
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
