//! Logs drops: takes entries out of the drop logs of the guards, and reports the number of packets that have no entry.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{info, warn};

use crate::guard::calls;
use crate::guard::{DropLog, Guard, LoggedDrop, PinRoot, Uptime};
use crate::time;

/// The interval at which the guards are looked up again, and the packets without an entry are reported.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The most entries of a log that are written before the next log: new entries may arrive without end.
const MOST_AT_ONCE: usize = 1000;

/// Logs the drops of the guards of these interfaces, in a thread of its own, until the process ends. The caller must
/// call it before the service changes a guard.
pub(super) fn spawn(pin_root: PinRoot, interfaces: Vec<String>) -> io::Result<()> {
    let mut logs = Logs { pin_root, open: HashMap::new(), told: HashMap::new() };
    for interface in &interfaces {
        // The first call ignores packets that were left out before the start. For guards that are attached later, all of
        // them are reported.
        logs.follow(interface);
    }
    thread::Builder::new().name("drop-log".to_owned()).spawn(move || {
        loop {
            for interface in &interfaces {
                logs.poll(interface);
            }
            let next = Instant::now() + POLL_INTERVAL;
            while Instant::now() < next {
                logs.wait(next.saturating_duration_since(Instant::now()));
                logs.drain();
            }
        }
    })?;
    Ok(())
}

struct Logs {
    pin_root: PinRoot,
    /// The open logs, by interface.
    open: HashMap<String, DropLog>,
    /// By interface: the number of a log, and its count of packets without an entry at the last report. It also has
    /// interfaces that are gone, because they may come back with the same guard.
    told: HashMap<String, (u32, u64)>,
}

impl Logs {
    /// Opens the log of the guard that is on an interface now, if it is not open. Returns the number of packets that
    /// were left out of it since the last call, or all of them if the log is new.
    fn follow(&mut self, interface: &str) -> u64 {
        let found = self.find(interface).filter(|(_, id)| {
            // If the interface has several names, its log is open under another one already.
            !self.open.iter().any(|(other, log)| other != interface && log.id() == *id)
        });
        let Some((guard, id)) = found else {
            self.open.remove(interface);
            return 0;
        };
        if self.open.get(interface).is_none_or(|log| log.id() != id) {
            // After an error, the next call tries again.
            let Ok(log) = guard.drop_log() else { return 0 };
            self.open.insert(interface.to_owned(), log);
        }
        let left_out = guard.not_logged();
        let before = self.told.insert(interface.to_owned(), (id, left_out));
        let before = before.filter(|(of, _)| *of == id).map_or(0, |(_, before)| before);
        // The count is lower than before: the counters were set back to zero.
        left_out.checked_sub(before).unwrap_or(left_out)
    }

    /// The guard on an interface, and the number of its log.
    fn find(&self, interface: &str) -> Option<(Guard, u32)> {
        // The reconciler reports errors.
        let guard = Guard::by_name(Some(&self.pin_root), interface).ok()?;
        let id = guard.drop_log_id().ok()?;
        Some((guard, id))
    }

    /// Reports the packets that were left out of the log of an interface.
    fn poll(&mut self, interface: &str) {
        let left_out = self.follow(interface);
        if left_out > 0 {
            warn!(interface, packets = left_out, "packets left out of the log");
        }
    }

    /// Waits until a log has entries.
    fn wait(&self, at_most: Duration) {
        let mut logs: Vec<PollFd<'_>> =
            self.open.values().map(|log| PollFd::new(log.as_fd(), PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        // A signal may end the wait: the caller reads the logs in any case.
        let _ = poll(&mut logs, timeout);
    }

    fn drain(&mut self) {
        let uptime = Uptime::now();
        for (interface, drops) in &mut self.open {
            for _ in 0..MOST_AT_ONCE {
                let Some(drop) = drops.take() else { break };
                log(interface, &drop, uptime);
            }
        }
    }
}

fn log(interface: &str, drop: &LoggedDrop, uptime: Uptime) {
    info!(
        interface,
        source = %drop.source,
        port = drop.port,
        protocol = drop.request.protocol().name(),
        procedure = calls::name(drop.request.procedure()),
        bytes = drop.bytes,
        reason = drop.reason.key(),
        at = time::microseconds(uptime.unix_time(drop.at)),
        "{}", if drop.was_dropped { "dropped" } else { "would drop" }
    );
}
