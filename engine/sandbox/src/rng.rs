//! Deterministic random numbers: three streams of bytes that depend on the scope's seed alone (L3).
//!
//! The bytes are defined by BLAKE3, not by the version of a random number library. A rerun years later, by a newer
//! engine, gets the same ones.

use blake3::{Hasher, OutputReader};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use crate::limits::RANDOM_BYTES_MAX;

/// The random numbers of one guest.
pub(crate) struct DeterministicRng {
    seed: [u8; 32],
    secure: Option<OutputReader>,
    insecure: Option<OutputReader>,
}

impl DeterministicRng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, secure: None, insecure: None }
    }

    fn secure(&mut self) -> &mut OutputReader {
        self.secure.get_or_insert_with(|| stream(&self.seed, "random"))
    }

    fn insecure(&mut self) -> &mut OutputReader {
        self.insecure.get_or_insert_with(|| stream(&self.seed, "insecure"))
    }
}

fn stream(seed: &[u8; 32], name: &str) -> OutputReader {
    Hasher::new_keyed(seed).update(name.as_bytes()).finalize_xof()
}

fn bytes(from: &mut OutputReader, len: u64) -> wasmtime::Result<Vec<u8>> {
    if len > RANDOM_BYTES_MAX {
        return Err(wasmtime::format_err!("{len} random bytes asked for where {RANDOM_BYTES_MAX} are given at most"));
    }
    let mut bytes = vec![0; usize::try_from(len)?];
    from.fill(&mut bytes);
    Ok(bytes)
}

fn number(from: &mut OutputReader) -> u64 {
    let mut bytes = [0; 8];
    from.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

impl random::Host for DeterministicRng {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(self.secure(), len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(number(self.secure()))
    }
}

impl insecure::Host for DeterministicRng {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(self.insecure(), len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(number(self.insecure()))
    }
}

impl insecure_seed::Host for DeterministicRng {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        let mut seed = stream(&self.seed, "insecure seed");
        Ok((number(&mut seed), number(&mut seed)))
    }
}
