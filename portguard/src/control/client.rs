//! The client for commands: it finds the services, and sends requests to them. It blocks, and each wait has a limit.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{process, thread};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use serde::Deserialize;

use super::{
    Confirm, Description, LONGEST_LINE, Outcome, Reload, Reply, Request, RuntimeDirectory, decode, encode,
    is_trusted, network_namespace,
};
use crate::error::{Error, Result};

/// The limits of a client's waits.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The time to connect and to get a description.
    pub describe: Duration,
    /// The longest time between two lines of a service that is busy. It is longer than the service's own interval,
    /// because the host may be busy as well.
    pub silence: Duration,
    /// The time for a reload or a confirmation.
    pub whole: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            describe: Duration::from_secs(2),
            silence: Duration::from_secs(5),
            whole: Duration::from_secs(600),
        }
    }
}

/// A service that has described itself.
#[derive(Debug, Clone)]
pub struct Service {
    socket: PathBuf,
    timing: Timing,
    description: Description,
}

impl Service {
    /// The description of the service when it was found.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Requests that the service puts the content of its allowlist in force, and waits for the result.
    ///
    /// # Errors
    /// The service refuses, ends, or does not reply. Errors of the reload itself are in the outcome.
    pub fn reload(&self, reload: Reload) -> Result<Outcome> {
        self.outcome(&Request::Reload(reload))
    }

    /// Requests that the service confirms its changes on trial.
    ///
    /// # Errors
    /// Like [`Service::reload`].
    pub fn confirm(&self, confirm: Confirm) -> Result<Outcome> {
        self.outcome(&Request::Confirm(confirm))
    }

    fn outcome(&self, request: &Request) -> Result<Outcome> {
        let Some(mut connection) = Connection::open(&self.socket, self.timing.describe)? else {
            return Err(ended(&self.socket));
        };
        let end = Instant::now() + self.timing.whole;
        match connection.ask(request, self.timing.silence, end)? {
            Reply::Outcome(outcome) => Ok(outcome),
            Reply::Refused { text } => Err(refused(&self.socket, &text)),
            Reply::Description(_) => Err(unreadable(&self.socket, "the reply belongs to another request")),
        }
    }
}

/// The services on this host in all network namespaces, without this process. A socket whose process does not reply, or
/// is not trusted, is an error in the list.
///
/// # Errors
/// A runtime directory cannot be read, or other users can write to it.
pub fn services() -> Result<Vec<Result<Service>>> {
    services_in(&places(), Timing::default())
}

/// The directories that may have sockets. A shell may have inherited the variable of another unit, so the default
/// directory is always among them.
fn places() -> Vec<RuntimeDirectory> {
    let mut places = vec![RuntimeDirectory::from_environment(), RuntimeDirectory::default()];
    places.dedup();
    places
}

/// The services that have their sockets in these directories.
///
/// # Errors
/// Like [`services`].
pub fn services_in(directories: &[RuntimeDirectory], timing: Timing) -> Result<Vec<Result<Service>>> {
    let mut sockets = Vec::new();
    for directory in directories {
        let own = directory.socket_of(process::id());
        sockets.extend(directory.sockets()?.into_iter().filter(|path| *path != own));
    }
    // All at the same time, so that several services that do not reply cost no more time than one.
    let found = thread::scope(|scope| {
        let searches: Vec<_> =
            sockets.into_iter().map(|socket| scope.spawn(move || find(socket, timing))).collect();
        let found =
            searches.into_iter().map(|search| search.join().unwrap_or_else(|panic| resume_unwind(panic)));
        found.collect::<Vec<_>>()
    });
    Ok(found.into_iter().filter_map(Result::transpose).collect())
}

/// The service that keeps an interface of this network namespace. A name counts also if the service waits for the
/// interface.
///
/// # Errors
/// Like [`services`]; or no service that replies keeps the interface, and one service does not reply.
pub fn owner_of(ifindex: Option<u32>, names: &[&str]) -> Result<Option<Service>> {
    let namespace = network_namespace()?;
    owner_among(services()?, namespace, ifindex, names)
}

/// The service that keeps an interface of a network namespace, among these.
///
/// # Errors
/// No service that replies keeps the interface, and one service does not reply.
pub fn owner_among(
    services: Vec<Result<Service>>,
    namespace: u64,
    ifindex: Option<u32>,
    names: &[&str],
) -> Result<Option<Service>> {
    let mut unknown = None;
    for service in services {
        match service {
            Ok(Service { ref description, .. })
                if description.namespace == namespace && description.keeps(ifindex, names) =>
            {
                return service.map(Some);
            }
            Ok(_) => {}
            Err(error) => {
                unknown.get_or_insert(error);
            }
        }
    }
    unknown.map_or(Ok(None), Err)
}

/// The service behind a socket; `None` if no process listens there.
fn find(socket: PathBuf, timing: Timing) -> Result<Option<Service>> {
    let end = Instant::now() + timing.describe;
    let Some(mut connection) = Connection::open(&socket, timing.describe)? else { return Ok(None) };
    match connection.ask(&Request::Describe, timing.describe, end)? {
        Reply::Description(description) => Ok(Some(Service { socket, timing, description })),
        Reply::Refused { text } => Err(refused(&socket, &text)),
        Reply::Outcome(_) => Err(unreadable(&socket, "the reply belongs to another request")),
    }
}

