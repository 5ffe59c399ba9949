//! A real Kubernetes control plane, a scripted DNS server and a fault proxy, as a library for tests and load scenarios.
//!
//! * [`control_plane`]: etcd, kube-apiserver and (when asked) kube-controller-manager as child processes, built from pinned Go modules.
//! * [`dns`]: a DNS server whose answers a test scripts while it runs.
//! * [`proxy`]: a proxy between a client and the API server that delays, drops and refuses.
//! * [`relay`]: a TCP relay that counts connections and lets them fall silent.
//! * [`eventually`]: waits for a condition up to a deadline; tests never sleep to synchronise.

mod accept;
pub mod control_plane;
pub mod dns;
mod eventually;
pub mod proxy;
pub mod relay;

pub use control_plane::ControlPlane;
pub use eventually::eventually;
