//! The service's side: accepts clients, reads their requests, and replies.
//!
//! There are at most [`MOST_CONNECTIONS`] at once. A client that connects sends its request at once, so while all
//! connections are taken, those that have sent none for 50 ms are closed.

use std::fs::{self, Permissions};
use std::future;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{
    BUSY, Confirm, Description, LONGEST_LINE, Message, Outcome, Reload, Reply, Request, RuntimeDirectory,
    Severity, decode, encode, is_trusted,
};
use crate::error::{Error, Result};

/// The connections at once; more wait in the kernel's queue.
pub const MOST_CONNECTIONS: usize = 8;
/// The requests that wait for the service at once, beside the one that it works on; more are refused. They are fewer than
/// the connections, so that there are always connections for [`Request::Describe`].
pub const MOST_WAITING: usize = 4;
/// The time that a client has for its request while all connections are taken.
const GRACE: Duration = Duration::from_millis(50);
/// The pause after a connection could not be accepted, for lack of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(200);
/// The end of the name of a socket that is bound but not ready.
const UNREADY: &str = ".unready";
/// The age from which an unready socket counts as stale.
const LONGEST_START: Duration = Duration::from_secs(60);

/// The limits of a client, and the interval of busy lines.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The time in which a whole request must arrive.
    pub read: Duration,
    /// The time in which a line must be sent.
    pub write: Duration,
    /// The time from one busy line to the next.
    pub busy: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { read: Duration::from_secs(2), write: Duration::from_secs(2), busy: Duration::from_secs(1) }
    }
}

/// The control socket. Without it, clients that wait for a reply learn that the service has ended.
#[derive(Debug)]
pub struct Server {
    tasks: mpsc::Receiver<Incoming>,
    description: Arc<Mutex<Description>>,
    accepting: JoinHandle<()>,
    _socket: SocketFile,
}

/// A request for the service.
#[derive(Debug)]
pub struct Incoming {
    /// The task in the request.
    pub task: Task,
    /// The sender for the result.
    pub reply: Replier,
}

/// A task for the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Put the content of the allowlist in force.
    Reload(Reload),
    /// Confirm the changes on trial.
    Confirm(Confirm),
}

/// Sends the result of a task to the client. If it is dropped, the client learns that there is no result.
#[derive(Debug)]
pub struct Replier(oneshot::Sender<Outcome>);

impl Replier {
    /// Sends the result; if the client has left, it is lost.
    pub fn send(self, outcome: Outcome) {
        let _ = self.0.send(outcome);
    }

    /// Whether the client still waits for the result.
    pub fn is_awaited(&self) -> bool {
        !self.0.is_closed()
    }
}

impl Server {
    /// Listens in the runtime directory of this process. The name of the socket is the process number in the
    /// description. The caller must be within a runtime.
    ///
    /// # Errors
    /// The directory is not safe or not writable, or another service has the socket.
    pub fn listen(description: Description) -> Result<Self> {
        Self::listen_in(&RuntimeDirectory::from_environment(), description, Timing::default())
    }

    /// Listens in this directory.
    ///
    /// # Errors
    /// Like [`Server::listen`].
    pub fn listen_in(directory: &RuntimeDirectory, description: Description, timing: Timing) -> Result<Self> {
        directory.make()?;
        remove_stale(directory)?;
        let (listener, socket) = bind(&directory.socket_of(description.pid))?;
        let description = Arc::new(Mutex::new(description));
        let (sender, tasks) = mpsc::channel(MOST_WAITING);
        let connection = Connection { description: Arc::clone(&description), tasks: sender, timing };
        Ok(Self {
            tasks,
            description,
            accepting: tokio::spawn(accept(listener, connection)),
            _socket: socket,
        })
    }

    /// The next request whose client waits. It is safe to drop the future: no request is lost.
    pub async fn next(&mut self) -> Incoming {
        loop {
            match self.tasks.recv().await {
                Some(incoming) if incoming.reply.is_awaited() => return incoming,
                Some(_) => {}
                None => future::pending().await,
            }
        }
    }

    /// Replaces the description that clients get.
    pub fn describe(&self, description: Description) {
        *self.description.lock().unwrap_or_else(PoisonError::into_inner) = description;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // This task owns the connections, which are closed with it.
        self.accepting.abort();
    }
}

/// The file of a socket, which is removed on drop.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode number.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The path may have the file of another service in the meantime.
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Binds the socket. A socket that is bound but does not listen yet looks like a stale one, so it gets its name when it
/// listens.
fn bind(path: &Path) -> Result<(UnixListener, SocketFile)> {
    let failed =
        |error: io::Error| Error::failed(format!("cannot listen at {}", path.display())).caused_by(error);
    if matches!(occupant(path), Occupant::Service) {
        return Err(Error::failed(format!("cannot listen at {}", path.display()))
            .because("another service has this socket")
            .remedy("Give each PID namespace a runtime directory of its own."));
    }
    let mut unready = path.as_os_str().to_owned();
    unready.push(UNREADY);
    let unready = PathBuf::from(unready);
    match fs::remove_file(&unready) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listen = || {
        let listener = StdListener::bind(&unready)?;
        let socket = SocketFile { path: path.to_owned(), identity: identity(&unready)? };
        fs::set_permissions(&unready, Permissions::from_mode(0o600))?;
        fs::rename(&unready, path)?;
        listener.set_nonblocking(true)?;
        Ok((UnixListener::from_std(listener)?, socket))
    };
    listen().map_err(failed)
}

