//! Bulk jobs: one operation on all executions that match a filter.

use cerebelum_server::wording::{bulk_left, bulk_operation, counted as words, matching, plain};
use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::{Bulk, BulkVerb, Filter};
use crate::client::{Api, Client};
use crate::exit::{CliError, Outcome};
use crate::out::note;
use crate::render::{Line, Now, Table, ago};
use crate::values;

impl ApiCommand {
    /// Creates, lists, shows or stops bulk jobs.
    pub(crate) async fn bulk(&self, verb: BulkVerb) -> Outcome {
        let mut client = self.client().await?;
        let (bulk, request) = match verb {
            BulkVerb::List => {
                return self.bulk_jobs(&client.ask(Api::bulk_jobs, proto::BulkJobsRequest {}).await?.jobs);
            }
            BulkVerb::Show { id } => {
                return self.bulk_detail(&client.ask(Api::show_bulk, proto::ShowBulkRequest { bulk_id: id }).await?);
            }
            BulkVerb::Stop { id } => {
                let job = client.ask(Api::stop_bulk, proto::StopBulkRequest { bulk_id: id }).await?;
                let line = format!("{} is stopped: {}", job.bulk_id, so_far(&job));
                return self.answer(&json::of(&job), &line);
            }
            BulkVerb::Cancel(bulk) => (bulk, operation("cancel")),
            BulkVerb::Terminate(bulk) => (bulk, operation("terminate")),
            BulkVerb::Pause(bulk) => (bulk, operation("pause")),
            BulkVerb::Resume { bulk, force } => (bulk, proto::StartBulkRequest { force, ..operation("resume") }),
            BulkVerb::Signal { name, data, bulk } => {
                let signal = proto::BulkSignal { name, data: values::json(&data, "--data")? };
                (bulk, proto::StartBulkRequest { signal: Some(signal), ..operation("signal") })
            }
            BulkVerb::Delete(bulk) => (bulk, operation("delete")),
        };
        self.start_bulk(&mut client, bulk, request).await
    }

    async fn start_bulk(&self, client: &mut Client, bulk: Bulk, request: proto::StartBulkRequest) -> Outcome {
        let Bulk { filter: wanted, all, id, at_most, dry_run } = bulk;
        let filter = filter(wanted, all)?;
        client.check_knows(&filter).await?;
        if dry_run {
            let counted = client.ask(Api::count, proto::CountRequest { filter: Some(filter), up_to: None }).await?;
            return self.answer(&json::of(&counted), &format!("{} executions match", words(&counted)));
        }
        let request = proto::StartBulkRequest { bulk_id: id, filter: Some(filter), at_most, ..request };
        let job = client.ask(Api::start_bulk, request).await?;
        if self.global.json {
            return self.out.say(&json::of(&job));
        }
        note(&format!(
            "{} {} executions; `cerebelum bulk show {}` says how far it is",
            job.operation, job.matched, job.bulk_id
        ));
        self.out.say(&job.bulk_id)
    }

    fn bulk_jobs(&self, jobs: &[proto::BulkJob]) -> Outcome {
        let now = Now::measured();
        let row = |job: &proto::BulkJob| {
            [
                Line::bold(&job.bulk_id),
                bulk_operation(job).into(),
                which(job).into(),
                job.state.as_str().into(),
                job.done.to_string().into(),
                job.refused.to_string().into(),
                bulk_left(job).to_string().into(),
                job.created_by().into(),
                ago(job.created_at.as_ref(), now).into(),
            ]
        };
        let columns = ["JOB", "OPERATION", "EXECUTIONS", "STATE", "DONE", "REFUSED", "LEFT", "BY", "CREATED"];
        self.list(jobs.iter().map(json::of), &Table::new(columns, jobs.iter().map(row)), "no bulk jobs")
    }

    fn bulk_detail(&self, detail: &proto::BulkJobDetail) -> Outcome {
        if self.global.json {
            return self.out.say(&json::of(detail));
        }
        let job = detail.job.clone().unwrap_or_default();
        self.out.say(&format!("{} {}: {}, {}", bulk_operation(&job), which(&job), job.state, so_far(&job)))?;
        for refusal in &detail.refusals {
            self.out.say(&format!("refused  {}", plain(&refusal.reason)))?;
        }
        let kept = detail.refusals.len() as u64;
        if kept < job.refused {
            note(&format!("the other {} refusals were only counted", job.refused - kept));
        }
        Ok(())
    }
}

fn operation(word: &str) -> proto::StartBulkRequest {
    proto::StartBulkRequest { operation: word.to_owned(), ..proto::StartBulkRequest::default() }
}

/// The filter. All executions have to be asked for in so many words.
fn filter(bulk: Filter, all: bool) -> Outcome<proto::ExecutionFilter> {
    let filter = bulk.read()?;
    if filter == proto::ExecutionFilter::default() && !all {
        let hint = "say which executions are meant: --status, --workflow, --attr or another filter, or --all";
        return Err(CliError::usage(hint));
    }
    Ok(filter)
}

fn which(job: &proto::BulkJob) -> String {
    job.filter.as_ref().map(matching).unwrap_or_default()
}

fn so_far(job: &proto::BulkJob) -> String {
    format!("{} done, {} refused, {} left", job.done, job.refused, bulk_left(job))
}
