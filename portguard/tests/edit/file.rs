//! The file of a list: it is replaced in one step, as the same file to everybody else, or it is left alone.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use portguard::allowlist::Allowlist;

use crate::{Host, command, set_mode, told};

const LIST: &str = "allow:\n  - 10.0.0.0/8\n";

/// The name of the file that takes the place of the list.
const UNFINISHED: &str = ".list.yaml.portguard";

#[test]
fn mode_owner_and_group_stay_and_it_is_another_file() {
    let host = Host::default();
    for (mode, owner, group) in [(0o600, 0, 0), (0o640, 0, 12), (0o444, 0, 0), (0o400, 0, 65_534)] {
        let path = host.list(LIST);
        chown(&path, Some(owner), Some(group)).expect("chown");
        set_mode(&path, mode);
        let before = fs::metadata(&path).expect("metadata");
        host.ok(&["allow", "192.0.2.7"]);
        let after = fs::metadata(&path).expect("metadata");
        assert_eq!((after.mode() & 0o7777, after.uid(), after.gid()), (mode, owner, group));
        assert_ne!(after.ino(), before.ino());
        host.assert_tidy();
    }
}

/// acl(5): a user beside the owner may read it.
#[test]
fn an_access_control_list_stays() {
    let host = Host::default();
    let path = host.list(LIST);
    let entry = |tag: u16, rights: u16, id: u32| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let entries = [(1, 6, none), (2, 4, 12), (4, 0, none), (0x10, 4, none), (0x20, 0, none)];
    let entries = entries.into_iter().flat_map(|(tag, rights, id)| entry(tag, rights, id));
    let acl: Vec<u8> = 2_u32.to_le_bytes().into_iter().chain(entries).collect();
    let name = c"system.posix_acl_access";
    let file = std::ffi::CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    // SAFETY: both strings end with a NUL, and the value is read for its length.
    let set = unsafe { libc::setxattr(file.as_ptr(), name.as_ptr(), acl.as_ptr().cast(), acl.len(), 0) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    host.ok(&["allow", "192.0.2.7"]);
    let mut value = [0_u8; 256];
    // SAFETY: both strings end with a NUL, and the kernel writes at most the length of the buffer.
    let length =
        unsafe { libc::getxattr(file.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    assert_eq!(&value[..usize::try_from(length).expect("an access control list")], &acl[..]);
    assert_eq!(fs::metadata(&path).expect("metadata").mode() & 0o777, 0o640);
}

#[test]
fn links_stay_and_what_they_lead_to_is_replaced() {
    let host = Host::default();
    let folder = host.0.path("real");
    fs::create_dir(&folder).expect("a directory");
    set_mode(&folder, 0o755);
    fs::write(folder.join("target.yaml"), LIST).expect("writing");
    symlink("real/target.yaml", host.0.path("middle.yaml")).expect("a link");
    symlink(host.0.path("middle.yaml"), host.path()).expect("a link");
    host.ok(&["allow", "192.0.2.7"]);
    assert!(host.text().ends_with("- 192.0.2.7\n"));
    assert!(fs::symlink_metadata(host.path()).expect("metadata").is_symlink());
    assert!(fs::symlink_metadata(host.0.path("middle.yaml")).expect("metadata").is_symlink());
    assert_eq!(fs::read_dir(&folder).expect("the directory").count(), 1);
}

#[test]
fn a_file_that_is_not_there_is_made_by_allow_where_its_directory_is() {
    let host = Host::default();
    let told = host.ok(&["allow", "192.0.2.7"]);
    assert!(told.stderr.contains(&format!("note: {} is new", host.path().display())), "{}", told.stderr);
    assert_eq!(
        host.text(),
        "# Sources that may reach port 111. Everyone else is dropped.\nallow:\n  - 192.0.2.7\n"
    );
    assert_eq!(fs::metadata(host.path()).expect("metadata").mode() & 0o7777, 0o644);
    host.assert_tidy();
    fs::remove_file(host.path()).expect("removing");
    host.ok(&["allow", "192.0.2.7", "--dry-run"]);
    assert!(!host.path().exists());
    let said = host.fails(3, &["revoke", "192.0.2.7"]);
    assert!(said.contains("does not exist"), "{said}");

    let far = host.0.path("no/such/list.yaml");
    for verb in ["allow", "revoke"] {
        let told = crate::told(&command(&[verb, "192.0.2.7"], &far).output().expect("portguard"));
        assert_eq!(told.code, 3, "{}", told.stderr);
        assert!(told.stderr.contains("the directory") && told.stderr.contains("mkdir -p"), "{}", told.stderr);
    }
    // One that anybody could replace would not be used.
    let shared = host.0.path("shared");
    fs::create_dir(&shared).expect("a directory");
    set_mode(&shared, 0o777);
    let told =
        crate::told(&command(&["allow", "::1"], &shared.join("list.yaml")).output().expect("portguard"));
    assert!(told.code == 3 && told.stderr.contains("can write to the directory"), "{}", told.stderr);
    assert_eq!(fs::read_dir(&shared).expect("the directory").count(), 0);
}

#[test]
fn a_broken_list_is_shown_as_check_shows_it_and_is_left_alone() {
    let host = Host::default();
    host.list("allow:\n  - 10.1.2.3/16\n");
    for arguments in [&["allow", "::1"][..], &["revoke", "10.1.0.0/16"]] {
        let said = host.fails(3, arguments);
        assert!(said.contains("list.yaml:2:5") && said.contains("did you mean 10.1.0.0/16"), "{said}");
    }
    let path = host.list(LIST);
    set_mode(&path, 0o666);
    let said = host.fails(3, &["allow", "::1"]);
    assert!(said.contains("chmod go-w"), "{said}");
}

/// As the kubelet makes it.
#[test]
fn a_config_map_is_left_to_kubernetes() {
    let host = Host::default();
    let version = host.0.path("..2026_11_25");
    fs::create_dir(&version).expect("a directory");
    fs::write(version.join("list.yaml"), LIST).expect("writing");
    symlink("..2026_11_25", host.0.path("..data")).expect("a link");
    symlink("..data/list.yaml", host.path()).expect("a link");
    for verb in [&["allow", "::1"][..], &["allow", "::1", "--dry-run"], &["revoke", "10.0.0.0/8"], &["edit"]]
    {
        let told = host.run(verb);
        assert_eq!((told.code, host.text().as_str()), (1, LIST), "{}", told.stderr);
        assert!(
            told.stderr.contains("volume of Kubernetes") && told.stderr.contains("kubectl edit configmap")
        );
    }
    assert_eq!(fs::read_dir(&version).expect("the directory").count(), 1);
}

/// Runs a command in a mount namespace of its own, in which something is done before.
fn with_mounts(
    host: &Host,
    arguments: &[&str],
    set_up: impl Fn() -> nix::Result<()> + Send + Sync + 'static,
) -> crate::Told {
    let mut command = host.command(arguments);
    let set_up = move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        Ok(set_up()?)
    };
    // SAFETY: the hook only makes system calls, and this process has no lock that it could wait for.
    unsafe { command.pre_exec(set_up) };
    told(&command.output().expect("portguard"))
}

fn bind(path: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(Some(path), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, None::<&str>)
}

#[test]
fn a_mount_that_is_read_only_or_is_the_file_itself_is_told_from_other_failures() {
    let host = Host::default();
    let path = host.list(LIST);
    let (folder, file) = (host.0.folder().to_owned(), path.clone());
    let told = with_mounts(&host, &["allow", "::1"], move || bind(&folder, MsFlags::MS_RDONLY));
    assert_eq!(told.code, 1, "{}", told.stderr);
    assert!(told.stderr.contains("mounted read-only") && told.stderr.contains("findmnt"), "{}", told.stderr);
    let told = with_mounts(&host, &["allow", "::1"], move || bind(&path, MsFlags::empty()));
    assert_eq!(told.code, 1, "{}", told.stderr);
    assert!(told.stderr.contains("is a mount of its own"), "{}", told.stderr);
    // A ConfigMap with `subPath` is such a file.
    let told = with_mounts(&host, &["allow", "::1"], move || bind(&file, MsFlags::MS_RDONLY));
    assert!(told.code == 1 && told.stderr.contains("mounted read-only"), "{}", told.stderr);
    assert_eq!(host.text(), LIST);
    host.assert_tidy();
}

#[test]
fn who_may_not_write_the_list_changes_nothing() {
    let host = Host::default();
    let path = host.list(LIST);
    let binary = host.0.path("portguard");
    fs::copy(env!("CARGO_BIN_EXE_portguard"), &binary).expect("a copy of the binary");
    set_mode(&binary, 0o755);
    let by_nobody = |mode| {
        set_mode(&path, mode);
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&binary);
        command.args(["allow", "::1", "--allowlist"]).arg(&path).stdin(Stdio::null());
        told(&command.output().expect("setpriv"))
    };
    let told = by_nobody(0o644);
    assert_eq!((told.code, host.text().as_str()), (5, LIST), "{}", told.stderr);
    assert!(told.stderr.contains("Run portguard as root"), "{}", told.stderr);
    // Nor do they see which list that is, if they name none.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&binary);
    let told = crate::told(&command.args(["revoke", "10.0.0.0/8"]).output().expect("setpriv"));
    assert_eq!(told.code, 5, "{}", told.stderr);
    // Their own list is their own business, but for the guards, which they may not see.
    let own = host.0.path("own");
    fs::create_dir(&own).expect("a directory");
    fs::write(own.join("list.yaml"), LIST).expect("writing");
    for path in [&own, &own.join("list.yaml")] {
        chown(path, Some(65_534), Some(65_534)).expect("chown");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&binary);
    let told = crate::told(
        &command.args(["allow", "::1", "--allowlist"]).arg(own.join("list.yaml")).output().expect("setpriv"),
    );
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert!(told.stderr.contains("it is not known which guards use the list"), "{}", told.stderr);
    assert_eq!(fs::metadata(own.join("list.yaml")).expect("metadata").uid(), 65_534);
}

#[test]
fn of_twenty_at_once_nothing_is_lost() {
    let host = Host::default();
    host.list("allow: []\n");
    let at_once = |verb: &str| {
        let begin = |number: u8| {
            let mut command = host.command(&[verb, &format!("10.{number}.0.0/16")]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("portguard")
        };
        let children: Vec<_> = (0..20).map(begin).collect();
        for mut child in children {
            assert!(child.wait().expect("waiting").success());
        }
    };
    at_once("allow");
    let text = host.text();
    let entries = Allowlist::parse(Path::new("list.yaml"), text.as_bytes()).expect("a list").allowlist;
    assert_eq!(entries.entries().len(), 20, "{text}");
    assert_eq!(text.lines().count(), 21, "{text}");
    host.assert_tidy();
    at_once("revoke");
    assert_eq!(host.text(), "allow: []\n");
    host.assert_tidy();
}

/// As of a process that was killed: it lies there without a lock. And as of one that is still at work.
#[test]
fn what_another_one_has_left_is_used_and_who_is_at_work_is_waited_for() {
    let host = Host::default();
    host.list(LIST);
    let unfinished = host.0.path(UNFINISHED);
    fs::write(&unfinished, "allow:\n  - 0.0.0.0/0 and then the machine").expect("writing");
    host.ok(&["allow", "::1"]);
    assert_eq!(host.text(), format!("{LIST}  - ::1\n"));
    host.assert_tidy();

    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&unfinished)
        .expect("a file");
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("the lock");
    let begun = Instant::now();
    let child = host
        .command(&["allow", "::2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("portguard");
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(host.text(), format!("{LIST}  - ::1\n"));
    drop(lock);
    let told = told(&child.wait_with_output().expect("waiting"));
    assert!(begun.elapsed() > Duration::from_millis(1500));
    assert_eq!((told.code, host.text()), (0, format!("{LIST}  - ::1\n  - ::2\n")), "{}", told.stderr);
    assert!(told.stderr.contains("waiting for another portguard that changes the list"), "{}", told.stderr);
    host.assert_tidy();

    // A name that leads elsewhere is nothing that portguard has left.
    let victim = host.0.path("victim");
    fs::write(&victim, "precious").expect("writing");
    fs::hard_link(&victim, &unfinished).expect("a link");
    let told = host.run(&["allow", "::3"]);
    assert!(told.code == 1 && told.stderr.contains("is in the way"), "{}", told.stderr);
    fs::remove_file(&unfinished).expect("removing");
    symlink(&victim, &unfinished).expect("a link");
    assert_eq!(host.run(&["allow", "::3"]).code, 1);
    assert_eq!(fs::read_to_string(&victim).expect("the file"), "precious");
}

#[test]
fn the_default_list_is_that_of_the_environment() {
    let host = Host::default();
    host.list(LIST);
    let mut command = Command::new(env!("CARGO_BIN_EXE_portguard"));
    command.args(["allow", "::1", "--allowlist"]).arg(host.path()).env("PORTGUARD_ALLOWLIST", "/nowhere");
    assert!(command.output().expect("portguard").status.success());
    assert_eq!(host.text(), format!("{LIST}  - ::1\n"));
}
