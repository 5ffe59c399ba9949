//! The program: parses its command line, runs it, and maps errors to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use egress_controller::cli::{self, Cli};

/// Half the resident memory of the system's allocator under many small actors.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Only a provider that somebody installed before is an error, and nobody has.
    drop(rustls::crypto::ring::default_provider().install_default());
    match cli::execute(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(cli::EXIT_ERROR)
        }
    }
}
