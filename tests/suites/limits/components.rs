//! Components that are expensive to compile. Each is refused, or its compilation is ended, within seconds; the engine's
//! memory hardly grows, and others are served meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use test_engine::{Database, Engine, Said, Scratch, program, scratch, until};

use crate::capped::Capped;

/// What the engine's memory may grow by while it refuses a component, in bytes.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// How long a refusal may take. It takes 5 s at most on a machine with nothing else to do.
const REFUSAL_MAX: Duration = Duration::from_secs(20);

/// A component with the contract's entry, around this core code. The compiler accepts it; its entry does not fit.
fn with_code(code: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m (memory 1) (func (export "describe")) (func (export "entry")) {code})
            (core instance $i (instantiate $m))
            (type $entry (func async))
            (func $describe (canon lift (core func $i "describe")))
            (func $entry (type $entry) (canon lift (core func $i "entry")))
            (instance $guest
                (export "describe" (func $describe)) (export "workflow" (func $entry)) (export "step" (func $entry)))
            (export "cerebelum:guest/guest@1.0.0" (instance $guest)))"#
    );
    wat::parse_str(text).unwrap()
}

/// The same with a function many times. No two components are equal.
fn functions(count: usize, header: &str, body: &str) -> Vec<u8> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let salt = format!("(global i32 (i32.const {number}))");
    with_code(&format!("{salt} {}", format!("(func {header} {body})\n").repeat(count)))
}

/// 636 bytes of nested instances, which took 7 s and 1.8 GiB to compile.
fn nested_instances() -> Vec<u8> {
    let nested = (1..12).fold("(component $c0)".to_owned(), |inner, level| {
        let below = level - 1;
        format!("(component $c{level} {inner} (instance (instantiate $c{below})) (instance (instantiate $c{below})))")
    });
    wat::parse_str(format!("(component {nested} (instance (instantiate $c11)))")).unwrap()
}

/// Each of its functions stays below the limits on structure, and looks cheap.
fn loops_below_the_limit() -> Vec<u8> {
    functions(60, "", &"(loop)".repeat(1_500))
}

/// Thousands of values that are all needed at the end.
fn values_that_live_long() -> Vec<u8> {
    let loads: String = (0..10_000).map(|at| format!("(i64.load offset={} (i32.const 0))", at * 8)).collect();
    functions(40, "(result i64)", &format!("{loads} {}", "i64.add ".repeat(9_999)))
}

/// A client that uploads a file.
fn client(url: &str, file: &Path) -> Command {
    let mut client = Command::new(program("cerebelum"));
    client.args(["--url", url, "upload"]).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    client
}

/// Uploads a component. Returns the answer and what the engine's memory grew by.
fn upload(engine: &Engine, bytes: &[u8]) -> (Said, Duration, u64) {
    let folder = scratch();
    let file = folder.0.join("bomb.wasm");
    fs::write(&file, bytes).unwrap();
    // From here on, the kernel's record of the largest memory is a new one.
    fs::write(format!("/proc/{}/clear_refs", engine.pid()), "5").unwrap();
    let (before, began) = (engine.resident_bytes(), Instant::now());
    let said = engine.cli(&["upload", file.to_str().unwrap()]);
    (said, began.elapsed(), most_resident_bytes(engine).saturating_sub(before))
}

fn most_resident_bytes(engine: &Engine) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn bombs_are_refused_or_ended_within_seconds() {
    let engine = Engine::start(Database::Sqlite);
    let bombs = [
        ("nested instances", nested_instances(), "component instances, nested ones expanded"),
        ("loops", functions(1, "", &"(loop)".repeat(20_000)), "more than 1500 loops"),
        ("blocks", functions(700, "", &"(block)".repeat(15_000)), "s of CPU time to compile where at most 20"),
        ("loops below the limit", loops_below_the_limit(), "takes more than 3 s of CPU time to compile"),
        ("values that live long", values_that_live_long(), "of CPU time to compile"),
    ];
    for (name, bytes, cause) in bombs {
        let (said, took, growth) = upload(&engine, &bytes);
        eprintln!("{name}: {} kB, {took:?}, the engine grew by {} MiB", bytes.len() >> 10, growth >> 20);
        assert!(said.code == 5 && said.err.contains(cause), "{name}: {}", said.err);
        assert!(took < REFUSAL_MAX && growth < GROWTH_BYTES_MAX, "{name}: {took:?}, {growth} bytes");
    }
}

