//! Checks that guests leave no memory behind, in a process of its own so that other tests do not disturb the
//! measurement.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../suite/support.rs"]
#[allow(dead_code, reason = "shared with the suite, which uses all of it")]
mod support;

use crate::support::{ample, program, workflow};

#[tokio::test]
async fn hibernating_ten_thousand_times_leaves_nothing_behind() {
    let program = program().await;
    let shapes = ["sequential", "join", "spawn", "blocking", "thread-sleep", "many"];
    let mut resident_early = 0;
    for round in 0..10_000 {
        let input = if round % 6 == 5 { "100" } else { "5" };
        let mut guest = program.start(workflow(shapes[round % 6], input), ample()).await.unwrap();
        let turn = guest.turn(None).await.unwrap();
        assert!(turn.end.is_none() && !turn.requests.is_empty());
        drop(guest);
        if round == 1_000 {
            resident_early = resident_bytes();
        }
    }
    let grown = resident_bytes().saturating_sub(resident_early);
    assert!(grown < 64 << 20, "{grown} bytes more after 9,000 further guests");
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
