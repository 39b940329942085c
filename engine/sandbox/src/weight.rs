//! How many bytes of names and values a call brings along.

use cerebelum_history::Call;

/// Bytes of all texts in a call.
pub(crate) fn of_call(call: &Call) -> usize {
    match call {
        Call::Sleep { .. } => 0,
        Call::Step(step, _) | Call::Poll(step, _) => step.step.len() + step.input.as_str().len(),
        Call::Approval(asked) => {
            let schema = asked.schema.as_ref().map_or(0, |schema| schema.as_str().len());
            asked.kind.len() + asked.title.len() + asked.data.as_str().len() + schema
        }
        Call::Signal { name, .. } => name.len(),
        Call::Fetch(request) => {
            let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            request.method.len() + request.url.len() + headers + request.body.len()
        }
        Call::RunWorkflow(child) | Call::StartWorkflow(child) => child.workflow.len() + child.input.as_str().len(),
        Call::ContinueAsNew { input } => input.as_str().len(),
    }
}
