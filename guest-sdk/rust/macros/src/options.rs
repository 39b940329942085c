//! The options in the brackets of `#[step(…)]` and `#[workflow(…)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, ExprUnary, Lit, LitStr, MetaNameValue, Result, Token, UnOp};

use crate::duration::parse_ms;
use crate::function::Role;

/// The options of a workflow or a step; an option that is left out keeps its default.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    retry: Option<Retry>,
    timeout_ms: Option<u64>,
    deadline_ms: Option<u64>,
    cancel_grace_ms: Option<u64>,
}

#[derive(Default)]
struct Retry {
    max_attempts: Option<u32>,
    delay_ms: Option<u64>,
    backoff: Option<f64>,
    max_delay_ms: Option<u64>,
    jitter: Option<f64>,
}

/// One `name = value`, or `retry(…)`.
enum Item {
    Value(Box<MetaNameValue>),
    Retry(proc_macro2::Span, Vec<MetaNameValue>),
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let ahead = input.fork();
        let name: syn::Ident = ahead.parse()?;
        if name == "retry" && ahead.peek(syn::token::Paren) {
            input.parse::<syn::Ident>()?;
            let inner;
            syn::parenthesized!(inner in input);
            let items = Punctuated::<MetaNameValue, Token![,]>::parse_terminated(&inner)?;
            return Ok(Self::Retry(name.span(), items.into_iter().collect()));
        }
        if !ahead.peek(Token![=]) {
            return Err(Error::new(name.span(), format!("`{name}` needs a value: `{name} = …`")));
        }
        input.parse().map(|item| Self::Value(Box::new(item)))
    }
}

impl Options {
    pub(crate) fn parse(role: Role, tokens: TokenStream) -> Result<Self> {
        let items = Punctuated::<Item, Token![,]>::parse_terminated.parse2(tokens)?;
        let mut options = Self::default();
        for item in items {
            match item {
                Item::Retry(span, _) if role == Role::Workflow => return Err(steps_only(span, "retry")),
                Item::Retry(_, items) => options.retry = Some(Retry::parse(items)?),
                Item::Value(item) => options.set(role, &item)?,
            }
        }
        Ok(options)
    }

    fn set(&mut self, role: Role, item: &MetaNameValue) -> Result<()> {
        let name = item.path.get_ident().map(ToString::to_string).unwrap_or_default();
        match (name.as_str(), role) {
            ("name", _) => self.name = Some(text(&item.value)?),
            ("timeout", Role::Step) => self.timeout_ms = Some(duration_ms(&item.value)?),
            ("deadline", Role::Step) => self.deadline_ms = Some(duration_ms(&item.value)?),
            ("retry", Role::Step) => {
                return Err(Error::new(item.span(), "write `retry(max_attempts = 5, delay = \"1s\")`"));
            }
            ("cancel_grace", Role::Workflow) => self.cancel_grace_ms = Some(duration_ms(&item.value)?),
            ("timeout" | "deadline" | "retry", Role::Workflow) => return Err(steps_only(item.path.span(), &name)),
            (_, Role::Step) => {
                return Err(Error::new(
                    item.path.span(),
                    "unknown option: a step has `name`, `retry(…)`, `timeout` and `deadline`",
                ));
            }
            (_, Role::Workflow) => {
                return Err(Error::new(item.path.span(), "unknown option: a workflow has `name` and `cancel_grace`"));
            }
        }
        Ok(())
    }

    /// An expression of type `Option<u64>`: how long a workflow's clean-up may take, in milliseconds.
    pub(crate) fn cancel_grace_to_tokens(&self) -> TokenStream {
        option(self.cancel_grace_ms)
    }

    /// An expression of type `cerebelum::StepOptions`.
    pub(crate) fn to_tokens(&self) -> TokenStream {
        let retry = match &self.retry {
            None => quote!(::core::option::Option::None),
            Some(retry) => {
                let retry = retry.to_tokens();
                quote!(::core::option::Option::Some(#retry))
            }
        };
        let (timeout, deadline) = (option(self.timeout_ms), option(self.deadline_ms));
        quote!(::cerebelum::__private::StepOptions { retry: #retry, timeout_ms: #timeout, deadline_ms: #deadline })
    }
}

impl Retry {
    fn parse(items: Vec<MetaNameValue>) -> Result<Self> {
        let mut retry = Self::default();
        for MetaNameValue { path, value, .. } in items {
            match path.get_ident().map(ToString::to_string).unwrap_or_default().as_str() {
                "max_attempts" => retry.max_attempts = Some(attempts(&value)?),
                "delay" => retry.delay_ms = Some(duration_ms(&value)?),
                "backoff" => retry.backoff = Some(number(&value, 1.0..=f64::MAX, "a factor of 1.0 or more")?),
                "max_delay" => retry.max_delay_ms = Some(duration_ms(&value)?),
                "jitter" => retry.jitter = Some(number(&value, 0.0..=1.0, "a share from 0.0 to 1.0")?),
                _ => {
                    return Err(Error::new(
                        path.span(),
                        "unknown option: `retry` has `max_attempts`, `delay`, `backoff`, `max_delay` and `jitter`",
                    ));
                }
            }
        }
        Ok(retry)
    }

    fn to_tokens(&self) -> TokenStream {
        let fields = [
            self.max_attempts.map(|v| quote!(max_attempts: #v)),
            self.delay_ms.map(|v| quote!(delay_ms: #v)),
            self.backoff.map(|v| quote!(backoff: #v)),
            self.max_delay_ms.map(|v| quote!(max_delay_ms: #v)),
            self.jitter.map(|v| quote!(jitter: #v)),
        ];
        let fields = fields.iter().flatten();
        quote!(::cerebelum::RetryPolicy { #(#fields,)* ..::cerebelum::RetryPolicy::DEFAULT })
    }
}

fn steps_only(span: proc_macro2::Span, name: &str) -> Error {
    Error::new(span, format!("`{name}` is for steps: a workflow is rerun, never retried"))
}

fn option(value: Option<u64>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

fn text(value: &Expr) -> Result<LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
        _ => Err(Error::new(value.span(), "expected a text in quotes")),
    }
}

fn duration_ms(value: &Expr) -> Result<u64> {
    let text = text(value).map_err(|e| Error::new(e.span(), "expected a duration in quotes, such as \"30s\""))?;
    parse_ms(&text.value()).map_err(|e| Error::new(text.span(), e))
}

fn attempts(value: &Expr) -> Result<u32> {
    let count = match value {
        Expr::Lit(ExprLit { lit: Lit::Int(int), .. }) => int.base10_parse().unwrap_or(0),
        _ => 0,
    };
    if count == 0 {
        return Err(Error::new(value.span(), "expected a whole number of attempts, the first included: at least 1"));
    }
    Ok(count)
}

fn number(value: &Expr, within: std::ops::RangeInclusive<f64>, what: &str) -> Result<f64> {
    let parsed = match value {
        Expr::Lit(ExprLit { lit: Lit::Float(float), .. }) => float.base10_parse().ok(),
        Expr::Lit(ExprLit { lit: Lit::Int(int), .. }) => int.base10_parse().ok(),
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), .. }) => Some(-1.0),
        _ => None,
    };
    parsed.filter(|n| within.contains(n)).ok_or_else(|| Error::new(value.span(), format!("expected {what}")))
}
