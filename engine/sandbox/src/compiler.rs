//! Turns WebAssembly into something that can be instantiated: in a compile box, or in this process.

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::compile_box::{CompileBox, CompileError, Kind};
use crate::engine_pair::chain;
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
        match self {
            Self::InProcess => Component::from_binary(engine, bytes)
                .map_err(|error| CompileError::Invalid(Kind::Component.not_valid(&error))),
            Self::Boxed(compile_box) => {
                cache::map_component(engine, &compile_box.compile(Kind::Component, bytes)?).map_err(|e| unmapped(&e))
            }
        }
    }

    pub(crate) fn module(&mut self, engine: &Engine, bytes: &[u8]) -> Result<Module, CompileError> {
        match self {
            Self::InProcess => Module::from_binary(engine, bytes)
                .map_err(|error| CompileError::Invalid(Kind::Module.not_valid(&error))),
            Self::Boxed(compile_box) => {
                cache::map_module(engine, compile_box.compile(Kind::Module, bytes)?).map_err(|e| unmapped(&e))
            }
        }
    }
}

/// What was compiled cannot be brought into memory. That says nothing about the component.
fn unmapped(error: &wasmtime::Error) -> CompileError {
    CompileError::HostError(format!("cannot load what was compiled: {}", chain(error)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::engine_pair;

    /// A program that answers the first request as a compile box with these bytes as machine code.
    fn compiles_to(folder: &std::path::Path, code: &str) -> std::path::PathBuf {
        let program = folder.join("box");
        let mut file = std::fs::File::create(&program).unwrap();
        let len = char::from(u8::try_from(code.len()).unwrap());
        // The greeting, and the answer: a byte and a length of eight bytes each.
        let said = format!(
            "\\001{zeros}\\001\\{len:03o}{zeros7}{code}",
            zeros = "\\0".repeat(8),
            zeros7 = "\\0".repeat(7),
            len = u32::from(len)
        );
        write!(file, "#!/bin/sh\nprintf '{said}'\nwhile read -r x; do :; done\n").unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[test]
    fn machine_code_that_cannot_be_loaded_is_the_hosts_fault() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(folder.path());
        config.compile_box = Some(compiles_to(folder.path(), "no machine code"));
        let engine = Engine::new(&engine_pair::settings()).unwrap();
        let mut compiler = Compiler::start(&config, 0, 1).ok().unwrap();
        let Err(CompileError::HostError(why)) = compiler.module(&engine, b"any") else { panic!("it is refused") };
        assert!(why.contains("cannot load what was compiled"), "{why}");
    }
}
