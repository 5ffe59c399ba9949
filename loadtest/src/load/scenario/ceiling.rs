//! What the API server takes from a minimal client.

use anyhow::Result;
use loadtest_report::Report;

use crate::load::bed::Bed;
use crate::load::ceiling::{self, Ceiling};
use crate::load::figures::Figures;
use crate::load::options::Options;

/// Runs it.
///
/// # Errors
/// When the API server refuses a write.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    let bed = Bed::open(&options).await?;
    let first = ceiling::measure(&bed, 1).await?;
    let second = ceiling::measure(&bed, 2).await?;
    add(&mut report, first.lower(second));
    Ok(report)
}

/// Adds a ceiling's figures.
pub fn add(report: &mut Report, ceiling: Ceiling) {
    let mut figures = Figures { report };
    figures.add("ceiling_creates", "Creates the API server takes", ceiling.creates, "1/s");
    figures.add("ceiling_applies", "Applies the API server takes", ceiling.applies, "1/s");
    figures.add("ceiling_statuses", "Statuses the API server takes", ceiling.statuses, "1/s");
}
