//! The runtime directory, and what is left in it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use portguard::control::{RuntimeDirectory, client};

use super::harness::{Running, all, description, only, patient, temporary};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("a file").permissions().mode() & 0o7777
}

fn names(directory: &RuntimeDirectory) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

#[test]
fn the_directory_and_the_socket_are_made_for_this_user_alone_and_the_socket_is_removed() {
    let (folder, _) = temporary();
    let directory = RuntimeDirectory::new(folder.path().join("portguard"));
    assert!(all(&directory).is_empty(), "a directory that does not exist has no services");
    assert!(!directory.path().exists(), "clients do not make it");
    let service = Running::start(&directory, description(11, &[]), |_| {});
    assert_eq!(mode(directory.path()), 0o700);
    assert_eq!(mode(&service.socket), 0o600);
    assert_eq!(names(&directory), ["11.sock"]);
    service.stop();
    assert!(names(&directory).is_empty());
}

#[test]
fn a_directory_that_others_can_write_to_is_refused_by_both_sides() {
    let (_folder, directory) = temporary();
    let refused = |directory: &RuntimeDirectory| {
        let service = Running::try_start(directory, description(11, &[]), |_| {});
        let service = service.err().expect("the service refuses").to_string();
        let client = client::services_in(std::slice::from_ref(directory), patient());
        let client = client.expect_err("the client refuses").to_string();
        assert!(client.contains("cannot be trusted"), "{client}");
        assert_eq!(service, client);
        client
    };
    for others in [0o770, 0o720, 0o702, 0o1777] {
        fs::set_permissions(directory.path(), Permissions::from_mode(others)).expect("permissions");
        let error = refused(&directory);
        assert!(error.contains(&format!("mode {others:04o}")), "{error}");
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("permissions");
    drop(Running::start(&directory, description(11, &[]), |_| {}));

    std::os::unix::fs::chown(directory.path(), Some(54_321), None).expect("ownership");
    assert!(refused(&directory).contains("user 54321"));

    let (folder, target) = temporary();
    let link = folder.path().join("link");
    symlink(target.path(), &link).expect("a link");
    assert!(refused(&RuntimeDirectory::new(link)).contains("not a directory"));
}

/// The very file of a service that has ended without removing it, as a killed one does.
#[test]
fn the_socket_of_a_killed_service_is_removed_by_the_next_service_and_not_by_a_client() {
    let (_folder, directory) = temporary();
    let left = directory.path().join("left");
    let service = Running::start(&directory, description(11, &[]), |_| {});
    let socket = service.socket.clone();
    fs::hard_link(&socket, &left).expect("a second name");
    service.stop();
    fs::rename(&left, &socket).expect("the first name");

    assert!(all(&directory).is_empty(), "nobody answers");
    assert_eq!(names(&directory), ["11.sock"], "a client removes nothing");
    File::create(directory.path().join("notes.txt")).expect("a file");
    let next = Running::start(&directory, description(12, &[]), |_| {});
    assert_eq!(names(&directory), ["12.sock", "notes.txt"]);
    // The number of a process is used again.
    let _again = Running::start(&directory, description(11, &[]), |_| {});
    assert_eq!(all(&directory).len(), 2);
    drop(next);
    assert_eq!(only(&directory).description().pid, 11);
}

#[test]
fn a_service_with_the_number_of_a_killed_one_takes_its_socket() {
    let (_folder, directory) = temporary();
    drop(UnixListener::bind(directory.path().join("11.sock")).expect("a socket"));
    drop(UnixListener::bind(directory.path().join("11.sock.unready")).expect("a socket"));
    let _service = Running::start(&directory, description(11, &[]), |_| {});
    assert_eq!(only(&directory).description().pid, 11);
    assert_eq!(names(&directory), ["11.sock"]);
}

/// As in two PID namespaces with one runtime directory.
#[test]
fn the_socket_of_a_service_that_runs_is_neither_taken_nor_removed() {
    let (_folder, directory) = temporary();
    let service = Running::start(&directory, description(11, &[("eth0", None)]), |_| {});
    let error =
        Running::try_start(&directory, description(11, &[]), |_| {}).err().expect("refused").to_string();
    assert!(error.contains("another service has this socket"), "{error}");
    assert_eq!(only(&directory).description().interfaces.len(), 1);

    // Nor is the one that has come in its place.
    fs::remove_file(&service.socket).expect("a socket");
    let _other = Running::start(&directory, description(11, &[]), |_| {});
    service.stop();
    assert_eq!(only(&directory).description().interfaces.len(), 0);
}

/// A socket is bound before it listens. Another service that starts then must not take it for a stale one.
#[test]
fn the_socket_of_a_service_that_is_starting_is_not_removed() {
    let (_folder, directory) = temporary();
    let starting = directory.path().join("11.sock.unready");
    let left = directory.path().join("12.sock.unready");
    for path in [&starting, &left] {
        drop(UnixListener::bind(path).expect("a socket"));
    }
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let stamp = nix::sys::time::TimeSpec::from_duration(
        long_ago.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970"),
    );
    let flags = nix::sys::stat::UtimensatFlags::FollowSymlink;
    nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, &left, &stamp, &stamp, flags).expect("a time");
    assert!(all(&directory).is_empty());
    let _service = Running::start(&directory, description(13, &[]), |_| {});
    assert_eq!(names(&directory), ["11.sock.unready", "13.sock"]);
}

#[test]
fn a_directory_whose_name_is_too_long_for_a_socket_is_an_error() {
    let (folder, _) = temporary();
    let directory = RuntimeDirectory::new(folder.path().join("x".repeat(120)));
    let error =
        Running::try_start(&directory, description(11, &[]), |_| {}).err().expect("refused").to_string();
    assert!(error.contains("cannot listen at "), "{error}");
}
