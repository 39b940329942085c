//! A reader's session: the token in a cookie that only this engine's own pages send.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use cerebelum_worker::ApiError;
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Frame};
use super::parts::text;
use super::read::{FormOf, Query};
use super::{Refusal, Shown, Site};
use crate::access::address;
use crate::convert::refusal;
use crate::guard::Origins;
use crate::places::Connection;

/// The cookie with TLS: a browser takes it from this host only, and over TLS only.
const SECURE_COOKIE: &str = "__Host-cerebelum_token";

/// The name of the cookie. Without TLS it has the engine's port, because a browser has one jar for all ports of a machine.
fn name(headers: &HeaderMap, origins: Origins) -> String {
    let port = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok()?.port_u16());
    match (origins, port) {
        (Origins::Tls | Origins::BehindProxy, _) => SECURE_COOKIE.to_owned(),
        (Origins::ThisMachine, port) => format!("cerebelum_token_{}", port.unwrap_or(80)),
    }
}

/// The token of a request for a page.
pub(crate) fn token(headers: &HeaderMap, origins: Origins) -> Option<&str> {
    let wanted = name(headers, origins);
    let held = headers.get_all(header::COOKIE).iter().filter_map(|held| held.to_str().ok());
    let mut cookies = held.flat_map(|held| held.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, _)| *name == wanted).map(|(_, token)| token).filter(|token| !token.is_empty())
}

fn cookie(name: &str, token: &str, ends: &str) -> Option<HeaderValue> {
    let secure = if name == SECURE_COOKIE { "; Secure" } else { "" };
    HeaderValue::from_str(&format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict{secure}{ends}")).ok()
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
        section.card.alone {
            h1 { "Log in to Cerebelum" }
            form.stack method="post" action="/login" {
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

pub(super) async fn login(
    State(site): State<Site>,
    connection: Option<Extension<Arc<Connection>>>,
    headers: HeaderMap,
    FormOf(Login { token }, goal): FormOf<Login, Goal>,
) -> Shown {
    let refused = match site.service.engine.authenticate(Some(token.trim())).await {
        Ok(_) => {
            let set = cookie(&name(&headers, site.origins), token.trim(), "");
            let set = set.ok_or_else(|| Refusal(tonic::Status::invalid_argument("this is not a token")))?;
            return Ok(([(header::SET_COOKIE, set)], Redirect::to(goal.path())).into_response());
        }
        Err(refused) => refused,
    };
    let from = connection.map(|connection| address(&headers, connection.peer, site.origins));
    site.service.engine.log_refusal(from, "/login", &refused);
    match refused {
        ApiError::Unauthenticated(why) => {
            let page = layout::page(&Frame::bare("Log in"), &login_form(&goal, Some(&why)));
            Ok((axum::http::StatusCode::UNAUTHORIZED, page).into_response())
        }
        other => Err(refusal(other).into()),
    }
}

pub(super) async fn logout(State(site): State<Site>, headers: HeaderMap) -> Response {
    let set = cookie(&name(&headers, site.origins), "", "; Max-Age=0").map(|set| [(header::SET_COOKIE, set)]);
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
    fn the_token_stands_in_the_cookie_of_this_engine() {
        let held = |cookies: &str, origins| {
            let of = |value: &str| HeaderValue::from_str(value).unwrap();
            let headers = HeaderMap::from_iter([(header::COOKIE, of(cookies)), (header::HOST, of("127.0.0.1:9090"))]);
            token(&headers, origins).map(str::to_owned)
        };
        let both = "a=b; cerebelum_token_9090=cb_1_2; cerebelum_token_9191=cb_5_6; __Host-cerebelum_token=cb_3_4";
        assert_eq!(held(both, Origins::ThisMachine).as_deref(), Some("cb_1_2"));
        assert_eq!(held(both, Origins::BehindProxy).as_deref(), Some("cb_3_4"));
        assert_eq!(held("cerebelum_token_9090=", Origins::ThisMachine), None);
        assert_eq!(held("cerebelum_token_9090=cb_1_2", Origins::Tls), None, "a neighbour could have set it");
        assert!(cookie(SECURE_COOKIE, "t", "").unwrap().to_str().unwrap().contains("Secure"));
    }
}
