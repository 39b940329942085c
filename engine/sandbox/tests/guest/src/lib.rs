//! The guest of the sandbox's tests: one entry for each behaviour, permitted or not.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, reason = "generated bindings")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "panics and output are what is tested")]

mod behaving;
mod misbehaving;

wit_bindgen::generate!({ path: "../../../../wit", world: "component" });

/// The same imports, lowered synchronously: the guest blocks in a call.
mod blocking {
    wit_bindgen::generate!({
        path: "../../../../wit",
        inline: "package test:blocking; world blocking { import cerebelum:guest/durable@1.0.0; }",
        world: "test:blocking/blocking",
        async: false,
        generate_all,
    });
}

use cerebelum::guest::types::{Failure, StepCall, StepOptions};
use exports::cerebelum::guest::guest::{Guest, Manifest, StepInfo, WorkflowInfo};

type Output = Result<String, Failure>;

const WORKFLOWS: [&str; 30] = [
    "sequential",
    "join",
    "race",
    "spawn",
    "blocking",
    "many",
    "yields",
    "chance",
    "thread-sleep",
    "compute",
    "cancel",
    "context",
    "attributes",
    "print",
    "refusals",
    "fetch",
    "fail",
    "deadlock",
    "loop",
    "memory",
    "stack",
    "stack-edge",
    "panic",
    "exit",
    "invalid",
    "log-flood",
    "progress",
    "names",
    "sleep",
    "all-calls",
];
const STEPS: [&str; 8] = ["echo", "huge", "huge-argument", "fetch", "attributes", "continue", "loop", "panic"];

struct Entries;

impl Guest for Entries {
    fn describe() -> Manifest {
        let workflow = |name: &&str| WorkflowInfo {
            name: name.to_string(),
            input_schema: Some("true".into()),
            output_schema: None,
            summary: Some("a test".into()),
        };
        let step = |name: &&str| StepInfo {
            name: name.to_string(),
            input_schema: None,
            output_schema: None,
            summary: None,
            options: StepOptions { retry: None, timeout: Some(5), deadline: None },
        };
        Manifest {
            sdk: "test".into(),
            workflows: WORKFLOWS.iter().map(workflow).collect(),
            steps: STEPS.iter().map(step).collect(),
            hosts: vec!["api.example.com".into()],
            secrets: vec!["TOKEN".into()],
        }
    }

    async fn workflow(name: String, input: String) -> Output {
        match behaving::workflow(&name, &input).await {
            Some(output) => output,
            None => misbehaving::workflow(&name, &input).await,
        }
    }

    async fn step(name: String, input: String) -> Output {
        match name.as_str() {
            "echo" => Ok(input),
            "huge" => misbehaving::huge(&input),
            "huge-argument" => misbehaving::huge_argument(&input).await,
            "fetch" => behaving::fetch().await,
            "attributes" => behaving::attributes("1"),
            "continue" => behaving::continue_as_new().await,
            "loop" => misbehaving::spin(),
            _ => panic!("no such server\nreally"),
        }
    }
}

fn call(step: &str, input: impl ToString) -> StepCall {
    StepCall { step: step.into(), input: input.to_string() }
}

fn options() -> StepOptions {
    StepOptions { retry: None, timeout: None, deadline: None }
}

async fn step(name: &str, input: impl ToString) -> Output {
    cerebelum::guest::durable::run_step(call(name, input), options()).await
}

fn text(value: impl AsRef<str>) -> String {
    format!("\"{}\"", value.as_ref().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

export!(Entries);
