//! Hostile or broken guests end with a named failure, and other guests go on.

use cerebelum_history::{Call, Delivery, Outcome, Request, Timestamp};
use cerebelum_sandbox::{Config, Sandbox};

use crate::support::{BEGAN, ample, config, json, program, program_of, run, run_on, step, workflow};

#[tokio::test]
async fn a_guest_that_waits_for_nothing_is_in_a_deadlock() {
    let ran = run(workflow("deadlock", "1")).await;
    assert_eq!((ran.failure().kind.as_str(), ran.failure().retryable), ("deadlock", false), "{:?}", ran.failure());
}

#[tokio::test]
async fn an_endless_loop_ends_and_others_are_served_meanwhile() {
    // The test has one thread: without yields, the loop would block all other guests.
    let program = program().await;
    let looping = tokio::spawn({
        let program = program.clone();
        async move { run_on(&program, workflow("loop", "1")).await }
    });
    for _ in 0..20 {
        assert_eq!(run_on(&program, workflow("sequential", "5")).await.output(), "10");
        tokio::task::yield_now().await;
    }
    assert!(!looping.is_finished(), "twenty short guests are done long before a second of CPU time");
    let ran = looping.await.unwrap();
    assert_eq!((ran.failure().kind.as_str(), ran.failure().retryable), ("cpu-limit", false));
    assert_eq!(ran.failure().message, "the guest computed for 1000 ms without waiting for anything");
}

#[tokio::test]
async fn a_step_may_compute_longer_than_a_workflow() {
    let cpu = std::time::Duration::from_millis;
    let limits = Config { workflow_cpu_max: cpu(30), step_cpu_max: cpu(90), ..config() };
    let program = program_of(&Sandbox::new(limits).unwrap()).await;
    assert!(run_on(&program, workflow("loop", "1")).await.failure().message.contains("30 ms"));
    assert!(run_on(&program, step("loop", "1")).await.failure().message.contains("90 ms"));
}

#[tokio::test]
async fn what_is_repeated_may_compute_ten_times_as_long() {
    let limits = Config { workflow_cpu_max: std::time::Duration::from_millis(30), ..config() };
    let program = program_of(&Sandbox::new(limits).unwrap()).await;
    let mut guest = program.start(workflow("loop", "1"), ample()).await.unwrap();
    let began = std::time::Instant::now();
    let end = guest.turn_again(None).await.unwrap().end.unwrap();
    assert_eq!(end.unwrap_err().kind, "cpu-limit");
    // The first tick of a turn is free.
    assert!(began.elapsed().as_millis() >= 300, "it has computed for {:?}", began.elapsed());
}

#[tokio::test]
async fn every_delivery_refills_the_cpu_budget() {
    // Each of the 15 turns computes for some milliseconds. Their sum exceeds the limit of one turn.
    let limits = Config { workflow_cpu_max: std::time::Duration::from_millis(60), ..config() };
    let program = program_of(&Sandbox::new(limits).unwrap()).await;
    let ran = run_on(&program, workflow("compute", "10")).await;
    assert_eq!(ran.calls(), 15, "{:?}", ran.end);
    assert!(ran.end.unwrap().is_ok());
}

#[tokio::test]
async fn a_memory_bomb_meets_its_limit() {
    for begin in [workflow("memory", "1"), workflow("memory", "\"after\"")] {
        let ran = run(begin).await;
        assert_eq!((ran.failure().kind.as_str(), ran.failure().retryable), ("memory-limit", false));
        assert_eq!(
            ran.failure().message,
            "the guest needs more memory than it may have: memory allocation of 1048576 bytes failed"
        );
    }
}

#[tokio::test]
async fn endless_recursion_overflows_the_stack_also_across_the_border() {
    for name in ["stack", "stack-edge"] {
        let ran = run(workflow(name, "1")).await;
        assert_eq!(
            (ran.failure().kind.as_str(), ran.failure().retryable),
            ("stack-overflow", false),
            "{name} {:?}",
            ran.failure()
        );
    }
}

