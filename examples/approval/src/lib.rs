//! A person decides whether a release goes live: yes, no, or not in time, each with its own end.

use cerebelum::prelude::*;

/// What is to go live.
#[data]
pub struct Release {
    /// Where releases are published.
    pub base_url: String,
    /// Which one.
    pub version: String,
    /// Milliseconds in which somebody has to decide; three days unless told.
    #[serde(default = "three_days_ms")]
    pub timeout_ms: u64,
}

const fn three_days_ms() -> u64 {
    3 * 86_400_000
}

/// What the person may say besides yes.
#[data]
#[derive(Default)]
pub struct Terms {
    /// Which share of users gets it, in percent; all unless told.
    #[serde(default)]
    pub percent: Option<u8>,
}

/// How it ended.
#[data]
#[derive(PartialEq, Eq)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum Ending {
    /// It is live.
    Published {
        /// Who said so.
        by: String,
        /// For which share of users.
        percent: u8,
    },
    /// Somebody said no.
    Rejected {
        /// Why.
        reason: String,
    },
    /// Nobody said anything.
    Expired,
}

/// Where to publish what.
#[data]
pub struct Publication {
    /// Where releases are published.
    pub base_url: String,
    /// Which one.
    pub version: String,
    /// For which share of users.
    pub percent: u8,
}

/// Publishes a release.
#[step(timeout = "30s")]
pub async fn publish(ctx: Context, what: Publication) -> Result<()> {
    http::post(format!("{}/releases", what.base_url)).json(&what).send(&ctx).await?.error_for_status()?;
    Ok(())
}

/// Publishes a release once a person agrees.
#[workflow]
pub async fn approval(ctx: Context, release: Release) -> Result<Ending> {
    let asked = ctx
        .approval(format!("Publish {}?", release.version))
        .kind("release")
        .data(&release.version)
        .schema_of::<Terms>()
        .timeout(millis(release.timeout_ms));
    let approval = match asked.await {
        Ok(approval) => approval,
        Err(error) if error.is(kind::REJECTED) => return Ok(Ending::Rejected { reason: error.message().to_owned() }),
        Err(error) if error.is(kind::APPROVAL_TIMEOUT) => return Ok(Ending::Expired),
        Err(error) => return Err(error),
    };
    let percent = approval.data.percent.unwrap_or(100);
    publish(&ctx, Publication { base_url: release.base_url, version: release.version, percent }).await?;
    Ok(Ending::Published { by: approval.by, percent })
}

cerebelum::component!(hosts = ["127.0.0.1", "localhost"]);

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum::testing::{Local, Run, approve, reject};

    fn run(local: Local) -> Run<Ending> {
        let (base_url, version) = ("http://x".to_owned(), "1.2".to_owned());
        local.step(publish, |_| Ok(())).run(approval, Release { base_url, version, timeout_ms: three_days_ms() })
    }

    #[test]
    fn a_yes_publishes_on_the_terms_of_whoever_said_it() {
        let yes = approve(&Terms { percent: Some(10) }).by("ada").after(hours(5));
        let run = run(Local::new().on_approval("Publish 1.2?", yes));
        assert_eq!(*run.output().unwrap(), Ending::Published { by: "ada".to_owned(), percent: 10 });
        assert_eq!(run.elapsed(), hours(5));
    }

    #[test]
    fn a_no_and_a_silence_end_differently() {
        let no = run(Local::new().on_approval("Publish 1.2?", reject("too early")));
        assert!(matches!(no.output().unwrap(), Ending::Rejected { reason } if reason.contains("too early")));
        let silence = run(Local::new());
        assert_eq!((silence.output().unwrap(), silence.elapsed()), (&Ending::Expired, days(3)));
    }
}
