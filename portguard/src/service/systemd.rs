//! What systemd is told (`sd_notify(3)`). Where there is no systemd, nobody is told, and nothing fails.
//!
//! Its socket takes ten messages; if systemd does not read them for a while, the eleventh has to wait. A thread apart
//! does that, so that the service goes on.

use std::env;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::interval;

/// As many messages may wait; later ones are left out.
const WAITING: usize = 64;
/// How long the last message may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Tells systemd of the service.
#[derive(Debug, Clone)]
pub(super) struct Systemd {
    messages: SyncSender<Message>,
}

#[derive(Debug)]
struct Message {
    text: String,
    /// Told when the message is sent.
    sent: Option<SyncSender<()>>,
}

impl Systemd {
    /// Begins to listen to the service.
    pub(super) fn new() -> Self {
        let (messages, queue) = sync_channel::<Message>(WAITING);
        thread::spawn(move || {
            for Message { text, sent } in queue {
                // systemd notices that it hears nothing; the guards do not depend on it.
                let _ = sd_notify::notify(&[NotifyState::Custom(&text)]);
                // Nobody waits for it any more, if that fails.
                let _ = sent.map(|sent| sent.try_send(()));
            }
        });
        Self { messages }
    }

    /// Whether somebody listens.
    pub(super) fn listens(&self) -> bool {
        env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// What was asked for is done: the start, or a reload.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)], None);
    }

    /// A reload has begun.
    pub(super) fn reloading(&self) {
        // The clock always works; without its stamp systemd would wait in vain.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now], None);
        }
    }

    /// The line that `systemctl status` shows.
    pub(super) fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(status)], None);
    }

    /// The end has begun. Returns when that is said, or systemd does not listen.
    pub(super) fn stopping(&self, status: &str) {
        let (sent, is_sent) = sync_channel(1);
        let status = NotifyState::Status(status);
        self.tell(&[NotifyState::Stopping, status], Some(sent));
        let _ = is_sent.recv_timeout(FAREWELL);
    }

    /// From here on, says in time that the service is alive, if systemd wants to know (`WatchdogSec=`).
    pub(super) fn keep_watchdog_quiet(&self) {
        let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
        let systemd = self.clone();
        tokio::spawn(async move {
            let mut time = interval(limit / 2);
            loop {
                time.tick().await;
                systemd.tell(&[NotifyState::Watchdog], None);
            }
        });
    }

    fn tell(&self, states: &[NotifyState<'_>], sent: Option<SyncSender<()>>) {
        let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
        // Full: it has not listened for long.
        let _ = self.messages.try_send(Message { text: lines.join("\n"), sent });
    }
}
