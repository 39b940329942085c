//! Checks whether a file is a component that the engine can run, as far as possible without running it.

use wasmparser::{Encoding, Parser, Payload};

/// The export of every Cerebelum component.
const ENTRY: &str = "cerebelum:guest/guest@";

/// # Errors
/// When the file is not such a component; the error says what it is. `hint` goes into the error when the export is
/// missing.
pub(super) fn check(bytes: &[u8], hint: &str) -> Result<(), String> {
    let mut has_entry = false;
    for (number, payload) in Parser::new(0).parse_all(bytes).enumerate() {
        match payload.map_err(|e| format!("is no WebAssembly: {e}"))? {
            Payload::Version { encoding: Encoding::Module, .. } if number == 0 => {
                return Err("is a core module, not a component; build it for wasm32-wasip2".to_owned());
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    has_entry |= export.is_ok_and(|export| export.name.name.starts_with(ENTRY));
                }
            }
            _ => {}
        }
    }
    match has_entry {
        true => Ok(()),
        false => Err(format!("has no workflows; {hint}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_told_what_it_is() {
        let cases: [(&[u8], &str); 4] = [
            (b"#!/bin/sh", "no WebAssembly"),
            (b"\0asm\x01\0\0\0", "core module"),
            (b"\0asm\x0d\0\x01\0", "look here"),
            (b"\0asm\x0d\0\x01\0\x0b\xff", "no WebAssembly"),
        ];
        for (bytes, why) in cases {
            let told = check(bytes, "look here").unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
