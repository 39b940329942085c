//! Requests a certificate, polls until it is issued, and installs it.

use cerebelum::prelude::*;

/// Which certificate, from whom.
#[data]
pub struct Order {
    /// The authority's API.
    pub base_url: String,
    /// For which name.
    pub domain: String,
    /// Milliseconds between two looks; 10 s unless told.
    #[serde(default = "ten_seconds_ms")]
    pub poll_ms: u64,
    /// Milliseconds after which to give up; 5 minutes unless told.
    #[serde(default = "five_minutes_ms")]
    pub timeout_ms: u64,
}

const fn ten_seconds_ms() -> u64 {
    10_000
}

const fn five_minutes_ms() -> u64 {
    300_000
}

/// A certificate as the authority knows it.
#[data]
pub struct Certificate {
    /// Its number.
    pub id: u64,
    /// `pending` or `issued`.
    pub status: String,
    /// The certificate itself, once it is issued.
    pub pem: Option<String>,
}

/// Where a certificate is to be looked for.
#[data]
pub struct Place {
    /// The authority's API.
    pub base_url: String,
    /// The certificate's number.
    pub id: u64,
}

/// What is to be installed where.
#[data]
pub struct Installation {
    /// Whose certificate.
    pub place: Place,
    /// The certificate itself.
    pub pem: String,
}

/// Requests a certificate.
#[step(timeout = "30s")]
pub async fn request_certificate(ctx: Context, order: Order) -> Result<Certificate> {
    let url = format!("{}/certificates", order.base_url);
    http::post(url).json(&order.domain).send(&ctx).await?.error_for_status()?.json()
}

/// Looks whether it is issued.
#[step(timeout = "30s")]
pub async fn check_certificate(ctx: Context, place: Place) -> Result<Check<String>> {
    let url = format!("{}/certificates/{}", place.base_url, place.id);
    let certificate: Certificate = http::get(url).send(&ctx).await?.error_for_status()?.json()?;
    Ok(certificate.pem.into())
}

/// Installs it.
#[step(timeout = "30s")]
pub async fn install_certificate(ctx: Context, what: Installation) -> Result<()> {
    let url = format!("{}/certificates/{}/install", what.place.base_url, what.place.id);
    http::post(url).body(what.pem).send(&ctx).await?.error_for_status()?;
    Ok(())
}

/// Gets and installs a certificate; yields its number.
#[workflow]
pub async fn certificate(ctx: Context, order: Order) -> Result<u64> {
    let Order { base_url, poll_ms, timeout_ms, .. } = order.clone();
    let id = request_certificate(&ctx, order).await?.id;
    let place = Place { base_url, id };
    let issued = ctx.poll(check_certificate, place.clone()).every(millis(poll_ms)).timeout(millis(timeout_ms));
    let pem = issued.attempts(1_000).await?;
    install_certificate(&ctx, Installation { place, pem }).await?;
    Ok(id)
}

cerebelum::component!(hosts = ["127.0.0.1", "localhost"]);

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum::testing::{Local, Run};

    fn run(issued_after: u32) -> Run<u64> {
        let order = r#"{"base_url":"http://ca","domain":"example.com"}"#.parse::<Json>().unwrap().to().unwrap();
        let mut looks = 0;
        Local::new()
            .step(request_certificate, |_| Ok(Certificate { id: 4, status: "pending".to_owned(), pem: None }))
            .step(check_certificate, move |_| {
                looks += 1;
                Ok((looks > issued_after).then(|| "PEM".to_owned()).into())
            })
            .step(install_certificate, |_| Ok(()))
            .run(certificate, order)
    }

    #[test]
    fn it_is_installed_once_it_is_issued() {
        let run = run(3);
        assert_eq!((*run.output().unwrap(), run.elapsed()), (4, seconds(30)));
        // However many looks: two events.
        assert_eq!(run.kinds().iter().filter(|kind| kind.starts_with("Poll")).count(), 2);
    }

    #[test]
    fn it_is_given_up_after_five_minutes() {
        let run = run(u32::MAX);
        let error = run.output().unwrap_err();
        assert_eq!(error.kind(), kind::POLL_TIMEOUT);
        assert_eq!(error.message(), "Polling timed out after 300000ms (timeout: 300000ms)");
    }
}
