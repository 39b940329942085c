//! Which executions a list, a saved view or a bulk job is about.

use cerebelum_history::{Status, WaitFilter};
use cerebelum_server::{Moment, proto};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::exit::Outcome;
use crate::values;

/// Accepts the word of a status.
fn statuses() -> impl TypedValueParser<Value = Status> {
    PossibleValuesParser::new(Status::ALL.map(Status::word)).try_map(|word| word.parse())
}

/// The executions that are meant; all if nothing is given.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only with this status
    #[arg(long, value_parser = statuses())]
    pub(crate) status: Option<Status>,
    /// Only of this workflow: `component/workflow`, or the bare name in every component that has it
    #[arg(long)]
    pub(crate) workflow: Option<String>,
    /// Only with this attribute; with each of them when several are given
    #[arg(long, value_name = "K=V")]
    pub(crate) attr: Vec<String>,
    /// Only children of this execution, also when it has been deleted
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<String>,
    /// Only those whose id begins like this
    #[arg(long, value_name = "START")]
    pub(crate) id_prefix: Option<String>,
    /// Only those that wait for this first: approval, retry, signal, poll, child, delay or sleep, or one of them with a
    /// name (signal:paid)
    #[arg(long, value_name = "WAIT")]
    pub(crate) waits_for: Option<WaitFilter>,
    /// Only those that failed with this kind of failure; with --status parked, those that are parked for it
    #[arg(long, value_name = "KIND")]
    pub(crate) failure: Option<String>,
    /// Only those started since: so long ago (2h, 1d), or a moment (2026-11-22T18:00:00Z)
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Moment>,
    /// Only those started before: so long ago, or a moment
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<Moment>,
}

impl Filter {
    /// The filter on the wire.
    pub(crate) fn read(self) -> Outcome<proto::ExecutionFilter> {
        Ok(proto::ExecutionFilter {
            status: self.status.map(|status| status.to_string()),
            workflow: self.workflow,
            attributes: values::attributes(&self.attr)?,
            parent: self.parent,
            id_prefix: self.id_prefix,
            waits_for: self.waits_for.map(|wait| wait.to_string()),
            failure: self.failure,
            since: self.since.map(Moment::timestamp),
            until: self.until.map(Moment::timestamp),
        })
    }
}
