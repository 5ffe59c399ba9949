//! `render --watch`: renders again when a file changes or an answer does.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use egress_domain::settings::Settings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::finding::Finding;
use super::input::{Inputs, Stamps};
use super::load::Sources;
use super::output::write_folder;
use super::session::Session;

/// How often the files are looked at: soon enough for a person, cheap for thousands of files, and it works on every
/// file system, which notifications of the kernel do not.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// What is told once, and again only after it was not so in between.
#[derive(Debug, Default)]
pub struct Told(BTreeSet<String>);

impl Told {
    /// Those of the lines that were not told the last time.
    pub fn news(&mut self, lines: Vec<String>) -> Vec<String> {
        let now: BTreeSet<String> = lines.iter().cloned().collect();
        let before = std::mem::replace(&mut self.0, now);
        lines.into_iter().filter(|line| !before.contains(line)).collect()
    }
}

/// One run of `--watch`.
pub struct Watch<'a> {
    /// The files.
    pub sources: &'a Sources,
    /// Flags.
    pub settings: &'a Settings,
    /// Where the output goes.
    pub folder: &'a Path,
    /// The policies.
    pub session: Session,
}

impl Watch<'_> {
    /// Renders until SIGINT or SIGTERM. Input that turns bad is told, and what was rendered last stays.
    ///
    /// # Errors
    /// When the input is bad from the start, the folder cannot be written, or lookups cannot be made.
    pub async fn run(mut self) -> Result<()> {
        let mut stamps = self.stamps();
        let mut loaded = self.sources.load(self.settings)?;
        self.session.update(&loaded).await?;
        self.session.settle().await?;
        let mut told = Told::default();
        let mut poll = interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            let mut report = loaded.report.clone();
            report.extend(self.session.report());
            let written = write_folder(&self.session.objects(), self.folder)?;
            report.warnings.extend(written.stale.iter().map(|path| stale(path)));
            told.news(report.lines()).iter().for_each(|line| eprintln!("{line}"));
            written.changed.iter().for_each(|path| eprintln!("wrote {}", path.display()));
            loop {
                tokio::select! {
                    _ = interrupt.recv() => return Ok(()),
                    _ = terminate.recv() => return Ok(()),
                    () = self.session.wait_for_input() => {
                        self.session.advance().await?;
                        break;
                    }
                    _ = poll.tick() => {}
                }
                let now = self.stamps();
                if now == stamps {
                    continue;
                }
                stamps = now;
                match self.sources.load(self.settings) {
                    Ok(fresh) => {
                        loaded = fresh;
                        self.session.update(&loaded).await?;
                        break;
                    }
                    Err(error) => {
                        told.news(vec![format!("error: {error}")]).iter().for_each(|line| eprintln!("{line}"))
                    }
                }
            }
        }
    }

    /// What the files look like, or why they cannot be found.
    fn stamps(&self) -> Result<Stamps, Vec<Finding>> {
        Inputs::find(&self.sources.paths).map(|inputs| inputs.stamps())
    }
}

/// What to say of a file that is not rendered any more.
pub fn stale(path: &Path) -> Finding {
    Finding::of_file(
        &path.display().to_string(),
        "was rendered earlier and is not any more; remove it if it is not needed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_again_only_after_it_was_gone() {
        let mut told = Told::default();
        let mut news = |lines: &[&str]| told.news(lines.iter().map(ToString::to_string).collect());
        assert_eq!(news(&["a", "b"]), ["a", "b"]);
        assert_eq!(news(&["a", "c"]), ["c"]);
        assert_eq!(news(&["a", "b"]), ["b"]);
    }
}
