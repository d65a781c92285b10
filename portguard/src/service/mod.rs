//! The service behind `portguard run`: waits for what may happen, and lets the reconciler do what it takes.
//!
//! Invariants:
//! - However the service ends, the guards stay on.
//! - The service owns the order of the guards that it keeps: what differs from it is restored.
//! - Whatever goes wrong after the start is told, and the lists in force stay.
//! - What changes guards is done by one thread at a time, under the lock that the commands take as well. Signals are obeyed
//!   while it waits for that lock.

mod descriptor;
mod drop_log;
pub mod metrics;
mod netlink;
mod order;
mod pins;
mod reconciler;
mod reloads;
mod systemd;
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
use crate::control;
use crate::control::server::{Incoming, Server, Task};
use crate::error::{Error, Result};
use crate::guard::{self, LogLimit, Trial};
use crate::ops::Console;

/// How often the status line is renewed, and every guard is compared with its order.
const LOOK: Duration = Duration::from_secs(10);

/// How often it is checked that the guards are on. The kernel tells nobody that a link was detached, as newer versions of
/// `xdp-loader unload` do with links of others.
const CHECK: Duration = Duration::from_secs(1);
/// The pause before what could not be restored is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Stopped,
    /// It can pin no guard any more, and a new process could: it is to be started again.
    CutOff,
}

/// Guards the interfaces until a signal says to stop; serves metrics if there is an address. If the order has drops logged, each is an
/// event of `tracing`.
///
/// # Errors
/// An interface that is there cannot be guarded, there is no list to guard with, or the address of the metrics cannot be
/// had. What can be guarded is guarded all the same.
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
    /// Set when one of them has come: ends waits for the lock.
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
    /// Not here while it works in its thread.
    reconciler: Option<Reconciler>,
    end: End,
    systemd: Systemd,
    console: Arc<dyn Console>,
}

impl Service {
    async fn serve(mut self, metrics: Option<SocketAddr>) -> Result<Ending> {
        let mut reload = listen(SignalKind::hangup())?;
        // Watched before they are looked at first, so that no change falls between.
        let links = netlink::watch().map_err(cannot_run)?;
        let pins = pins::watch(self.reconciler().pin_root().root(), &self.console);
        let list = watch::watch(self.reconciler().allowlist(), &self.console);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.tick().await;
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.systemd.keep_watchdog_quiet();
        // Before the first look at the interfaces: of two services that start at once, one sees the other.
        let mut control = self.listen_for_commands();

        let listener = metrics.map(metrics::listen).transpose();

        self.apart(Reconciler::start).await?;
        // Only now, so that a port that is taken leaves no interface open.
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
                let description = self.apart(|reconciler| reconciler.description()).await;
                description.into_iter().for_each(|description| control.describe(description));
            }
            let deadline = self.apart(|reconciler| reconciler.next_deadline()).await;
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
                    self.apart(Reconciler::look).await;
                    self.tell().await;
                }
                () = links.notified() => self.apart(Reconciler::look).await,
                () = pins.notified() => {
                    self.apart(Reconciler::look).await;
                    self.tell().await;
                }
                _ = check.tick() => self.apart(Reconciler::check).await,
                _ = look.tick() => {
                    self.apart(Reconciler::look).await;
                    self.tell().await;
                }
                () = self.end.come() => {}
            }
        }
        self.apart(Reconciler::take_back).await;
        let farewell = self.apart(|reconciler| reconciler.farewell()).await;
        self.systemd.stopping(&farewell);
        self.console.note(farewell);
        Ok(Ending::Stopped)
    }

    /// Listens to commands, which hand requests to the service. That they cannot is no reason to leave an interface open.
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

    /// Does what a command has handed over.
    async fn obey(&mut self, incoming: Incoming) {
        let Incoming { task, reply } = incoming;
        let messages = match task {
            Task::Reload(control::Reload { interfaces, allow_empty, confirm_seconds }) => {
                let trial = confirm_seconds.map(Trial::of_seconds);
                // Without a trial, the one list of the service is put in force wherever it keeps a guard.
                let only = if trial.is_some() { interfaces } else { Vec::new() };
                let trigger = Trigger::Asked { allow_empty, trial };
                self.apart(move |reconciler| reconciler.reload(trigger, &only)).await
            }
            Task::Confirm(control::Confirm { interfaces }) => {
                self.apart(move |reconciler| reconciler.confirm(&interfaces)).await
            }
        };
        reply.send(messages.outcome());
        messages.log();
        // The file may have changed while a change waited for its confirmation.
        self.apart(Reconciler::look).await;
        self.tell().await;
    }

    fn reconciler(&self) -> &Reconciler {
        self.reconciler.as_ref().unwrap_or_else(|| unreachable!("it is away only while `apart` waits for it"))
    }

    async fn reload(&mut self, trigger: Trigger) {
        self.apart(move |reconciler| reconciler.reload(trigger, &[])).await.log();
    }

    /// Tells systemd that all is done that was asked for.
    async fn ready(&mut self) {
        let summary = self.apart(|reconciler| reconciler.summary()).await;
        self.systemd.ready(&summary);
    }

    /// Renews the status line.
    async fn tell(&mut self) {
        if self.systemd.listens() {
            let summary = self.apart(|reconciler| reconciler.summary()).await;
            self.systemd.status(&summary);
        }
    }

    /// Does what takes its time, and waits for locks and for the kernel, in a thread apart. A signal to end is taken note of
    /// meanwhile, and ends the waiting for a lock; work that has begun is brought to its end.
    async fn apart<T: Send + 'static>(
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
        // It is not cancelled, so if it has not ended in order it has panicked.
        let (reconciler, result) = done.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
        self.reconciler = Some(reconciler);
        result
    }
}

/// The next request of a command; never comes if nobody listens.
async fn next(control: &mut Option<Server>) -> Incoming {
    match control {
        Some(control) => control.next().await,
        None => pending().await,
    }
}

/// Waits so long; for ever if there is nothing to wait for.
async fn until(deadline: Option<Duration>) {
    match deadline {
        // What is due now could not be restored just before.
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
