//! How far it is, on stderr: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// One step of a scenario.
pub struct Progress {
    bar: ProgressBar,
    title: String,
    total: usize,
    started: Instant,
    last_line: Mutex<Option<Instant>>,
}

impl Progress {
    /// A step of so many parts.
    #[must_use]
    pub fn new(title: &str, total: usize) -> Self {
        let bar = ProgressBar::new(total as u64).with_message(title.to_owned());
        let style = "{msg:32} {wide_bar} {pos}/{len} {per_sec} {eta} left";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let last_line = Mutex::new(Some(Instant::now()));
        Self { bar, title: title.to_owned(), total, started: Instant::now(), last_line }
    }

    /// A step of so many seconds, which is waited for.
    pub async fn wait(title: &str, time: Duration) {
        let progress = Self::new(title, time.as_secs() as usize);
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(1).min(end.saturating_duration_since(Instant::now()))).await;
            progress.at(progress.started.elapsed().as_secs() as usize);
        }
        progress.done();
    }

    /// So many parts are done.
    pub fn at(&self, done: usize) {
        self.bar.set_position(done as u64);
        if std::io::stderr().is_terminal() {
            return;
        }
        let Ok(mut last) = self.last_line.lock() else { return };
        if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            *last = Some(Instant::now());
            let rate = done as f64 / self.started.elapsed().as_secs_f64();
            eprintln!("{}: {done}/{} ({rate:.0}/s)", self.title, self.total);
        }
    }

    /// One more part is done.
    pub fn one(&self) {
        self.bar.inc(1);
        self.at(self.bar.position() as usize);
    }

    /// The step has ended; tells how long it took.
    pub fn done(self) {
        self.bar.finish_and_clear();
        eprintln!("{}: done in {:.1} s", self.title, self.started.elapsed().as_secs_f64());
    }
}
