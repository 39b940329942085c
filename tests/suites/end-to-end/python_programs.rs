//! Python programs written in a test: built by the command line, uploaded, run.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, python_build, python_component, python_packages};

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


@workflow
async def double(context: Context, number: int) -> int:
    return number * 2
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
    for input in [json!(21), json!({ "number": 21 })] {
        assert_eq!(engine.run("review/double", &input)["output"], 42, "{input}");
    }
    for (input, place) in [("\"x\"", ""), (r#"{"number":"x"}"#, "/number")] {
        let said = engine.cli(&["start", "review/double", "--input", input]);
        let told = said.err.contains(r#""x" is not of type "integer""#) && said.err.contains(place);
        assert!(said.code == 2 && told, "{}: {}", said.code, said.err);
    }
    // The line of the failure is there, although the files are not.
    let fallen = engine.run("review/fall", &Value::Null);
    let traceback = fallen["failure"]["details"]["traceback"].as_str().unwrap_or_default();
    assert!(
        traceback.contains("app.py\", line 21, in stumble") && traceback.contains("raise ValueError"),
        "{fallen:#}"
    );
}

/// Values that would differ between two builds, and values that each execution has of its own.
const CHANCE: &str = r#"
import random
import time
import uuid

from cerebelum import Context, workflow

FROZEN = [random.random(), uuid.uuid4().hex, time.time(), repr({"one", "two", "three"}), id(object())]


@workflow
async def draw(context: Context) -> dict:
    return {"frozen": FROZEN, "own": [random.random(), uuid.uuid4().hex]}
"#;

#[test]
fn the_same_source_becomes_the_same_bytes_and_each_execution_has_its_own_chance() {
    let folder = tempfile::tempdir().unwrap();
    let built = |name: &str, text: &str| {
        let (sources, wasm) = (folder.path().join(name), folder.path().join(format!("{name}.wasm")));
        fs::create_dir(&sources).unwrap();
        fs::write(sources.join("app.py"), text).unwrap();
        let done = python_build(&sources, &wasm);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        wasm
    };
    let bytes = |wasm: &Path| fs::read(wasm).unwrap();
    let first = built("first", CHANCE);
    assert!(bytes(&first) == bytes(&built("second", CHANCE)), "two builds of one source differ");
    assert!(bytes(&first) != bytes(&built("third", &CHANCE.replace("own", "mine"))), "another source is built alike");
    let engine = Engine::start(Database::Sqlite);
    engine.ok(&["upload", first.to_str().unwrap(), "--name", "chance"]);
    let [one, other] = [(); 2].map(|()| engine.run("chance/draw", &Value::Null)["output"].clone());
    assert!(one["frozen"] == other["frozen"] && one["frozen"][0] != one["own"][0], "{one:#}");
    assert!(one["own"][0] != other["own"][0] && one["own"][1] != other["own"][1], "{one:#} {other:#}");
}

/// Features that can never work in a component, with a step for each.
const HOPELESS: &str = r#"
import os
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

from cerebelum import Context, step, workflow


@step
async def reading(context: Context) -> str:
    return open("/rates.json").read()


@step
async def folder(context: Context) -> str:
    import tempfile

    return tempfile.mkdtemp()


@step
async def asking(context: Context) -> str:
    return input("Go on?")


@step
async def zone(context: Context) -> str:
    return str(ZoneInfo("Europe/Berlin"))


@step
async def threads(context: Context) -> None:
    from concurrent.futures import ThreadPoolExecutor


@step
async def processes(context: Context) -> None:
    from concurrent.futures import ProcessPoolExecutor


@step
async def ending(context: Context) -> None:
    sys.exit(3)


@step
async def writing(context: Context) -> None:
    Path("/tmp/x").write_text("1")


@step
async def scratch(context: Context) -> None:
    os.open("/x", os.O_CREAT | os.O_WRONLY)


@step
async def wanting(context: Context, n: int) -> None: ...


@workflow
async def attempt(context: Context, which: str) -> None:
    await globals()[which](context)
"#;

#[test]
fn what_can_never_work_is_tried_once_and_says_what_to_do() {
    let engine = Engine::start(Database::Sqlite);
    engine.ok(&["upload", &python_component("hopeless", &[("app.py", HOPELESS)]), "--name", "hopeless"]);
    let cases = [
        ("zone", "there is no time zone 'Europe/Berlin' here: list tzdata in requirements.txt"),
        ("threads", "there are no threads in a component: use asyncio.create_task"),
        ("processes", "there are no processes in a component"),
        ("reading", "there is no file '/rates.json' in a component: read files at module level"),
        ("folder", "a component has no folder for temporary files"),
        ("asking", "a component has no terminal"),
        ("ending", "3"),
        ("writing", "a component cannot write files: use io.BytesIO"),
        ("scratch", "a component cannot write files: use io.BytesIO"),
    ];
    for (step, why) in cases {
        let ended = engine.run("hopeless/attempt", &json!(step));
        let told = ended["failure"]["message"].as_str().unwrap_or_default();
        assert!(told.contains(why), "{step}: {ended:#}");
        assert_eq!(ended["steps"][0]["attempt"], 1, "{step}: {ended:#}");
    }
    let told = engine.run("hopeless/attempt", &json!("wanting"))["failure"]["message"].to_string();
    assert!(told.contains("the input of step 'wanting': missing a required argument: 'n'"), "{told}");
}

/// Programs that can never finish, and library modules that only functions import.
const NOWHERE: &str = r#"
import asyncio
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cerebelum import Context, sleep, step, workflow


@workflow
async def stuck(context: Context) -> None:
    async def wait_for_nothing():
        await asyncio.Event().wait()

    await asyncio.create_task(wait_for_nothing())


@workflow
async def spinning(context: Context) -> None:
    timer = asyncio.create_task(asyncio.sleep(3600))
    while not timer.done():
        await asyncio.sleep(0)


@workflow
async def careless(context: Context) -> None:
    async def fail():
        raise ValueError("boom")

    asyncio.create_task(fail())
    kept = asyncio.create_task(fail())
    late(context)
    await sleep("1ms")


@step(retry=1)
async def late(context: Context) -> list:
    import tomllib
    import xml.etree.ElementTree
    import zipfile

    return [tomllib.loads("a = 1"), xml.etree.ElementTree.fromstring("<a/>").tag, zipfile.ZIP_STORED]


@step
async def never(context: Context) -> None:
    import threading

    threading.Thread(target=print).start()


@step
async def pool(context: Context) -> None:
    ProcessPoolExecutor()


@workflow
async def pooling(context: Context) -> None:
    await pool(context)


@workflow
async def reading(context: Context) -> list:
    return await late(context)


@workflow
async def meeting(context: Context, at: datetime) -> str:
    return at.isoformat()


@dataclass
class Circle:
    radius: int
    type: Literal["circle"] = "circle"


@dataclass
class Square:
    side: int
    type: Literal["square"] = "square"


@workflow
async def drawing(context: Context, shape: Circle | Square) -> str:
    return shape.type
"#;

#[test]
fn what_comes_to_nothing_says_where_it_stands() {
    let engine = Engine::start(Database::Sqlite);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app.py"), NOWHERE).unwrap();
    let wasm = folder.path().join("nowhere.wasm");
    let built = python_build(folder.path(), &wasm);
    let told = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{told}");
    assert!(told.contains("app.py:50: threading.Thread: there are no threads in a component: use"), "{told}");
    engine.ok(&["upload", wasm.to_str().unwrap(), "--name", "nowhere"]);

    let stuck = engine.run("nowhere/stuck", &Value::Null);
    let traceback = stuck["failure"]["details"]["traceback"].as_str().unwrap_or_default();
    for line in ["Task 'main' is here:", "in stuck", "in wait_for_nothing\n    await asyncio.Event().wait()\n"] {
        assert!(traceback.contains(line), "{line}: {stuck:#}");
    }

    let spinning = engine.run("nowhere/spinning", &Value::Null);
    assert_eq!(spinning["failure"]["kind"], "cpu-limit", "{spinning:#}");
    let logs = engine.ok(&["logs", spinning["execution_id"].as_str().unwrap()]);
    assert!(logs.contains("came round 50,000 times") && logs.contains("line 23, in spinning"), "{logs}");

    let careless = engine.run("nowhere/careless", &Value::Null);
    let logs = engine.ok(&["logs", careless["execution_id"].as_str().unwrap()]);
    assert_eq!(logs.matches("Task exception was never retrieved").count(), 2, "{logs}");
    assert!(logs.contains("coroutine 'late' was never awaited"), "{logs}");

    let pooling = engine.run("nowhere/pooling", &Value::Null);
    let told = pooling["failure"]["message"].as_str().unwrap_or_default();
    assert!(told.starts_with("there are no processes in a component"), "{pooling:#}");
    assert_eq!(pooling["steps"][0]["attempt"], 1, "{pooling:#}");

    let read = engine.run("nowhere/reading", &Value::Null);
    assert_eq!(read["output"], json!([{ "a": 1 }, "a", 0]), "{read:#}");

    for (shape, why) in [
        (r#"{"side":1,"type":"squar"}"#, r#"at /type: "squar" is not one of "circle" or "square""#),
        (r#"{"side":"x","type":"square"}"#, r#"at /side: "x" is not of type "integer""#),
    ] {
        let said = engine.cli(&["start", "nowhere/drawing", "--input", shape]);
        assert!(said.code == 2 && said.err.contains(why), "{}: {}", said.code, said.err);
    }
    for (shape, kind) in [(json!({ "side": 1 }), "square"), (json!({ "radius": 1, "type": "circle" }), "circle")] {
        assert_eq!(engine.run("nowhere/drawing", &shape)["output"], kind);
    }

    let met = engine.cli(&["start", "nowhere/meeting", "--input", "\"yesterday\""]);
    assert!(met.code == 2 && met.err.contains("\"yesterday\" does not match"), "{}: {}", met.code, met.err);
    assert_eq!(engine.run("nowhere/meeting", &json!("2030-01-31T12:00:00Z"))["output"], "2030-01-31T12:00:00+00:00");
}

/// A third-party library that sends its requests through the engine.
const HTTPX: &str = r#"
import httpx

from cerebelum import Context, component, step, workflow

component(hosts=["127.0.0.1"])


@step
async def send(context: Context, url: str) -> list:
    async with httpx.AsyncClient(base_url=url) as client:
        noted = await client.post("/notes/httpx", json={"text": "hello"})
        missing = await client.get("/nowhere")
        try:
            missing.raise_for_status()
        except httpx.HTTPStatusError as error:
            return [noted.is_success, error.response.status_code]


@workflow
async def flow(context: Context, url: str) -> list:
    return await send(context, url)
"#;

#[test]
fn httpx_sends_its_requests_through_the_engine() {
    let packages = python_packages(&["httpx", "httpcore", "anyio", "h11", "idna", "certifi"]);
    let mut files: Vec<(&str, &str)> = packages.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    files.push(("app.py", HTTPX));
    let (engine, cloud) = (Engine::start(Database::Sqlite), Cloud::start());
    engine.ok(&["upload", &python_component("with-httpx", &files), "--name", "with-httpx"]);
    let ended = engine.run("with-httpx/flow", &json!(cloud.url()));
    assert_eq!(ended["output"], json!([true, 404]), "{ended:#}");
    let noted = cloud.requests("POST", "/notes/httpx");
    assert_eq!(noted.len(), 1, "{noted:?}");
}
