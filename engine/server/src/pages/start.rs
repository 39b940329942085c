//! The form that starts an execution, made from the schema of the workflow's input.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use cerebelum_history::ExecutionId;
use maud::{Markup, html};
use serde::Deserialize;
use tonic::{Code, Status};

use super::commands;
use super::executions::written_of;
use super::form::{self, Held};
use super::layout::{self, Frame};
use super::parts::{execution_path, filled, start_path, text};
use super::read::{Form, Path, Query};
use super::wanted::attributes;
use super::{Client, Shown, Verbs};
use crate::convert::refusal;
use crate::proto;
use crate::span::Span;

/// The execution whose input is the beginning of this one's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    like: String,
}

/// What the form begins with.
#[derive(Debug, Default)]
struct Beginning {
    input: Option<String>,
    attributes: String,
    /// The number of attributes that cannot be written in the form.
    left_out: usize,
    /// What a reader had sent, and why that was refused.
    sent: Vec<(String, String)>,
    refused: Option<String>,
    /// The same start for a shell.
    commands: Option<Markup>,
}

/// A component and one of its workflows.
type Name = Path<(String, String)>;

pub(super) async fn show(client: Client, Path(name): Name, Query(wanted): Query<Wanted>) -> Shown {
    let begins = match wanted.like.as_str() {
        "" => Beginning::default(),
        like => {
            let request = proto::StatusRequest { execution_id: like.to_owned() };
            let like = client.ask(Verbs::status, request).await?;
            let (attributes, left_out) = like.summary.as_ref().map(written_of).unwrap_or_default();
            Beginning { input: Some(like.input), attributes, left_out, ..Beginning::default() }
        }
    };
    page(&client, &name, begins).await
}

async fn page(client: &Client, (component, workflow): &(String, String), begins: Beginning) -> Shown {
    let engine = client.engine();
    let found = engine.workflow(component, workflow).await.map_err(refusal)?;
    let schema = found.input_schema.as_ref().map(|schema| schema.as_str());
    let path = start_path(&format!("{component}/{workflow}"));
    // Fields that would change the value that is started again are not offered for it.
    let raw = Some(form::sent(&begins.sent, "json")).filter(|json| !json.is_empty());
    let input = begins.input.as_deref().or(raw);
    let is_whole = input.is_none_or(|input| form::reproduces(schema, input));
    let held = Held { json: input, typed: &begins.sent };
    let buttons = html! {
        div.actions {
            button.main { "Start" }
            button name="as" value="commands" { "Show as commands" }
        }
    };
    let body = html! {
        nav.crumbs aria-label="Breadcrumbs" { a href="/components" { "Components" } " / " (text(component)) " / " }
        h1 { "Start " (text(workflow)) }
        @if let Some(summary) = &found.summary { p.lead { (text(summary)) } }
        @if let Some(refused) = &begins.refused { p.wrong #wrong role="alert" { (text(refused)) } }
        @if let Some(commands) = &begins.commands { (commands) }
        @if is_whole {
            form.stack.card method="post" action=(path) {
                (form::fields("Input", schema, held, "input"))
                (options(&begins, "o"))
                (buttons)
            }
        }
        @if !is_whole || form::has_fields(schema) {
            details #raw open[!is_whole] {
                summary { "Input as JSON" }
                form.stack method="post" action=(path) {
                    (form::fields("Input", None, held, "raw"))
                    (options(&begins, "r"))
                    (buttons)
                }
            }
        }
        (super::graph::plan(found.input_schema.as_ref()))
        @if let Some(schema) = schema { details #schema { summary { "Schema of the input" } (super::parts::value(schema, None)) } }
    };
    Ok(layout::page(&Frame::new(format!("Start {workflow}"), client.caller(), "Components"), &body))
}

fn options(begins: &Beginning, which: &str) -> Markup {
    let attributes = if begins.sent.is_empty() { &begins.attributes } else { form::sent(&begins.sent, "attributes") };
    html! {
        label for={ "attributes-" (which) } { "Attributes" span.note { " optional" } }
        input id={ "attributes-" (which) } name="attributes" value=(attributes) placeholder="team=ops & n=7";
        @if begins.left_out > 0 { p.note { (begins.left_out) " more of the other execution cannot be written here: the command line takes them by " code { "--attr" } "." } }
        label for={ "id-" (which) } { "Id" span.note { " optional" } }
        input id={ "id-" (which) } name="id" value=(form::sent(&begins.sent, "id")) maxlength="128" aria-describedby={ "idn-" (which) };
        p.note id={ "idn-" (which) } { "The same id with the same input starts nothing twice." }
        label for={ "delay-" (which) } { "Begin after" span.note { " optional" } }
        input id={ "delay-" (which) } name="delay" value=(form::sent(&begins.sent, "delay")) placeholder="10m, 2h30m, 1d";
        label for={ "deadline-" (which) } { "Must end within" span.note { " optional" } }
        input id={ "deadline-" (which) } name="deadline" value=(form::sent(&begins.sent, "deadline")) placeholder="30m, 12h, 2d" aria-describedby={ "dln-" (which) };
        p.note id={ "dln-" (which) } { "Counted from now, the delay included. An execution that has not ended by then fails." }
    }
}

pub(super) async fn start(client: Client, Path(name): Name, Form(fields): Form<Vec<(String, String)>>) -> Shown {
    let started = match request(&name, &fields) {
        Ok(request) if form::sent(&fields, "as") == "commands" => {
            let times = ["delay", "deadline"].map(|name| (name, form::sent(&fields, name)));
            let commands = Some(commands::to_start(&request, &times, client.caller()));
            return page(&client, &name, Beginning { sent: fields, commands, ..Beginning::default() }).await;
        }
        Ok(request) => client.ask(Verbs::start, request).await,
        Err(refused) => Err(refused),
    };
    let refused = match started {
        Ok(started) => return Ok(Redirect::to(&execution_path(&started.execution_id)).into_response()),
        Err(refused) if matches!(refused.code(), Code::InvalidArgument | Code::FailedPrecondition) => refused,
        Err(refused) => return Err(refused.into()),
    };
    let refused = Some(refused.message().to_owned());
    let page: Response = page(&client, &name, Beginning { sent: fields, refused, ..Beginning::default() }).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

/// What a reader wants to start.
fn request(
    (component, workflow): &(String, String),
    fields: &[(String, String)],
) -> Result<proto::StartRequest, Status> {
    let id = form::sent(fields, "id");
    let ms = |name| {
        let span = filled(form::sent(fields, name)).map(|text| text.parse()).transpose();
        span.map(|span: Option<Span>| span.map(|span| span.ms)).map_err(Status::invalid_argument)
    };
    if !id.is_empty() {
        id.parse::<ExecutionId>().map_err(|wrong| Status::invalid_argument(wrong.to_string()))?;
    }
    Ok(proto::StartRequest {
        workflow: format!("{component}/{workflow}"),
        input: form::json(fields).map_err(Status::invalid_argument)?.unwrap_or_default(),
        execution_id: Some(id.to_owned()).filter(|id| !id.is_empty()),
        attributes: attributes(form::sent(fields, "attributes"))?,
        delay_ms: ms("delay")?.unwrap_or_default(),
        deadline_ms: ms("deadline")?,
    })
}
