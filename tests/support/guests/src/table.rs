//! One table of runs and their results, for the local executor and for the engine: these must not differ.

use cerebelum::prelude::*;
use cerebelum::testing::Local;

use crate::{hostile, people, plain, waits};

/// One run.
pub struct Case {
    /// The workflow's name.
    pub workflow: &'static str,
    /// Its input, as JSON.
    pub input: &'static str,
    /// Its output as JSON, or the kind of its failure.
    pub expect: std::result::Result<&'static str, &'static str>,
    /// The same run on the local executor: output, or kind of failure.
    pub local: fn(&str) -> std::result::Result<String, String>,
}

macro_rules! table {
    ($($module:ident::$workflow:ident ($input:expr) => $expect:expr),+ $(,)?) => {
        [$(Case {
            workflow: stringify!($workflow),
            input: $input,
            expect: $expect,
            local: |input| {
                let input = input.parse::<Json>().and_then(|json| json.to()).map_err(|e| e.kind().to_owned())?;
                let run = Local::new().run($module::$workflow, input);
                match run.output() {
                    Ok(output) => Ok(Json::of(output).map_err(|e| e.kind().to_owned())?.as_str().to_owned()),
                    Err(error) => Err(error.kind().to_owned()),
                }
            },
        }),+]
    };
}

/// The table.
pub fn cases() -> impl IntoIterator<Item = Case> {
    table![
        plain::sequence(r#"{"steps":5}"#) => Ok("5"),
        plain::parallel(r#"{"steps":20}"#) => Ok("210"),
        plain::echo(r#"{"b":9007199254740993,"a":[null]}"#) => Ok(r#"{"b":9007199254740993,"a":[null]}"#),
        plain::nested("1") => Ok("6"),
        plain::countdown("3") => Ok("4"),
        plain::family(r#"{"children":3,"awaited":true}"#) => Ok("6"),
        plain::family(r#"{"children":2,"awaited":false}"#) => Ok("2"),
        plain::telling("10") => Ok("null"),
        waits::sleeper("20") => Ok(r#""awake""#),
        waits::sleeper("40000000000") => Err("invalid-argument"),
        waits::polling_in_vain(r#"{"base_url":"","ready_at":1,"every_ms":5,"attempts":3}"#) => Err("poll-exhausted"),
        people::listening(r#"{"names":["x"],"timeout_ms":20}"#) => Err("timeout"),
        people::asking(r#"{"title":"?","timeout_ms":20}"#) => Err("approval-timeout"),
        hostile::hostile(r#""unknown""#) => Err("unknown"),
        hostile::hostile_step(r#""unknown""#) => Err("unknown"),
        hostile::hostile(r#""wait-for-nothing""#) => Err("deadlock"),
    ]
}
