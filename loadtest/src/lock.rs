//! A mutex whose holder panicked: what it guards here is counters and lists, which are as good as before.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic of whoever held it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
