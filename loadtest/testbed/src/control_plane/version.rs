//! Which Kubernetes: a pinned pair of go.mod and go.sum, carried inside the library.
//!
//! To add a release: a folder `control-plane/vX.Y.Z` whose go.mod requires `k8s.io/kubernetes vX.Y.Z`, replaces each of its staging modules
//! (`k8s.io/api => k8s.io/api v0.Y.Z` and so on; its own go.mod lists them as `=> ./staging/...`) and names the three servers as `tool`;
//! then `go mod tidy`, and a constant below.

/// One Kubernetes release that the testbed can build. Each has a folder of its own under `control-plane/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The release without its `v`, as in `1.36.3`.
    pub kubernetes: &'static str,
    pub(super) go_mod: &'static str,
    pub(super) go_sum: &'static str,
}

impl Version {
    /// Kubernetes 1.36.3, what every test runs on unless it says otherwise.
    pub const V1_36: Self = Self {
        kubernetes: "1.36.3",
        go_mod: include_str!("../../control-plane/v1.36.3/go.mod"),
        go_sum: include_str!("../../control-plane/v1.36.3/go.sum"),
    };
}

impl Default for Version {
    fn default() -> Self {
        Self::V1_36
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_modules_are_those_of_the_release_they_name() {
        let Version { kubernetes, go_mod, go_sum } = Version::default();
        assert!(go_mod.contains(&format!("k8s.io/kubernetes v{kubernetes} ")));
        assert!(go_sum.contains(&format!("k8s.io/kubernetes v{kubernetes} h1:")));
    }
}
