//! Waits for the moment at which somebody sets the wall clock: deadlines of entries are then other times since boot.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::libc;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::ops::Console;
use crate::service::descriptor::register;

/// A timer that never expires, and that the kernel cancels when the clock is set (`timerfd_create(2)`).
pub(super) struct WallClock(Option<AsyncFd<OwnedFd>>);

/// Later than any clock: the year 36,000.
const NEVER: Duration = Duration::from_secs(1 << 40);

impl WallClock {
    /// Begins to watch. A service that cannot watch computes the deadlines at its next check.
    pub(super) fn watch(console: &dyn Console) -> Self {
        let timer = new_timer().map_err(|error| {
            console
                .warning(format!("cannot watch the clock ({error}): entries with `until` follow it later"));
        });
        Self(timer.ok())
    }

    /// Returns when the clock has been set.
    pub(super) async fn is_set(&self) {
        let Some(timer) = &self.0 else { return pending().await };
        loop {
            let Ok(mut ready) = timer.readable().await else { return pending().await };
            let read = ready.try_io(|timer| Ok(read(timer.get_ref(), &mut [0; 8])?));
            if matches!(read, Ok(Err(error)) if error.raw_os_error() == Some(libc::ECANCELED)) {
                return;
            }
        }
    }
}

fn new_timer() -> io::Result<AsyncFd<OwnedFd>> {
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    timer.set(
        Expiration::OneShot(TimeSpec::from_duration(NEVER)),
        TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET,
    )?;
    register(timer.into(), Interest::READABLE)
}
