//! One run: the bed, the scenario, the report, the verdict.

use std::future::Future;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use loadtest_report::{Comparison, Goals, Report, all_held, html, terminal};

use super::options::Options;

/// Goals of the project.
const GOALS: &str = include_str!("../../slo.yaml");

/// Runs a scenario and tells what it measured; whether every goal held.
///
/// # Errors
/// When the scenario cannot be carried out, or the report not be written.
pub async fn run<F, Fut>(name: &str, options: Options, scenario: F) -> Result<bool>
where
    F: FnOnce(Options, Report) -> Fut,
    Fut: Future<Output = Result<Report>>,
{
    let goals = match &options.slo {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?,
        None => GOALS.to_owned(),
    };
    let goals = Goals::parse(&goals)?;
    let earlier = options.compare.as_deref().map(read).transpose()?;
    let mut report = Report::new(name, &Timestamp::now().to_string(), env!("CARGO_PKG_VERSION"));
    report.setup = setup(&options)?;
    let (started, out) = (Instant::now(), options.out.clone());
    let mut report = scenario(options, report).await?;
    report.seconds = started.elapsed().as_secs_f64();
    report.verdicts = goals.judge(&report);
    let comparison = earlier.map(|earlier| Comparison::of(&earlier, &report));
    println!("{}", terminal::render(&report, comparison.as_ref()));
    std::fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    let page = html::render(&report, comparison.as_ref());
    for (kind, text) in [("json", report.to_json()?), ("html", page)] {
        let file = out.join(format!("{name}.{kind}"));
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        eprintln!("{}", file.display());
    }
    Ok(all_held(&report.verdicts))
}

fn read(file: &Path) -> Result<Report> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Report::from_json(&text).with_context(|| format!("{} is no report", file.display()))
}

/// The parameters of the run, as the report and the conditions of goals know them.
fn setup(options: &Options) -> Result<std::collections::BTreeMap<String, serde_json::Value>> {
    let serde_json::Value::Object(size) = serde_json::to_value(&options.size)? else { return Ok(Default::default()) };
    let mut setup: std::collections::BTreeMap<String, serde_json::Value> = size.into_iter().collect();
    setup.insert("window_seconds".to_owned(), options.window_seconds.into());
    setup.insert("controller".to_owned(), options.controller.clone().unwrap_or_else(|| "ours".to_owned()).into());
    let cluster = if options.kubeconfig.is_some() { "kubeconfig" } else { "local" };
    setup.insert("cluster".to_owned(), cluster.into());
    if !options.controller_flags.is_empty() {
        setup.insert("flags".to_owned(), options.controller_flags.join(" ").into());
    }
    Ok(setup)
}
