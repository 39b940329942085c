//! Write durable workflows and steps as ordinary `async` Rust.
//!
//! ```
//! use cerebelum::prelude::*;
//!
//! #[data]
//! struct Order {
//!     size: String,
//! }
//!
//! /// Steps have effects; a failed one is tried again.
//! #[step(retry(max_attempts = 5, delay = "1s"), timeout = "30s")]
//! async fn create_droplet(ctx: Context, order: Order) -> Result<u64> {
//!     let url = format!("https://api.example.com/droplets?size={}", order.size);
//!     http::post(url).send(&ctx).await?.error_for_status()?.json()
//! }
//!
//! /// A workflow says what happens when, with ordinary control flow. It survives everything.
//! #[workflow]
//! async fn deploy(ctx: Context, order: Order) -> Result<u64> {
//!     let droplet = create_droplet(&ctx, order).await?;
//!     ctx.approval("Go live?").timeout(days(3)).await?;
//!     ctx.sleep(days(1)).await?;
//!     Ok(droplet)
//! }
//!
//! cerebelum::component!(hosts = ["api.example.com"]);
//! ```
//!
//! A guest crate has `crate-type = ["cdylib", "rlib"]`: the first becomes the component. The second is what `cargo
//! test` runs on the local executor of the module `testing`, where days pass in milliseconds.

mod context;
mod durable;
mod error;
mod host;
pub mod http;
mod json;
mod poll;
mod registry;
mod retry;
mod step;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod time;
mod waits;
mod workflow;

/// Makes a struct or an enum an input or output type: derives `Clone`, `Debug`, serde's `Serialize` and `Deserialize`,
/// and schemars' `JsonSchema`, without these crates in the author's `Cargo.toml`. Attributes of serde
/// (`#[serde(default)]` …) and further derives can be added.
pub use cerebelum_macros::data;
/// Makes an `async fn name(ctx: Context, input: I) -> Result<O>` a step: a unit of effects in a sandbox of its own,
/// tried again when it fails, called from workflows and other steps like a function: `name(&ctx, input).await?`.
///
/// Options: `name = "…"`, `retry(max_attempts = 3, delay = "1s", backoff = 2.0, max_delay = "5m", jitter = 0.2)`
/// (shown with the defaults), `timeout = "30s"` for each stretch between durable waits, `deadline = "1h"` for the whole.
pub use cerebelum_macros::step;
/// Makes an `async fn name(ctx: Context, input: I) -> Result<O>` a workflow.
///
/// Options: `name = "…"`, `cancel_grace = "5m"`, how long its clean-up may take after a cancel: as long as it needs when
/// left out.
pub use cerebelum_macros::workflow;

pub use context::Context;
pub use error::{Error, Result, kind};
/// Goes on with the first of several futures that is ready, `select! { a = first => …, b = second => … }`.
///
/// When several are ready at once, the first one in the list wins. `futures::select!` picks one at random instead. A
/// component repeats that random choice on a rerun; a native test with `Local::hibernating` cannot.
pub use futures::select_biased as select;
#[doc(hidden)]
pub use futures::{select_biased, try_join};
pub use host::Level;
pub use json::{Data, Json};
pub use poll::Check;
pub use step::RetryPolicy;
// What the attributes implement; here, so that the compiler's messages have short names.
#[doc(hidden)]
pub use step::Step;
pub use time::{days, hours, millis, minutes, seconds};
pub use waits::Approval;
#[doc(hidden)]
pub use workflow::Workflow;

/// Everything that a guest usually needs: `use cerebelum::prelude::*;`.
pub mod prelude {
    pub use crate::http::{self, ResponseExt as _, secret};
    pub use crate::{
        Approval, Check, Context, Error, Json, Result, RetryPolicy, bail, data, days, ensure, hours, join, join_all,
        kind, millis, minutes, seconds, select, step, workflow,
    };
}

