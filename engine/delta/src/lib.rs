//! Packs bytes, whole or as their difference from similar bytes. Unpacking a difference needs the similar bytes too.
//!
//! Two Python components of 22 MB differ in some thousand places of a few bytes each: the difference has 350 KB.

use std::io;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{self, CParameter, DCtx, ErrorCode};

/// Higher levels take several times as long for a tenth less.
const LEVEL: i32 = 3;
/// The window sizes that zstd accepts, as powers of two. Only a window that holds both texts finds the whole
/// difference.
const WINDOW_LOG_MIN: u32 = 10;
const WINDOW_LOG_MAX: u32 = 27;

/// Packs bytes, as their difference from `base` where there is one. Takes some 10 ms a megabyte.
///
/// # Errors
/// When there is no memory for it.
pub fn pack(bytes: &[u8], base: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let mut compressor = Compressor::new(LEVEL)?;
    if let Some(base) = base {
        let both = (bytes.len() + base.len()).max(1);
        let window_log = both.next_power_of_two().ilog2().clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX);
        compressor.set_parameter(CParameter::WindowLog(window_log))?;
        compressor.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
        compressor.context_mut().ref_prefix(base).map_err(error)?;
    }
    compressor.compress(bytes)
}

/// The `size` bytes that were packed, with the same `base`. Takes some 2 ms a megabyte.
///
/// # Errors
/// When the bytes were not packed like that, or are damaged. Not all damage is noticed: compare digests.
pub fn unpack(packed: &[u8], base: Option<&[u8]>, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size);
    let mut context = DCtx::create();
    if let Some(base) = base {
        context.ref_prefix(base).map_err(error)?;
    }
    context.decompress(&mut bytes, packed).map_err(error)?;
    if bytes.len() != size {
        return Err(io::Error::other(format!("{size} bytes were expected, {} are there", bytes.len())));
    }
    Ok(bytes)
}

fn error(code: ErrorCode) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that look random.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        for length in [0, 1, 1_000, 3 << 20] {
            let bytes = noise(1, length);
            for base in [None, Some(noise(2, 0)), Some(noise(2, 500)), Some(noise(1, 5 << 20))] {
                let packed = pack(&bytes, base.as_deref()).unwrap();
                assert!(unpack(&packed, base.as_deref(), length).unwrap() == bytes, "{length} bytes");
            }
        }
    }

    #[test]
    fn a_difference_is_small_wherever_what_is_equal_stands() {
        let base = noise(1, 20 << 20);
        let mut bytes = base.clone();
        for place in (0..bytes.len()).step_by(1 << 16) {
            bytes[place] ^= 1;
        }
        bytes.splice(1_000..1_000, noise(2, 3_000));
        let end = bytes.split_off(12 << 20);
        let bytes = [end, bytes].concat();
        let packed = pack(&bytes, Some(&base)).unwrap();
        assert!(packed.len() < 100_000, "{} bytes of difference", packed.len());
        assert!(unpack(&packed, Some(&base), bytes.len()).unwrap() == bytes);
    }

    #[test]
    fn damage_and_the_wrong_size_are_errors() {
        let packed = pack(b"some bytes", None).unwrap();
        assert!(unpack(&packed, None, 9).is_err() && unpack(&packed, None, 11).is_err());
        assert!(unpack(&packed[..packed.len() - 1], None, 10).is_err());
        assert!(unpack(b"no such thing", None, 10).is_err());
    }
}
