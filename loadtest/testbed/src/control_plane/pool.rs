//! Control planes that the tests of a process use one after the other: a start costs seconds of both cores, a reset a fraction of one.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::ControlPlane;
use super::base::Base;

/// Given back and not reset yet. They end with the process.
static POOL: Mutex<Vec<(ControlPlane, Base)>> = Mutex::new(Vec::new());

/// A control plane of one test's own, for as long as this value lives; then perhaps another test's.
#[derive(Debug)]
pub struct Leased {
    /// None only while it is dropped.
    control_plane: Option<ControlPlane>,
    /// None where it is not to be used again.
    base: Option<Base>,
}

impl ControlPlane {
    /// One with deploy/ applied and nothing else, as after [`start`](super::Builder::start) without options and
    /// [`install`](Self::install): new, or one that an earlier test has left and that was brought back to that state.
    ///
    /// One whose test panicked, stopped or paused a server, or changed anything of the installation is not used again.
    ///
    /// # Errors
    ///
    /// When one has to be started and that fails.
    pub async fn lease() -> Result<Leased> {
        while let Some((control_plane, base)) = take() {
            match base.restore(&control_plane).await {
                Ok(()) => return Ok(Leased { control_plane: Some(control_plane), base: Some(base) }),
                Err(reason) => eprintln!("testbed: a control plane is not used again: {reason:#}"),
            }
        }
        let control_plane = Self::builder().start().await?;
        control_plane.install().await?;
        let base = Base::of(&control_plane).await?;
        Ok(Leased { control_plane: Some(control_plane), base: Some(base) })
    }
}

impl From<ControlPlane> for Leased {
    /// One with options of its own: it ends with the value.
    fn from(control_plane: ControlPlane) -> Self {
        Self { control_plane: Some(control_plane), base: None }
    }
}

impl Deref for Leased {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        self.control_plane.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let (Some(control_plane), Some(base)) = (self.control_plane.take(), self.base.take()) else { return };
        if !std::thread::panicking() && control_plane.servers.are_undisturbed() {
            POOL.lock().unwrap_or_else(PoisonError::into_inner).push((control_plane, base));
        }
    }
}

fn take() -> Option<(ControlPlane, Base)> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner).pop()
}
