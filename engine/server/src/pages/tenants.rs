//! Tenants, for admins of the tenant `default`: made, suspended and deleted, with their quotas.

use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Frame};
use super::parts::Column::{Number, Text, Unseen};
use super::parts::{escaped, moment, table, text};
use super::read::{Form, Path};
use super::{Client, Shown, Verbs};
use crate::proto;
use crate::wording::Now;

fn path(name: &str) -> String {
    format!("/tenants/{}", escaped(name))
}

pub(super) async fn list(client: Client) -> Shown {
    let all = client.ask(Verbs::tenants, proto::TenantsRequest {}).await?;
    let now = Now::measured();
    let rows = html! {
        @for tenant in &all.tenants {
            tr {
                th scope="row" { a href=(path(&tenant.name)) { (text(&tenant.name)) } }
                td { (state(tenant)) }
                td { (moment(tenant.created_at.as_ref(), now)) }
            }
        }
    };
    let body = html! {
        h1 { "Tenants" }
        details {
            summary { "Create a tenant" }
            form.stack method="post" action="/tenants" {
                label for="name" { "Name" span.note { " 1 to 64 of a-z 0-9 -" } }
                input #name name="name" required maxlength="64" autocomplete="off";
                button.main { "Create" }
            }
        }
        (table("Tenants", None, &["Name", "State", "Created"].map(Text), &rows))
    };
    Ok(layout::page(&Frame::new("Tenants", client.caller(), "Tenants"), &body))
}

const fn state(tenant: &proto::Tenant) -> &'static str {
    match (&tenant.deleted_at, &tenant.suspended_at) {
        (Some(_), _) => "being deleted",
        (None, Some(_)) => "suspended",
        (None, None) => "active",
    }
}

pub(super) async fn show(client: Client, Path(name): Path<String>) -> Shown {
    let request = proto::ShowTenantRequest { name: name.clone() };
    let detail = client.ask(Verbs::show_tenant, request).await?;
    let (tenant, now) = (detail.tenant.clone().unwrap_or_default(), Now::measured());
    let body = html! {
        nav.crumbs aria-label="Breadcrumbs" { a href="/tenants" { "Tenants" } " / " }
        h1.id { (text(&tenant.name)) }
        dl.facts {
            div { dt { "State" } dd { (state(&tenant)) } }
            div { dt { "Created" } dd { (moment(tenant.created_at.as_ref(), now)) } }
            div {
                dt { "Hosts that its steps may reach" }
                dd {
                    @match &detail.hosts {
                        None => { "what the engine's configuration says" }
                        Some(hosts) if hosts.hosts.is_empty() => { "none" }
                        Some(hosts) => { (text(&hosts.hosts.join(", "))) }
                    }
                }
            }
        }
        @if tenant.deleted_at.is_none() { (hosts_form(detail.hosts.as_ref(), &path(&tenant.name))) }
        (actions(&tenant))
        h2 { "Quotas" }
        (quotas(&detail.quotas, &path(&tenant.name), tenant.deleted_at.is_none()))
    };
    Ok(layout::page(&Frame::new(name, client.caller(), "Tenants"), &body))
}

/// The hosts that steps of the tenant may reach, as a form. It begins with what holds.
fn hosts_form(hosts: Option<&proto::Hosts>, path: &str) -> Markup {
    let rules = [
        ("default", "what the engine's configuration says", hosts.is_none()),
        ("these", "only the hosts below", hosts.is_some()),
    ];
    html! {
        details {
            summary { "Set the hosts" }
            form.stack method="post" action={ (path) "/hosts" } {
                label for="rule" { "Steps of this tenant may reach" }
                select #rule name="rule" {
                    @for (value, meaning, is_so) in rules { option value=(value) selected[is_so] { (meaning) } }
                }
                label for="hosts" {
                    "Hosts, one a line" span.note { " host, host:port, or * for every public address; none: no request leaves" }
                }
                textarea #hosts name="hosts" rows="4" spellcheck="false" {
                    @for host in hosts.iter().flat_map(|hosts| &hosts.hosts) { (host) "\n" }
                }
                button.main { "Set" }
                p.note { "Every engine goes by it within five seconds." }
            }
        }
    }
}

