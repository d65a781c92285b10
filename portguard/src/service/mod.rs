//! The service behind `portguard run`: it waits for events, and calls the reconciler for each.
//!
//! Invariants:
//! - The guards remain attached, however the service ends.
//! - The service owns the order of the guards that it keeps, and restores parts that differ from the order.
//! - The service reports each error after its start, and the lists in force remain.
//! - One thread at a time changes guards, under the lock that the commands take as well. Signals take effect while that
//!   thread waits for the lock.

mod descriptor;
mod drop_log;
pub mod metrics;
mod netlink;
mod order;
mod pins;
mod reconciler;
mod reloads;
mod systemd;
mod wall_clock;
mod watch;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub use self::order::ServiceOrder;
use self::reconciler::{Reconciler, Trigger};
use self::systemd::Systemd;
use self::wall_clock::WallClock;
use crate::control;
use crate::control::server::{Incoming, Server, Task};
use crate::error::{Error, Result};
use crate::guard::{self, LogLimit, Trial};
use crate::ops::Console;

/// The interval at which the status line is renewed, and each guard is compared with its order.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(10);

/// The interval at which the service checks that the guards are attached. The kernel sends no event if a link is
/// detached, as newer versions of `xdp-loader unload` do with links of other owners.
const CHECK: Duration = Duration::from_secs(1);
/// The pause before the next attempt to restore an overdue change.
const RETRY: Duration = Duration::from_millis(500);

/// How the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It got a signal to stop.
    Stopped,
    /// It can no longer pin guards, but a new process could: it must be started again.
    CutOff,
}

