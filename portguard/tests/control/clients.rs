//! Clients and services that misbehave.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use portguard::control::client::{self, Timing};
use portguard::control::server::MOST_CONNECTIONS;
use portguard::control::{LONGEST_LINE, Reload};

use super::harness::{NAMESPACE, RawClient, Running, SERVER, description, only, outcome, patient, temporary};

/// A user that is neither root nor this one.
const STRANGER: u32 = 54_321;

/// Does something as another user. The other threads remain what they are, as the kernel has credentials for each thread.
fn as_stranger<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    assert!(geteuid().is_root(), "only root can become another user");
    thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            // SAFETY: the call has no pointers. Not the function of the C library, which changes all threads.
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, STRANGER, STRANGER, STRANGER) };
            assert_eq!(changed, 0);
            work()
        });
        stranger.join().expect("no panic")
    })
}

fn let_everyone_in(service: &Running) {
    let directory = service.socket.parent().expect("a directory");
    fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("permissions");
    fs::set_permissions(&service.socket, Permissions::from_mode(0o666)).expect("permissions");
}

#[test]
fn other_users_get_nothing() {
    let (_folder, directory) = temporary();
    let service = Running::start(&directory, description(11, &[]), |_| panic!("a request got through"));
    // By the permissions of the file system,
    let refused = as_stranger(|| UnixStream::connect(&service.socket).map(drop)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    // and without them.
    let_everyone_in(&service);
    for request in ["describe", "reload", "confirm"] {
        let line = format!("{{\"protocol\":1,\"request\":\"{request}\"}}\n");
        let received = as_stranger(|| {
            let mut client = RawClient::connect(&service);
            client.send(line.as_bytes());
            client.receive()
        });
        assert_eq!(received, "", "{request}");
    }
    assert_eq!(only(&directory).description().pid, 11);
}

#[test]
fn a_socket_of_another_user_is_not_believed() {
    let (_folder, directory) = temporary();
    let socket = directory.path().join("11.sock");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("permissions");
    let listener = as_stranger(|| UnixListener::bind(&socket).expect("a socket"));
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("permissions");
    let services = client::services_in(std::slice::from_ref(&directory), patient()).expect("a directory");
    let error = services.into_iter().next().expect("an error").expect_err("not believed").to_string();
    assert!(
        error.contains("11.sock cannot be trusted") && error.contains(&format!("user {STRANGER}")),
        "{error}"
    );
    drop(listener);
}

#[test]
fn requests_that_cannot_be_read_are_refused() {
    let (_folder, directory) = temporary();
    let service = Running::start(&directory, description(11, &[]), |_| panic!("a request got through"));
    let ask = |bytes: &[u8]| {
        let mut client = RawClient::connect(&service);
        client.send(bytes);
        client.receive()
    };
    let long_name =
        format!("{{\"protocol\":1,\"request\":\"reload\",\"interfaces\":[\"{}\"]}}\n", "x".repeat(2 << 20));
    let longest = " ".repeat(LONGEST_LINE - 1) + "\n";
    for (request, why) in [
        (&b"\n"[..], "cannot be read"),
        (b"GET / HTTP/1.1\r\n\r\n", "cannot be read"),
        (b"\xff\xfe\0\n", "cannot be read"),
        (b"[1]\n", "cannot be read"),
        (b"{\"request\":\"describe\"}\n", "missing field `protocol`"),
        (b"{\"protocol\":1}\n", "missing field `request`"),
        (b"{\"protocol\":1,\"request\":\"detach\"}\n", "unknown variant `detach`"),
        (b"{\"protocol\":1,\"request\":\"reload\",\"interfaces\":\"eth0\"}\n", "invalid type"),
        (longest.as_bytes(), "cannot be read"),
        (long_name.as_bytes(), "longer than 1048576 bytes"),
        ("[".repeat(1 << 19).as_bytes(), "took too long"),
        (("[".repeat(1 << 19) + "\n").as_bytes(), "cannot be read"),
        (b"{\"protocol\":1,", "took too long"),
    ] {
        let reply = ask(request);
        assert!(reply.contains("\"refused\"") && reply.contains(why), "{why}: {reply}");
    }
    assert_eq!(only(&directory).description().pid, 11);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_line_costs_nothing() {
    let (_folder, directory) = temporary();
    let service = Running::start(&directory, description(11, &[]), |_| panic!("a request got through"));
    for _ in 0..100 {
        RawClient::connect(&service).send(b"{\"protocol\":1,\"requ");
    }
    assert_eq!(only(&directory).description().pid, 11);
}

#[test]
fn a_silent_client_is_closed_and_delays_nobody() {
    let (_folder, directory) = temporary();
    let service = Running::start(&directory, description(11, &[]), |_| panic!("a request got through"));
    let start = Instant::now();
    let mut silent = RawClient::connect(&service);
    assert_eq!(only(&directory).description().pid, 11);
    assert!(silent.receive().contains("took too long"));
    assert!(start.elapsed() >= SERVER.read, "a client that is alone has its time");
}

/// The clients keep their connections open, and send nothing, or half a request.
#[test]
fn a_hundred_silent_clients_do_not_keep_a_good_one_out() {
    let (_folder, directory) = temporary();
    let service =
        Running::start(&directory, description(11, &[]), |incoming| incoming.reply.send(outcome(0)));
    let mut silent = Vec::new();
    for number in 0..100 {
        let mut client = RawClient::connect(&service);
        if number % 2 == 0 {
            client.send(b"{\"protocol\":1,");
        }
        silent.push(client);
    }
    // With the time-outs of earnest.
    let found = only(&directory);
    assert_eq!(found.reload(Reload::default()).expect("an outcome"), outcome(0));
    assert!(silent.len() > 10 * MOST_CONNECTIONS);
}

#[test]
fn a_hundred_good_clients_at_once_are_all_answered() {
    let (_folder, directory) = temporary();
    let _service = Running::start(&directory, description(11, &[]), |_| panic!("a request got through"));
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let directory = directory.clone();
            thread::spawn(move || only(&directory).description().pid)
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().expect("an answer"), 11);
    }
}

