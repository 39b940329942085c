//! The messages of `cerebelum.v1`, generated from `proto/cerebelum/v1/engine.proto`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated; the proto file is documented"
)]

tonic::include_proto!("cerebelum.v1");

/// The whole interface as descriptors, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/engine.bin"));
