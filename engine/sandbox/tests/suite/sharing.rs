//! Modules that components share: compiled once, stored once, and available only to the components that contain them.

use std::path::{Path, PathBuf};

use cerebelum_history::Digest;
use cerebelum_sandbox::{Config, InspectError, Program, Sandbox};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentOuterAliasKind, ComponentSection, CoreTypeSection,
    InstanceSection, ModuleArg, ModuleType, NestedComponentSection, RawSection,
};
use wasmparser::{Parser, Payload};

use crate::support::{ample, config, guest_bytes, run_on, workflow};
use crate::text_components::binary;

/// A large module without a memory of its own, which uses its imports in each possible way.
fn library(filler: usize) -> Vec<u8> {
    let filler = "(drop (i32.add (i32.const 123456) (i32.const 654321)))".repeat(filler);
    binary(&format!(
        r#"(module
            (import "base" "memory" (memory 1))
            (import "base" "table" (table 2 funcref))
            (import "base" "salt" (global $salt (mut i32)))
            (import "base" "double" (func $double (param i32) (result i32)))
            (import "base" "wide" (func $wide (param i64 f32 f64) (result i64)))
            (global (export "answer") i32 (i32.const 42))
            (global $count (export "count") (mut i64) (i64.const 0))
            (table (export "own") 1 1 funcref)
            (func $put (export "put") (result i32)
                (i32.store (i32.const 8) (call $double (global.get $salt)))
                (global.set $count (call $wide (i64.const 7) (f32.const 0) (f64.const 0)))
                (i32.load (i32.const 8)))
            (elem (table 0) (i32.const 1) func $put)
            (func (export "filler") {filler}))"#
    ))
}

/// The test guest with a library inside. It traps at its start unless the library works.
fn with_library(library: &[u8], salt: u32, pages: u32) -> Vec<u8> {
    let base = binary(&format!(
        r#"(module
            (memory (export "memory") {pages}) (table (export "table") 2 funcref)
            (global (export "salt") (mut i32) (i32.const {salt}))
            (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
            (func (export "wide") (param i64 f32 f64) (result i64) (local.get 0)))"#
    ));
    let check = binary(&format!(
        r#"(module
            (import "base" "memory" (memory 1)) (import "base" "table" (table 2 funcref))
            (import "library" "answer" (global $answer i32)) (import "library" "count" (global $count (mut i64)))
            (import "library" "own" (table $own 1 funcref))
            (import "library" "put" (func $put (result i32)))
            (type $put (func (result i32)))
            (func $start
                (if (i32.ne (call $put) (i32.const {twice})) (then unreachable))
                (if (i32.ne (call_indirect (type $put) (i32.const 1)) (i32.const {twice})) (then unreachable))
                (if (i32.ne (i32.load (i32.const 8)) (i32.const {twice})) (then unreachable))
                (if (i32.ne (global.get $answer) (i32.const 42)) (then unreachable))
                (if (i64.ne (global.get $count) (i64.const 7)) (then unreachable)))
            (start $start))"#,
        twice = salt * 2,
    ));
    let (modules, instances) = counts(guest_bytes());
    let mut bytes = guest_bytes().to_vec();
    for module in [&base, library, &check] {
        append(&mut bytes, &RawSection { id: 1, data: module });
    }
    let mut made = InstanceSection::new();
    made.instantiate(modules, [] as [(&str, ModuleArg); 0]);
    made.instantiate(modules + 1, [("base", ModuleArg::Instance(instances))]);
    let library_and_base = [("base", ModuleArg::Instance(instances)), ("library", ModuleArg::Instance(instances + 1))];
    made.instantiate(modules + 2, library_and_base);
    append(&mut bytes, &made);
    bytes
}

fn append(component: &mut Vec<u8>, section: &impl ComponentSection) {
    component.push(section.id());
    section.encode(component);
}

/// The number of core modules and core instances of a component.
fn counts(component: &[u8]) -> (u32, u32) {
    let mut counts = (0, 0);
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } => counts.0 += 1,
            Payload::InstanceSection(section) => counts.1 += section.count(),
            _ => {}
        }
    }
    counts
}

