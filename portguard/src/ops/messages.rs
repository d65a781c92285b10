//! Collects messages in their order until they can be shown.

use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::Arc;

use crate::allowlist::{Diagnostics, Style};
use crate::control::{self, Outcome, Severity};
use crate::error::{Error, Kind};
use crate::guard::{EndReason, Ended, Event, Hook};
use crate::history;
use crate::printable::lines;

/// The place where messages are shown. The program provides it, because the library does not use standard error.
pub trait Console: Debug + Send + Sync {
    /// Shows a message.
    fn show(&self, message: &Message);

    /// Begins to show the progress of the filling of lists.
    fn progress(&self) -> Box<dyn Progress>;
}

/// Shows the progress of the filling of lists, until it is dropped.
pub trait Progress: Debug + Send {
    /// Shows that `entries` entries of a list are in the kernel; `of` is the length of the list.
    fn show(&mut self, interface: &str, entries: usize, of: usize);
}

impl dyn Console + '_ {
    /// Shows a note: useful to know, but nothing has failed.
    pub fn note(&self, text: impl Into<String>) {
        self.show(&Message::Note(text.into()));
    }

    /// Shows a warning: something is not in order.
    pub fn warning(&self, text: impl Into<String>) {
        self.show(&Message::Warning(text.into()));
    }

    /// Shows a failure.
    pub fn error(&self, error: Error) {
        self.show(&Message::Error(error));
    }
}

/// A message of any kind.
#[derive(Debug)]
pub enum Message {
    /// Data, for standard output.
    Data(String),
    /// The warnings about a list.
    ListWarnings(Diagnostics),
    /// Problems of a list that a service has reported, rendered.
    ReportedListProblems(String),
    /// A note: useful to know, but nothing has failed.
    Note(String),
    /// A warning: something is not in order.
    Warning(String),
    /// A failure.
    Error(Error),
    /// A failure that a service has reported.
    ReportedError(String),
}

/// The collected messages.
#[derive(Debug)]
pub struct Messages {
    messages: Vec<Message>,
    console: Arc<dyn Console>,
    progress: Option<Box<dyn Progress>>,
}

impl Messages {
    /// An empty collection, which is shown on `console` in the end.
    pub fn new(console: Arc<dyn Console>) -> Self {
        Self { messages: Vec::new(), console, progress: None }
    }

    /// The console, for messages that cannot wait.
    pub(crate) fn console(&self) -> &dyn Console {
        &*self.console
    }

    /// Data, for standard output.
    pub(crate) fn data(&mut self, text: impl Into<String>) {
        self.messages.push(Message::Data(text.into()));
    }

    /// The warnings about a list.
    pub(crate) fn list_warnings(&mut self, warnings: Diagnostics) {
        if warnings.total() > 0 {
            self.messages.push(Message::ListWarnings(warnings));
        }
    }

    /// Forgets the warnings about lists, which were shown before.
    pub(crate) fn forget_list_warnings(&mut self) {
        let is_of_a_list = |message: &Message| {
            matches!(message, Message::ListWarnings(_) | Message::ReportedListProblems(_))
        };
        self.messages.retain(|message| !is_of_a_list(message));
    }

