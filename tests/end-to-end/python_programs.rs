//! Programs in Python that are written in a test: built by the command line, uploaded, run.

use cerebelum_tests::{Database, Engine, python_component};
use serde_json::{Value, json};

/// A timeline beside an async workflow; imports inside functions, of the program itself and of the library.
const PROGRAM: [(&str, &str); 2] = [
    (
        "app.py",
        r#"
from cerebelum import Context, step, workflow


@step
async def count(context: Context, inputs: dict) -> dict:
    import fnmatch

    return {"python": len(fnmatch.filter(inputs["files"], "*.py"))}


@step
async def judge(context: Context, count: dict) -> str:
    from late import judgement

    return judgement(count["python"])


@step(retry=1)
async def stumble(context: Context) -> None:
    raise ValueError("no such luck")


@workflow
def review(wf):
    wf.timeline(count >> judge)


@workflow
async def fall(context: Context) -> None:
    await stumble(context)
"#,
    ),
    ("late.py", "def judgement(number):\n    return 'much' if number > 1 else 'little'\n"),
];

#[test]
fn a_program_written_in_a_test_is_built_uploaded_and_run() {
    let engine = Engine::start(Database::Sqlite);
    engine.ok(&["upload", &python_component("review", &PROGRAM), "--name", "review"]);
    let ended = engine.run("review/review", &json!({ "files": ["a.py", "b.py", "c.rs"] }));
    assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &json!("much")), "{ended:#}");
    // The line of the failure is there, although the files are not.
    let fallen = engine.run("review/fall", &Value::Null);
    let traceback = fallen["failure"]["details"]["traceback"].as_str().unwrap_or_default();
    assert!(
        traceback.contains("app.py\", line 21, in stumble") && traceback.contains("raise ValueError"),
        "{fallen:#}"
    );
}