/// Removes the sockets of services that were killed.
fn remove_stale(directory: &RuntimeDirectory) -> Result<()> {
    let old = |path: &Path| {
        let made = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
        made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age > LONGEST_START))
    };
    let unready = directory.files(UNREADY)?.into_iter().filter(|path| old(path));
    for path in directory.sockets()?.into_iter().chain(unready) {
        if matches!(occupant(&path), Occupant::None) {
            // After an error, the socket remains, and clients only try it without a result.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

enum Occupant {
    /// The file is a socket at which no process listens.
    None,
    /// A process listens, or may listen.
    Service,
    /// The file does not exist.
    NoFile,
}

/// Tests whether a process listens at a socket, without waiting.
fn occupant(path: &Path) -> Occupant {
    let connected = || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
    };
    match connected() {
        Err(Errno::ECONNREFUSED) => Occupant::None,
        Err(Errno::ENOENT) => Occupant::NoFile,
        _ => Occupant::Service,
    }
}

async fn accept(listener: UnixListener, connection: Connection) {
    let (crowded, is_crowded) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MOST_CONNECTIONS {
            crowded.send_replace(true);
            connections.join_next().await;
            crowded.send_replace(false);
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection.clone().serve(stream, is_crowded.clone()));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// The state that each connection needs.
#[derive(Debug, Clone)]
struct Connection {
    description: Arc<Mutex<Description>>,
    tasks: mpsc::Sender<Incoming>,
    timing: Timing,
}

impl Connection {
    async fn serve(self, stream: UnixStream, mut crowded: watch::Receiver<bool>) {
        if !stream.peer_cred().is_ok_and(|peer| is_trusted(peer.uid())) {
            return;
        }
        let crowded = async {
            sleep(GRACE).await;
            // If the sender is gone, this task is about to end as well.
            let _ = crowded.wait_for(|crowded| *crowded).await;
        };
        let line = tokio::select! {
            biased;
            line = timeout(self.timing.read, read_line(&stream)) => {
                line.unwrap_or_else(|_| Err("the request took too long".to_owned()))
            }
            () = crowded => Err("there are too many clients".to_owned()),
        };
        let reply = match line.and_then(|line| decode(&line)) {
            Ok(Request::Describe) => Some(Reply::Description(self.description())),
            Ok(Request::Reload(reload)) => self.hand_over(&stream, Task::Reload(reload)).await,
            Ok(Request::Confirm(confirm)) => self.hand_over(&stream, Task::Confirm(confirm)).await,
            Err(text) => Some(Reply::Refused { text }),
        };
        if let Some(reply) = reply {
            self.send(&stream, &line_of(&reply)).await;
        }
    }

    fn description(&self) -> Description {
        self.description.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives a task to the service, and waits for the result; returns `None` if the client leaves.
    async fn hand_over(&self, stream: &UnixStream, task: Task) -> Option<Reply> {
        let refused = |text: String| Some(Reply::Refused { text });
        let (reply, mut outcome) = oneshot::channel();
        match self.tasks.try_send(Incoming { task, reply: Replier(reply) }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return refused(format!("{MOST_WAITING} other requests wait already"));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return refused("the service is stopping".to_owned());
            }
        }
        let mut busy = interval(self.timing.busy);
        busy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                outcome = &mut outcome => {
                    return outcome.map_or_else(
                        |_| refused("the service ended before the result was available".to_owned()),
                        |outcome| Some(Reply::Outcome(outcome)),
                    );
                }
                _ = busy.tick() => {
                    if !self.send(stream, BUSY).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Sends a line; false if that fails or takes too long.
    async fn send(&self, stream: &UnixStream, line: &[u8]) -> bool {
        timeout(self.timing.write, write_all(stream, line)).await.is_ok_and(|written| written.is_ok())
    }
}

/// The line of a reply. If an outcome is too long, its line has the exit code, and a warning that the rest is missing.
fn line_of(reply: &Reply) -> Vec<u8> {
    let fits = |reply: &Reply| encode(reply).ok().filter(|line| line.len() <= LONGEST_LINE);
    if let Some(line) = fits(reply) {
        return line;
    }
    let text = "the report of the service is too long, and is left out".to_owned();
    let shorter = match reply {
        Reply::Outcome(Outcome { code, .. }) => {
            let message = Message { severity: Severity::Warning, text, list_problems: None };
            Reply::Outcome(Outcome { stdout: String::new(), messages: vec![message], code: *code })
        }
        Reply::Description(_) | Reply::Refused { .. } => Reply::Refused { text },
    };
    fits(&shorter).unwrap_or_default()
}

async fn read_line(stream: &UnixStream) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        stream.readable().await.map_err(|error| error.to_string())?;
        let count = match stream.try_read(&mut chunk) {
            Ok(0) => return Err("the request is not a whole line".to_owned()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.to_string()),
        };
        let read = chunk.get(..count).unwrap_or_default();
        let end = read.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(read.get(..end.unwrap_or(count)).unwrap_or_default());
        if line.len() >= LONGEST_LINE {
            return Err(format!("the request is longer than {LONGEST_LINE} bytes"));
        }
        if end.is_some() {
            return Ok(line);
        }
    }
}

async fn write_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
