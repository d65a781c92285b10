//! What there is to tell, in its order, until it can be shown.

use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::Arc;

use crate::allowlist::{Diagnostics, Style};
use crate::control::{self, Outcome, Severity};
use crate::error::{Error, Kind};
use crate::guard::{EndReason, Ended, Event};
use crate::history;

/// Where messages are shown. Who runs portguard decides: the library does not know standard error.
pub trait Console: Debug + Send + Sync {
    /// Shows a message.
    fn show(&self, message: &Message);

    /// Begins to show how far the filling of lists has come.
    fn progress(&self) -> Box<dyn Progress>;
}

/// Shows how far the filling of lists has come, until it is dropped.
pub trait Progress: Debug + Send {
    /// So many entries of a list of this interface are in the kernel.
    fn show(&mut self, interface: &str, entries: usize, of: usize);
}

impl dyn Console + '_ {
    /// Shows what the user should know although nothing failed.
    pub fn note(&self, text: impl Into<String>) {
        self.show(&Message::Note(text.into()));
    }

    /// Shows what the user must know: something is not as it should be.
    pub fn warning(&self, text: impl Into<String>) {
        self.show(&Message::Warning(text.into()));
    }

    /// Shows a failure.
    pub fn error(&self, error: Error) {
        self.show(&Message::Error(error));
    }
}

/// Something to tell.
#[derive(Debug)]
pub enum Message {
    /// Data, for standard output.
    Data(String),
    /// What is odd about a list.
    ListWarnings(Diagnostics),
    /// Problems of a list that a service has reported, rendered.
    ReportedListProblems(String),
    /// What the user should know although nothing failed.
    Note(String),
    /// What the user must know: something is not as it should be.
    Warning(String),
    /// A failure.
    Error(Error),
    /// A failure that a service has reported.
    ReportedError(String),
}

/// Collects what there is to tell.
#[derive(Debug)]
pub struct Messages {
    messages: Vec<Message>,
    console: Arc<dyn Console>,
    progress: Option<Box<dyn Progress>>,
}

impl Messages {
    /// Nothing yet; `console` is where it is shown in the end.
    pub fn new(console: Arc<dyn Console>) -> Self {
        Self { messages: Vec::new(), console, progress: None }
    }

    /// Where the messages are shown: for what cannot wait.
    pub(crate) fn console(&self) -> &dyn Console {
        &*self.console
    }

    /// Data, for standard output.
    pub(crate) fn data(&mut self, text: impl Into<String>) {
        self.messages.push(Message::Data(text.into()));
    }

    /// What is odd about a list.
    pub(crate) fn list_warnings(&mut self, warnings: Diagnostics) {
        if warnings.total() > 0 {
            self.messages.push(Message::ListWarnings(warnings));
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
            Event::Filled { entries, of } => {
                let progress = self.progress.get_or_insert_with(|| self.console.progress());
                progress.show(interface, entries, of);
            }
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

    /// Writes data to `out`, and shows all else, in its order. The caller does not hold the lock.
    ///
    /// # Errors
    /// `out` cannot be written to; the rest is shown all the same.
    pub(crate) fn print(self, out: &mut dyn Write) -> io::Result<()> {
        let Self { messages, console, progress } = self;
        drop(progress);
        let mut written = Ok(());
        for message in messages {
            match message {
                Message::Data(text) => {
                    // At once: an error about the next interface comes after what is told of this one.
                    written = written.and(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
                }
                message => console.show(&message),
            }
        }
        written
    }

    /// Shows everything, data as well: for the service, which prints no data.
    pub(crate) fn log(self) {
        let Self { messages, console, progress } = self;
        drop(progress);
        messages.iter().for_each(|message| console.show(message));
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

    /// Takes what the service has replied. Returns its exit code.
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
