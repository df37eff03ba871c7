//! `azimuth inspect`.
#![expect(clippy::print_stdout, reason = "the output of a command")]

use crate::config::ServerConfig;
use crate::error::ServerError;

/// Reads every file of a data directory against its checksums and says what it holds.
pub(super) fn run(config: &ServerConfig) -> Result<(), ServerError> {
    let reports = engine::inspect(&config.data)?;
    let mut damaged = 0;
    for report in &reports {
        let state = if report.whole { "whole" } else { "DAMAGED" };
        println!("{state:8} {:9} {}: {}", report.kind, report.path.display(), report.content);
        damaged += usize::from(!report.whole);
    }
    if damaged > 0 {
        return Err(ServerError::Damaged(damaged));
    }
    println!("all {} are whole", reports.len());
    Ok(())
}