#[test]
fn the_same_bomb_costs_nothing_the_second_time() {
    let engine = Engine::start(Database::Sqlite);
    let bytes = loops_below_the_limit();
    let (first, took, _) = upload(&engine, &bytes);
    let (again, took_again, _) = upload(&engine, &bytes);
    assert_eq!((first.code, &first.err.lines().last()), (5, &again.err.lines().last()));
    assert!(took_again < took / 2, "{took_again:?} after {took:?}");
}

#[test]
fn others_are_served_while_bombs_are_compiled() {
    let mut capped = Capped::start(Database::Sqlite);
    let (url, folder) = (capped.engine.url().to_owned(), scratch());
    let attack = std::thread::spawn(move || {
        for number in 0..6 {
            let file = folder.0.join(format!("bomb-{number}.wasm"));
            fs::write(&file, loops_below_the_limit()).unwrap();
            let said = client(&url, &file).output().unwrap();
            assert_eq!(said.status.code(), Some(5), "{said:?}");
        }
    });
    capped.serves_others_while(|_| !attack.is_finished());
    attack.join().unwrap();
    capped.end("six bombs");
}

/// Uploads a component that takes seconds, and returns the process that compiles it.
fn compiling(engine: &Engine) -> (Child, PathBuf, Scratch) {
    let folder = scratch();
    let file = folder.0.join("slow.wasm");
    fs::write(&file, loops_below_the_limit()).unwrap();
    let client = client(engine.url(), &file).spawn().unwrap();
    let compile_box =
        until("the engine compiles", || children(engine.pid()).into_iter().find(|process| is_closed(process)));
    (client, compile_box, folder)
}

fn children(of: u32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).unwrap().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(|id| PathBuf::from(format!("/proc/{id}"))).collect::<Vec<_>>())
        .collect()
}

/// Whether the filter of system calls is in force. It comes last.
fn is_closed(process: &Path) -> bool {
    fs::read_to_string(process.join("status")).is_ok_and(|status| status.contains("Seccomp:\t2"))
}

#[test]
fn a_compile_box_has_three_pipes_and_nothing_else() {
    let engine = Engine::start_with(Database::Sqlite, &[("SECRET_TOKEN", "hidden")]);
    let (mut client, compile_box, _folder) = compiling(&engine);
    let limits = fs::read_to_string(compile_box.join("limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(|number| number.parse::<u64>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max address space"), [2 << 30, 2 << 30]);
    assert_eq!(limit("Max cpu time"), [3, 4]);
    assert_eq!(limit("Max open files"), [0, 0]);
    let open = fs::read_dir(compile_box.join("fd")).unwrap().flatten().map(|file| fs::read_link(file.path()).unwrap());
    let open: Vec<PathBuf> = open.collect();
    assert!(open.len() == 3 && open.iter().all(|file| file.to_str().unwrap().starts_with("pipe:")), "{open:?}");
    let environment = fs::read_to_string(compile_box.join("environ")).unwrap();
    assert_eq!(environment.trim_end_matches('\0'), "_RJEM_MALLOC_CONF=background_thread:false");
    client.wait().unwrap();
}

#[test]
fn a_compile_box_ends_with_its_engine() {
    let mut engine = Engine::start(Database::Sqlite);
    let (mut client, compile_box, _folder) = compiling(&engine);
    engine.kill();
    until("the compile box has ended", || (!compile_box.exists()).then_some(()));
    client.wait().unwrap();
}
