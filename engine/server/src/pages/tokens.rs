//! The tokens of the reader's tenant: made, shown once, and revoked.

use cerebelum_worker::{Caller, Role};
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Frame};
use super::parts::Column::{Text, Unseen};
use super::parts::{confirmed, escaped, moment, text};
use super::read::{Form, Path};
use super::{Client, Shown, Verbs, parts};
use crate::proto;
use crate::span::Span;
use crate::wording::{Now, moment_ms};

pub(super) async fn show(client: Client) -> Shown {
    page(&client, None).await
}

async fn page(client: &Client, created: Option<&proto::CreatedToken>) -> Shown {
    let request = proto::TokensRequest { tenant: None };
    let all = client.ask(Verbs::tokens, request).await?;
    let now = Now::measured();
    let body = html! {
        h1 { "Tokens" }
        @if let Some(created) = created { (shown_once(created)) }
        (creation(client.caller()))
        @if all.tokens.is_empty() { p.lead { "There is no token." } } @else { (table(&all.tokens, now)) }
    };
    Ok(layout::page(&Frame::new("Tokens", client.caller(), "Tokens"), &body))
}

fn shown_once(created: &proto::CreatedToken) -> Markup {
    let name = created.token.as_ref().map(|token| token.name.as_str()).unwrap_or_default();
    html! {
        section.card role="status" {
            h2 { "The token of " (text(name)) }
            p { "It is shown here and nowhere else. Copy it now." }
            pre.value tabindex="0" { (text(&created.secret)) }
        }
    }
}

fn creation(caller: &Caller) -> Markup {
    html! {
        details open[caller.name.is_none()] {
            summary { "Create a token" }
            @if caller.name.is_none() {
                p.note { "The first token closes this engine: from then on every reader logs in. So it must be one of an admin." }
            }
            form.stack method="post" action="/tokens" {
                label for="name" { "Name of its owner" }
                input #name name="name" required maxlength="128" autocomplete="off";
                label for="role" { "Role" }
                select #role name="role" {
                    @for role in Role::ALL { option value=(role.as_str()) { (role.as_str()) } }
                }
                label for="expires" { "Expires after" span.note { " optional" } }
                input #expires name="expires" placeholder="90d";
                button.main { "Create" }
            }
        }
    }
}

fn table(tokens: &[proto::Token], now: Now) -> Markup {
    let columns =
        [Text("Owner"), Text("Role"), Text("Id"), Text("Created"), Text("Last used"), Text("State"), Unseen("Change")];
    let rows = html! {
        @for token in tokens {
            tr {
                th scope="row" { (text(&token.name)) }
                td { (text(&token.role)) }
                td { code { (text(&token.id)) } }
                td { (moment(token.created_at.as_ref(), now)) }
                td { (moment(token.last_used_at.as_ref(), now)) }
                td { (state(token, now)) }
                td {
                    @if token.revoked_at.is_none() {
                        (confirmed(&format!("/tokens/{}/revoke", escaped(&token.id)), "Revoke", "A client that uses it is refused from then on."))
                    }
                }
            }
        }
    };
    parts::table("Tokens", None, &columns, &rows)
}

fn state(token: &proto::Token, now: Now) -> Markup {
    html! {
        @if token.revoked_at.is_some() { "revoked " (moment(token.revoked_at.as_ref(), now)) }
        @else if token.expires_at.as_ref().is_some_and(|at| moment_ms(at) <= now.0) { "expired" }
        @else if token.expires_at.is_some() { "expires " (moment(token.expires_at.as_ref(), now)) }
        @else { "valid" }
    }
}

/// A token as a person asks for it.
#[derive(Deserialize)]
pub(super) struct Creation {
    name: String,
    role: String,
    #[serde(default)]
    expires: String,
}

pub(super) async fn create(client: Client, Form(wish): Form<Creation>) -> Shown {
    let expires = wish.expires.trim();
    let expires: Option<Span> = match expires.is_empty() {
        true => None,
        false => Some(expires.parse().map_err(tonic::Status::invalid_argument)?),
    };
    let expires_in_ms = expires.map(|span| span.ms);
    let request = proto::CreateTokenRequest { tenant: None, role: wish.role, name: wish.name, expires_in_ms };
    let created = client.ask(Verbs::create_token, request).await?;
    // The first token closes the engine to a reader without one: what was made must be shown all the same.
    match page(&client, Some(&created)).await {
        Ok(page) => Ok(page),
        Err(_) => {
            let body = html! { h1 { "Tokens" } (shown_once(&created)) p { a href="/login" { "Log in" } } };
            Ok(layout::page(&Frame::bare("Tokens"), &body))
        }
    }
}

pub(super) async fn revoke(client: Client, Path(id): Path<String>) -> Shown {
    client.change(Verbs::revoke_token, proto::RevokeTokenRequest { id, tenant: None }, "/tokens").await
}
