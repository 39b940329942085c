//! Deploys a droplet: create it, wait for its address, try SSH until it answers, configure it; progress on the way.

use cerebelum::prelude::*;

/// What to deploy, and where the cloud is.
#[data]
pub struct Order {
    /// The cloud's API, `examples/fake-cloud` for one.
    pub base_url: String,
    /// The droplet's name.
    pub name: String,
    /// Milliseconds between two looks for the address; the 5 s of real life unless told.
    #[serde(default = "five_seconds_ms")]
    pub poll_ms: u64,
    /// Milliseconds before the second SSH attempt, doubling from then on; 5 s unless told.
    #[serde(default = "five_seconds_ms")]
    pub ssh_delay_ms: u64,
    /// Milliseconds to let it settle before it is configured; a minute unless told.
    #[serde(default = "minute_ms")]
    pub sleep_ms: u64,
}

const fn five_seconds_ms() -> u64 {
    5_000
}

const fn minute_ms() -> u64 {
    60_000
}

/// A droplet as the cloud knows it.
#[data]
pub struct Droplet {
    /// Its number.
    pub id: u64,
    /// `new` or `active`.
    pub status: String,
    /// Its address, once it has one.
    pub ip: Option<String>,
}

/// Where a droplet is to be looked for.
#[data]
pub struct Place {
    /// The cloud's API.
    pub base_url: String,
    /// The droplet's number.
    pub id: u64,
}

/// A droplet with an address.
#[data]
pub struct Server {
    /// The cloud's API.
    pub base_url: String,
    /// The droplet's number.
    pub id: u64,
    /// Where it answers.
    pub ip: String,
}

/// What came of it.
#[data]
#[derive(PartialEq, Eq)]
pub struct Deployed {
    /// The droplet's number.
    pub id: u64,
    /// Where it answers.
    pub ip: String,
    /// What its SSH server said.
    pub banner: String,
}

/// Orders the droplet.
#[step(retry(max_attempts = 5, delay = "1s", backoff = 2.0), timeout = "30s")]
pub async fn create_droplet(ctx: Context, order: Order) -> Result<Droplet> {
    let url = format!("{}/droplets", order.base_url);
    http::post(url).json(&order.name).send(&ctx).await?.error_for_status()?.json()
}

/// Looks whether the droplet has its address.
#[step(timeout = "30s")]
pub async fn wait_for_ip(ctx: Context, place: Place) -> Result<Check<String>> {
    let url = format!("{}/droplets/{}", place.base_url, place.id);
    let droplet: Droplet = http::get(url).send(&ctx).await?.error_for_status()?.json()?;
    match droplet.ip {
        Some(ip) => Ok(Check::Ready(ip)),
        None => Check::not_yet_but(&droplet.status),
    }
}

/// Says hello to the SSH server, through the cloud's proxy: guests speak HTTP.
#[step(retry(max_attempts = 10, delay = "5s", backoff = 2.0), timeout = "30s")]
pub async fn connect_ssh(ctx: Context, server: Server) -> Result<String> {
    let answer = http::post(format!("{}/ssh/{}", server.base_url, server.ip)).send(&ctx).await?;
    ensure!(answer.status().is_success(), "ssh-refused", "{} refused the connection", server.ip);
    Ok(answer.text())
}

/// Installs what is to run there.
#[step(timeout = "30s")]
pub async fn configure_server(ctx: Context, server: Server) -> Result<()> {
    let url = format!("{}/droplets/{}/configure", server.base_url, server.id);
    http::post(url).json(&server.ip).send(&ctx).await?.error_for_status()?;
    Ok(())
}

/// Deploys a droplet.
#[workflow]
pub async fn droplet_deployment(ctx: Context, order: Order) -> Result<Deployed> {
    let Order { base_url, poll_ms, ssh_delay_ms, sleep_ms, .. } = order.clone();
    ctx.progress(0, "creating the droplet");
    let id = create_droplet(&ctx, order).await?.id;

    ctx.progress(33, "waiting for its address");
    let place = Place { base_url: base_url.clone(), id };
    let ip = ctx.poll(wait_for_ip, place).every(millis(poll_ms)).attempts(30).await?;

    ctx.progress(66, "connecting");
    let server = Server { base_url, id, ip };
    // The step's own policy, with the delay that the order asks for.
    let policy = RetryPolicy { max_attempts: 10, delay_ms: ssh_delay_ms, backoff: 2.0, ..RetryPolicy::DEFAULT };
    let banner = connect_ssh(&ctx, server.clone()).retry(policy).await?;
    ctx.sleep(millis(sleep_ms)).await?;
    configure_server(&ctx, server.clone()).await?;

    ctx.progress(100, "deployed");
    Ok(Deployed { id, ip: server.ip, banner })
}

cerebelum::component!(hosts = ["127.0.0.1", "localhost"]);

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum::testing::{Local, reply};

    fn order() -> Order {
        let input = r#"{"base_url":"http://cloud","name":"web-1"}"#;
        input.parse::<Json>().unwrap().to().unwrap()
    }

    #[test]
    fn the_address_comes_late_ssh_refuses_twice_and_it_is_deployed() {
        let (mut looks, mut refused) = (0, 0);
        let run = Local::new()
            .on_http(move |request| match (request.method().as_str(), request.uri().path()) {
                ("POST", "/droplets") => reply(201, r#"{"id":7,"status":"new","ip":null}"#),
                ("GET", "/droplets/7") => {
                    looks += 1;
                    let ip = if looks > 3 { r#""203.0.113.7""# } else { "null" };
                    reply(200, format!(r#"{{"id":7,"status":"new","ip":{ip}}}"#))
                }
                ("POST", "/ssh/203.0.113.7") if refused < 2 => {
                    refused += 1;
                    reply(503, "connection refused")
                }
                ("POST", "/ssh/203.0.113.7") => reply(200, "SSH-2.0"),
                ("POST", "/droplets/7/configure") => reply(204, ""),
                (method, path) => panic!("nobody asked for {method} {path}"),
            })
            .run(droplet_deployment, order());
        let deployed = Deployed { id: 7, ip: "203.0.113.7".to_owned(), banner: "SSH-2.0".to_owned() };
        assert_eq!(*run.output().unwrap(), deployed);
        // Three waits of 5 s for the address, 5 s and 10 s for SSH, a minute to settle.
        assert_eq!(run.elapsed(), seconds(3 * 5 + 5 + 10 + 60));
        assert_eq!(run.progress(), Some((100, "deployed")));
    }

    #[test]
    fn a_droplet_without_an_address_is_given_up_after_thirty_looks() {
        let run = Local::new()
            .step(create_droplet, |_| Ok(Droplet { id: 1, status: "new".to_owned(), ip: None }))
            .step(wait_for_ip, |_| Ok(Check::not_yet()))
            .run(droplet_deployment, order());
        let error = run.output().unwrap_err();
        assert_eq!(error.kind(), kind::POLL_EXHAUSTED);
        assert_eq!(error.message(), "Polling failed after 30 attempts (interval: 5000ms)");
        assert_eq!(run.elapsed(), seconds(29 * 5));
    }
}
