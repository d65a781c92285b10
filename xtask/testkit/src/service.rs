//! `portguard run` as systemd would start it: with a socket that it tells of itself.

use std::os::unix::net::UnixDatagram;
use std::process::ExitStatus;
use std::time::Duration;

use crate::net::{Process, wait_until};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::portguard::{PATIENCE, Portguard};

/// A running service.
#[derive(Debug)]
pub struct Service {
    process: Process,
    socket: UnixDatagram,
    told: Vec<String>,
    _folder: TempDir,
}

impl Service {
    /// Starts `portguard run` with these arguments; it may not be ready yet.
    pub fn spawn(portguard: Portguard<'_>, arguments: &[&str]) -> Self {
        Self::spawn_with(portguard, arguments, &[])
    }

    /// The same, with more in its environment.
    pub fn spawn_with(portguard: Portguard<'_>, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_nonblocking(true).expect("O_NONBLOCK");
        let mut command = portguard.command([&["run"], arguments].concat());
        command.env("NOTIFY_SOCKET", &path).envs(environment.iter().copied());
        let process = Process::spawn(&mut command).expect("starting");
        Self { process, socket, told: Vec::new(), _folder: folder }
    }

    /// Starts it, and waits until it says that it is ready.
    #[track_caller]
    pub fn start(portguard: Portguard<'_>, arguments: &[&str]) -> Self {
        let mut service = Self::spawn(portguard, arguments);
        service.until("READY=1");
        service
    }

    /// Everything that it has told systemd so far, a line each.
    pub fn told(&mut self) -> &[String] {
        let mut datagram = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut datagram) {
            let text = String::from_utf8(datagram[..length].to_vec()).expect("UTF-8");
            self.told.extend(text.lines().map(str::to_owned));
        }
        &self.told
    }

    /// Waits until it tells systemd a line that begins so, and forgets all that it told up to there. Returns the rest
    /// of the line.
    #[track_caller]
    pub fn until(&mut self, beginning: &str) -> String {
        let found = wait_until(beginning, PATIENCE, || {
            Ok(self.told().iter().any(|line| line.starts_with(beginning)))
        });
        if let Err(error) = found {
            panic!("{error:#}; it has told {:?}, and said:\n{}", self.told, self.process.output());
        }
        let at = self.told.iter().position(|line| line.starts_with(beginning)).expect("it was found");
        self.told.drain(..=at).next_back().expect("a line").split_off(beginning.len())
    }

    /// Waits until something holds.
    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        self.within(what, PATIENCE, condition);
    }

    /// Waits until something holds, but no longer than that.
    #[track_caller]
    pub fn within(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
        if let Err(error) = wait_until(what, limit, || Ok(condition())) {
            panic!("{error:#}; it has said:\n{}", self.process.output());
        }
    }

    /// Waits until it says something on its standard error.
    #[track_caller]
    pub fn until_said(&self, text: &str) {
        self.wait_until(text, || self.said().contains(text));
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        self.process.output()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("a process that is there");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let status = self.process.wait(PATIENCE).expect("waiting");
        status.unwrap_or_else(|| panic!("it goes on; it has said:\n{}", self.process.output()))
    }
}
