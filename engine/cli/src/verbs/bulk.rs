//! Bulk jobs: one operation on all executions that match a filter.

use cerebelum_server::wording::{bulk_left, bulk_operation, counted as words, matching, plain};
use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::{Bulk, BulkVerb, Filter};
use crate::client::Client;
use crate::exit::{CliError, Outcome};
use crate::out::note;
use crate::render::{Line, Now, Style, Table, ago};
use crate::values;

impl ApiCommand {
    /// Creates, lists, shows or stops bulk jobs.
    pub(crate) async fn bulk(&self, verb: BulkVerb) -> Outcome {
        let mut client = self.client().await?;
        match verb {
            BulkVerb::Cancel(bulk) => self.start_bulk(&mut client, bulk, operation("cancel")).await,
            BulkVerb::Terminate(bulk) => self.start_bulk(&mut client, bulk, operation("terminate")).await,
            BulkVerb::Pause(bulk) => self.start_bulk(&mut client, bulk, operation("pause")).await,
            BulkVerb::Resume { bulk, force } => {
                let request = proto::StartBulkRequest { force, ..operation("resume") };
                self.start_bulk(&mut client, bulk, request).await
            }
            BulkVerb::Signal { name, data, bulk } => {
                let signal = proto::BulkSignal { name, data: values::json(&data, "--data")? };
                let request = proto::StartBulkRequest { signal: Some(signal), ..operation("signal") };
                self.start_bulk(&mut client, bulk, request).await
            }
            BulkVerb::Delete(bulk) => self.start_bulk(&mut client, bulk, operation("delete")).await,
            BulkVerb::List => {
                let answer = client.engine.bulk_jobs(proto::BulkJobsRequest {}).await;
                self.bulk_jobs(&answer.map_err(|e| client.stop(&e))?.into_inner().jobs)
            }
            BulkVerb::Show { id } => {
                let answer = client.engine.show_bulk(proto::ShowBulkRequest { bulk_id: id }).await;
                self.bulk_detail(&answer.map_err(|e| client.stop(&e))?.into_inner())
            }
            BulkVerb::Stop { id } => {
                let answer = client.engine.stop_bulk(proto::StopBulkRequest { bulk_id: id }).await;
                let job = answer.map_err(|e| client.stop(&e))?.into_inner();
                match self.global.json {
                    true => self.out.say(&json::of(&job)),
                    false => self.done(&job.bulk_id, &format!("is stopped: {}", so_far(&job))),
                }
            }
        }
    }

    async fn start_bulk(&self, client: &mut Client, bulk: Bulk, request: proto::StartBulkRequest) -> Outcome {
        let Bulk { filter: wanted, all, id, at_most, dry_run } = bulk;
        let filter = filter(wanted, all)?;
        client.check_knows(&filter).await?;
        if dry_run {
            let answer = client.engine.count(proto::CountRequest { filter: Some(filter), up_to: None }).await;
            let counted = answer.map_err(|e| client.stop(&e))?.into_inner();
            return match self.global.json {
                true => self.out.say(&json::of(&counted)),
                false => self.out.say(&format!("{} executions match", words(&counted))),
            };
        }
        let request = proto::StartBulkRequest { bulk_id: id, filter: Some(filter), at_most, ..request };
        let job = client.engine.start_bulk(request).await.map_err(|e| client.stop(&e))?.into_inner();
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
        if self.global.json {
            return self.out.array(&jobs.iter().map(json::of).collect::<Vec<_>>());
        }
        if jobs.is_empty() {
            return self.out.say("no bulk jobs");
        }
        let now = Now::measured();
        let mut table =
            Table::new(&["JOB", "OPERATION", "EXECUTIONS", "STATE", "DONE", "REFUSED", "LEFT", "BY", "CREATED"]);
        for job in jobs {
            let cell = |text: &str| Line::new(Style::Plain, text);
            table.row(vec![
                Line::new(Style::Bold, &job.bulk_id),
                cell(&bulk_operation(job)),
                cell(&which(job)),
                cell(&job.state),
                cell(&job.done.to_string()),
                cell(&job.refused.to_string()),
                cell(&bulk_left(job).to_string()),
                cell(job.created_by()),
                cell(&ago(job.created_at.as_ref(), now)),
            ]);
        }
        self.out.show(&table.lines())
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
