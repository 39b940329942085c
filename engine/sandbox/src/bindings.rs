//! Bindings that wasmtime generates from `wit/cerebelum.wit`: the interface that every guest is linked against.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "component",
    imports: { "cerebelum:guest/context.set-attribute": trappable },
    exports: { default: async },
});

pub(crate) use cerebelum::guest::{context, durable, http, types};
pub(crate) use exports::cerebelum::guest::guest;
