//! The `cerebelum` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    cerebelum_cli::main()
}
