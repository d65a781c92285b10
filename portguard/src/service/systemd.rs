//! Notifications to systemd (`sd_notify(3)`). Without systemd, they have no effect, and do not fail.
//!
//! The socket of systemd holds ten messages. If systemd does not read them for a while, the eleventh message must wait.
//! A separate thread waits, so that the service continues.

use std::env;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::interval;

/// The most messages that wait; later ones are discarded.
const WAITING: usize = 64;
/// The longest wait for the last message.
const FAREWELL: Duration = Duration::from_secs(1);

/// Sends notifications about the service to systemd.
#[derive(Debug, Clone)]
pub(super) struct Systemd {
    messages: SyncSender<Message>,
}

#[derive(Debug)]
struct Message {
    text: String,
    /// Gets a value when the message is sent.
    sent: Option<SyncSender<()>>,
}

impl Systemd {
    /// Starts the thread that sends messages.
    pub(super) fn new() -> Self {
        let (messages, queue) = sync_channel::<Message>(WAITING);
        thread::spawn(move || {
            for Message { text, sent } in queue {
                // An error is ignored: systemd detects missing messages itself, and the guards do not depend on it.
                let _ = sd_notify::notify(&[NotifyState::Custom(&text)]);
                // If this fails, the service no longer waits for the message.
                let _ = sent.map(|sent| sent.try_send(()));
            }
        });
        Self { messages }
    }

    /// Whether systemd has asked for notifications.
    pub(super) fn listens(&self) -> bool {
        env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// The start or a reload is complete.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)], None);
    }

    /// A reload has begun.
    pub(super) fn reloading(&self) {
        // Reading the clock always succeeds. Without its stamp, systemd would wait without end.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now], None);
        }
    }

    /// The line that `systemctl status` shows.
    pub(super) fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(status)], None);
    }

    /// The end has begun. Returns when the message is sent, or after [`FAREWELL`].
    pub(super) fn stopping(&self, status: &str) {
        let (sent, is_sent) = sync_channel(1);
        let status = NotifyState::Status(status);
        self.tell(&[NotifyState::Stopping, status], Some(sent));
        let _ = is_sent.recv_timeout(FAREWELL);
    }

    /// Begins to send messages to the watchdog of systemd, if there is one (`WatchdogSec=`).
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
        // An error means that the queue is full, because systemd has not read for a long time.
        let _ = self.messages.try_send(Message { text: lines.join("\n"), sent });
    }
}
