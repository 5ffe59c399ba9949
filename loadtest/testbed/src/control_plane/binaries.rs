//! Where the servers' binaries come from: a folder that the user names, or the cache that `compile` fills.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::compile;
use super::component::Component;
use super::version::Version;

/// The variable that names a folder of ready-made binaries; the usual one of Kubernetes test tools.
const READY_MADE_VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// What of the process's environment decides where binaries come from; a value, so that tests can pass another.
#[derive(Clone, Debug)]
pub struct Environment {
    /// As `PATH`: where `go` is looked for.
    pub search_path: OsString,
    /// As `KUBEBUILDER_ASSETS`: a folder with `etcd`, `kube-apiserver` and, where needed, `kube-controller-manager`.
    pub ready_made: Option<PathBuf>,
    /// The folder that keeps what was built.
    pub cache: PathBuf,
}

impl Environment {
    /// Reads `PATH`, `KUBEBUILDER_ASSETS`, `XDG_CACHE_HOME` and `HOME`.
    ///
    /// # Errors
    ///
    /// When neither `XDG_CACHE_HOME` nor `HOME` is an absolute path.
    pub fn of_this_process() -> Result<Self> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = folder("XDG_CACHE_HOME")
            .or_else(|| folder("HOME").map(|home| home.join(".cache")))
            .context("no cache folder: set HOME or XDG_CACHE_HOME to an absolute path")?;
        Ok(Self {
            search_path: std::env::var_os("PATH").unwrap_or_default(),
            ready_made: std::env::var_os(READY_MADE_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from),
            cache: cache.join("egress-controller").join("control-plane"),
        })
    }
}

/// A folder in which every needed binary is present under its own name.
#[derive(Clone, Debug)]
pub(super) struct Binaries(PathBuf);

impl Binaries {
    /// Finds the binaries and builds them first where need be, which takes minutes and blocks.
    pub(super) fn find(version: &Version, environment: &Environment, needed: &[Component]) -> Result<Self> {
        if let Some(folder) = &environment.ready_made {
            return Self::ready_made(folder, needed);
        }
        let Some(go) = find_program("go", environment) else {
            bail!(
                "`go` was not found in PATH: the control plane of the tests (etcd, kube-apiserver) is built from Go modules. \
                 Install Go 1.26 or newer, or set {READY_MADE_VARIABLE} to a folder that holds etcd and kube-apiserver"
            );
        };
        compile::cached_or_built(version, &go, &environment.cache).map(Self)
    }

    fn ready_made(folder: &Path, needed: &[Component]) -> Result<Self> {
        for component in needed {
            ensure!(
                folder.join(component.name()).is_file(),
                "{READY_MADE_VARIABLE} is {}, but it holds no {component}: put it there, or unset the variable to build it from Go modules",
                folder.display(),
            );
        }
        Ok(Self(folder.to_path_buf()))
    }

    pub(super) fn path(&self, component: Component) -> PathBuf {
        self.0.join(component.name())
    }
}

fn find_program(name: &str, environment: &Environment) -> Option<PathBuf> {
    std::env::split_paths(&environment.search_path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(ready_made: Option<&str>) -> Environment {
        Environment {
            search_path: "/nonexistent".into(),
            ready_made: ready_made.map(PathBuf::from),
            cache: "/nonexistent".into(),
        }
    }

    #[test]
    fn a_ready_made_folder_without_a_needed_binary_is_refused_by_name() {
        let error = Binaries::find(&Version::default(), &environment(Some("/nonexistent")), &[Component::ApiServer]);
        let told = format!("{:#}", error.expect_err("the folder is empty"));
        assert!(told.contains("/nonexistent") && told.contains("kube-apiserver"), "{told}");
    }

    #[test]
    fn a_ready_made_folder_needs_no_go() {
        let found =
            Binaries::find(&Version::default(), &environment(Some("/nonexistent")), &[]).expect("nothing was needed");
        assert_eq!(found.path(Component::Etcd), PathBuf::from("/nonexistent/etcd"));
    }
}
