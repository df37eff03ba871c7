//! The binary `azimuth` under another name, so that a test can start it, kill it and start it
//! again: Cargo tells an integration test where the binaries of its own package are.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    server::cli::main()
}
