//! Which components are accepted, the lines with which others are rejected, and the storage of compiled ones.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cerebelum_history::Digest;
use cerebelum_sandbox::{Config, InspectError, LoadError, Program, Sandbox};

use crate::support::{config, guest_bytes, run_on, sandbox, workflow};
use crate::text_components::{binary, calling_from_start, with_entry, with_plain_entry};

async fn refusal(bytes: &[u8]) -> String {
    match sandbox().inspect(bytes.to_vec()).await {
        Err(InspectError::Refused(line)) => {
            assert!(!line.contains('\n'), "{line}");
            line
        }
        other => panic!("not refused but {other:?}"),
    }
}

async fn check(bytes: &[u8], line: &str) {
    let refusal = refusal(bytes).await;
    assert!(refusal.contains(line), "refused with: {refusal}");
}

#[tokio::test]
async fn a_component_is_accepted_and_described() {
    let inspected = sandbox().inspect(guest_bytes().to_vec()).await.unwrap();
    assert_eq!(inspected.digest, Digest::of(guest_bytes()));
    assert!(inspected.manifest.workflows.iter().any(|workflow| workflow.name == "sequential"));
}

#[tokio::test]
async fn files_that_are_no_component_are_refused() {
    check(b"", "the file is empty").await;
    check(b"hello, this is text", "no WebAssembly component").await;
    check(b"(component)", "upload the binary form").await;
    check(b"\0asm", "truncated").await;
    check(&binary("(module)"), "core WebAssembly module, not a component: build Rust with `--target wasm32-wasip2`")
        .await;
    let whole = guest_bytes();
    for end in [9, 1000, whole.len() / 2, whole.len() - 1] {
        check(&whole[..end], "the component is truncated").await;
    }
    check(&vec![0; (64 << 20) + 1], "at most 67108864 are accepted").await;
}

#[tokio::test]
async fn garbage_inside_a_component_is_refused_or_harmless() {
    // Any single changed byte leads to a clear line or to an accepted component, never to an engine fault or a panic.
    let whole = guest_bytes();
    for at in (8..whole.len()).step_by(whole.len() / 12) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0xff;
        if let Err(error) = sandbox().inspect(bytes).await {
            assert!(matches!(&error, InspectError::Refused(line) if !line.contains('\n')), "byte {at}: {error}");
        }
    }
}

#[tokio::test]
async fn imports_that_are_not_offered_are_named() {
    let importing = |name: &str| binary(&format!("(component (import \"{name}\" (instance)))"));
    check(&importing("wasi:http/types@0.2.0"), "imports `wasi:http/types@0.2.0`").await;
    check(&importing("wasi:keyvalue/store@0.2.0"), "imports `wasi:keyvalue/store@0.2.0`").await;
    check(&importing("wasi:cli/exit@0.3.0"), "WASI 0.2 is").await;
    check(&importing("my:own/thing"), "only `cerebelum:guest` and an inert WASI 0.2 are").await;
    check(
        &importing("cerebelum:guest/context@2.1.0"),
        "speaks `cerebelum:guest/context@2.1.0`, this engine speaks version 1",
    )
    .await;
    let function = r#"(component (import "cerebelum:guest/context@1.0.0" (instance (export "teleport" (func))))
        (instance $g) (export "cerebelum:guest/guest@1.0.0" (instance $g)))"#;
    check(&binary(function), "teleport").await;
    let typed = r#"(component (import "cerebelum:guest/context@1.0.0" (instance (export "now" (func (result string)))))
        (instance $g) (export "cerebelum:guest/guest@1.0.0" (instance $g)))"#;
    check(&binary(typed), "now").await;
}

#[tokio::test]
async fn missing_and_mismatching_exports_are_named() {
    check(&binary("(component)"), "does not export `cerebelum:guest/guest@1`").await;
    let other = r#"(component (instance $g) (export "cerebelum:guest/guest@3.0.0" (instance $g)))"#;
    check(&binary(other), "speaks `cerebelum:guest/guest@3.0.0`").await;
    let empty = r#"(component (instance $g) (export "cerebelum:guest/guest@1.0.0" (instance $g)))"#;
    check(&binary(empty), "does not export `cerebelum:guest/guest@1.0.0#describe`").await;
    check(&with_plain_entry(), "`cerebelum:guest/guest@1.0.0#workflow` must be an `async func`").await;
    check(&with_entry(""), "expected 1-tuple, found 0-tuple").await;
}