/// The durable calls that the methods of [`Context`] return, with their options. Authors chain these, and seldom have to
/// name them.
pub mod calls {
    pub use crate::context::Scalar;
    pub use crate::durable::Durable;
    pub use crate::poll::{Poll, PollUntil};
    pub use crate::retry::Retry;
    pub use crate::step::{StepByName, StepRun};
    pub use crate::time::IntoDuration;
    pub use crate::waits::{AwaitApproval, AwaitSignal, Sleep};
    pub use crate::workflow::{WorkflowByName, WorkflowRun, WorkflowStart};
}

/// Runs a collection of durable calls at once and yields their values in order, or the first error. The first error
/// cancels the calls that are still open.
pub fn join_all<I, T>(calls: I) -> impl Future<Output = Result<Vec<T>>>
where
    I: IntoIterator,
    I::Item: Future<Output = Result<T>>,
{
    futures::future::try_join_all(calls)
}

/// Runs several durable calls at once: `let (a, b) = join!(step_a(&ctx, x), step_b(&ctx, y)).await?;`.
///
/// The first error ends it and cancels the calls that are still open. `futures::join!`, which waits for all of them
/// whatever happens, works as well, and so do `select!` and `FuturesUnordered`.
#[macro_export]
macro_rules! join {
    ($($call:expr),+ $(,)?) => {
        // The calls are evaluated here, as the arguments of a function would be; only the waiting is moved.
        $crate::__join!(@ () $($call,)+)
    };
}

/// Not for direct use: the nesting behind [`join!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __join {
    (@ ($($named:ident = $call:expr;)*)) => {{
        $(let $named = $call;)*
        async move { $crate::try_join!($($named),*) }
    }};
    (@ ($($named:ident = $before:expr;)*) $call:expr, $($rest:expr,)*) => {
        $crate::__join!(@ ($($named = $before;)* call = $call;) $($rest,)*)
    };
}

/// Stands at the end of a guest crate: `cerebelum::component!();`, or with the hosts and secrets of its steps.
///
/// Workflows and steps are not listed; their attributes have registered them.
///
/// ```
/// cerebelum::component!(hosts = ["api.example.com", "localhost:8080"], secrets = ["TOKEN"]);
/// ```
#[macro_export]
macro_rules! component {
    () => { $crate::component!(hosts = []); };
    (hosts = [$($host:literal),* $(,)?] $(,)?) => { $crate::component!(hosts = [$($host),*], secrets = []); };
    (secrets = [$($secret:literal),* $(,)?] $(,)?) => { $crate::component!(hosts = [], secrets = [$($secret),*]); };
    (hosts = [$($host:literal),* $(,)?], secrets = [$($secret:literal),* $(,)?] $(,)?) => {
        $crate::__private::inventory::submit! {
            $crate::__private::Grants { hosts: &[$($host),*], secrets: &[$($secret),*] }
        }
    };
}

/// For the macros of this crate, and the types inside of its signatures.
#[doc(hidden)]
pub mod __private {
    pub use inventory;
    pub use schemars;
    pub use serde;

    pub use crate::durable::Ask;
    pub use crate::json::Data;
    pub use crate::poll::{AskPoll, AskUntil, IsCheck};
    pub use crate::registry::{Grants, Registration};
    pub use crate::retry::AskRetry;
    pub use crate::step::{AskStep, IsStep, StepOptions};
    pub use crate::waits::{AskApproval, AskSignal, AskSleep};
    pub use crate::workflow::{AskStart, AskWorkflow, IsWorkflow};

    use crate::{Error, Result};

    /// The return type of workflows and steps.
    #[diagnostic::on_unimplemented(
        message = "a workflow or a step returns a `Result<…>`, not `{Self}`",
        label = "expected a `Result<…>`"
    )]
    pub trait IsResult {
        /// The type of a success.
        type Value;
        /// The same with the error of this crate.
        ///
        /// # Errors
        /// When the result is an error.
        fn into_result(self) -> Result<Self::Value>;
    }

    #[diagnostic::do_not_recommend]
    impl<T, E: Into<Error>> IsResult for std::result::Result<T, E> {
        type Value = T;

        fn into_result(self) -> Result<T> {
            self.map_err(Into::into)
        }
    }
}
