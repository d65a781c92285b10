//! The file of a list: one that is not there, one that is no file, and one that somebody else can write or replace.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use crate::support::{IFACE, Output, PORTGUARD, Service, SingleHost, program_on};

/// Any user but root.
const NOBODY: u32 = 65534;

/// What each command says that takes a list, after which no guard has changed.
fn refusals(host: &SingleHost, path: &str) -> Vec<String> {
    let portguard = host.portguard();
    let commands = [
        vec!["check", path],
        vec!["attach", IFACE, "--allowlist", path],
        vec!["attach", "eth7", "--allowlist", path],
        vec!["reload", "--allowlist", path],
        vec!["reload", "--dry-run", "--allowlist", path],
        vec!["explain", "192.0.2.7", "--allowlist", path],
        vec!["run", "eth7", "--allowlist", path],
    ];
    let before = portguard.all_status();
    let said = commands.iter().map(|arguments| portguard.fails(3, arguments)).collect();
    assert_eq!(portguard.all_status(), before);
    said
}

/// A guard with a good list, and a folder for others.
fn guarded() -> SingleHost {
    let host = SingleHost::new(PORTGUARD);
    host.plug("eth7", "peer7");
    host.portguard().ok(&["attach", IFACE, "--allowlist", &host.list()]);
    host
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_list_that_is_not_there_is_told_with_what_writes_it() {
    let host = guarded();
    let path = |name: &str| host.lists.path(name);
    for (link, target) in [("dangling", "target.yaml"), ("astray", "no/such/target.yaml")] {
        symlink(target, path(link)).expect("a link");
    }
    let folder = text(host.lists.folder());
    for (name, what) in [
        ("none.yaml", format!("{folder}/none.yaml does not exist")),
        ("it's new.yaml", format!("{folder}/it's new.yaml does not exist")),
        ("new/none.yaml", format!("the directory {folder}/new does not exist")),
        ("far/off/none.yaml", format!("the directory {folder}/far does not exist")),
        ("dangling", format!("{folder}/dangling leads to {folder}/target.yaml, which does not exist")),
        ("astray", format!("the directory {folder}/no does not exist")),
    ] {
        let path = path(name);
        for said in refusals(&host, text(&path)) {
            assert!(said.contains(&format!("error: there is no allowlist: {what}. ")), "{said}");
            assert!(said.contains("`--allowlist PATH`"), "{said}");
            assert!(!said.contains("is not a valid allowlist") && !said.contains("BROKEN"), "{said}");
        }
        // What it says to run writes a list that is taken.
        let said = host.portguard().fails(3, &["check", text(&path)]);
        assert_eq!(said.lines().count(), 1, "{said}");
        let (_, remedy) = said.split_once("run `").expect("a command");
        let (remedy, _) = remedy.split_once("`;").expect("its end");
        let programs = Path::new(PORTGUARD).parent().expect("a folder");
        let mut shell = host.machine.command(&host.namespace, "sh");
        shell.args(["-c", &format!("umask 022; PATH={}:$PATH; {remedy}", text(programs))]);
        let output = Output::of(&mut shell);
        assert_eq!(output.code, 0, "{remedy}: {output:?}");
        host.portguard().ok(&["check", text(&path)]);
    }
}

#[test]
fn the_default_list_that_is_not_there_is_told_with_what_writes_it() {
    let host = SingleHost::new(PORTGUARD);
    let emptied = || Ok(mount(Some("tmpfs"), "/etc", Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?);
    host.machine.mounts().run(emptied).expect("an empty /etc");
    let writes = "portguard suggest > /etc/portguard/allowlist.yaml`";
    let commands = [
        &["attach", IFACE][..],
        &["check"],
        &["run", IFACE],
        &["explain", "192.0.2.7"],
        &["check", "--json"],
    ];
    for arguments in commands {
        let Output { code, stdout, stderr } = host.portguard().run(arguments);
        let said = stdout + &stderr;
        assert!(code == 3 && said.contains(&format!("`mkdir -p /etc/portguard && {writes}")), "{said}");
        assert!(said.contains("`--allowlist PATH`"), "{said}");
        assert!(!said.contains("is not a valid allowlist"), "{said}");
    }
    host.machine.mounts().run(|| Ok(fs::create_dir("/etc/portguard")?)).expect("its directory");
    let said = host.portguard().fails(3, &["attach", IFACE]);
    assert!(said.contains(&format!("run `{writes}")), "{said}");
}

#[test]
fn what_is_no_file_is_not_called_an_invalid_list() {
    let host = guarded();
    let fifo = host.lists.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    symlink("round", host.lists.path("round")).expect("a link");
    for (name, what) in [
        ("", "is a directory. Name the file in it."),
        ("fifo", "is not a regular file. Write the list to a file, and name that."),
        ("round", "Too many levels of symbolic links"),
        ("allowlist.yaml/list", "Not a directory"),
    ] {
        for said in refusals(&host, text(&host.lists.path(name))) {
            assert!(said.contains(what) && !said.contains("is not a valid allowlist"), "{said}");
        }
    }
    // What holds no list is a file, and says how to get one.
    for (name, content) in [("empty", ""), ("comments", "# no list yet\n"), ("document", "---\n")] {
        for said in refusals(&host, &host.lists.write_text(name, content)) {
            assert!(said.contains("there is no list in the file"), "{said}");
            assert!(said.contains("`portguard suggest` proposes a list"), "{said}");
        }
    }
}

/// Makes files and directories, with their owners and modes, and asks portguard to use a list there.
#[derive(Default)]
struct Place {
    directory: Option<(u32, u32)>,
    file: Option<(u32, u32)>,
    /// The owner of a link to the list, beside its directory.
    link: Option<u32>,
}

impl Place {
    /// Makes it, and returns the path of the list.
    fn make(&self, host: &SingleHost, name: &str) -> String {
        let folder = host.lists.path(name);
        fs::create_dir_all(folder.join("on/the/way")).expect("directories");
        let mut list = folder.join("on/the/way/list.yaml");
        fs::write(&list, "allow:\n  - 192.0.2.0/24\n").expect("a list");
        let set = |path: &Path, (owner, mode): (u32, u32)| {
            chown(path, Some(owner), None).expect("chown");
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
        };
        set(&list, self.file.unwrap_or((0, 0o644)));
        set(&folder.join("on"), self.directory.unwrap_or((0, 0o755)));
        if let Some(owner) = self.link {
            let link = folder.join("on/link.yaml");
            symlink("the/way/list.yaml", &link).expect("a link");
            std::os::unix::fs::lchown(&link, Some(owner), None).expect("chown");
            list = link;
        }
        text(&list).to_owned()
    }
}

#[test]
fn a_list_that_somebody_else_can_write_or_replace_is_refused() {
    let host = guarded();
    let bad = |owner, mode| Place { file: Some((owner, mode)), ..Place::default() };
    let within = |owner, mode| Place { directory: Some((owner, mode)), ..Place::default() };
    for (name, place, why) in [
        ("owner", bad(NOBODY, 0o644), "list.yaml belongs to another user (uid 65534)"),
        ("read-only", bad(NOBODY, 0o444), "list.yaml belongs to another user (uid 65534)"),
        ("group", bad(0, 0o664), "list.yaml is writable by users other than its owner (mode 0664)"),
        ("home", within(NOBODY, 0o755), "/home/on belongs to another user (uid 65534), who can replace "),
        ("open", within(0, 0o777), "can write to the directory "),
        ("staff", within(0, 0o2775), "can write to the directory "),
        // The owner of a sticky directory may replace what is in it.
        ("sticky", within(NOBODY, 0o1777), "/sticky/on belongs to another user"),
        (
            "link",
            Place { link: Some(NOBODY), directory: Some((0, 0o1777)), ..Place::default() },
            "/link/on/link.yaml belongs to another user (uid 65534), who can replace ",
        ),
    ] {
        let path = place.make(&host, name);
        for said in refusals(&host, &path) {
            assert!(said.contains(why), "{name}: {said}");
            assert!(said.to_lowercase().contains("a user who can "), "{name}: {said}");
        }
    }
    // Behind a symbolic link it is the same directory.
    symlink("open/on/the/way", host.lists.path("short")).expect("a link");
    for said in refusals(&host, text(&host.lists.path("short/list.yaml"))) {
        assert!(said.contains("can write to the directory "), "{said}");
    }
    // Nobody could replace what comes on standard input.
    let path = host.lists.path("open/on/the/way/list.yaml");
    let mut check = host.portguard().command(["check", "-"]);
    let output = check.stdin(fs::File::open(path).expect("the list")).output().expect("portguard");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_list_that_nobody_else_can_write_or_replace_is_taken() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let within = |mode| Place { directory: Some((0, mode)), ..Place::default() };
    for (name, place) in [
        ("closed", within(0o700)),
        ("sticky", within(0o1777)),
        ("link", Place { link: Some(0), ..within(0o1777) }),
        // The owner of a link in a directory that others cannot write to has no power over it.
        ("unpacked", Place { link: Some(NOBODY), ..within(0o755) }),
    ] {
        let path = place.make(&host, name);
        portguard.ok(&["check", &path]);
        portguard.ok(&["attach", IFACE, "--allowlist", &path]);
        assert_eq!(portguard.status().allowlist.file.state, "unchanged");
    }
    // As a ConfigMap has it.
    let path = within(0o777).make(&host, "volume");
    portguard.fails(3, &["check", &path]);
    let volume = host.lists.path("volume");
    let read_only = || {
        mount(Some(&volume), &volume, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        Ok(mount(None::<&str>, &volume, None::<&str>, flags, None::<&str>)?)
    };
    host.machine.mounts().run(read_only).expect("a read-only mount");
    portguard.ok(&["attach", IFACE, "--allowlist", &path]);
}

/// It is nobody's business but that user's, who cannot attach a guard.
#[test]
fn a_user_can_check_a_list_of_their_own() {
    let host = SingleHost::bare(PORTGUARD);
    let binary = host.lists.path("portguard");
    fs::copy(PORTGUARD, &binary).expect("a copy of the binary");
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).expect("chmod");
    let own = Place { directory: Some((NOBODY, 0o755)), file: Some((NOBODY, 0o644)), ..Place::default() };
    for (name, place, code) in [
        ("own", own, 0),
        ("roots", Place::default(), 0),
        ("others", Place { file: Some((4711, 0o644)), ..Place::default() }, 3),
    ] {
        let mut command = host.machine.command(&host.namespace, "setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&binary);
        let output = Output::of(command.args(["check", &place.make(&host, name)]));
        assert_eq!(output.code, code, "{name}: {output:?}");
    }
}

/// An access control list that lets a user write is seen in the bits of the group.
#[test]
fn a_list_with_an_acl_that_lets_others_write_is_refused() {
    let host = guarded();
    let path = Place::default().make(&host, "acl");
    let entry = |tag: u16, rights: u16, id: u32| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    // The owner, the user nobody, the group, the mask, others; acl(5).
    let none = u32::MAX;
    let entries = [(1, 6, none), (2, 6, NOBODY), (4, 4, none), (0x10, 6, none), (0x20, 4, none)];
    let acl: Vec<u8> = 2_u32
        .to_le_bytes()
        .into_iter()
        .chain(entries.into_iter().flat_map(|(tag, rights, id)| entry(tag, rights, id)))
        .collect();
    let file = std::ffi::CString::new(path.as_str()).expect("no NUL");
    // SAFETY: both strings end with a NUL, and the value is read for its length.
    let set = unsafe {
        libc::setxattr(file.as_ptr(), c"system.posix_acl_access".as_ptr(), acl.as_ptr().cast(), acl.len(), 0)
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    for said in refusals(&host, &path) {
        assert!(said.contains("is writable by users other than its owner (mode 0664)"), "{said}");
    }
}

#[test]
fn a_service_keeps_its_list_while_somebody_else_can_write_the_file() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let sha256 = portguard.status().allowlist.sha256;
    let open_to_all = "allow:\n  - 192.0.2.0/24\n  - 0.0.0.0/0\n";
    fs::write(&list, open_to_all).expect("writing");
    chown(&list, Some(NOBODY), None).expect("chown");
    service.signal(Signal::SIGHUP);
    service.until_said("belongs to another user (uid 65534)");
    let status = portguard.status();
    assert_eq!((&*status.allowlist.sha256, &*status.allowlist.file.state), (&*sha256, "broken"));
    let said = portguard.fails(3, &["reload"]);
    assert!(said.contains("belongs to another user"), "{said}");
    // As after a reboot: the last good list is used, not the file.
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    portguard.ok(&["detach", IFACE]);
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    assert_eq!(portguard.status().allowlist.sha256, sha256);
    chown(&list, Some(0), None).expect("chown");
    service.wait_until("the file is in force", || portguard.status().allowlist.sha256 != sha256);
    assert_ne!(program_on(&host.namespace, IFACE), None);
}
