//! Steps one after another and beside each other; values; determinism; children.

use cerebelum::prelude::*;

/// How many steps.
#[data]
pub struct Steps {
    pub steps: u32,
    /// A signal to wait for at the end.
    #[serde(default)]
    pub signal: Option<String>,
}

/// Adds one.
#[step]
pub async fn increment(_ctx: Context, number: u32) -> Result<u32> {
    Ok(number + 1)
}

/// Steps one after another, the output of each the input of the next.
#[workflow]
pub async fn sequence(ctx: Context, input: Steps) -> Result<u32> {
    let mut number = 0;
    for _ in 0..input.steps {
        number = increment(&ctx, number).await?;
    }
    Ok(number)
}

/// The same, and then a wait for a signal.
#[workflow]
pub async fn sequence_then_signal(ctx: Context, input: Steps) -> Result<u32> {
    let mut number = 0;
    for _ in 0..input.steps {
        number = increment(&ctx, number).await?;
    }
    ctx.signal::<Json>(input.signal.unwrap_or_default()).await?;
    Ok(number)
}

/// Steps all at once; yields the sum.
#[workflow]
pub async fn parallel(ctx: Context, input: Steps) -> Result<u32> {
    Ok(join_all((0..input.steps).map(|number| increment(&ctx, number))).await?.into_iter().sum())
}

/// A value as it is.
#[step]
pub async fn repeat(_ctx: Context, value: Json) -> Result<Json> {
    Ok(value)
}

/// A value as it is, through a step.
#[workflow]
pub async fn echo(ctx: Context, value: Json) -> Result<Json> {
    repeat(&ctx, value).await
}

/// Where to post.
#[data]
pub struct Posts {
    pub base_url: String,
    /// One path per post.
    pub paths: Vec<String>,
}

/// Posts once.
#[data]
pub struct Post {
    pub base_url: String,
    pub path: String,
}

/// Posts to one path; an answer that is no success is a failure.
#[step(retry(max_attempts = 5, delay = "100ms", backoff = 1.0, jitter = 0.0))]
pub async fn post(ctx: Context, to: Post) -> Result<u16> {
    let sent = http::post(format!("{}/{}", to.base_url, to.path)).body(to.path).send(&ctx).await?;
    Ok(sent.error_for_status()?.status().as_u16())
}

/// One posting step after another.
#[workflow]
pub async fn posts(ctx: Context, input: Posts) -> Result<usize> {
    for path in &input.paths {
        post(&ctx, Post { base_url: input.base_url.clone(), path: path.clone() }).await?;
    }
    Ok(input.paths.len())
}

/// Posting steps all at once.
#[workflow]
pub async fn posts_at_once(ctx: Context, input: Posts) -> Result<usize> {
    let one = |path: &String| post(&ctx, Post { base_url: input.base_url.clone(), path: path.clone() });
    Ok(join_all(input.paths.iter().map(one)).await?.len())
}

/// Posts with a secret in a header.
#[step]
pub async fn post_with_secret(ctx: Context, to: Post) -> Result<u16> {
    let sent = http::post(format!("{}/{}", to.base_url, to.path)).bearer(secret("TEST_TOKEN")).send(&ctx).await?;
    Ok(sent.status().as_u16())
}

/// A secret leaves, and stands nowhere else.
#[workflow]
pub async fn secrets(ctx: Context, to: Post) -> Result<u16> {
    post_with_secret(&ctx, to).await
}

/// What a guest sees of time and chance.
#[data]
pub struct Seen {
    pub now_ms: u64,
    pub std_now_ms: u64,
    pub order: Vec<u32>,
}

/// Looks at clock and hash order, sleeps, and looks again: a rerun sees the same.
#[workflow]
pub async fn observe(ctx: Context, sleep_ms: u64) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    for _ in 0..2 {
        let since = |time: std::time::SystemTime| {
            let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(0)
        };
        let order = std::collections::HashSet::<u32>::from_iter(0..20).into_iter().collect();
        let seen = Seen { now_ms: since(ctx.now()), std_now_ms: since(std::time::SystemTime::now()), order };
        ctx.log_seen(&seen);
        all.push(seen);
        ctx.sleep(millis(sleep_ms)).await?;
    }
    Ok(all)
}

