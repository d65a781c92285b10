//! What there is to tell, in its order, until it can be printed.

use std::io::{self, Write};

use crate::allowlist::Style;
use crate::control::{self, Outcome, Severity};
use crate::error::{Error, Kind, Result};
use crate::guard::{EndReason, Ended, Event};
use crate::history;
use crate::output::{self, progress::Progress};

/// Something to tell.
#[derive(Debug)]
pub(crate) enum Message {
    /// Data, for standard output.
    Data(String),
    /// What is odd about a list, ready to be shown.
    Oddities(String),
    /// What the user should know although nothing failed.
    Note(String),
    /// What the user must know: something is not as it should be.
    Warning(String),
    /// A failure.
    Error(Error),
    /// A failure that the service has reported.
    Reported(String),
}

/// Collects what there is to tell.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    messages: Vec<Message>,
    progress: Progress,
}

impl Messages {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Data, for standard output.
    pub(crate) fn data(&mut self, text: impl Into<String>) {
        self.messages.push(Message::Data(text.into()));
    }

    /// What is odd about a list.
    pub(crate) fn oddities(&mut self, text: String) {
        if !text.is_empty() {
            self.messages.push(Message::Oddities(text));
        }
    }

    /// What the user should know.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.messages.push(Message::Note(text.into()));
    }

    /// What the user must know.
    pub(crate) fn warning(&mut self, text: impl Into<String>) {
        self.messages.push(Message::Warning(text.into()));
    }

    /// A failure that does not end the command.
    pub(crate) fn error(&mut self, error: Error) {
        self.messages.push(Message::Error(error));
    }

    /// Takes what happens while a guard is changed; `interface` is the name of its interface.
    pub(crate) fn take(&mut self, interface: &str, event: Event) {
        match event {
            Event::Filled { entries, of } => self.progress.show(interface, entries, of),
            Event::WithoutIndex(error) => self.note(format!("{interface}: {error}")),
            Event::Ended(ended) => self.keep_in_history(Some(interface), &ended),
            Event::Unreadable(error) => {
                self.warning(format!("{interface}: the last figures of the counters are lost: {error}"));
            }
        }
    }

    /// Takes what happens while leftovers of guards are removed whose interfaces are gone.
    pub(crate) fn take_of_leftovers(&mut self, event: Event) {
        match event {
            Event::Ended(ended) => self.keep_in_history(None, &ended),
            Event::Unreadable(error) => {
                self.warning(format!("the last figures of a guard that is gone are lost: {error}"));
            }
            // No list is filled.
            Event::Filled { .. } | Event::WithoutIndex(_) => {}
        }
    }

    /// Writes counters at their end to the history. That they cannot be written blocks no change.
    fn keep_in_history(&mut self, interface: Option<&str>, ended: &Ended) {
        let &Ended { namespace, ifindex, enforcing, reason, ref snapshot } = ended;
        let identity = history::Identity { interface, ifindex, namespace, set: snapshot.set, enforcing };
        let reason = match reason {
            EndReason::Reset => history::Reason::Reset,
            EndReason::Detached => history::Reason::Detach,
            EndReason::Abandoned => history::Reason::Abandoned,
        };
        if let Err(error) = history::keep(snapshot, identity, reason) {
            self.warning(error.to_string());
        }
    }

    /// Takes the messages of others, after its own.
    pub(crate) fn append(&mut self, mut others: Self) {
        self.messages.append(&mut others.messages);
    }

    /// What each failure says.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failures = self.messages.iter().filter_map(|message| match message {
            Message::Error(error) => Some(error.to_string()),
            _ => None,
        });
        failures.collect()
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The class of the first failure.
    pub(crate) fn first_failure(&self) -> Option<Kind> {
        self.messages.iter().find_map(|message| match message {
            Message::Error(error) => Some(error.kind()),
            _ => None,
        })
    }

    /// Prints everything, in its order. The caller does not hold the lock.
    ///
    /// # Errors
    /// Standard output cannot be written to; the rest is printed all the same.
    pub(crate) fn print(self, out: &mut dyn Write) -> Result<()> {
        let Self { messages, progress } = self;
        drop(progress);
        let mut written = Ok(());
        for message in messages {
            match message {
                Message::Data(text) => {
                    // At once: an error about the next interface comes after what is told of this one.
                    let now = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                    written = written.and(now.map_err(crate::commands::unwritten));
                }
                Message::Oddities(text) => eprint!("{text}"),
                Message::Note(text) => output::error::note(&text),
                Message::Warning(text) => output::error::warning(&text),
                Message::Error(error) => output::error::print(&error),
                Message::Reported(text) => output::error::reported(&text),
            }
        }
        written
    }

    /// The same, with everything on standard error: for the service, which prints no data.
    pub(crate) fn log(self) {
        // Nobody can be told if that fails.
        let _ = self.print(&mut io::stderr());
    }

    /// How what is odd about a list is to be shown.
    pub(crate) fn style() -> Style {
        Style::of(&io::stderr())
    }

    /// The same, for a command that has handed its request to the service.
    pub(crate) fn outcome(&self) -> Outcome {
        let mut outcome =
            Outcome { code: self.first_failure().map_or(0, Kind::exit_code), ..Outcome::default() };
        for message in &self.messages {
            let (severity, text, list_problems) = match message {
                Message::Data(text) => {
                    outcome.stdout += text;
                    continue;
                }
                Message::Oddities(text) => (Severity::Warning, String::new(), Some(text.clone())),
                Message::Note(text) => (Severity::Note, text.clone(), None),
                Message::Warning(text) => (Severity::Warning, text.clone(), None),
                Message::Reported(text) => (Severity::Error, text.clone(), None),
                Message::Error(error) => {
                    outcome.messages.push(error.into());
                    continue;
                }
            };
            outcome.messages.push(control::Message { severity, text, list_problems });
        }
        outcome
    }

    /// Takes what the service has replied. Returns its exit code.
    pub(crate) fn take_outcome(&mut self, outcome: Outcome) -> u8 {
        let Outcome { stdout, messages, code } = outcome;
        for control::Message { severity, text, list_problems } in messages {
            list_problems.into_iter().for_each(|problems| self.oddities(problems));
            match severity {
                _ if text.is_empty() => {}
                Severity::Note => self.note(text),
                Severity::Warning => self.warning(text),
                Severity::Error => self.messages.push(Message::Reported(text)),
            }
        }
        if !stdout.is_empty() {
            self.data(stdout);
        }
        code
    }
}
