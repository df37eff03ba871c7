//! `azimuth inspect`.
#![expect(clippy::print_stdout, reason = "the output of a command")]

use clap::ValueEnum;

use crate::config::ServerConfig;
use crate::error::ServerError;

/// Files to look into.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    /// The entries after the newest manifest.
    Log,
    /// The tables and files that each manifest names.
    Manifest,
    /// The blocks of each segment.
    Segment,
}

/// Reads every file of a data directory against its checksums and says what it holds.
pub(super) fn run(config: &ServerConfig, kind: Option<Kind>) -> Result<(), ServerError> {
    let kind = kind.map(|kind| match kind {
        Kind::Log => "log",
        Kind::Manifest => "manifest",
        Kind::Segment => "segment",
    });
    let mut reports = engine::inspect(&config.data, kind)?;
    reports.retain(|report| kind.is_none_or(|kind| kind == report.kind));
    let mut damaged = 0;
    for report in &reports {
        let state = if report.whole { "whole" } else { "DAMAGED" };
        println!("{state:8} {:9} {}: {}", report.kind, report.path.display(), report.content);
        report.details.iter().for_each(|line| println!("    {line}"));
        damaged += usize::from(!report.whole);
    }
    if damaged > 0 {
        return Err(ServerError::Damaged(damaged));
    }
    println!("all {} are whole", reports.len());
    Ok(())
}
