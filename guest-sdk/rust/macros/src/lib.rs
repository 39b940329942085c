//! The attributes of the guest SDK: `#[workflow]`, `#[step]`, `#[data]`. Documented where the SDK re-exports them.

mod duration;
mod function;
mod options;

use proc_macro::TokenStream;
use quote::quote;

/// Makes an `async fn` a workflow. See the crate `cerebelum`.
#[proc_macro_attribute]
pub fn workflow(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(function::Role::Workflow, options, item)
}

/// Makes an `async fn` a step. See the crate `cerebelum`.
#[proc_macro_attribute]
pub fn step(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(function::Role::Step, options, item)
}

/// Makes a struct or an enum an input or output type. See the crate `cerebelum`.
#[proc_macro_attribute]
pub fn data(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = proc_macro2::TokenStream::from(options);
    if !options.is_empty() {
        return syn::Error::new_spanned(options, "`#[data]` has no options").into_compile_error().into();
    }
    let item = proc_macro2::TokenStream::from(item);
    quote! {
        #[derive(
            ::core::clone::Clone,
            ::core::fmt::Debug,
            ::cerebelum::__private::serde::Serialize,
            ::cerebelum::__private::serde::Deserialize,
            ::cerebelum::__private::schemars::JsonSchema,
        )]
        #[serde(crate = "::cerebelum::__private::serde")]
        #[schemars(crate = "::cerebelum::__private::schemars")]
        #item
    }
    .into()
}

fn expand(role: function::Role, options: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(role, options.into(), item.into()).unwrap_or_else(|e| e.into_compile_error()).into()
}