#[tokio::test]
async fn a_panic_is_a_trap_that_says_what_happened() {
    let ran = run(workflow("panic", "1")).await;
    let failure = ran.failure();
    assert_eq!((failure.kind.as_str(), failure.retryable), ("trap", true));
    assert!(failure.message.starts_with("panicked at engine/sandbox/tests/guest/src/misbehaving.rs:"), "{failure}");
    assert!(failure.message.ends_with(": no such server really"), "{failure}");
    assert!(failure.details.as_ref().unwrap().as_str().contains("no such server\\nreally"));
    assert!(ran.logs().iter().any(|line| line == "warn no such server"));
}

#[tokio::test]
async fn leaving_by_exit_is_a_trap() {
    let ran = run(workflow("exit", "1")).await;
    assert_eq!(
        (ran.failure().kind.as_str(), ran.failure().message.as_str()),
        ("trap", "the guest exited with status 1")
    );
}

#[tokio::test]
async fn values_that_are_too_large_are_named() {
    for mib in ["2", "100"] {
        let output = run(step("huge", mib)).await;
        assert_eq!((output.failure().kind.as_str(), output.failure().retryable), ("output-too-large", false), "{mib}");
        let argument = run(step("huge-argument", mib)).await;
        assert_eq!(argument.failure().kind, "output-too-large", "{mib}");
        assert_eq!(argument.calls(), 0);
    }
}

#[tokio::test]
async fn an_output_that_is_no_json_is_named() {
    let ran = run(workflow("invalid", "\"a\"")).await;
    assert_eq!((ran.failure().kind.as_str(), ran.failure().retryable), ("invalid-output", false));
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_counted() {
    let logs = run(workflow("log-flood", "1")).await.logs();
    // 1 MiB in lines of 1,000 bytes, each of which counts 64 bytes more.
    assert!(logs.len() > 950 && logs.len() < 1000, "{}", logs.len());
    let dropped = 5001 - (logs.len() - 1);
    assert_eq!(logs.last().unwrap(), &format!("warn {dropped} log lines beyond 1048576 bytes were dropped"));
}

#[tokio::test]
async fn a_name_that_is_too_long_is_refused() {
    let ran = run(workflow("names", "1")).await;
    assert_eq!(ran.failure().kind, "invalid-argument");
    assert_eq!(ran.failure().message, format!("a step's name has 1 to 256 bytes, `{}` has 300", "n".repeat(40)));
}

#[tokio::test]
async fn the_longest_sleep_is_a_year() {
    let year: u64 = 365 * 24 * 3_600_000;
    let ran = run(workflow("sleep", &year.to_string())).await;
    assert_eq!(ran.requests(), [&Request::Call(1, Call::Sleep { duration_ms: year })]);
    assert_eq!(run(workflow("sleep", &(year + 1).to_string())).await.failure().kind, "invalid-argument");
    assert_eq!(run(workflow("sleep", "0")).await.calls(), 0);
    // Blocking sleeps cannot be refused, so a longer one is made of several calls.
    let two = run(workflow("thread-sleep", &(2 * year).to_string())).await;
    assert_eq!((two.calls(), two.output()), (2, format!("[{},{}]", 2 * year, 2 * year).as_str()));
}

#[tokio::test]
async fn a_value_in_a_delivery_arrives_unchanged() {
    let mut guest = program().await.start(workflow("many", "1"), ample()).await.unwrap();
    guest.turn(None).await.unwrap();
    let value = format!("{{\"b\":9007199254740993,\"a\":\"{}\"}}", "x".repeat(1_000_000));
    let delivery = Delivery { ordinal: 1, outcome: Outcome::Value(json(&value)), clock: Timestamp(BEGAN) };
    let turn = guest.turn(Some(delivery)).await.unwrap();
    assert_eq!(turn.end.unwrap().unwrap().as_str(), format!("[{value}]"));
}
