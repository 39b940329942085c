//! What goes wrong: nodes die, stand still beyond their lease and come back, the database is slow or away.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::world::{LEASE_MS, NODES, World};

/// Makes trouble until then.
pub(crate) async fn reign(world: Arc<World>, until_ms: u64) {
    let clockwork = &world.clockwork;
    while clockwork.now_ms() < until_ms {
        clockwork.sleep_ms(20 + clockwork.below(1_200)).await;
        let node = usize::try_from(clockwork.below(NODES as u64)).expect("a small number");
        tracing::info!(at = clockwork.now_ms(), node, "trouble");
        match clockwork.below(10) {
            0..=3 => {
                world.kill(node);
                clockwork.sleep_ms(clockwork.below(1_000)).await;
                world.boot(node);
            }
            4..=5 => {
                clockwork.stand_still(node);
                world.report.count("stops");
                let (world, ms) = (world.clone(), clockwork.below(3 * LEASE_MS));
                clockwork.spawn(None, async move {
                    world.clockwork.sleep_ms(ms).await;
                    world.clockwork.go_on(node);
                });
            }
            6 => world.cut_off(clockwork.below(2 * LEASE_MS)),
            7 => stop(&world, node).await,
            _ => {
                let w = &world.weather;
                let shares = [(&w.unreachable, 60), (&w.answer_lost, 40), (&w.slow, 40), (&w.hint_lost, 700)];
                for (share, max) in shares {
                    share.store(clockwork.below(max), Ordering::Relaxed);
                }
            }
        }
    }
}

/// A graceful stop, and a start again.
async fn stop(world: &Arc<World>, node: usize) {
    let engine = world.engine(node).take();
    if let Some(engine) = engine {
        let (tell, told) = futures::channel::oneshot::channel();
        world.clockwork.spawn(Some(node), async move {
            engine.stop().await;
            // It may be killed meanwhile.
            let _ = tell.send(());
        });
        let patience = world.clockwork.sleep(std::time::Duration::from_secs(12));
        futures::future::select(told, patience).await;
        world.report.count("graceful stops");
    }
    world.kill(node);
    world.boot(node);
}
