//! Logs drops: takes them out of the rings of the guards, and says how many the kernel has left out.

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

/// How often the guards are looked up again, and the packets counted that found no room in the log.
const LOOK: Duration = Duration::from_secs(1);

/// How many entries of a log are written before others have their turn: more may come in meanwhile, without end.
const MOST_AT_ONCE: usize = 1000;

/// Logs the drops of the guards of these interfaces, in a thread of its own, until the process ends. To be called before
/// the service changes any of them.
pub(super) fn spawn(pin_root: PinRoot, interfaces: Vec<String>) -> io::Result<()> {
    let mut logs = Logs { pin_root, open: HashMap::new(), told: HashMap::new() };
    for interface in &interfaces {
        // What was left out before is not ours to tell; of guards that come later, everything is.
        logs.follow(interface);
    }
    thread::Builder::new().name("drop-log".to_owned()).spawn(move || {
        loop {
            for interface in &interfaces {
                logs.look(interface);
            }
            let next = Instant::now() + LOOK;
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
    /// By interface.
    open: HashMap<String, DropLog>,
    /// Of which log how many packets had found no room when that was last told, by interface: also of one that is away,
    /// and may come back with the same guard.
    told: HashMap<String, (u32, u64)>,
}

impl Logs {
    /// Opens the log of the guard that is on an interface now, if it is not open. Returns how many packets were left out
    /// of it since this was last asked, or ever if it has just been opened.
    fn follow(&mut self, interface: &str) -> u64 {
        let found = self.find(interface).filter(|(_, id)| {
            // By another of its names, it is followed already.
            !self.open.iter().any(|(other, log)| other != interface && log.id() == *id)
        });
        let Some((guard, id)) = found else {
            self.open.remove(interface);
            return 0;
        };
        if self.open.get(interface).is_none_or(|log| log.id() != id) {
            // If it fails, it is tried again.
            let Ok(log) = guard.drop_log() else { return 0 };
            self.open.insert(interface.to_owned(), log);
        }
        let left_out = guard.not_logged();
        let before = self.told.insert(interface.to_owned(), (id, left_out));
        let before = before.filter(|(of, _)| *of == id).map_or(0, |(_, before)| before);
        // Fewer than before: somebody has set the counters back to zero.
        left_out.checked_sub(before).unwrap_or(left_out)
    }

    /// The guard on an interface, and which log it has.
    fn find(&self, interface: &str) -> Option<(Guard, u32)> {
        // Whatever is the matter, the reconciler tells it.
        let guard = Guard::by_name(Some(&self.pin_root), interface).ok()?;
        let id = guard.drop_log_id().ok()?;
        Some((guard, id))
    }

    /// Tells what was left out of the log of an interface.
    fn look(&mut self, interface: &str) {
        let left_out = self.follow(interface);
        if left_out > 0 {
            warn!(interface, packets = left_out, "drops left out of the log");
        }
    }

    /// Waits until there is something to log.
    fn wait(&self, at_most: Duration) {
        let mut logs: Vec<PollFd<'_>> =
            self.open.values().map(|log| PollFd::new(log.as_fd(), PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        // A signal is no matter: there is nothing to read, or there is.
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
        at = time::microseconds(uptime.unix_time(drop.at)),
        "{}", if drop.was_dropped { "dropped" } else { "would drop" }
    );
}