#[tokio::test]
async fn start_functions_run_under_limits() {
    let quick = Config { workflow_cpu_max: Duration::from_millis(30), ..config() };
    let sandbox = Sandbox::new(quick).unwrap();
    let endless = with_entry("(func $s (loop (br 0))) (start $s)");
    let error = sandbox.inspect(endless).await.unwrap_err().to_string();
    assert!(error.contains("cpu-limit"), "{error}");
    // The start function traps unless the call is refused at once. The component is then rejected for its useless
    // entry.
    check(&calling_from_start(), "expected 1-tuple, found 0-tuple").await;
    assert_eq!(sandbox.live(), 0);
}

#[tokio::test]
async fn what_would_be_dear_to_compile_is_refused_before() {
    let loops = format!("(func {})", "(loop)".repeat(20_000));
    check(&with_entry(&loops), "more than 1500 loops").await;
    check(&with_entry("(memory 8000)"), "begins with 524288000 bytes of memory").await;
    check(&with_entry("(table 20000000 funcref)"), "elements in one table").await;
    check(&with_entry("(memory 1 1 shared)"), "the component is not valid").await;
    let nested = (1..12).fold("(component $c0)".to_owned(), |inner, level| {
        format!(
            "(component $c{level} {inner} (instance (instantiate $c{})) (instance (instantiate $c{})))",
            level - 1,
            level - 1
        )
    });
    let nested = format!("(component {nested} (instance (instantiate $c11)))");
    check(&binary(&nested), "component instances, nested ones expanded").await;
    let modules = format!("(component {})", "(core module)".repeat(65));
    check(&binary(&modules), "more than 64 core modules").await;
    let module = "(component (import \"m\" (core module)))";
    check(&binary(module), "imports `m`, a module or component").await;
    check(&binary("(component (component (core module)))"), "other components with code").await;
}