struct Connection<'a> {
    socket: &'a Path,
    stream: UnixStream,
    /// The bytes that have been read, after the last line that was returned.
    read: Vec<u8>,
}

impl<'a> Connection<'a> {
    /// Connects to a trusted process, within `limit`; `None` if no process listens.
    fn open(socket: &'a Path, limit: Duration) -> Result<Option<Self>> {
        let stream = match connected(socket, limit) {
            Ok(stream) => stream,
            // A service that was killed leaves its socket; one that ends removes it.
            Err(Errno::ECONNREFUSED | Errno::ENOENT) => return Ok(None),
            // The queue of the socket is full.
            Err(Errno::EAGAIN) => return Err(silent(socket, limit)),
            Err(errno) => return Err(failed(socket).caused_by(io::Error::from(errno))),
        };
        let peer = getsockopt(&stream, sockopt::PeerCredentials)
            .map_err(|errno| failed(socket).caused_by(io::Error::from(errno)))?;
        if !is_trusted(peer.uid()) {
            return Err(Error::failed(format!("the service behind {} cannot be trusted", socket.display()))
                .because(format!("process {} belongs to user {}", peer.pid(), peer.uid()))
                .remedy("Find out what that process is, and remove the socket."));
        }
        Ok(Some(Self { socket, stream, read: Vec::new() }))
    }

    /// Sends a request and waits for the reply: at most `silence` for each line, and not longer than until `end`.
    fn ask(&mut self, request: &Request, silence: Duration, end: Instant) -> Result<Reply> {
        let line = encode(request).map_err(|error| unreadable(self.socket, &error.to_string()))?;
        if line.len() > LONGEST_LINE {
            return Err(unreadable(self.socket, "the request is too long"));
        }
        let written =
            self.stream.set_write_timeout(Some(silence)).and_then(|()| self.stream.write_all(&line));
        match written {
            // The service may have sent a reply with the reason why it does not read.
            Err(error) if !is_end(&error) => return Err(self.broken(error, silence)),
            _ => {}
        }
        let start = Instant::now();
        let mut limit = end.min(start + silence);
        loop {
            let waited = limit.saturating_duration_since(start);
            let line = self.line(limit).map_err(|error| self.broken(error, waited))?;
            let Some(line) = line else { return Err(ended(self.socket)) };
            if !is_busy(&line) {
                return decode(&line).map_err(|text| unreadable(self.socket, &text));
            }
            limit = end.min(Instant::now() + silence);
        }
    }

    /// The next line without its end; `None` if the service has closed the connection.
    fn line(&mut self, limit: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut seen = 0;
        loop {
            let unseen = self.read.iter().skip(seen);
            if let Some(end) = unseen.clone().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(seen + end + 1);
                let mut line = std::mem::replace(&mut self.read, rest);
                line.pop();
                return Ok(Some(line));
            }
            seen = self.read.len();
            if seen >= LONGEST_LINE {
                return Err(io::Error::new(ErrorKind::InvalidData, "the reply is too long"));
            }
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => self.read.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_end(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn broken(&self, error: io::Error, waited: Duration) -> Error {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => silent(self.socket, waited),
            _ => failed(self.socket).caused_by(error),
        }
    }
}

/// Connects to a socket. If its queue is full, the kernel waits for the time limit of a write.
fn connected(path: &Path, limit: Duration) -> nix::Result<UnixStream> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let limit = TimeVal::new(limit.as_secs().try_into().unwrap_or(i64::MAX), limit.subsec_micros().into());
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}

/// Whether the other side has closed the connection.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Whether a line says that the service works on the request.
fn is_busy(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Busy {
        busy: bool,
    }
    serde_json::from_slice::<Busy>(line).is_ok_and(|line| line.busy)
}

fn silent(socket: &Path, waited: Duration) -> Error {
    Error::failed(format!("the service behind {} does not reply", socket.display()))
        .because(format!("no reply within {:.1} s", waited.as_secs_f64()))
        .remedy("The number in the name is the process ID of the service. Check what that process does, or restart \
            the service; the guards remain.")
}

fn ended(socket: &Path) -> Error {
    Error::failed(format!("the service behind {} ended before it replied", socket.display()))
        .because("it closed the connection")
        .remedy("See its log for the reason, and run the command again.")
}

fn refused(socket: &Path, text: &str) -> Error {
    Error::failed(format!("the service behind {} refuses the request", socket.display())).because(text)
}

fn unreadable(socket: &Path, why: &str) -> Error {
    Error::failed(format!("cannot talk to the service behind {}", socket.display()))
        .because(why)
        .remedy("It may run another version of portguard: restart it; the guards remain.")
}

fn failed(socket: &Path) -> Error {
    Error::failed(format!("cannot talk to the service behind {}", socket.display()))
}
