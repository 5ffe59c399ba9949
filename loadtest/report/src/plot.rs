//! Plots as SVG with its labels in HTML, so that text keeps its size at any width.

mod chart;
mod drawing;
mod latency;
mod ruler;
mod thin;

pub(crate) use chart::plot;
pub(crate) use latency::latency;

#[cfg(test)]
mod tests;
