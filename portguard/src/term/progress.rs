//! How far the filling of a list has come: shown on a terminal, once it takes a while.
//!
//! The one who fills a list holds the lock of all guards, and must not wait for a terminal: a thread apart draws.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::ops::Progress;

/// What is done sooner needs no bar.
const A_WHILE: Duration = Duration::from_secs(1);
/// How often it is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// A bar on standard error, if that is a terminal.
#[derive(Debug, Default)]
pub(super) struct Bar(Option<Drawn>);

#[derive(Debug)]
struct Drawn {
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    interface: String,
    entries: usize,
    of: usize,
    is_over: bool,
}

impl Progress for Bar {
    fn show(&mut self, interface: &str, entries: usize, of: usize) {
        if self.0.is_none() {
            if !io::stderr().is_terminal() {
                return;
            }
            let state = Arc::<Mutex<State>>::default();
            let drawn = Arc::clone(&state);
            self.0 = Some(Drawn { state, thread: Some(thread::spawn(move || draw(&drawn))) });
        }
        if let Some(Drawn { state, .. }) = &self.0 {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.interface != interface {
                state.interface = interface.to_owned();
            }
            (state.entries, state.of) = (entries, of);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        let Some(Drawn { state, thread }) = &mut self.0 else { return };
        state.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        if let Some(thread) = thread.take() {
            // It draws, and does nothing that can fail.
            let _ = thread.join();
        }
    }
}

fn draw(state: &Mutex<State>) {
    let begun = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    loop {
        thread::sleep(FRAME);
        let (interface, entries, of, is_over) = {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.interface.clone(), state.entries, state.of, state.is_over)
        };
        if is_over {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            return;
        }
        if begun.elapsed() > A_WHILE {
            let bar = bar.get_or_insert_with(|| {
                let style =
                    ProgressStyle::with_template("{prefix}: {bar:40} {human_pos} of {human_len} entries");
                ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_prefix(interface);
            bar.set_length(of as u64);
            bar.set_position(entries as u64);
        }
    }
}
