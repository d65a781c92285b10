//! How far the filling of a list has come: shown on a terminal, once it takes a while.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::guard::Event;
use crate::output;

/// What is done sooner needs no bar.
const A_WHILE: Duration = Duration::from_secs(1);

/// Tells the user about the filling of a list for one interface.
#[derive(Debug)]
pub struct Filling<'a> {
    interface: &'a str,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl<'a> Filling<'a> {
    /// Begins now.
    pub fn of(interface: &'a str) -> Self {
        Self { interface, started: Instant::now(), bar: None }
    }

    /// Tells it.
    pub fn tell(&mut self, event: Event) {
        match event {
            Event::WithoutIndex(error) => output::error::note(&format!("{}: {error}", self.interface)),
            Event::Filled { entries, of } if self.bar.is_some() || self.started.elapsed() > A_WHILE => {
                let bar = self.bar.get_or_insert_with(|| {
                    // Hides itself where standard error is no terminal.
                    let style =
                        ProgressStyle::with_template("{prefix}: {bar:40} {human_pos} of {human_len} entries");
                    let bar = ProgressBar::new(of as u64).with_prefix(self.interface.to_owned());
                    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                });
                bar.set_position(entries as u64);
            }
            Event::Filled { .. } => {}
        }
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