/// Guards the interfaces until a signal to stop comes. It serves metrics if there is an address for them. If the order
/// has a drop log, each entry is an event of `tracing`.
///
/// # Errors
/// An interface that exists cannot be guarded, there is no list, or the address of the metrics cannot be used. The other
/// interfaces are guarded anyway.
pub fn run(
    interfaces: &[String],
    order: ServiceOrder,
    metrics: Option<SocketAddr>,
    console: Arc<dyn Console>,
) -> Result<Ending> {
    let logs_drops = order.log != LogLimit::Off;
    let stop = Arc::new(AtomicBool::new(false));
    let reconciler = Reconciler::new(interfaces, order, Arc::clone(&stop), Arc::clone(&console))?;
    if logs_drops {
        drop_log::spawn(reconciler.pin_root().clone(), interfaces.to_vec()).map_err(cannot_run)?;
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(cannot_run)?;
    runtime.block_on(async {
        let service = Service {
            reconciler: Some(reconciler),
            end: End::listen(stop)?,
            systemd: Systemd::new(),
            console,
        };
        service.serve(metrics).await
    })
}

/// The signals that end the service.
struct End {
    terminate: Signal,
    interrupt: Signal,
    /// Set when one of them has come. It ends waits for the lock.
    stop: Arc<AtomicBool>,
}

impl End {
    fn listen(stop: Arc<AtomicBool>) -> Result<Self> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            stop,
        })
    }

    /// Returns when one of them comes.
    async fn come(&mut self) {
        tokio::select! {
            Some(()) = self.terminate.recv() => {}
            Some(()) = self.interrupt.recv() => {}
        }
        self.stop.store(true, Ordering::Relaxed);
    }

    fn has_come(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The service while it runs.
struct Service {
    /// `None` while it works in its thread.
    reconciler: Option<Reconciler>,
    end: End,
    systemd: Systemd,
    console: Arc<dyn Console>,
}

impl Service {
    async fn serve(mut self, metrics: Option<SocketAddr>) -> Result<Ending> {
        let mut reload = listen(SignalKind::hangup())?;
        // The watches begin before the first check of the state, so that no change is missed.
        let links = netlink::watch().map_err(cannot_run)?;
        let pins = pins::watch(self.reconciler().pin_root().root(), &self.console);
        let list = watch::watch(self.reconciler().allowlist(), &self.console);
        let clock = WallClock::watch(&*self.console);
        let mut reconcile = interval(RECONCILE_INTERVAL);
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        reconcile.tick().await;
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.systemd.keep_watchdog_quiet();
        // Before the first check of the interfaces: if two services start at once, one of them sees the other.
        let mut control = self.listen_for_commands();

        let listener = metrics.map(metrics::listen).transpose();

        self.in_thread(Reconciler::start).await?;
        // Only after the guards are on, so that a port in use leaves no interface open.
        if let Some(listener) = listener? {
            let reconciler = self.reconciler();
            let (pin_root, reloads) = (reconciler.pin_root().clone(), reconciler.reloads().clone());
            let reader =
                metrics::Reader::new(pin_root, reconciler.interfaces(), reconciler.order().clone(), reloads);
            metrics::serve(listener, reader, &*self.console);
        }
        self.ready().await;
        while !self.end.has_come() {
            if guard::is_cut_off() {
                self.systemd.stopping("the BPF file system was removed; the service must be started again");
                self.console.warning(
                    "the BPF file system was removed, and this process cannot reach the present one; a new process can",
                );
                return Ok(Ending::CutOff);
            }
            if let Some(control) = &control {
                let description = self.in_thread(|reconciler| reconciler.description()).await;
                description.into_iter().for_each(|description| control.describe(description));
            }
            let deadline = self.in_thread(|reconciler| reconciler.next_deadline()).await;
            tokio::select! {
                incoming = next(&mut control) => self.obey(incoming).await,
                Some(()) = reload.recv() => {
                    self.systemd.reloading();
                    self.reload(Trigger::Asked { allow_empty: false, trial: None }).await;
                    self.ready().await;
                }
                () = list.notified() => {
                    self.reload(Trigger::Changed).await;
                    self.tell().await;
                }
                () = until(deadline) => {
                    self.in_thread(Reconciler::reconcile).await;
                    self.tell().await;
                }
                () = clock.is_set() => self.in_thread(Reconciler::reconcile).await,
                () = links.notified() => self.in_thread(Reconciler::reconcile).await,
                () = pins.notified() => {
                    self.in_thread(Reconciler::reconcile).await;
                    self.tell().await;
                }
                _ = check.tick() => self.in_thread(Reconciler::check).await,
                _ = reconcile.tick() => {
                    self.in_thread(Reconciler::reconcile).await;
                    self.tell().await;
                }
                () = self.end.come() => {}
            }
        }
        self.in_thread(Reconciler::take_back).await;
        let farewell = self.in_thread(|reconciler| reconciler.farewell()).await;
        self.systemd.stopping(&farewell);
        self.console.note(farewell);
        Ok(Ending::Stopped)
    }

    /// Listens to commands, which hand requests to the service. After an error, the service continues without them: its
    /// interfaces must not remain open.
    fn listen_for_commands(&self) -> Option<Server> {
        let listening = self.reconciler().description().and_then(Server::listen);
        listening
            .map_err(|error| {
                self.console.error(error);
                self.console
                    .warning("commands cannot hand requests to this service; SIGHUP reloads its list");
            })
            .ok()
    }

    /// Executes the request of a command.
    async fn obey(&mut self, incoming: Incoming) {
        let Incoming { task, reply } = incoming;
        let messages = match task {
            Task::Reload(control::Reload { interfaces, allow_empty, confirm_seconds }) => {
                let trial = confirm_seconds.map(Trial::of_seconds);
                // Without a trial, the list of the service is put in force on all guards that it keeps.
                let only = if trial.is_some() { interfaces } else { Vec::new() };
                let trigger = Trigger::Asked { allow_empty, trial };
                self.in_thread(move |reconciler| reconciler.reload(trigger, &only)).await
            }
            Task::Confirm(control::Confirm { interfaces }) => {
                self.in_thread(move |reconciler| reconciler.confirm(&interfaces)).await
            }
        };
        reply.send(messages.outcome());
        messages.log();
        // The file may have changed while a change waited for its confirmation.
        self.in_thread(Reconciler::reconcile).await;
        self.tell().await;
    }

    fn reconciler(&self) -> &Reconciler {
        self.reconciler
            .as_ref()
            .unwrap_or_else(|| unreachable!("it is away only while `in_thread` waits for it"))
    }

    async fn reload(&mut self, trigger: Trigger) {
        self.in_thread(move |reconciler| reconciler.reload(trigger, &[])).await.log();
    }

    /// Reports to systemd that the start or the reload is complete.
    async fn ready(&mut self) {
        let summary = self.in_thread(|reconciler| reconciler.summary()).await;
        self.systemd.ready(&summary);
    }

    /// Renews the status line.
    async fn tell(&mut self) {
        if self.systemd.listens() {
            let summary = self.in_thread(|reconciler| reconciler.summary()).await;
            self.systemd.status(&summary);
        }
    }

    /// Runs work that may wait for locks and for the kernel in another thread. If a signal to stop comes in the
    /// meantime, a wait for the lock ends, but work that has begun is completed.
    async fn in_thread<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reconciler) -> T + Send + 'static,
    ) -> T {
        let Some(mut reconciler) = self.reconciler.take() else {
            unreachable!("one thing is done at a time");
        };
        let mut done = spawn_blocking(move || {
            let result = work(&mut reconciler);
            (reconciler, result)
        });
        let done = loop {
            tokio::select! {
                done = &mut done => break done,
                () = self.end.come(), if !self.end.has_come() => {}
            }
        };
        // The task is never cancelled, so an error means that it has panicked.
        let (reconciler, result) = done.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
        self.reconciler = Some(reconciler);
        result
    }
}

/// The next request of a command. Without a control socket, it waits for ever.
async fn next(control: &mut Option<Server>) -> Incoming {
    match control {
        Some(control) => control.next().await,
        None => pending().await,
    }
}

/// Waits until a deadline; without one, it waits for ever.
async fn until(deadline: Option<Duration>) {
    match deadline {
        // The attempt to restore just before has failed.
        Some(Duration::ZERO) => sleep(RETRY).await,
        Some(remaining) => sleep(remaining).await,
        None => pending().await,
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(cannot_run)
}

fn cannot_run(error: io::Error) -> Error {
    Error::failed("cannot run as a service").caused_by(error)
}