const LARGE: usize = 10_000;

fn fresh(name: &str) -> Config {
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sandbox-sharing").join(name);
    let _ = std::fs::remove_dir_all(&data);
    Config { data, ..config() }
}

fn libraries(config: &Config) -> Vec<PathBuf> {
    let files = std::fs::read_dir(config.data.join("artifacts")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("module-")).collect()
}

/// Loads a component and waits until it is stored. The second result says whether its bytes were requested.
async fn load(sandbox: &Sandbox, bytes: &[u8]) -> (Program, bool) {
    let mut asked = false;
    let given = async {
        asked = true;
        Ok::<_, String>(bytes.to_vec())
    };
    let program = sandbox.load(&Digest::of(bytes), given).await.unwrap();
    sandbox.kept().await;
    (program, asked)
}

#[tokio::test]
async fn a_component_behaves_the_same_with_its_library_taken_out() {
    let config = fresh("same");
    let sandbox = Sandbox::new(config.clone()).unwrap();
    let (small, large) = (with_library(&library(10), 3, 1), with_library(&library(LARGE), 3, 1));
    let whole = run_on(&load(&sandbox, &small).await.0, workflow("sequential", "3")).await;
    assert_eq!((sandbox.modules_compiled(), libraries(&config).len()), (0, 0), "a small library stays where it is");
    let (program, _) = load(&sandbox, &large).await;
    assert_eq!((sandbox.modules_compiled(), libraries(&config).len()), (1, 2));
    assert_eq!(program.digest(), &Digest::of(&large), "its name is that of the uploaded bytes");
    assert_eq!(run_on(&program, workflow("sequential", "3")).await, whole);
    let recalled = load(&Sandbox::new(config).unwrap(), &large).await;
    assert_eq!((run_on(&recalled.0, workflow("sequential", "3")).await, recalled.1), (whole, false));
}

#[tokio::test]
async fn a_library_of_two_components_is_compiled_and_kept_once() {
    let config = fresh("once");
    let sandbox = Sandbox::new(config.clone()).unwrap();
    let [first, second] = [1, 2].map(|salt| with_library(&library(LARGE), salt, 1));
    for component in [&first, &second] {
        let (program, asked) = load(&sandbox, component).await;
        assert!(asked);
        assert_eq!((sandbox.modules_compiled(), libraries(&config).len()), (1, 2));
        assert_eq!(run_on(&program, workflow("sequential", "3")).await.output(), "3");
    }
    // Another engine on the same folder finds it on disk.
    let later = Sandbox::new(config.clone()).unwrap();
    load(&later, &with_library(&library(LARGE), 3, 1)).await;
    assert_eq!(later.modules_compiled(), 0);
    later.forget(&Digest::of(&first));
    later.forget(&Digest::of(&with_library(&library(LARGE), 3, 1)));
    assert_eq!(libraries(&config).len(), 2, "the second component needs it");
    later.forget(&Digest::of(&second));
    assert_eq!(libraries(&config), [] as [PathBuf; 0]);
}

