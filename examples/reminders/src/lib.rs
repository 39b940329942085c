//! Two mails with a day between them, inside one step: what stands before the sleep is never done again.

use cerebelum::prelude::*;

/// Whom to remind.
#[data]
pub struct Reminder {
    /// Where mails are handed in.
    pub base_url: String,
    /// To whom they go.
    pub email: String,
    /// Milliseconds between the two; a day unless told.
    #[serde(default = "day_ms")]
    pub sleep_ms: u64,
}

const fn day_ms() -> u64 {
    86_400_000
}

/// The numbers of the mails that were sent.
#[data]
#[derive(PartialEq, Eq)]
pub struct Sent {
    /// The first one.
    pub welcome: u64,
    /// The one a day later.
    pub reminder: u64,
}

/// Welcomes, sleeps, reminds.
#[step(retry(max_attempts = 5, delay = "1s", backoff = 2.0), timeout = "30s")]
pub async fn send_reminders(ctx: Context, to: Reminder) -> Result<Sent> {
    let welcome = send(&ctx, &to, "Welcome!").await?;
    ctx.sleep(millis(to.sleep_ms)).await?;
    let reminder = send(&ctx, &to, "How was your first day?").await?;
    Ok(Sent { welcome, reminder })
}

async fn send(ctx: &Context, to: &Reminder, text: &str) -> Result<u64> {
    let mail = [("to", to.email.as_str()), ("text", text)];
    let mail: std::collections::BTreeMap<_, _> = mail.into_iter().collect();
    http::post(format!("{}/mails", to.base_url)).json(&mail).send(ctx).await?.error_for_status()?.json()
}

/// Reminds somebody.
#[workflow]
pub async fn reminders(ctx: Context, to: Reminder) -> Result<Sent> {
    send_reminders(&ctx, to).await
}

cerebelum::component!(hosts = ["127.0.0.1", "localhost"]);

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum::testing::{Local, reply};

    fn check(local: Local) {
        let mails = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = mails.clone();
        let run = local
            .on_http(move |_| {
                counted.set(counted.get() + 1);
                reply(201, counted.get().to_string())
            })
            .run(
                reminders,
                Reminder { base_url: "http://mail".to_owned(), email: "a@b".to_owned(), sleep_ms: day_ms() },
            );
        assert_eq!(*run.output().unwrap(), Sent { welcome: 1, reminder: 2 });
        assert_eq!((run.elapsed(), mails.get()), (days(1), 2));
    }

    #[test]
    fn two_mails_leave_a_day_apart() {
        check(Local::new());
    }

    #[test]
    fn dropping_the_guest_at_every_wait_sends_no_mail_twice() {
        check(Local::new().hibernating());
    }
}
