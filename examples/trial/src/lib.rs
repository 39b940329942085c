//! A mail, a month, a question to a person, a mail. The README shows this program up to its tests.

use cerebelum::prelude::*;

/// Sends the first mail. A failed attempt is repeated, with the same idempotency key.
#[step(retry(max_attempts = 5, delay = "1s", backoff = 2.0), timeout = "30s")]
pub async fn welcome(ctx: Context, email: String) -> Result<()> {
    http::post("https://mail.example.com/welcome").json(&email).send(&ctx).await?.error_for_status()?;
    Ok(())
}

/// Sends the second one.
#[step]
pub async fn offer(ctx: Context, email: String) -> Result<()> {
    http::post("https://mail.example.com/offer").json(&email).send(&ctx).await?.error_for_status()?;
    Ok(())
}

/// Welcomes a customer, and a month later makes an offer that a person has agreed to.
#[workflow]
pub async fn trial(ctx: Context, email: String) -> Result<String> {
    welcome(&ctx, email.clone()).await?;
    ctx.sleep(days(30)).await?;
    let yes = ctx.approval(format!("A discount for {email}?")).timeout(days(3)).await?;
    offer(&ctx, email).await?;
    Ok(format!("{} agreed", yes.by))
}

cerebelum::component!(hosts = ["mail.example.com"]);

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum::testing::{Local, approve, reject, reply};

    #[test]
    fn a_month_and_a_yes_lie_between_the_mails() {
        let yes = approve(&()).by("ada").after(hours(5));
        let run = Local::new()
            .on_http(|_| reply(202, ""))
            .on_approval("A discount for bob@example.com?", yes)
            .run(trial, "bob@example.com".to_owned());
        assert_eq!(run.output().unwrap(), "ada agreed");
        assert_eq!(run.elapsed(), days(30) + hours(5));
    }

    #[test]
    fn a_no_sends_no_second_mail() {
        let run = Local::new()
            .step(welcome, |_| Ok(()))
            .on_approval("A discount for bob@example.com?", reject("not now"))
            .run(trial, "bob@example.com".to_owned());
        assert!(run.output().unwrap_err().is(kind::REJECTED));
    }
}
