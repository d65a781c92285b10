//! Services in threads of their own, and the clients that the tests play.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use portguard::control::client::{self, Service};
use portguard::control::server::{self, Incoming, Server};
use portguard::control::{Description, Kept, Message, OrderDescription, Outcome, RuntimeDirectory, Severity};
use portguard::error::Result;
use portguard_testkit::net::wait_until;
use tempfile::TempDir;
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// The time after which a test gives up waiting for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const BUSY: &str = "{\"busy\":true}\n";
pub(crate) const NAMESPACE: u64 = 4_026_531_840;

/// Shorter than in earnest.
pub(crate) const SERVER: server::Timing = server::Timing {
    read: Duration::from_millis(500),
    write: Duration::from_millis(500),
    busy: Duration::from_millis(50),
};
/// A client that waits as long as in earnest: what it gets earlier does not depend on the load of this machine.
pub(crate) fn patient() -> client::Timing {
    client::Timing::default()
}

pub(crate) fn temporary() -> (TempDir, RuntimeDirectory) {
    let folder = TempDir::new().expect("a temporary folder");
    let directory = RuntimeDirectory::new(folder.path());
    (folder, directory)
}

pub(crate) fn description(pid: u32, interfaces: &[(&str, Option<u32>)]) -> Description {
    let interfaces = interfaces.iter().map(|(name, ifindex)| Kept {
        name: (*name).to_owned(),
        ifindex: *ifindex,
        state: "guarded".to_owned(),
        open: false,
        why: None,
    });
    Description {
        pid,
        unit: Some("portguard@eth0.service".to_owned()),
        namespace: NAMESPACE,
        version: "0.1.0".to_owned(),
        order: OrderDescription {
            allowlist: PathBuf::from("/etc/portguard/allowlist.yaml"),
            hook: Some("xdp".to_owned()),
            mode: Some("auto".to_owned()),
            audit: true,
            sources: Some(16_384),
            log_rate: None,
        },
        interfaces: interfaces.collect(),
    }
}

pub(crate) fn outcome(code: u8) -> Outcome {
    Outcome {
        stdout: "eth0: +1 -0, 14 unchanged, generation 5 -> 6\n".to_owned(),
        messages: vec![Message {
            severity: Severity::Warning,
            text: "the list is odd".to_owned(),
            list_problems: Some("allowlist.yaml:3:5: odd\n".to_owned()),
        }],
        code,
    }
}

/// A service. It ends with this, unless it is stopped before.
pub(crate) struct Running {
    pub(crate) socket: PathBuf,
    commands: Option<UnboundedSender<(Command, mpsc::Sender<()>)>>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Describe(Description),
    TakeRequests(bool),
}

impl Running {
    /// Does with each request what `work` does; that runs within the service's runtime, and must not block.
    pub(crate) fn start(
        directory: &RuntimeDirectory,
        description: Description,
        work: impl FnMut(Incoming) + Send + 'static,
    ) -> Self {
        Self::try_start(directory, description, work).expect("a service")
    }

    pub(crate) fn try_start(
        directory: &RuntimeDirectory,
        description: Description,
        mut work: impl FnMut(Incoming) + Send + 'static,
    ) -> Result<Self> {
        let socket = directory.path().join(format!("{}.sock", description.pid));
        let directory = directory.clone();
        let (commands, mut queue) = unbounded_channel::<(Command, mpsc::Sender<()>)>();
        let (started, is_started) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut server = match Server::listen_in(&directory, description, SERVER) {
                    Ok(server) => server,
                    Err(error) => return started.send(Err(error)).expect("the test waits"),
                };
                started.send(Ok(())).expect("the test waits");
                let mut takes_requests = true;
                loop {
                    tokio::select! {
                        incoming = server.next(), if takes_requests => work(incoming),
                        command = queue.recv() => {
                            let Some((command, done)) = command else { break };
                            match command {
                                Command::Describe(description) => server.describe(description),
                                Command::TakeRequests(takes) => takes_requests = takes,
                            }
                            done.send(()).expect("the test waits");
                        }
                    }
                }
            });
        });
        is_started.recv_timeout(PATIENCE).expect("the service starts or fails")?;
        Ok(Self { socket, commands: Some(commands), thread: Some(thread) })
    }

    pub(crate) fn describe(&self, description: Description) {
        self.command(Command::Describe(description));
    }

    /// Whether requests are taken, or wait.
    pub(crate) fn take_requests(&self, take: bool) {
        self.command(Command::TakeRequests(take));
    }

    fn command(&self, command: Command) {
        let (done, is_done) = mpsc::channel();
        let commands = self.commands.as_ref().expect("it runs");
        assert!(commands.send((command, done)).is_ok(), "the service has ended");
        is_done.recv_timeout(PATIENCE).expect("the service does what it is told");
    }

    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the service panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The service behind a socket that must answer.
pub(crate) fn only(directory: &RuntimeDirectory) -> Service {
    let mut services = all(directory);
    assert_eq!(services.len(), 1, "{services:?}");
    services.remove(0)
}

pub(crate) fn all(directory: &RuntimeDirectory) -> Vec<Service> {
    let services = client::services_in(std::slice::from_ref(directory), patient()).expect("a directory");
    services.into_iter().map(|service| service.expect("an answer")).collect()
}

/// A client that can send anything.
pub(crate) struct RawClient(BufReader<UnixStream>);

impl RawClient {
    pub(crate) fn connect(service: &Running) -> Self {
        let stream = UnixStream::connect(&service.socket).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        Self(BufReader::new(stream))
    }

    /// Sends what the service takes of it: it may close the connection before.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// Waits until a reply begins.
    pub(crate) fn wait_for_reply(&mut self) {
        assert!(!self.0.fill_buf().expect("a reply").is_empty());
    }

    /// The next line, or what there is of it; empty if there is none any more.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(_) => line,
            // Closed before the service had read all; what came before is in the line.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => line,
            Err(error) => panic!("nothing within {PATIENCE:?}: {error}"),
        }
    }

    /// The next line that is not a busy line; empty if there is none any more.
    pub(crate) fn receive(&mut self) -> String {
        loop {
            let line = self.line();
            if line != BUSY {
                return line;
            }
        }
    }

    /// Leaves, and waits until the service has noticed.
    pub(crate) fn leave(mut self) {
        self.0.get_ref().shutdown(Shutdown::Read).expect("a connection");
        self.wait_until_closed();
    }

    /// Waits until the service closes the connection.
    pub(crate) fn wait_until_closed(&mut self) {
        let stream = self.0.get_mut();
        eventually("the service closes the connection", || {
            stream.write_all(b" ").is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
        });
    }
}

pub(crate) fn eventually(what: &str, mut happens: impl FnMut() -> bool) {
    wait_until(what, PATIENCE, || Ok(happens())).unwrap_or_else(|error| panic!("{error:#}"));
}
