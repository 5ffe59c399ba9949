//! Builds cyclonus from its pinned Go module, once per user, pins and Go.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

const GO_MOD: &str = include_str!("../../../cyclonus/go.mod");
const GO_SUM: &str = include_str!("../../../cyclonus/go.sum");
const PACKAGE: &str = "github.com/mattfenwick/cyclonus/cmd/cyclonus";
const BINARY: &str = "cyclonus";

/// Against what the user's environment may hold: the pins as they are, no workspace, no C compiler.
const GO_ENVIRONMENT: [(&str, &str); 3] = [("GOFLAGS", "-mod=readonly"), ("GOWORK", "off"), ("CGO_ENABLED", "0")];

/// Path of the binary; builds it when the cache has none.
pub fn cached_or_built() -> Result<PathBuf> {
    let cache = cache_folder()?;
    let mut hasher = DefaultHasher::new();
    (GO_MOD, GO_SUM, go_version()?).hash(&mut hasher);
    let finished = cache.join(format!("{:016x}", hasher.finish()));
    if !finished.is_dir() {
        build(&cache, &finished)?;
    }
    Ok(finished.join(BINARY))
}

/// Builds in a folder beside `finished` and renames at the end, so that a folder of that name is always whole.
fn build(cache: &Path, finished: &Path) -> Result<()> {
    eprintln!("building cyclonus from its Go module, once (about a minute on 2 cores) ...");
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let sources = tempfile::Builder::new().prefix("building-").tempdir_in(cache)?;
    fs::write(sources.path().join("go.mod"), GO_MOD)?;
    fs::write(sources.path().join("go.sum"), GO_SUM)?;
    let output = sources.path().join("bin");
    let mut command = go();
    command.current_dir(sources.path()).args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]);
    let status = command.arg(output.join(BINARY)).arg(PACKAGE).status().context("running go build")?;
    ensure!(status.success(), "go build of cyclonus ended with {status}; what it said is above");
    match fs::rename(&output, finished) {
        // Another process was faster and built the same.
        Err(_) if finished.is_dir() => Ok(()),
        renamed => renamed.with_context(|| format!("renaming to {}", finished.display())),
    }
}

fn go_version() -> Result<Vec<u8>> {
    match go().args(["env", "GOVERSION", "GOOS", "GOARCH"]).output() {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => bail!("go env: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("`go` was not found in PATH: cyclonus is built from a Go module. Install Go 1.24 or newer")
        }
        Err(error) => Err(error).context("running go"),
    }
}

fn go() -> Command {
    let mut command = Command::new("go");
    command.envs(GO_ENVIRONMENT);
    command
}

fn cache_folder() -> Result<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = folder("XDG_CACHE_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .context("no cache folder: set HOME or XDG_CACHE_HOME to an absolute path")?;
    Ok(cache.join("egress-controller").join("cyclonus"))
}
