//! The secrets of the reader's tenant: names and hosts, never values.

use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Frame};
use super::parts::Column::{Text, Unseen};
use super::parts::{confirmed, escaped, moment, text};
use super::read::{Form, Path};
use super::{Client, Shown, Verbs, parts};
use crate::proto;
use crate::wording::Now;

pub(super) async fn show(client: Client) -> Shown {
    let request = proto::SecretsRequest { tenant: None };
    let all = client.ask(Verbs::secrets, request).await?;
    let now = Now::measured();
    let body = html! {
        h1 { "Secrets" }
        p.note {
            "A request of a step may contain " code { "{{secret:NAME}}" } " if its component asks for the secret and the request goes to one of the secret's hosts."
        }
        (setting())
        @if all.secrets.is_empty() { p.lead { "There is no secret." } } @else { (table(&all.secrets, now)) }
    };
    Ok(layout::page(&Frame::new("Secrets", client.caller(), "Secrets"), &body))
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
    let columns = [Text("Name"), Text("Hosts"), Text("Created"), Text("Changed"), Text("State"), Unseen("Change")];
    let rows = html! {
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
    };
    parts::table("Secrets", None, &columns, &rows)
}

/// A secret as a person writes it.
#[derive(Deserialize)]
pub(super) struct Setting {
    name: String,
    value: String,
    hosts: String,
}

pub(super) async fn set(client: Client, Form(wish): Form<Setting>) -> Shown {
    let hosts = wish.hosts.split([',', ' ', '\r', '\n']).filter(|host| !host.is_empty()).map(str::to_owned).collect();
    let request = proto::SetSecretRequest { tenant: None, name: wish.name.trim().to_owned(), value: wish.value, hosts };
    client.change(Verbs::set_secret, request, "/secrets").await
}

pub(super) async fn delete(client: Client, Path(name): Path<String>) -> Shown {
    client.change(Verbs::delete_secret, proto::DeleteSecretRequest { tenant: None, name }, "/secrets").await
}