/// The reply does not fit into the buffer of the socket.
#[test]
fn a_client_that_does_not_read_is_closed() {
    let (_folder, directory) = temporary();
    let service = Running::start(&directory, description(11, &[]), |_| {});
    let interfaces: Vec<String> = (0..10_000).map(|number| format!("interface{number}")).collect();
    let interfaces: Vec<_> = interfaces.iter().map(|name| (name.as_str(), Some(1))).collect();
    service.describe(description(11, &interfaces));
    let mut clients = Vec::new();
    for _ in 0..MOST_CONNECTIONS {
        let mut client = RawClient::connect(&service);
        client.send(b"{\"protocol\":1,\"request\":\"describe\"}\n");
        client.wait_for_reply();
        clients.push(client);
    }
    service.describe(description(12, &[]));
    assert_eq!(only(&directory).description().pid, 12);
    for client in &mut clients {
        client.wait_until_closed();
        let line = client.receive();
        assert!(!line.is_empty() && !line.ends_with('\n'), "all of {} bytes were sent", line.len());
    }
}

/// A process that was stopped, hangs, or speaks something else: it is named, and costs no more than the time-out.
#[test]
fn a_service_that_does_not_answer_is_reported_and_does_not_hide_another() {
    let (_folder, directory) = temporary();
    let limit = Duration::from_secs(1);
    let timing = Timing { describe: limit, ..patient() };
    let silent = UnixListener::bind(directory.path().join("11.sock")).expect("a socket");
    let full = UnixListener::bind(directory.path().join("12.sock")).expect("a socket");
    // SAFETY: a descriptor that is open.
    assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&full), 0) }, 0);
    let _queued = UnixStream::connect(directory.path().join("12.sock")).expect("the queue has one place");
    let _service = Running::start(&directory, description(13, &[("eth0", Some(2))]), |_| {});

    let start = Instant::now();
    let found = || client::services_in(std::slice::from_ref(&directory), timing).expect("a directory");
    let errors: Vec<String> =
        found().into_iter().filter_map(|service| service.err().map(|error| error.to_string())).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    for (error, name) in errors.iter().zip(["11.sock", "12.sock"]) {
        assert!(error.contains(&format!("{name} does not reply: no reply within 1.0 s")), "{error}");
    }
    assert!(start.elapsed() < 2 * limit + Duration::from_secs(3), "{:?}", start.elapsed());

    let owner = client::owner_among(found(), NAMESPACE, Some(2), &["eth0"]).expect("one answers");
    assert_eq!(owner.expect("a owner").description().pid, 13);
    let error = client::owner_among(found(), NAMESPACE, Some(3), &["eth1"]).expect_err("may be kept");
    assert!(error.to_string().contains("11.sock does not reply"), "{error}");
    drop(silent);
}

#[test]
fn replies_that_cannot_be_read_are_errors() {
    for (reply, why) in [
        (&b"garbage\n"[..], "the line cannot be read"),
        (b"{\"protocol\":7,\"reply\":\"description\"}\n", "the other side protocol 7"),
        (
            b"{\"protocol\":1,\"reply\":\"outcome\",\"stdout\":\"\",\"messages\":[],\"code\":0}\n",
            "another request",
        ),
        (b"{\"protocol\":1,\"reply\":\"desc", "ended before it replied"),
        (&b"x".repeat(2 << 20)[..], "the reply is too long"),
    ] {
        let (_folder, directory) = temporary();
        let listener = UnixListener::bind(directory.path().join("11.sock")).expect("a socket");
        let reply = reply.to_vec();
        let (done, is_done) = mpsc::channel();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            // It has left when it has seen enough.
            let _ = std::io::Write::write_all(&mut stream, &reply);
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            done.send(()).expect("the test waits");
        });
        let found = client::services_in(std::slice::from_ref(&directory), patient()).expect("a directory");
        let error = found.into_iter().next().expect("an error").expect_err("unreadable").to_string();
        assert!(error.contains(why), "{why}: {error}");
        is_done.recv().expect("a server");
        server.join().expect("no panic");
    }
}
