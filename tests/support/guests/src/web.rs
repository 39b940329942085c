//! Requests of every shape, as the input says.

use cerebelum::prelude::*;

/// A request, as text.
#[data]
pub struct Asking {
    pub method: String,
    pub url: String,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// How often each header is sent.
    #[serde(default = "once")]
    pub repeat: usize,
    /// How many bytes the body has.
    #[serde(default)]
    pub body_bytes: usize,
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

fn once() -> usize {
    1
}

/// Asks once; yields the status and how many bytes the answer has.
#[step(retry(max_attempts = 1))]
pub async fn ask(ctx: Context, asking: Asking) -> Result<(u16, usize)> {
    let Ok(method) = http::Method::from_bytes(asking.method.as_bytes()) else { bail!("guest", "no such method") };
    let mut request = http::request(method, asking.url).body(vec![b'x'; asking.body_bytes]);
    for (name, value) in &asking.headers {
        for _ in 0..asking.repeat {
            request = request.header(name.clone(), value.clone());
        }
    }
    if let Some(ms) = asking.timeout_ms {
        request = request.timeout(millis(ms));
    }
    let answer = request.send(&ctx).await?;
    Ok((answer.status().as_u16(), answer.body().len()))
}

/// Asks in one step.
#[workflow]
pub async fn asks(ctx: Context, asking: Asking) -> Result<(u16, usize)> {
    ask(&ctx, asking).await
}

/// How often to ask.
#[data]
pub struct Many {
    pub url: String,
    pub times: usize,
}

/// Asks in as many steps at once, and yields how many bytes came in all.
#[workflow]
pub async fn asks_at_once(ctx: Context, many: Many) -> Result<usize> {
    let asking = || Asking {
        method: "GET".to_owned(),
        url: many.url.clone(),
        headers: Vec::new(),
        repeat: 1,
        body_bytes: 0,
        timeout_ms: None,
    };
    let answers = join_all((0..many.times).map(|_| ask(&ctx, asking()))).await?;
    Ok(answers.into_iter().map(|(_, bytes)| bytes).sum())
}
