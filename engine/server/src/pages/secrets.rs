//! The secrets of the reader's tenant: names and hosts, never values.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Frame};
use super::parts::{confirmed, escaped, moment, text};
use super::read::{Form, Path};
use super::{Shown, Site};
use crate::access::Access;
use crate::proto;
use crate::proto::engine_server::Engine as _;
use crate::rest::asked;
use crate::wording::Now;

pub(super) async fn show(State(site): State<Site>, access: Access) -> Shown {
    let request = proto::SecretsRequest { tenant: None };
    let all = site.service.secrets(asked(access.clone(), request)).await?.into_inner();
    let now = Now::measured();
    let body = html! {
        h1 { "Secrets" }
        p.note {
            "A request of a step may contain " code { "{{secret:NAME}}" } " if its component asks for the secret and the request goes to one of the secret's hosts."
        }
        (setting())
        @if all.secrets.is_empty() { p.lead { "There is no secret." } } @else { (table(&all.secrets, now)) }
    };
    Ok(layout::page(&Frame::new("Secrets", &access.caller, "Secrets"), &body))
}

fn setting() -> Markup {
    html! {
        details {
            summary { "Set a secret" }
            form.stack method="post" action="/secrets" {
                label for="name" { "Name" }
                input #name name="name" required maxlength="64" autocomplete="off" placeholder="STRIPE_KEY";
                label for="value" { "Value" span.note { " never shown again" } }
                input #value name="value" type="password" required autocomplete="new-password";
                label for="hosts" { "Hosts to which it may go" span.note { " one a line" } }
                textarea #hosts name="hosts" rows="2" required spellcheck="false" placeholder="api.stripe.com" {}
                button.main { "Set" }
            }
        }
    }
}

fn table(secrets: &[proto::Secret], now: Now) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label="Secrets" {
            table {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Hosts" } th scope="col" { "Created" } th scope="col" { "Changed" }
                    th scope="col" { "State" } th scope="col" { span.unseen { "Change" } }
                } }
                tbody {
                    @for secret in secrets {
                        tr {
                            th scope="row" { code { (text(&secret.name)) } }
                            td { (text(&secret.hosts.join(", "))) }
                            td { (moment(secret.created_at.as_ref(), now)) }
                            td { (moment(secret.changed_at.as_ref(), now)) }
                            td { @if secret.is_open { "can be used" } @else { "this engine lacks the key" } }
                            td {
                                (confirmed(&format!("/secrets/{}/delete", escaped(&secret.name)), "Delete", "Steps that ask for it fail from then on."))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A secret as a person writes it.
#[derive(Deserialize)]
pub(super) struct Setting {
    name: String,
    value: String,
    hosts: String,
}

pub(super) async fn set(State(site): State<Site>, access: Access, Form(wish): Form<Setting>) -> Shown {
    let hosts = wish.hosts.split([',', ' ', '\r', '\n']).filter(|host| !host.is_empty()).map(str::to_owned).collect();
    let request = proto::SetSecretRequest { tenant: None, name: wish.name.trim().to_owned(), value: wish.value, hosts };
    site.service.set_secret(asked(access, request)).await?;
    Ok(Redirect::to("/secrets").into_response())
}

pub(super) async fn delete(State(site): State<Site>, access: Access, Path(name): Path<String>) -> Shown {
    site.service.delete_secret(asked(access, proto::DeleteSecretRequest { tenant: None, name })).await?;
    Ok(Redirect::to("/secrets").into_response())
}
