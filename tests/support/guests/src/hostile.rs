//! Guests that misbehave, each in a named way.

use cerebelum::prelude::*;

/// Misbehaves.
#[step(retry(max_attempts = 1))]
pub async fn misbehave(ctx: Context, how: String) -> Result<Json> {
    act(&ctx, &how).await
}

/// Misbehaves in a step.
#[workflow]
pub async fn hostile_step(ctx: Context, how: String) -> Result<Json> {
    misbehave(&ctx, how).await
}

/// Misbehaves itself.
#[workflow]
pub async fn hostile(ctx: Context, how: String) -> Result<Json> {
    act(&ctx, &how).await
}

async fn act(ctx: &Context, how: &str) -> Result<Json> {
    match how {
        "loop" => loop {
            std::hint::black_box(());
        },
        "clock-loop" => loop {
            std::hint::black_box(ctx.now());
        },
        "memory" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
        "stack" => Json::of(&sink(1)),
        "panic" => panic!("this guest panics"),
        "output" => Json::of(&"x".repeat(100 << 20)),
        "large-output" => Json::of(&"x".repeat(2 << 20)),
        "fetch-in-workflow" => {
            http::get("http://127.0.0.1:1/").send(ctx).await?;
            Json::of(&())
        }
        "fetch-elsewhere" => {
            http::get("http://192.0.2.1/").send(ctx).await?;
            Json::of(&())
        }
        "wait-for-nothing" => std::future::pending().await,
        other => bail!("unknown", "no such misbehaviour: {other}"),
    }
}

fn sink(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == 0 { 0 } else { sink(depth + 1) + frame[0] }
}

/// Fails with this text as its kind, its message and its details.
#[step(retry(max_attempts = 1))]
pub async fn fail_with(ctx: Context, text: String) -> Result<()> {
    ctx.warn(&text);
    Err(Error::new(text.clone(), text.clone()).with_details([text]).permanent())
}

/// Puts texts wherever a guest can put one, and asks for each of them. Fails with the first text once one is rejected.
#[workflow]
pub async fn everywhere(ctx: Context, texts: Vec<String>) -> Result<()> {
    for (number, text) in texts.iter().enumerate() {
        ctx.info(text);
        ctx.progress(50, text);
        ctx.set_attribute(format!("text-{number}"), text.chars().take(100).collect::<String>());
        // The failure is what is looked at.
        let _ = fail_with(&ctx, text.clone()).await;
    }
    let first = texts.first().cloned().unwrap_or_default();
    let rejected = join_all(texts.into_iter().map(|text| ctx.approval(text))).await;
    rejected.map(drop).map_err(|_| Error::new(first.clone(), first.clone()).with_details([first]))
}
