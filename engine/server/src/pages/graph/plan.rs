//! A workflow's plan before it runs, and in words where its rules may lead.

use cerebelum_history::{Json, Timestamp};
use cerebelum_timeline::{Drawing, Graph, Plan, Then, When};
use maud::{Markup, html};

use super::super::parts::cut;
use super::{Sheet, WORD_LETTERS_MAX};

/// A longer answer for which a rule looks is cut.
const ANSWER_LETTERS_MAX: usize = 60;

/// The plan of a workflow as a drawing, if the schema of its input has one.
pub(in super::super) fn section(schema: Option<&Json>) -> Markup {
    let Some(plan) = Plan::of(schema) else { return html! {} };
    let drawing = Graph::of(plan).draw(Timestamp::default());
    let sheet = Sheet::new(&drawing, None, 0);
    html! {
        section #plan {
            h2 { "Plan" }
            p.note { "The steps in the order in which the workflow runs them, unless a rule leads elsewhere." }
            (sheet.picture(&drawing, None))
            (hidden(&drawing))
            (rules(&drawing))
            (sheet.list(&drawing, None))
        }
    }
}

/// How many planned steps have no box.
pub(super) fn hidden(drawing: &Drawing) -> Markup {
    html! {
        @if drawing.hidden_steps > 0 { p.note { "And " (drawing.hidden_steps) " more planned steps." } }
    }
}

/// Where the rules that may still count would lead.
pub(super) fn rules(drawing: &Drawing) -> Markup {
    html! {
        @if !drawing.rules.is_empty() {
            details #graph-rules {
                summary { "Where rules may lead" }
                ul.graph-text {
                    @for (step, ways) in &drawing.rules {
                        @for way in ways { li { (when(step, &way.when)) ": " (then(&way.then)) "." } }
                    }
                }
            }
        }
    }
}

fn when(step: &str, when: &When) -> Markup {
    let step = named(step);
    html! {
        @match when {
            When::Returned => { "If " (step) " returns" },
            When::Failed => { "If " (step) " fails" },
            When::Ended => { "When " (step) " has returned or failed" },
            When::Is(answer) => { "If " (step) " answers " code { (cut(answer, ANSWER_LETTERS_MAX)) } },
            When::Condition(is_true) => { "If the condition after " (step) " is " (is_true) },
        }
    }
}

fn then(then: &Then) -> Markup {
    html! {
        @match then {
            Then::Steps(steps) => {
                @for (number, name) in steps.names().into_iter().enumerate() {
                    @if number > 0 { ", " }
                    (named(name))
                }
            },
            Then::Retry(1) => { "it runs once more" },
            Then::Retry(times) => { "it runs again, at most " (times) " times" },
            Then::BackTo(step) => { "back to " (named(step)) },
            Then::SkipTo(step) => { "on to " (named(step)) },
            Then::Fail => { "the execution fails" },
            Then::End => { "the execution completes" },
        }
    }
}

fn named(step: &str) -> Markup {
    html! { code { (cut(step, WORD_LETTERS_MAX)) } }
}
