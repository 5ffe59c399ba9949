//! Builds the servers from their pinned Go modules, once per user and set of pins.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::component::Component;
use super::supervisor::{Output, Supervisor};
use super::version::Version;

/// How the binaries are built: no paths of this machine and no debug tables in them, nothing read from a surrounding git repository.
const BUILD_FLAGS: [&str; 2] = ["-trimpath", "-buildvcs=false"];

/// Set for every call of go, against what the user's environment may hold: no vendoring, no workspace, no other target, no C compiler.
const GO_ENVIRONMENT: [(&str, &str); 4] =
    [("GOFLAGS", "-mod=readonly"), ("GOWORK", "off"), ("GO111MODULE", "on"), ("CGO_ENABLED", "0")];
const GO_ENVIRONMENT_REMOVED: [&str; 3] = ["GOOS", "GOARCH", "GOEXPERIMENT"];

/// The folder with the binaries of `version`; builds them when the cache has none. Several processes at once build once.
pub(super) fn cached_or_built(version: &Version, go: &Path, cache: &Path) -> Result<PathBuf> {
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let key = key(version, &go_version(go, cache)?);
    let finished = cache.join(&key);
    if finished.is_dir() {
        return Ok(finished);
    }
    let _building = lock(&cache.join(format!("{key}.lock")))?;
    if !finished.is_dir() {
        build(version, go, cache, &key, &finished)
            .with_context(|| format!("building Kubernetes {} from Go modules", version.kubernetes))?;
    }
    Ok(finished)
}

/// Waits until no other process builds the same thing; the lock ends with the returned file, and with the process in any case.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say("another process builds the control plane: waiting for it");
            file.lock().with_context(|| format!("locking {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
    }
    Ok(file)
}

/// Builds in a folder beside `finished` and renames at the end, so that a folder of that name is always whole.
fn build(version: &Version, go: &Path, cache: &Path, key: &str, finished: &Path) -> Result<()> {
    // The supervisor ends go and removes the folder when this process dies half-way.
    let supervisor = Supervisor::start(cache, &format!("{key}.building"))?;
    let folder = supervisor.folder();
    fs::write(folder.join("go.mod"), version.go_mod)?;
    fs::write(folder.join("go.sum"), version.go_sum)?;
    let binaries = folder.join("bin");
    fs::create_dir(&binaries)?;
    say(&format!(
        "building the control plane of Kubernetes {} from Go modules: about 4 minutes on 2 cores, once",
        version.kubernetes
    ));
    for (index, component) in Component::ALL.into_iter().enumerate() {
        say(&format!("building {component} ({} of {}) ...", index + 1, Component::ALL.len()));
        let binary = binaries.join(component.name());
        let mut command = go_command(go);
        // go's own temporary files go with the folder when it is killed.
        command.env("GOTMPDIR", folder);
        command
            .current_dir(folder)
            .arg("build")
            .args(BUILD_FLAGS)
            .arg(ldflags(version))
            .arg("-o")
            .arg(&binary)
            .arg(component.go_package());
        let status = supervisor.spawn("go build", &command, Output::Inherited)?.wait()?;
        ensure!(status.success(), "go build of {component} ended with {status}; what it said is above");
        File::open(&binary)?.sync_all()?;
    }
    fs::rename(&binaries, finished).with_context(|| format!("renaming to {}", finished.display()))?;
    say(&format!("built; kept in {}", finished.display()));
    Ok(())
}

/// Gives the server a version that clients can parse; without it, it would call itself v0.0.0-master.
fn ldflags(version: &Version) -> String {
    format!("-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v{}", version.kubernetes)
}

/// In the name of the cache folder, so that another Go, other pins or other flags build anew.
fn key(version: &Version, go_version: &str) -> String {
    let environment = GO_ENVIRONMENT.map(|(name, value)| format!("{name}={value}"));
    let mut parts = vec![version.go_mod, version.go_sum, go_version];
    parts.extend(BUILD_FLAGS);
    parts.extend(environment.iter().map(String::as_str));
    let flags = ldflags(version);
    parts.push(&flags);
    format!("v{}-{:016x}", version.kubernetes, fnv1a(&parts.join("\0")))
}

/// FNV-1a, 64 bits: tells a handful of the user's own build inputs apart; nothing rests on its strength.
fn fnv1a(text: &str) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    text.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

fn go_version(go: &Path, folder: &Path) -> Result<String> {
    let output = go_command(go)
        .current_dir(folder)
        .args(["env", "GOVERSION", "GOHOSTOS", "GOHOSTARCH"])
        .output()
        .with_context(|| format!("running {}", go.display()))?;
    ensure!(output.status.success(), "{} env: {}", go.display(), String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn go_command(go: &Path) -> Command {
    let mut command = Command::new(go);
    command.envs(GO_ENVIRONMENT);
    for name in GO_ENVIRONMENT_REMOVED {
        command.env_remove(name);
    }
    command
}

/// Straight to stderr: the test harness would hold back what goes through `eprintln!`, and four silent minutes look like a hang.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "testbed: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_the_pins_and_with_go() {
        let version = Version::default();
        let other = Version { go_sum: "", ..version };
        assert_eq!(key(&version, "go1.26.8"), key(&version, "go1.26.8"));
        assert_ne!(key(&version, "go1.26.8"), key(&version, "go1.27.0"));
        assert_ne!(key(&version, "go1.26.8"), key(&other, "go1.26.8"));
        assert!(key(&version, "go1.26.8").starts_with("v1.36.3-"));
    }

    #[test]
    fn the_hash_is_fnv1a() {
        // The two published test vectors.
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }
}