/// Flips one bit in the middle of a file.
fn spoil(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

fn remove(file: &Path) {
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_damaged_or_missing_library_is_compiled_again() {
    let config = fresh("damaged");
    let component = with_library(&library(LARGE), 1, 1);
    load(&Sandbox::new(config.clone()).unwrap(), &component).await;
    for (harm, extension) in [(spoil as fn(&Path), "cwasm"), (spoil, "seal"), (remove, "cwasm"), (remove, "seal")] {
        let file = libraries(&config).into_iter().find(|file| file.extension().unwrap() == extension).unwrap();
        harm(&file);
        let sandbox = Sandbox::new(config.clone()).unwrap();
        let (program, asked) = load(&sandbox, &component).await;
        assert_eq!((asked, sandbox.modules_compiled()), (true, 1), "{}", file.display());
        assert_eq!(run_on(&program, workflow("sequential", "3")).await.output(), "3");
        assert!(!load(&Sandbox::new(config.clone()).unwrap(), &component).await.1, "{}", file.display());
    }
}

#[tokio::test]
async fn the_artifact_of_a_library_does_not_pass_for_another() {
    let config = fresh("swapped");
    let [mine, other] = [LARGE, LARGE + 1].map(|filler| with_library(&library(filler), 1, 1));
    let sandbox = Sandbox::new(config.clone()).unwrap();
    load(&sandbox, &mine).await;
    let [before, after] = ["cwasm", "seal"]
        .map(|extension| libraries(&config).into_iter().find(|file| file.extension().unwrap() == extension).unwrap());
    let kept = [&before, &after].map(|file| std::fs::read(file).unwrap());
    load(&sandbox, &other).await;
    let others = libraries(&config).into_iter().filter(|file| *file != before && *file != after);
    for file in others {
        std::fs::write(&file, &kept[usize::from(file.extension().unwrap() == "seal")]).unwrap();
    }
    let later = Sandbox::new(config).unwrap();
    assert!(load(&later, &other).await.1, "the seal names what it is the seal of");
    assert_eq!(later.modules_compiled(), 1);
}

/// The files of compiled components with this extension.
fn components(config: &Config, ending: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(config.data.join("artifacts")).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |file: &PathBuf| !file.file_name().unwrap().to_str().unwrap().starts_with("module-");
    files.filter(is_one).filter(|file| file.extension().unwrap() == ending).collect()
}

#[tokio::test]
async fn a_component_like_another_is_kept_as_the_difference() {
    let config = fresh("difference");
    let sandbox = Sandbox::new(config.clone()).unwrap();
    let all = [1, 2, 3].map(|salt| with_library(&library(LARGE), salt, 1));
    for component in &all {
        load(&sandbox, component).await;
    }
    let [whole, differences] = ["cwasm", "delta"].map(|ending| components(&config, ending));
    assert_eq!((whole.len(), differences.len()), (1, 2));
    let size = |file: &PathBuf| std::fs::metadata(file).unwrap().len();
    assert!(differences.iter().all(|file| size(file) * 50 < size(&whole[0])), "a few bytes differ");
    let later = Sandbox::new(config.clone()).unwrap();
    for component in &all {
        let (program, asked) = load(&later, component).await;
        assert!(!asked, "it is on disk");
        assert_eq!(run_on(&program, workflow("sequential", "3")).await.output(), "3");
    }
    // The base stays as long as other components differ from it, even when its own component is forgotten.
    let [first, second, third] = all.each_ref().map(|bytes| Digest::of(bytes));
    later.forget(&first);
    assert!(!load(&Sandbox::new(config.clone()).unwrap(), &all[1]).await.1);
    assert!(load(&Sandbox::new(config.clone()).unwrap(), &all[0]).await.1, "it was forgotten, and is kept again");
    later.forget(&first);
    later.forget(&second);
    assert!(!load(&Sandbox::new(config.clone()).unwrap(), &all[2]).await.1);
    later.forget(&third);
    assert_eq!(std::fs::read_dir(config.data.join("artifacts")).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn a_difference_that_is_damaged_or_has_lost_its_base_is_compiled_again() {
    let config = fresh("difference-damaged");
    let [first, second] = [1, 2].map(|salt| with_library(&library(LARGE), salt, 1));
    let sandbox = Sandbox::new(config.clone()).unwrap();
    for (harm, ending) in [(spoil as fn(&Path), "delta"), (remove, "delta"), (spoil, "cwasm"), (remove, "cwasm")] {
        for digest in [&first, &second].map(|bytes| Digest::of(bytes)) {
            sandbox.forget(&digest);
        }
        load(&sandbox, &first).await;
        load(&sandbox, &second).await;
        harm(&components(&config, ending)[0]);
        let (program, asked) = load(&Sandbox::new(config.clone()).unwrap(), &second).await;
        assert!(asked, "{ending}");
        assert_eq!(run_on(&program, workflow("sequential", "3")).await.output(), "3");
        assert!(!load(&Sandbox::new(config.clone()).unwrap(), &second).await.1, "{ending}: it is kept again");
    }
}

async fn refusal(sandbox: &Sandbox, bytes: &[u8]) -> String {
    match sandbox.inspect(bytes.to_vec()).await {
        Err(InspectError::Refused(line)) => line,
        other => panic!("not refused but {other:?}"),
    }
}

#[tokio::test]
async fn nobody_gets_at_a_library_that_is_not_inside() {
    let config = fresh("hostile");
    let sandbox = Sandbox::new(config.clone()).unwrap();
    load(&sandbox, &with_library(&library(LARGE), 1, 1)).await;
    let name = format!("shared-m{}", Digest::of(&library(LARGE)));
    let thief = binary(&format!("(component (import \"{name}\" (core module)))"));
    assert!(refusal(&sandbox, &thief).await.contains("a module or component, which is not accepted"));
}

#[tokio::test]
async fn what_is_not_understood_is_compiled_whole() {
    let config = fresh("whole");
    let sandbox = Sandbox::new(config.clone()).unwrap();
    let mut typed = with_library(&library(LARGE), 1, 1);
    let mut types = CoreTypeSection::new();
    types.ty().module(&ModuleType::new());
    append(&mut typed, &types);
    let (program, _) = load(&sandbox, &typed).await;
    assert_eq!(run_on(&program, workflow("sequential", "3")).await.output(), "3");
    assert_eq!((sandbox.modules_compiled(), libraries(&config).len()), (0, 0));
}

#[tokio::test]
async fn what_is_not_valid_stays_so() {
    let config = fresh("invalid");
    let sandbox = Sandbox::new(config.clone()).unwrap();
    // The alias refers to the first core type of the surrounding component, which has none before modules are taken
    // out.
    let mut alias = ComponentAliasSection::new();
    alias.alias(Alias::Outer { kind: ComponentOuterAliasKind::CoreType, count: 1, index: 0 });
    let mut nested = Component::new();
    nested.section(&alias);
    let mut dangling = with_library(&library(LARGE), 1, 1);
    append(&mut dangling, &NestedComponentSection(&nested));
    assert!(refusal(&sandbox, &dangling).await.contains("the component is not valid"));
    // A library with invalid code: the error is about the component, and nothing of it is stored.
    let mut wrong = library(LARGE);
    let at = wrong.windows(2).rposition(|bytes| bytes == [0x6a, 0x1a]).unwrap();
    wrong[at] = 0x7c; // i64.add of two i32
    let line = refusal(&sandbox, &with_library(&wrong, 1, 1)).await;
    assert!(line.contains("the component is not valid") && line.contains("type mismatch"), "{line}");
    assert_eq!(libraries(&config), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_large_program_that_nobody_uses_is_let_go() {
    let config = fresh("rest");
    let sandbox = Sandbox::new(config.clone()).unwrap();
    let (small, large) = (with_library(&library(10), 1, 1), with_library(&library(10), 1, 100));
    let (program, _) = load(&sandbox, &large).await;
    load(&sandbox, &small).await;
    let guest = program.start(workflow("sequential", "1"), ample()).await.unwrap();
    drop(program);
    // With nothing on disk, a load without bytes can only come from memory.
    std::fs::remove_dir_all(config.data.join("artifacts")).unwrap();
    std::fs::create_dir(config.data.join("artifacts")).unwrap();
    for _ in 0..3 {
        sandbox.rest();
    }
    assert!(!load(&sandbox, &large).await.1, "a guest runs it");
    drop(guest);
    sandbox.rest();
    assert!(!load(&sandbox, &large).await.1, "it was used since the last rest");
    sandbox.rest();
    sandbox.rest();
    assert!(load(&sandbox, &large).await.1);
    assert!(!load(&sandbox, &small).await.1, "a small one keeps next to nothing");
}