/// A component that takes a second or two to compile and is rejected afterwards.
fn slow(salt: usize) -> Vec<u8> {
    let function = format!("(func (result i64) i64.const {salt} {})", "i64.const 3 i64.add ".repeat(2_000));
    with_entry(&function.repeat(300))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_hangs_up_leaves_no_second_compilation_behind() {
    let sandbox = Sandbox::new(fresh("hung-up")).unwrap();
    let upload = |salt| {
        let sandbox = sandbox.clone();
        tokio::spawn(async move { sandbox.inspect(slow(salt)).await.map(drop) })
    };
    let first = upload(0);
    while sandbox.compiling() == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(sandbox.compiling(), 1, "what has begun goes on");
    let second = upload(1);
    while !second.is_finished() {
        assert!(sandbox.compiling() <= 1, "one at a time, whoever waits for it");
        tokio::task::yield_now().await;
    }
    assert!(matches!(second.await.unwrap(), Err(InspectError::Refused(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_an_execution_waits_for_is_not_compiled_behind_uploads() {
    let sandbox = Sandbox::new(fresh("not-behind")).unwrap();
    let uploads: Vec<_> = (10..16)
        .map(|salt| {
            let sandbox = sandbox.clone();
            tokio::spawn(async move { sandbox.inspect(slow(salt)).await.map(drop) })
        })
        .collect();
    while sandbox.compiling() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(load(&sandbox).await.1, "it was compiled");
    assert!(uploads.iter().any(|upload| !upload.is_finished()), "meanwhile uploads waited for their turn");
    uploads.iter().for_each(tokio::task::JoinHandle::abort);
}

fn fresh(name: &str) -> Config {
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandbox-cache").join(name);
    let _ = std::fs::remove_dir_all(&data);
    Config { data, ..config() }
}

fn file_in(config: &Config, extension: &str) -> PathBuf {
    config.data.join("artifacts").join(format!("{}.{extension}", Digest::of(guest_bytes())))
}

/// Loads the test guest and waits until it is stored. The second result says whether its bytes were requested.
async fn load(sandbox: &Sandbox) -> (Program, bool) {
    let asked = AtomicUsize::new(0);
    let bytes = async {
        asked.fetch_add(1, Ordering::Relaxed);
        Ok::<_, String>(guest_bytes().to_vec())
    };
    let program = sandbox.load(&Digest::of(guest_bytes()), bytes).await.unwrap();
    sandbox.kept().await;
    (program, asked.into_inner() == 1)
}

#[tokio::test]
async fn a_compiled_component_is_kept_for_the_next_engine() {
    let config = fresh("kept");
    assert!(load(&Sandbox::new(config.clone()).unwrap()).await.1);
    let (program, asked) = load(&Sandbox::new(config.clone()).unwrap()).await;
    assert!(!asked);
    assert_eq!(run_on(&program, workflow("sequential", "3")).await.output(), "3");
    use std::os::unix::fs::PermissionsExt;
    let mode = |file: PathBuf| std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(config.data.join("artifact.key")), mode(config.data.join("artifacts"))), (0o600, 0o700));
}

#[tokio::test]
async fn a_damaged_artifact_is_compiled_again() {
    let config = fresh("damaged");
    load(&Sandbox::new(config.clone()).unwrap()).await;
    let spoil = |file: PathBuf| {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes).unwrap();
    };
    for extension in ["cwasm", "seal"] {
        spoil(file_in(&config, extension));
        assert!(load(&Sandbox::new(config.clone()).unwrap()).await.1, "{extension}");
        assert!(!load(&Sandbox::new(config.clone()).unwrap()).await.1, "{extension}");
    }
    std::fs::write(config.data.join("artifact.key"), [1; 32]).unwrap();
    assert!(load(&Sandbox::new(config.clone()).unwrap()).await.1, "another key");
    std::fs::write(config.data.join("artifact.key"), b"short").unwrap();
    assert!(Sandbox::new(config).err().unwrap().to_string().contains("is no key of 32 bytes"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_ask_a_component_is_compiled_once() {
    let sandbox = Sandbox::new(fresh("once")).unwrap();
    let crowd = (0..16).map(|_| {
        let sandbox = sandbox.clone();
        tokio::spawn(async move { load(&sandbox).await.1 })
    });
    let asked = futures::future::join_all(crowd).await.into_iter().filter(|asked| *asked.as_ref().unwrap()).count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn bytes_that_cannot_be_had_or_are_others_are_told_apart() {
    let config = fresh("bytes");
    let sandbox = Sandbox::new(config.clone()).unwrap();
    let digest = Digest::of(guest_bytes());
    let gone = sandbox.load(&digest, async { Err("gone") }).await.err().unwrap();
    assert_eq!(gone, LoadError::Bytes("gone"));
    let other = sandbox.load(&digest, async { Ok::<_, String>(vec![1]) }).await.err().unwrap();
    assert!(matches!(other, LoadError::Inspect(InspectError::HostError(line)) if line.contains("are damaged")));
    assert!(load(&sandbox).await.1, "an attempt that failed is forgotten");
    sandbox.forget(&digest);
    assert!(!file_in(&config, "cwasm").exists());
    assert!(load(&sandbox).await.1);
}

#[tokio::test]
async fn compiled_code_that_was_not_used_for_long_makes_room() {
    let config = Config { artifact_bytes_max: 0, ..fresh("room") };
    // The same component with a custom section of one byte.
    let variant = |salt: u8| [guest_bytes(), &[0, 3, 1, b'n', salt]].concat();
    let load = async |sandbox: &Sandbox, salt: u8| {
        let (bytes, asked) = (variant(salt), AtomicUsize::new(0));
        let digest = Digest::of(&bytes);
        let asking = async {
            asked.fetch_add(1, Ordering::Relaxed);
            Ok::<_, String>(bytes)
        };
        sandbox.load(&digest, asking).await.unwrap();
        sandbox.kept().await;
        asked.into_inner() > 0
    };
    let first = Sandbox::new(config.clone()).unwrap();
    assert!(load(&first, 1).await && load(&first, 2).await);
    let kept = std::fs::read_dir(config.data.join("artifacts")).unwrap().count();
    assert_eq!(kept, 2, "one artifact and its seal");
    let second = Sandbox::new(config).unwrap();
    assert!(!load(&second, 2).await, "the last one stays");
    assert!(load(&second, 1).await, "the one before is compiled again");
}
