//! `render`: files in, NetworkPolicy YAML out.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;

use super::source::SourceArgs;
use super::{EXIT_DIFFERENT, EXIT_OK, EXIT_WARNINGS, print};
use crate::files::finding::{Finding, Report};
use crate::files::session::Session;
use crate::files::watch::{self, Watch};
use crate::files::{diff, output};

/// Render the NetworkPolicies that the controller would write, with the controller's own code and resolver.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Examples:
  Print what the policies of a folder come to, asking DNS for their hosts:
      egress-controller render policies/
  The same without DNS, for reproducible output:
      egress-controller render policies/ --resolve api.github.com=140.82.121.6,2606:50c0:8000::153
  One file per object, rendered again whenever a file or a DNS answer changes:
      egress-controller render policies/ -o rendered/ --watch
  Compare with what is in the cluster:
      kubectl get networkpolicies -A -o yaml > live.yaml
      egress-controller render policies/ --diff live.yaml

Exit code: 0; 1 when --diff finds a difference; 2 on errors, then nothing is printed or written; 3 on warnings with --strict.")]
pub struct RenderArgs {
    /// Files and folders with EgressPolicies, YAML or JSON; folders recursively; `-` is standard input. A file named
    /// `hosts` beside them (lines HOST=IP) is read like --resolve.
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    pub paths: Vec<PathBuf>,

    /// Write one file per object into this folder, {namespace}-{name}.yaml, in the place of standard output.
    #[arg(short, long, value_name = "DIR", conflicts_with = "diff")]
    pub output: Option<PathBuf>,

    /// Stay, and render again when a file changes or a DNS answer does; only what changed is written. Ends on Ctrl-C.
    #[arg(long, requires = "output", conflicts_with = "diff")]
    pub watch: bool,

    /// Compare with the NetworkPolicies of a file or folder and print the differences.
    #[arg(long, value_name = "FILE|DIR")]
    pub diff: Option<PathBuf>,

    /// Exit with code 3 when there is any warning (a host without an answer, an unknown field, a bad entry).
    #[arg(long, env = "EGRESS_STRICT")]
    pub strict: bool,

    /// How policies are read and their hosts looked up.
    #[command(flatten)]
    pub source: SourceArgs,
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// When input, output or flags are wrong; nothing has been written then.
pub async fn run(args: RenderArgs) -> Result<u8> {
    let RenderArgs { paths, output, watch, diff, strict, source } = args;
    let reads_stdin = paths.iter().any(|path| path.as_os_str() == "-");
    let sources = source.sources(paths);
    let settings = source.settings();
    let mut session = Session::new(source.options()?);
    if let (true, Some(folder)) = (watch, &output) {
        ensure!(!reads_stdin, "--watch cannot read standard input again");
        Watch { sources: &sources, settings: &settings, folder, session }.run().await?;
        return Ok(EXIT_OK);
    }
    let loaded = sources.load(&settings)?;
    let there = diff.map(|path| diff::read(&[path])).transpose()?;
    session.update(&loaded).await?;
    session.settle().await?;

    let objects = session.objects();
    let mut report = loaded.report;
    report.extend(session.report());
    if loaded.policies.is_empty() {
        report.warnings.push(Finding::general("the input has no EgressPolicy"));
    }
    if !loaded.others.is_empty() {
        let message = format!("{} documents of other kinds ignored", loaded.others.len());
        report.notes.push(Finding::general(message));
    }
    let mut differs = false;
    match (&output, &there) {
        (Some(folder), _) => write(&objects, folder, &mut report)?,
        (None, Some(there)) => {
            let text = diff::differences(&objects, there)?;
            differs = !text.is_empty();
            print(&text)?;
        }
        (None, None) => print(&output::stream(&objects)?)?,
    }
    report.lines().iter().for_each(|line| eprintln!("{line}"));
    Ok(match (differs, strict && !report.warnings.is_empty()) {
        (true, _) => EXIT_DIFFERENT,
        (false, true) => EXIT_WARNINGS,
        (false, false) => EXIT_OK,
    })
}

fn write(objects: &crate::files::session::Objects, folder: &Path, report: &mut Report) -> Result<()> {
    let written = output::write_folder(objects, folder)?;
    report.warnings.extend(written.stale.iter().map(|path| watch::stale(path)));
    let (changed, unchanged) = (written.changed.len(), written.unchanged);
    report.notes.push(Finding::of_file(
        &folder.display().to_string(),
        format!("{changed} files written, {unchanged} unchanged"),
    ));
    Ok(())
}