    /// A note: useful to know, but nothing has failed.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.messages.push(Message::Note(text.into()));
    }

    /// A warning: something is not in order.
    pub(crate) fn warning(&mut self, text: impl Into<String>) {
        self.messages.push(Message::Warning(text.into()));
    }

    /// A failure that does not end the command.
    pub(crate) fn error(&mut self, error: Error) {
        self.messages.push(Message::Error(error));
    }

    /// Handles an event during the change of a guard; `interface` is the name of its interface.
    pub(crate) fn take(&mut self, interface: &str, event: Event) {
        match event {
            Event::Filled { entries, of } => {
                let progress = self.progress.get_or_insert_with(|| self.console.progress());
                progress.show(interface, entries, of);
            }
            Event::FellBack { hook, why } => {
                self.note(why.to_string());
                self.note(match hook {
                    Hook::Xdp(_) => format!("{interface}: {hook} instead; it costs more per packet"),
                    Hook::Tcx => format!(
                        "{interface}: {hook} instead, behind XDP; it costs more per packet, and sees what XDP lets pass"
                    ),
                });
            }
            Event::WithoutIndex(error) => self.note(format!("{interface}: {error}")),
            Event::Ended(ended) => self.keep_in_history(Some(interface), &ended),
            Event::Unreadable(error) => {
                self.warning(format!("{interface}: the last figures of the counters are lost: {error}"));
            }
        }
    }

    /// Handles an event during the removal of leftovers of guards whose interfaces are gone.
    pub(crate) fn take_of_leftovers(&mut self, event: Event) {
        match event {
            Event::Ended(ended) => self.keep_in_history(None, &ended),
            Event::Unreadable(error) => {
                self.warning(format!("the last figures of a guard that is gone are lost: {error}"));
            }
            // No list is filled, and nothing is attached.
            Event::Filled { .. } | Event::WithoutIndex(_) | Event::FellBack { .. } => {}
        }
    }

    /// Writes counters at their end to the history. An error is only a warning, and does not prevent the change.
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

    /// Appends the messages of another collection.
    pub(crate) fn append(&mut self, mut others: Self) {
        self.messages.append(&mut others.messages);
    }

    /// The texts of the failures.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failures = self.messages.iter().filter_map(|message| match message {
            Message::Error(error) => Some(error.to_string()),
            _ => None,
        });
        failures.collect()
    }

    /// Whether there are no messages.
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

    /// Writes data to `out`, and shows the other messages, in their order. The caller does not hold the lock.
    ///
    /// # Errors
    /// `out` cannot be written to; the other messages are shown anyway.
    pub(crate) fn print(self, out: &mut dyn Write) -> io::Result<()> {
        let Self { messages, console, progress } = self;
        drop(progress);
        let mut written = Ok(());
        for message in messages {
            match message {
                Message::Data(text) => {
                    // Flushed at once: an error about the next interface must follow the data about this one.
                    written = written.and(out.write_all(lines(&text).as_bytes()).and_then(|()| out.flush()));
                }
                message => console.show(&message),
            }
        }
        written
    }

    /// Shows all messages and data on the console: for the service, which has no data output.
    pub(crate) fn log(self) {
        let Self { messages, console, progress } = self;
        drop(progress);
        messages.iter().for_each(|message| console.show(message));
    }

    /// The messages as the outcome for a command that has handed its request to the service.
    pub(crate) fn outcome(&self) -> Outcome {
        let mut outcome =
            Outcome { code: self.first_failure().map_or(0, Kind::exit_code), ..Outcome::default() };
        for message in &self.messages {
            let (severity, text, list_problems) = match message {
                Message::Data(text) => {
                    outcome.stdout += text;
                    continue;
                }
                Message::ListWarnings(warnings) => {
                    (Severity::Warning, String::new(), Some(warnings.render(Style::Plain)))
                }
                Message::ReportedListProblems(text) => (Severity::Warning, String::new(), Some(text.clone())),
                Message::Note(text) => (Severity::Note, text.clone(), None),
                Message::Warning(text) => (Severity::Warning, text.clone(), None),
                Message::ReportedError(text) => (Severity::Error, text.clone(), None),
                Message::Error(error) => {
                    outcome.messages.push(error.into());
                    continue;
                }
            };
            outcome.messages.push(control::Message { severity, text, list_problems });
        }
        outcome
    }

    /// Appends the messages of a service's reply. Returns the exit code in the reply.
    pub(crate) fn take_outcome(&mut self, outcome: Outcome) -> u8 {
        let Outcome { stdout, messages, code } = outcome;
        for control::Message { severity, text, list_problems } in messages {
            self.messages.extend(list_problems.map(Message::ReportedListProblems));
            match severity {
                _ if text.is_empty() => {}
                Severity::Note => self.note(text),
                Severity::Warning => self.warning(text),
                Severity::Error => self.messages.push(Message::ReportedError(text)),
            }
        }
        if !stdout.is_empty() {
            self.data(stdout);
        }
        code
    }
}