fn actions(tenant: &proto::Tenant) -> Markup {
    let path = path(&tenant.name);
    let is_suspended = tenant.suspended_at.is_some();
    html! {
        @if tenant.name != "default" && tenant.deleted_at.is_none() {
            div.actions role="group" aria-label="Actions" {
                form method="post" action={ (path) "/suspend" } {
                    input type="hidden" name="lift" value=(is_suspended);
                    @if is_suspended { button title="Its tokens are accepted again" { "Lift the suspension" } }
                    @else { button title="Its tokens are refused; its executions go on" { "Suspend" } }
                }
            }
            @if is_suspended {
                details {
                    summary { "Delete" }
                    form.stack method="post" action={ (path) "/delete" } {
                        label for="confirm" { "Everything that it has goes: executions, components, tokens, audit. Type " strong { (text(&tenant.name)) } " to confirm" }
                        input #confirm name="name" required autocomplete="off";
                        button.danger { "Delete" }
                    }
                }
            }
        }
    }
}

fn quotas(quotas: &[proto::Quota], path: &str, may_change: bool) -> Markup {
    let rows = html! {
        @for quota in quotas {
            tr {
                th scope="row" { (text(&quota.name)) }
                td.number { @if let Some(used) = quota.used { (used) } @else { "–" } }
                td.number { (quota.max) @if !quota.is_set { span.note { " default" } } }
                td {
                    @if may_change {
                        form method="post" action={ (path) "/quotas" } {
                            input type="hidden" name="quota" value=(quota.name);
                            input name="max" inputmode="numeric" aria-label={ "New value of " (text(&quota.name)) " or nothing for the default" };
                            " " button { "Set" }
                        }
                    }
                }
            }
        }
    };
    table("Quotas", None, &[Text("Quota"), Number("Used"), Number("At most"), Unseen("Change")], &rows)
}

/// The name of a tenant, as a person types it.
#[derive(Deserialize)]
pub(super) struct Named {
    name: String,
}

pub(super) async fn create(client: Client, Form(Named { name }): Form<Named>) -> Shown {
    let request = proto::CreateTenantRequest { name: name.trim().to_owned() };
    let created = client.ask(Verbs::create_tenant, request).await?;
    Ok(Redirect::to(&path(&created.name)).into_response())
}

/// Whether a suspension begins or is lifted.
#[derive(Deserialize)]
pub(super) struct Suspension {
    lift: bool,
}

pub(super) async fn suspend(
    client: Client,
    Path(name): Path<String>,
    Form(Suspension { lift }): Form<Suspension>,
) -> Shown {
    let request = proto::SuspendTenantRequest { name: name.clone(), lift };
    client.change(Verbs::suspend_tenant, request, &path(&name)).await
}

pub(super) async fn delete(client: Client, Path(name): Path<String>, Form(confirmed): Form<Named>) -> Shown {
    if confirmed.name.trim() != name {
        let why = format!("what was typed is not `{name}`: nothing was deleted");
        return Err(tonic::Status::failed_precondition(why).into());
    }
    client.change(Verbs::delete_tenant, proto::DeleteTenantRequest { name }, "/tenants").await
}

/// The hosts of a tenant as a person sets them.
#[derive(Deserialize)]
pub(super) struct HostsChange {
    rule: Rule,
    hosts: String,
}

/// Where the hosts of a tenant come from.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Rule {
    /// From the engine's configuration.
    Default,
    /// From the form.
    These,
}

pub(super) async fn set_hosts(client: Client, Path(name): Path<String>, Form(change): Form<HostsChange>) -> Shown {
    let typed = change.hosts.split([',', ' ', '\t', '\r', '\n']).filter(|host| !host.is_empty()).map(str::to_owned);
    let hosts = (change.rule == Rule::These).then(|| proto::Hosts { hosts: typed.collect() });
    client.change(Verbs::set_hosts, proto::SetHostsRequest { name: name.clone(), hosts }, &path(&name)).await
}

/// A quota as a person sets it; an empty number stands for the default.
#[derive(Deserialize)]
pub(super) struct QuotaChange {
    quota: String,
    max: String,
}

pub(super) async fn set_quota(client: Client, Path(name): Path<String>, Form(change): Form<QuotaChange>) -> Shown {
    let max = Some(change.max.trim()).filter(|typed| !typed.is_empty()).map(str::parse).transpose();
    let max = max.map_err(|_| tonic::Status::invalid_argument("a quota is a whole number"))?;
    let changes = vec![proto::set_quotas_request::Change { name: change.quota, max }];
    client.change(Verbs::set_quotas, proto::SetQuotasRequest { name: name.clone(), changes }, &path(&name)).await
}
