//! Load scenarios: thousands of policies, real replicas, a report.

pub mod bed;
pub mod ceiling;
pub mod cluster;
pub mod figures;
pub mod observer;
pub mod options;
pub mod over_time;
pub mod peer;
pub mod plots;
pub mod progress;
pub mod requests;
pub mod revision;
pub mod run;
pub mod scenario;
pub mod size;
pub mod timeline;
pub mod window;
pub mod workload;
