//! Threads that go on until a test is through with them, or fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends something when it is dropped: a scope waits for its threads also when its test has failed.
#[derive(Debug, Default)]
pub struct Until(Arc<AtomicBool>);

/// What a thread looks at.
#[derive(Debug, Clone)]
pub struct Over(Arc<AtomicBool>);

impl Until {
    /// For a thread to look at.
    pub fn over(&self) -> Over {
        Over(Arc::clone(&self.0))
    }
}

impl Over {
    /// Whether it is to end.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
