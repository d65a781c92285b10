//! The service behind `portguard run`: waits for what may happen, and lets the keeper do what it takes.
//!
//! Invariants:
//! - However the service ends, the guards stay on.
//! - Whatever goes wrong after the start is told, and the lists in force stay.
//! - What changes guards is done by one thread at a time, under the lock that the commands take as well.

mod descriptor;
mod drop_log;
mod keeper;
mod metrics;
mod netlink;
mod pins;
mod reloads;
mod systemd;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::panic;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use self::keeper::{Keeper, Trigger};
use self::systemd::Systemd;
use crate::cli::LogFormat;
use crate::error::{Error, Result};
use crate::guard::Options;
use crate::output;

/// How often the status line is renewed. What no event tells of (a link that was detached by other means) is noticed
/// at the latest then.
const LOOK: Duration = Duration::from_secs(10);

/// Guards the interfaces until a signal says to stop; logs drops if there is a format for them, and serves metrics if
/// there is an address.
///
/// # Errors
/// An interface that is there cannot be guarded, there is no list to guard with, or the address of the metrics cannot be
/// had. What can be guarded is guarded all the same.
pub fn run(
    interfaces: &[String],
    allowlist: PathBuf,
    options: Options,
    log: Option<LogFormat>,
    metrics: Option<SocketAddr>,
) -> Result<()> {
    let keeper = Keeper::new(interfaces, allowlist, options)?;
    if let Some(format) = log {
        drop_log::write_as(format);
        drop_log::spawn(keeper.home().clone(), interfaces.to_vec()).map_err(cannot_run)?;
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(cannot_run)?;
    runtime.block_on(serve(keeper, metrics))
}

async fn serve(mut keeper: Keeper, metrics: Option<SocketAddr>) -> Result<()> {
    let mut reload = listen(SignalKind::hangup())?;
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    // Watched before they are looked at first, so that no change falls between.
    let links = netlink::watch().map_err(cannot_run)?;
    let pins = pins::watch(keeper.home().root());
    let list = watch::watch(keeper.allowlist());
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look.tick().await;
    let systemd = Systemd::new();
    systemd.keep_watchdog_quiet();

    let listener = metrics.map(metrics::listen).transpose();

    let started;
    (keeper, started) = apart(keeper, Keeper::start).await;
    started?;
    // Only now, so that a port that is taken leaves no interface open.
    if let Some(listener) = listener? {
        let (home, reloads) = (keeper.home().clone(), keeper.reloads().clone());
        metrics::serve(listener, metrics::Reader::new(home, keeper.interfaces(), reloads));
    }
    keeper = ready(keeper, &systemd).await;
    loop {
        tokio::select! {
            Some(()) = reload.recv() => {
                systemd.reloading();
                (keeper, ()) = apart(keeper, |keeper| keeper.reload(Trigger::Asked)).await;
                keeper = ready(keeper, &systemd).await;
            }
            () = list.notified() => {
                (keeper, ()) = apart(keeper, |keeper| keeper.reload(Trigger::Changed)).await;
                keeper = tell(keeper, &systemd).await;
            }
            () = links.notified() => {
                (keeper, ()) = apart(keeper, Keeper::look).await;
            }
            () = pins.notified() => {
                (keeper, ()) = apart(keeper, Keeper::look).await;
                keeper = tell(keeper, &systemd).await;
            }
            _ = look.tick() => {
                (keeper, ()) = apart(keeper, Keeper::look).await;
                keeper = tell(keeper, &systemd).await;
            }
            Some(()) = terminate.recv() => break,
            Some(()) = interrupt.recv() => break,
        }
    }
    systemd.stopping();
    output::error::note(&keeper.farewell());
    Ok(())
}

/// Tells systemd that all is done that was asked for.
async fn ready(keeper: Keeper, systemd: &Systemd) -> Keeper {
    let (keeper, summary) = apart(keeper, |keeper| keeper.summary()).await;
    systemd.ready(&summary);
    keeper
}

/// Renews the status line.
async fn tell(keeper: Keeper, systemd: &Systemd) -> Keeper {
    if !systemd.listens() {
        return keeper;
    }
    let (keeper, summary) = apart(keeper, |keeper| keeper.summary()).await;
    systemd.status(&summary);
    keeper
}

/// Does what takes its time, and waits for locks and for the kernel, in a thread apart.
async fn apart<T: Send + 'static>(
    mut keeper: Keeper,
    work: impl FnOnce(&mut Keeper) -> T + Send + 'static,
) -> (Keeper, T) {
    let done = spawn_blocking(move || {
        let result = work(&mut keeper);
        (keeper, result)
    });
    // It is not cancelled, so if it has not ended in order it has panicked.
    done.await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(cannot_run)
}

fn cannot_run(error: io::Error) -> Error {
    Error::failed("cannot run as a service").because(error)
}
