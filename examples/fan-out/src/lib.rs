//! Many steps at once, and a race in which the loser is cancelled: `join_all` and `select!`, nothing new to learn.

use cerebelum::prelude::*;

/// How many parts to render.
#[data]
pub struct Film {
    /// Where they are rendered.
    pub base_url: String,
    /// How many.
    pub parts: u32,
}

/// One part.
#[data]
pub struct Part {
    /// Where it is rendered.
    pub base_url: String,
    /// Which one.
    pub number: u32,
}

/// Renders one part; yields its number once more.
#[step(timeout = "30s")]
pub async fn render(ctx: Context, part: Part) -> Result<u32> {
    http::post(format!("{}/parts", part.base_url)).json(&part.number).send(&ctx).await?.error_for_status()?;
    Ok(part.number)
}

/// Renders all parts at once; yields their numbers in order, whichever was ready first.
#[workflow]
pub async fn fan_out(ctx: Context, film: Film) -> Result<Vec<u32>> {
    let part = |number| render(&ctx, Part { base_url: film.base_url.clone(), number });
    join_all((1..=film.parts).map(part)).await
}

/// Two mirrors and how slow they are.
#[data]
pub struct Mirrors {
    /// Where they are.
    pub base_url: String,
    /// Milliseconds the first one takes.
    pub first_ms: u64,
    /// Milliseconds the second one takes.
    pub second_ms: u64,
}

/// One mirror.
#[data]
pub struct Mirror {
    /// Where it is.
    pub base_url: String,
    /// Its name.
    pub name: String,
    /// Milliseconds it takes.
    pub takes_ms: u64,
}

/// Downloads from one mirror; yields its name.
#[step(timeout = "30s")]
pub async fn download(ctx: Context, mirror: Mirror) -> Result<String> {
    ctx.sleep(millis(mirror.takes_ms)).await?;
    http::get(format!("{}/mirrors/{}", mirror.base_url, mirror.name)).send(&ctx).await?.error_for_status()?;
    Ok(mirror.name)
}

/// Downloads from whichever mirror is faster; the other download is cancelled.
#[workflow]
pub async fn race(ctx: Context, mirrors: Mirrors) -> Result<String> {
    let mirror = |name: &str, takes_ms| {
        download(&ctx, Mirror { base_url: mirrors.base_url.clone(), name: name.to_owned(), takes_ms })
    };
    let mut first = mirror("first", mirrors.first_ms);
    let mut second = mirror("second", mirrors.second_ms);
    select! {
        name = first => name,
        name = second => name,
    }
}

cerebelum::component!(hosts = ["127.0.0.1", "localhost"]);

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum::testing::{Local, reply};

    #[test]
    fn all_parts_are_rendered_and_stand_in_order() {
        let film = Film { base_url: "http://farm".to_owned(), parts: 50 };
        let run = Local::new().on_http(|_| reply(201, "")).run(fan_out, film);
        assert_eq!(*run.output().unwrap(), (1..=50).collect::<Vec<_>>());
    }

    #[test]
    fn the_slower_download_is_cancelled_and_never_asks() {
        let mirrors = Mirrors { base_url: "http://m".to_owned(), first_ms: 900_000, second_ms: 1_000 };
        let run = Local::new()
            .on_http(|request| {
                assert_eq!(request.uri().path(), "/mirrors/second");
                reply(200, "")
            })
            .run(race, mirrors);
        assert_eq!((run.output().unwrap().as_str(), run.elapsed()), ("second", seconds(1)));
        assert!(run.kinds().contains(&"CallCancelled"));
    }
}
