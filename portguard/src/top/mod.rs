//! `portguard top`: the counters, live. What moves is read by [`poll`], kept by [`model`], and drawn by [`view`]; what the
//! user wants is read by [`keys`] and kept by [`view_state`].
//!
//! Invariants:
//! - The terminal is given back as it was, however this ends but by SIGKILL.
//! - Memory is bounded: by the source tables of the guards, twice while the picture stands still, and [`rate::SAMPLES`].

pub mod filter;
pub mod keys;
pub mod model;
pub mod poll;
pub mod rate;
pub mod terminal;
pub mod view;
pub mod view_state;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{self, Event};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use self::model::{Model, Poll};
use self::terminal::Terminal;
use self::view::Palette;
use self::view_state::{Flow, ViewState};
use crate::error::{Error, Result};
use crate::guard::unix_now;

/// Shows the guards on these interfaces, or all if no interface is given, until the user or a signal ends it. A new poll is taken
/// each `every`.
///
/// # Errors
/// The terminal cannot be used.
pub fn run(names: Vec<String>, every: Duration) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(cannot_run)?;
    runtime.block_on(show(names, every))
}

async fn show(names: Vec<String>, every: Duration) -> Result<()> {
    // Listened to before the terminal is taken over, so that none of them can leave it as it is then.
    let (mut terminate, mut hang_up) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let (mut interrupt, mut quit) = (listen(SignalKind::interrupt())?, listen(SignalKind::quit())?);
    let mut terminal = Terminal::enter()?;
    let mut events = events().map_err(cannot_run)?;
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (palette, started) = (Palette::of_environment(), Instant::now());
    let (mut model, mut state) = (Model::new(names.clone()), ViewState::default());
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(Ok(Event::Key(key))) => {
                    let next = keys::action(&key, &state.page).map(|action| state.apply(action, &mut model));
                    match next {
                        None => continue,
                        Some(Flow::Show) => {}
                        Some(Flow::Redraw) => terminal.clear()?,
                        Some(Flow::Quit) => return Ok(()),
                    }
                }
                Some(Ok(Event::Resize(..))) => {}
                Some(Ok(_)) => continue,
                // Nobody can press a key any more.
                Some(Err(_)) | None => return Ok(()),
            },
            _ = tick.tick() => {
                terminal.require_alive()?;
                let (polls, at) = poll_apart(names.clone()).await;
                let polls = polls.map_err(|error| error.to_string());
                model.update(at.saturating_duration_since(started), unix_now(), polls);
            }
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = quit.recv() => return Ok(()),
        }
        terminal.draw(|frame| view::draw(frame, &model, &state, every, palette))?;
    }
}

/// Reads keys and sizes in a thread apart, which is left alone when all is over: crossterm reads a terminal that has hung
/// up again and again without end.
fn events() -> io::Result<Receiver<io::Result<Event>>> {
    let (sender, receiver) = channel(16);
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        loop {
            let event = event::read();
            let is_last = event.is_err();
            if sender.blocking_send(event).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Polls in a thread of its own: netlink is asked by a runtime of its own.
async fn poll_apart(names: Vec<String>) -> (Result<Vec<Poll>>, Instant) {
    let polls = spawn_blocking(move || (poll::poll(&names), Instant::now())).await;
    polls.unwrap_or_else(|error: JoinError| std::panic::resume_unwind(error.into_panic()))
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(cannot_run)
}

fn cannot_run(error: io::Error) -> Error {
    Error::failed("cannot wait for keys and signals").caused_by(error)
}
