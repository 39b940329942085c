//! Turns an `async fn` into a workflow or a step: the checks, and the generated code.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, FnArg, ItemFn, Lit, Meta, Result, ReturnType, Type};

use crate::options::Options;

/// Whether the function becomes a workflow or a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Workflow,
    Step,
}

impl Role {
    const fn noun(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Step => "step",
        }
    }
}

pub(crate) fn expand(role: Role, options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let options = Options::parse(role, options)?;
    let function: ItemFn = syn::parse2(item)?;
    let signature = Signature::of(role, &function)?;
    Ok(generate(role, &options, &function, &signature))
}

/// The input and output types of a function.
struct Signature<'a> {
    input: Option<&'a Type>,
    returns: &'a Type,
}

impl<'a> Signature<'a> {
    fn of(role: Role, function: &'a ItemFn) -> Result<Self> {
        let (signature, noun) = (&function.sig, role.noun());
        if signature.asyncness.is_none() {
            return Err(Error::new(signature.fn_token.span, format!("a {noun} is an `async fn`")));
        }
        if !signature.generics.params.is_empty() {
            return Err(Error::new(signature.generics.span(), format!("a {noun} has one name and cannot be generic")));
        }
        let mut types = Vec::new();
        for parameter in &signature.inputs {
            match parameter {
                FnArg::Typed(parameter) => types.push(&*parameter.ty),
                FnArg::Receiver(own) => {
                    return Err(Error::new(own.span(), format!("a {noun} is a free function, without `self`")));
                }
            }
        }
        let first = types.first().copied();
        if !first.is_some_and(is_context) {
            let span = first.map_or_else(|| signature.ident.span(), Spanned::span);
            return Err(Error::new(span, format!("the first parameter of a {noun} is `ctx: Context`")));
        }
        if let Some(third) = types.get(2) {
            let what = format!("a {noun} takes one input besides `ctx`: put several values into a struct or a tuple");
            return Err(Error::new(third.span(), what));
        }
        let ReturnType::Type(_, returns) = &signature.output else {
            return Err(Error::new(signature.ident.span(), format!("a {noun} returns a `Result<…>`")));
        };
        Ok(Self { input: types.get(1).copied(), returns })
    }
}

fn is_context(parameter: &Type) -> bool {
    matches!(parameter, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Context"))
}

fn generate(role: Role, options: &Options, function: &ItemFn, signature: &Signature<'_>) -> TokenStream {
    let (name, visibility) = (&function.sig.ident, &function.vis);
    let (docs, others): (Vec<_>, Vec<_>) = function.attrs.iter().partition(|a| a.path().is_ident("doc"));
    let wire_name = options.name.as_ref().map_or_else(|| name.to_string(), syn::LitStr::value);
    let summary = summary(&docs);
    let (parameters, returns, block) = (&function.sig.inputs, signature.returns, &function.block);
    let unit: Type = syn::parse_quote!(());
    let input = signature.input.unwrap_or(&unit);
    let (traits, call, constructor) = match role {
        Role::Step => (quote!(Step), quote!(StepRun), quote!(step)),
        Role::Workflow => (quote!(Workflow), quote!(WorkflowRun), quote!(workflow)),
    };
    let own_options = match role {
        Role::Step => {
            let options = options.to_tokens();
            quote!(const OPTIONS: ::cerebelum::__private::StepOptions = #options;)
        }
        Role::Workflow => {
            let grace = options.cancel_grace_to_tokens();
            quote!(const CANCEL_GRACE_MS: ::core::option::Option<u64> = #grace;)
        }
    };
    let (declared, passed, given) = match signature.input {
        Some(ty) => (quote!(, input: #ty), quote!(input), quote!(, input)),
        None => (TokenStream::new(), quote!(()), TokenStream::new()),
    };
    // Spans of the user's types make rustc point at them when a bound does not hold.
    let output = quote_spanned!(returns.span()=> <#returns as ::cerebelum::__private::IsResult>::Value);
    let into_result = quote_spanned!(returns.span()=> ::cerebelum::__private::IsResult::into_result);
    let body = format_ident!("__{}_body", name);
    quote! {
        #(#docs)*
        #visibility fn #name(ctx: &::cerebelum::Context #declared) -> ::cerebelum::calls::#call<#name> {
            ::cerebelum::calls::#call::of(ctx, #passed)
        }

        #(#docs)*
        #[allow(non_camel_case_types)]
        #visibility struct #name {}

        const _: () = {
            #(#others)*
            async fn #body(#parameters) -> #returns #block

            impl ::cerebelum::#traits for #name {
                const NAME: &'static str = #wire_name;
                const SUMMARY: ::core::option::Option<&'static str> = #summary;
                #own_options
                type Input = #input;
                type Output = #output;

                async fn run(ctx: ::cerebelum::Context, input: #input) -> ::cerebelum::Result<Self::Output> {
                    let _ = &input;
                    #into_result(#body(ctx #given).await)
                }
            }

            ::cerebelum::__private::inventory::submit! {
                ::cerebelum::__private::Registration::#constructor::<#name>()
            }
        };
    }
}

/// The first paragraph of the doc comment, for the manifest.
fn summary(docs: &[&Attribute]) -> TokenStream {
    let lines = docs.iter().filter_map(|doc| match &doc.meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => Some(line.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return quote!(::core::option::Option::None);
    }
    let text = lines.join("\n");
    quote!(::core::option::Option::Some(#text))
}
