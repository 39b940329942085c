//! Starts executions, and shows their status and their result.

use cerebelum_history::Status;
use cerebelum_server::proto::Summary;
use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::{Start, StatusOf};
use crate::client::{Api, has_ended};
use crate::exit::{CliError, Code, Outcome};
use crate::out;
use crate::render::{Now, RenderOptions, STEPS_SHOWN, execution, failure_line};
use crate::values;

impl ApiCommand {
    /// Starts an execution; with `--wait`, waits for its end.
    pub(crate) async fn start(&self, args: Start) -> Outcome {
        let request = proto::StartRequest {
            workflow: args.workflow,
            input: values::json(&args.input, "--input")?,
            execution_id: args.id,
            attributes: values::attributes(&args.attr)?,
            delay_ms: args.delay.map_or(0, |span| span.ms),
            deadline_ms: args.deadline.map(|span| span.ms),
        };
        let has_own_id = request.execution_id.is_some();
        let mut client = self.client().await?;
        let summary = client.ask(Api::start, request).await?;
        if has_own_id && (summary.ended_at.is_some() || summary.events > 1) {
            let Summary { execution_id: id, status, .. } = &summary;
            out::note(&format!("{id} exists already and is {status}: nothing was started, no option was applied"));
        }
        if args.wait {
            let status = client.ended(&summary.execution_id).await?;
            self.show(&status, STEPS_SHOWN)?;
            return ended_well(&status);
        }
        if self.global.json {
            let answer = serde_json::json!({ "execution_id": summary.execution_id, "status": summary.status });
            return self.out.say(&answer.to_string());
        }
        self.out.say(&summary.execution_id)?;
        if self.out.is_terminal {
            self.out.say(&format!(
                "{} is {}; follow it: cerebelum watch {}",
                summary.workflow, summary.status, summary.execution_id
            ))?;
        }
        Ok(())
    }

    /// Shows an execution.
    pub(crate) async fn status(&self, args: &StatusOf) -> Outcome {
        let status = self.client().await?.status(&args.id).await?;
        self.show(&status, if args.all { usize::MAX } else { args.limit })
    }

    /// Prints the output of an execution.
    pub(crate) async fn result(&self, id: &str, wait: bool) -> Outcome {
        let mut client = self.client().await?;
        let status = match wait {
            true => client.ended(id).await?,
            false => client.status(id).await?,
        };
        if !has_ended(&status) {
            let word = status.summary.map(|summary| summary.status).unwrap_or_default();
            let line = format!("{id} has not ended, it is {word}; wait for the end with --wait");
            return Err(CliError::new(Code::Refused, line));
        }
        match (&status.output, self.global.json) {
            (_, true) => self.out.say(&json::result(&status))?,
            (Some(output), false) => self.out.json(output)?,
            (None, false) => {}
        }
        ended_well(&status)
    }

    fn show(&self, status: &proto::ExecutionStatus, steps_max: usize) -> Outcome {
        let looks = RenderOptions { in_full: true, steps_max, ..RenderOptions::at(Now::measured()) };
        match self.global.json {
            true => self.out.say(&json::of(status)),
            false => self.out.show(&execution(status, looks)),
        }
    }
}

/// Exit code 1 unless the execution completed.
pub(super) fn ended_well(status: &proto::ExecutionStatus) -> Outcome {
    let summary = status.summary.clone().unwrap_or_default();
    if summary.status == Status::Completed.word() {
        return Ok(());
    }
    let why = status.failure.as_ref().map(|failure| match failure.kind == summary.status {
        true => format!(": {}", failure.message),
        false => format!(": {}", failure_line(failure)),
    });
    let id = &summary.execution_id;
    let line = format!("{id} {}{}; see `cerebelum status {id}`", summary.status, why.unwrap_or_default());
    Err(CliError::failed(line))
}
