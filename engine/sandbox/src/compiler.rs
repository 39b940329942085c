//! Turns WebAssembly into something that can be instantiated: in a compile box, or in this process.

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::compile_box::{CompileBox, CompileError, Kind};
use crate::{Config, cache};

/// Compiles one component and its modules.
pub(crate) enum Compiler {
    InProcess,
    Boxed(CompileBox),
}

impl Compiler {
    /// `compile_ns` is the estimated cost of what is going to be compiled; it may take `patience` times as long.
    pub(crate) fn start(config: &Config, compile_ns: u64, patience: u64) -> Result<Self, CompileError> {
        let Some(program) = &config.compile_box else { return Ok(Self::InProcess) };
        CompileBox::start(program, compile_ns, patience).map(Self::Boxed).map_err(|error| {
            CompileError::HostError(format!("cannot start the process that compiles: {error}; try again"))
        })
    }

    pub(crate) fn component(&mut self, engine: &Engine, bytes: &[u8]) -> Result<Component, CompileError> {
        let compiled = match self {
            Self::InProcess => Component::from_binary(engine, bytes),
            Self::Boxed(compile_box) => cache::map_component(engine, &compile_box.compile(Kind::Component, bytes)?),
        };
        compiled.map_err(|error| CompileError::Invalid(Kind::Component.not_valid(&error)))
    }

    pub(crate) fn module(&mut self, engine: &Engine, bytes: &[u8]) -> Result<Module, CompileError> {
        let compiled = match self {
            Self::InProcess => Module::from_binary(engine, bytes),
            Self::Boxed(compile_box) => cache::map_module(engine, compile_box.compile(Kind::Module, bytes)?),
        };
        compiled.map_err(|error| CompileError::Invalid(Kind::Module.not_valid(&error)))
    }
}
