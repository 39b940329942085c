//! Approvals, signals, cancellation, and failures that a person repairs.

use cerebelum::prelude::*;

use crate::plain::{Post, post};

/// A question.
#[data]
pub struct Question {
    pub title: String,
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    #[serde(default)]
    pub approvers: Option<Vec<String>>,
}

/// Asks, and yields who said what.
#[workflow]
pub async fn asking(ctx: Context, question: Question) -> Result<String> {
    let asked = match question.approvers {
        Some(approvers) => ctx.approval(question.title).approvers(approvers),
        None => ctx.approval(question.title),
    };
    let approval = match question.timeout_ms {
        Some(timeout) => asked.timeout(millis(timeout)).await?,
        None => asked.await?,
    };
    Ok(format!("{} by {}", approval.data, approval.by))
}

/// Asks from inside a step, with a post before and after.
#[step(timeout = "10s")]
pub async fn ask_in_a_step(ctx: Context, to: Post) -> Result<String> {
    http::post(format!("{}/notes/before", to.base_url)).send(&ctx).await?.error_for_status()?;
    let approval = ctx.approval("Go on?").await?;
    http::post(format!("{}/notes/after", to.base_url)).send(&ctx).await?.error_for_status()?;
    Ok(approval.by)
}

/// The same, as a workflow.
#[workflow]
pub async fn asking_in_a_step(ctx: Context, to: Post) -> Result<String> {
    ask_in_a_step(&ctx, to).await
}

/// Which signals to wait for, in which order.
#[data]
pub struct Signals {
    pub names: Vec<String>,
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// Waits for one signal after another and yields what they said.
#[workflow]
pub async fn listening(ctx: Context, signals: Signals) -> Result<Vec<Json>> {
    let mut heard = Vec::new();
    for name in signals.names {
        let signal = ctx.signal::<Json>(name);
        heard.push(match signals.timeout_ms {
            Some(timeout) => signal.timeout(millis(timeout)).await?,
            None => signal.await?,
        });
    }
    Ok(heard)
}

/// Sleeps for a day; when cancelled, cleans up with a step of its own.
#[workflow]
pub async fn cleaning_up(ctx: Context, base_url: String) -> Result<()> {
    match ctx.sleep(days(1)).await {
        Err(error) if error.is_cancelled() => {
            post(&ctx, Post { base_url, path: "notes/clean-up".to_owned() }).await?;
            Err(error)
        }
        other => other,
    }
}

/// Fails until the gate is open.
#[step(retry(max_attempts = 2, delay = "20ms", jitter = 0.0))]
pub async fn pass_gate(ctx: Context, base_url: String) -> Result<()> {
    http::post(format!("{base_url}/switch/one")).send(&ctx).await?.error_for_status()?;
    Ok(())
}

/// A step that works, one that fails while a gate is closed, one that works.
#[workflow]
pub async fn gated(ctx: Context, base_url: String) -> Result<String> {
    let step = |path: &str| post(&ctx, Post { base_url: base_url.clone(), path: format!("notes/{path}") });
    step("first").await?;
    pass_gate(&ctx, base_url.clone()).await?;
    step("last").await?;
    Ok("through".to_owned())
}

/// Runs `gated` as a child with an id of its own.
#[workflow]
pub async fn gated_child(ctx: Context, base_url: String) -> Result<String> {
    ctx.run_workflow(gated, base_url).id("gate-keeper").await
}
