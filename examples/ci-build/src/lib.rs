//! Waits for a build to end, well or badly: success is deployed, failure fails with what the build said.

use cerebelum::prelude::*;

/// What to build, and where.
#[data]
pub struct Order {
    /// The build server's API.
    pub base_url: String,
    /// Which commit.
    pub commit: String,
    /// Milliseconds between two looks; 30 s unless told.
    #[serde(default = "half_a_minute_ms")]
    pub poll_ms: u64,
}

const fn half_a_minute_ms() -> u64 {
    30_000
}

/// How a build stands.
#[data]
#[derive(PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Under way.
    Running,
    /// Ended well.
    Success,
    /// Ended badly.
    Failure,
}

/// A build as the server knows it.
#[data]
pub struct Build {
    /// Its number.
    pub id: u64,
    /// How it stands.
    pub status: Status,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// Where a build is to be looked for.
#[data]
pub struct Place {
    /// The build server's API.
    pub base_url: String,
    /// The build's number.
    pub id: u64,
}

/// Triggers a build.
#[step(timeout = "30s")]
pub async fn trigger_build(ctx: Context, order: Order) -> Result<Build> {
    let url = format!("{}/builds", order.base_url);
    http::post(url).json(&order.commit).send(&ctx).await?.error_for_status()?.json()
}

/// Looks whether a build has ended, either way.
#[step(timeout = "30s")]
pub async fn check_build(ctx: Context, place: Place) -> Result<Check<Build>> {
    let url = format!("{}/builds/{}", place.base_url, place.id);
    let build: Build = http::get(url).send(&ctx).await?.error_for_status()?.json()?;
    match build.status {
        Status::Running => Check::not_yet_but(&build),
        Status::Success | Status::Failure => Ok(Check::Ready(build)),
    }
}

/// Deploys what was built.
#[step(timeout = "30s")]
pub async fn deploy(ctx: Context, place: Place) -> Result<()> {
    http::post(format!("{}/deployments", place.base_url)).json(&place.id).send(&ctx).await?.error_for_status()?;
    Ok(())
}

/// Builds a commit and deploys it; yields the build's number.
#[workflow]
pub async fn ci_build(ctx: Context, order: Order) -> Result<u64> {
    let (base_url, poll_ms) = (order.base_url.clone(), order.poll_ms);
    let id = trigger_build(&ctx, order).await?.id;
    let place = Place { base_url, id };
    let build = ctx.poll(check_build, place.clone()).every(millis(poll_ms)).attempts(60).await?;
    if build.status == Status::Failure {
        bail!("build-failed", "{}", build.error.unwrap_or_else(|| "the build failed without saying why".to_owned()));
    }
    deploy(&ctx, place).await?;
    Ok(id)
}

cerebelum::component!(hosts = ["127.0.0.1", "localhost"]);

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum::testing::{Local, Run};

    fn run(ending: Status) -> Run<u64> {
        let order = r#"{"base_url":"http://ci","commit":"c0ffee"}"#.parse::<Json>().unwrap().to().unwrap();
        let build = |status, error: Option<&str>| Build { id: 9, status, error: error.map(str::to_owned) };
        let mut looks = 0;
        Local::new()
            .step(trigger_build, move |_| Ok(build(Status::Running, None)))
            .step(check_build, move |_| {
                looks += 1;
                if looks <= 10 {
                    return Check::not_yet_but(&build(Status::Running, None));
                }
                let error = (ending == Status::Failure).then_some("two tests failed");
                Ok(Check::Ready(build(ending.clone(), error)))
            })
            .step(deploy, |_| Ok(()))
            .run(ci_build, order)
    }

    #[test]
    fn success_is_deployed() {
        let run = run(Status::Success);
        assert_eq!((*run.output().unwrap(), run.elapsed()), (9, minutes(5)));
    }

    #[test]
    fn failure_ends_the_poll_and_fails_with_the_error_of_the_build() {
        let run = run(Status::Failure);
        let error = run.output().unwrap_err();
        assert_eq!((error.kind(), error.message()), ("build-failed", "two tests failed"));
        assert!(!run.kinds().contains(&"StepFailed"), "{:?}", run.kinds());
    }
}