trait LogSeen {
    fn log_seen(&self, seen: &Seen);
}

impl LogSeen for Context {
    fn log_seen(&self, seen: &Seen) {
        self.info(format!("{} {:?}", seen.now_ms, seen.order));
    }
}

/// Starts children.
#[data]
pub struct Family {
    pub children: u32,
    /// Whether to wait for them.
    pub awaited: bool,
    /// An id for the child, when there is one child.
    #[serde(default)]
    pub id: Option<String>,
}

/// Runs children and adds up what they yield, or starts them and yields how many.
#[workflow]
pub async fn family(ctx: Context, input: Family) -> Result<u32> {
    let steps = |steps| Steps { steps, signal: None };
    if input.awaited {
        let children = (1..=input.children).map(|child| ctx.run_workflow(sequence, steps(child)));
        return Ok(join_all(children).await?.into_iter().sum());
    }
    for child in 1..=input.children {
        let start = ctx.start_workflow(sequence, steps(child));
        match &input.id {
            Some(id) => start.id(id).await?,
            None => start.await?,
        };
    }
    Ok(input.children)
}

/// Runs a child with this id, and fails once after the child has ended.
#[step(retry(max_attempts = 2, delay = "20ms", jitter = 0.0))]
pub async fn run_and_fail_once(ctx: Context, id: String) -> Result<u32> {
    let output = ctx.run_workflow(sequence, Steps { steps: 3, signal: None }).id(id).await?;
    if ctx.attempt() == 1 {
        bail!("failure", "once more")
    }
    Ok(output)
}

/// Runs a child with this id in a step that is retried.
#[workflow]
pub async fn running_again(ctx: Context, id: String) -> Result<u32> {
    run_and_fail_once(&ctx, id).await
}

/// Runs so many children at once that do nothing.
#[workflow]
pub async fn brood(ctx: Context, children: u32) -> Result<usize> {
    let child = |_| ctx.run_workflow(sequence, Steps { steps: 0, signal: None });
    Ok(join_all((0..children).map(child)).await?.len())
}

/// Sets one attribute after the other, so many times, with a step between; there are so many names.
#[workflow]
pub async fn labels(ctx: Context, (times, names): (u32, u32)) -> Result<u32> {
    for number in 0..times {
        ctx.set_attribute(format!("label-{}", number % names), number);
        increment(&ctx, number).await?;
    }
    Ok(times)
}

/// Counts down, one run a number.
#[workflow]
pub async fn countdown(ctx: Context, from: u32) -> Result<u32> {
    if from == 0 {
        return Ok(ctx.run());
    }
    increment(&ctx, from).await?;
    ctx.continue_as_new(from - 1).await
}

/// Steps that call steps.
#[step]
pub async fn outer(ctx: Context, number: u32) -> Result<u32> {
    let (a, b) = join!(increment(&ctx, number), increment(&ctx, number + 1)).await?;
    ctx.sleep(millis(50)).await?;
    increment(&ctx, a + b).await
}

/// A step inside a step inside a workflow.
#[workflow]
pub async fn nested(ctx: Context, number: u32) -> Result<u32> {
    outer(&ctx, number).await
}

/// Progress and attributes, with a sleep between.
#[workflow]
pub async fn telling(ctx: Context, sleep_ms: u64) -> Result<()> {
    ctx.progress(10, "begun");
    ctx.set_attribute("stage", "one");
    ctx.info("first line");
    ctx.sleep(millis(sleep_ms)).await?;
    ctx.progress(90, "almost");
    ctx.set_attribute("stage", "two");
    ctx.info("second line");
    ctx.sleep(millis(sleep_ms)).await?;
    Ok(())
}
