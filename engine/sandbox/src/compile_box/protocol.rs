//! What an engine and its compile box say to each other. Both are the same program, so there are no versions.
//!
//! The box begins with one byte (1: its filter of system calls stands), and the length and text of why it does not.
//! A request is one byte for the [`Kind`], eight for the length, and the WebAssembly. An answer is one byte (1: compiled),
//! eight for the length, and machine code or an error message.

use std::io::{self, Read, Write};

use crate::engine_pair;

/// What is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A component.
    Component,
    /// A core module.
    Module,
}

impl Kind {
    /// The line for an uploader whose component or module the compiler did not accept.
    pub(crate) fn not_valid(self, error: &wasmtime::Error) -> String {
        let what = if self == Self::Component { "component" } else { "module" };
        format!("the {what} is not valid: {}", engine_pair::chain(error))
    }
}

pub(super) fn write_request(to: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    write(to, u8::from(kind == Kind::Module), bytes)
}

/// The next request. The error at the end of the input is `UnexpectedEof`.
pub(super) fn read_request(from: &mut impl Read) -> io::Result<(Kind, Vec<u8>)> {
    let (kind, len) = read(from)?;
    // The engine checked the size. Growing in steps would copy them several times.
    let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
    if from.take(len).read_to_end(&mut bytes)? as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((if kind == 1 { Kind::Module } else { Kind::Component }, bytes))
}

pub(super) fn write_greeting(to: &mut impl Write, filter: &Result<(), String>) -> io::Result<()> {
    match filter {
        Ok(()) => write(to, 1, b""),
        Err(cause) => write(to, 0, cause.as_bytes()),
    }
}

pub(super) fn write_answer(to: &mut impl Write, answer: &Result<Vec<u8>, String>) -> io::Result<()> {
    match answer {
        Ok(code) => write(to, 1, code),
        Err(cause) => write(to, 0, cause.as_bytes()),
    }
}

/// Whether the filter stands or it was compiled, and the length of what follows, in bytes.
pub(super) fn read_answer(from: &mut impl Read) -> io::Result<(bool, u64)> {
    let (is_compiled, len) = read(from)?;
    Ok((is_compiled == 1, len))
}

fn write(to: &mut impl Write, what: u8, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&[what])?;
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(bytes)?;
    to.flush()
}

fn read(from: &mut impl Read) -> io::Result<(u8, u64)> {
    let (mut what, mut len) = ([0], [0; 8]);
    from.read_exact(&mut what)?;
    from.read_exact(&mut len)?;
    Ok((what[0], u64::from_le_bytes(len)))
}
