//! A reader's session: the token in a cookie that only this engine's own pages send.

use axum::Form;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use cerebelum_worker::ApiError;
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Frame};
use super::parts::text;
use super::{Refusal, Shown, Site};
use crate::convert::refusal;
use crate::guard::Origins;

/// The cookie without TLS, on a loopback address.
const COOKIE: &str = "cerebelum_token";
/// The cookie with TLS: a browser takes it from this host only, and over TLS only.
const SECURE_COOKIE: &str = "__Host-cerebelum_token";

/// The token of a request for a page.
pub(crate) fn token(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let held = headers.get_all(header::COOKIE).iter().filter_map(|held| held.to_str().ok());
    let cookies = held.flat_map(|held| held.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    let cookies: Vec<_> = cookies.collect();
    let of = |wanted: &str| cookies.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    Ok(of(SECURE_COOKIE).or_else(|| of(COOKIE)).filter(|token| !token.is_empty()))
}

fn cookie(origins: Origins, token: &str, ends: &str) -> Option<HeaderValue> {
    let cookie = match origins {
        Origins::ThisMachine => format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{ends}"),
        Origins::Tls | Origins::BehindProxy => {
            format!("{SECURE_COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Secure{ends}")
        }
    };
    HeaderValue::from_str(&cookie).ok()
}

/// Where a reader wants to go after the login.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Goal {
    #[serde(default)]
    to: String,
}

impl Goal {
    /// A path on this engine, whatever was asked for.
    fn path(&self) -> &str {
        let is_path = self.to.starts_with('/')
            && !self.to.starts_with("//")
            && !self.to.contains('\\')
            && self.to.bytes().all(|byte| byte.is_ascii_graphic());
        if is_path { &self.to } else { "/" }
    }
}

/// What a reader sends to log in.
#[derive(Deserialize)]
pub(super) struct Login {
    token: String,
    #[serde(flatten)]
    goal: Goal,
}

pub(super) async fn show(State(site): State<Site>, Query(goal): Query<Goal>) -> Response {
    match site.service.engine.authenticate(None).await {
        // An engine without tokens needs no login.
        Ok(_) => Redirect::to(goal.path()).into_response(),
        Err(_) => layout::page(&Frame::bare("Log in"), &login_form(&goal, None)),
    }
}

fn login_form(goal: &Goal, wrong: Option<&str>) -> Markup {
    html! {
        section.card.login {
            h1 { "Log in to Cerebelum" }
            form method="post" action="/login" {
                label for="token" { "Token" }
                input #token name="token" type="password" autocomplete="current-password" required autofocus
                    placeholder="cb_…" aria-describedby=[wrong.map(|_| "wrong")];
                @if let Some(wrong) = wrong { p.wrong #wrong role="alert" { (text(wrong)) } }
                input type="hidden" name="to" value=(goal.path());
                button.main { "Log in" }
            }
            p.note { "An admin makes tokens with " code { "cerebelum token create" } "." }
        }
    }
}

pub(super) async fn login(State(site): State<Site>, Form(login): Form<Login>) -> Shown {
    let Login { token, goal } = login;
    let refused = match site.service.engine.authenticate(Some(token.trim())).await {
        Ok(_) => {
            let set = cookie(site.origins, token.trim(), "");
            let set = set.ok_or_else(|| Refusal(tonic::Status::invalid_argument("this is not a token")))?;
            return Ok(([(header::SET_COOKIE, set)], Redirect::to(goal.path())).into_response());
        }
        Err(refused) => refused,
    };
    match refused {
        ApiError::Unauthenticated(why) => {
            let page = layout::page(&Frame::bare("Log in"), &login_form(&goal, Some(&why)));
            Ok((axum::http::StatusCode::UNAUTHORIZED, page).into_response())
        }
        other => Err(refusal(other).into()),
    }
}

pub(super) async fn logout(State(site): State<Site>) -> Response {
    let set = cookie(site.origins, "", "; Max-Age=0").map(|set| [(header::SET_COOKIE, set)]);
    (set, Redirect::to("/login")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goal_is_always_a_path_of_this_engine() {
        for (to, path) in [
            ("/executions?status=failed", "/executions?status=failed"),
            ("", "/"),
            ("https://evil.example", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/a\r\nset-cookie: x=y", "/"),
        ] {
            assert_eq!(Goal { to: to.to_owned() }.path(), path, "{to}");
        }
    }

    #[test]
    fn the_token_stands_in_the_cookie() {
        let held = |cookies: &str| {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(cookies).unwrap())]);
            token(&headers).unwrap().map(str::to_owned)
        };
        assert_eq!(held("a=b; cerebelum_token=cb_1_2; c=d").as_deref(), Some("cb_1_2"));
        assert_eq!(held("cerebelum_token=old; __Host-cerebelum_token=cb_3_4").as_deref(), Some("cb_3_4"));
        assert_eq!(held("cerebelum_token="), None);
        assert_eq!(held("not_cerebelum_token=cb_1_2"), None);
        assert!(cookie(Origins::Tls, "t", "").unwrap().to_str().unwrap().contains("Secure"));
    }
}
