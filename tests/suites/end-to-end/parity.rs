//! The local executor and the engine run one table of workflows to the same results.

use serde_json::Value;
use test_engine::{Database, Engine};

on_both_databases!(the_engine_does_what_the_local_executor_does);

fn the_engine_does_what_the_local_executor_does(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    for case in test_guests::table::cases() {
        let local = (case.local)(case.input);
        let expect = case.expect.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(local, expect, "{} {} on the local executor", case.workflow, case.input);
        let done = engine.run(case.workflow, &serde_json::from_str::<Value>(case.input).unwrap());
        let ended = match case.expect {
            Ok(output) => done["output"] == serde_json::from_str::<Value>(output).unwrap(),
            Err(kind) => done["failure"]["kind"] == kind,
        };
        assert!(ended, "{} {} on the engine: {done:#}", case.workflow, case.input);
    }
}
