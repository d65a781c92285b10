//! The place where guards are kept: there, not there, or of no use.

use nix::mount::{MsFlags, mount, umount};

use crate::support::{IFACE, Machine, Output, PORTGUARD, SingleHost, program_on};

/// The command line as the first process of a container has it: nobody has started it.
fn contained(host: &SingleHost, arguments: &[&str]) -> Output {
    let mut command = host.machine.command(&host.namespace, "unshare");
    Output::of(command.args(["--pid", "--fork", PORTGUARD]).args(arguments))
}

fn bench_without_bpffs() -> SingleHost {
    SingleHost { machine: Machine::without_bpffs(PORTGUARD), ..SingleHost::new(PORTGUARD) }
}

/// What is mounted in a container goes with it, and the guard would go with that.
#[test]
fn in_a_container_the_file_system_of_the_host_is_asked_for() {
    let host = bench_without_bpffs();
    let list = host.list();
    for arguments in [
        &["attach", IFACE, "--allowlist", &list][..],
        &["run", IFACE, "--allowlist", &list],
        &["status"],
        &["stats"],
        &["reload"],
        &["detach", "--all"],
    ] {
        let output = contained(&host, arguments);
        assert_eq!(output.code, 1, "{arguments:?}: {output:?}");
        for told in ["in a container", "mount -t bpf bpf /sys/fs/bpf", "docker run --volume"] {
            assert!(output.stderr.contains(told), "{arguments:?}: {output:?}");
        }
    }
    assert_eq!(program_on(&host.namespace, IFACE), None);
    // What is wrong with a list is told all the same.
    assert_eq!(contained(&host, &["attach", IFACE, "--allowlist", "/no"]).code, 3);
}

#[test]
fn a_container_that_it_was_handed_in_to_guards_and_the_guard_outlives_it() {
    let host = SingleHost::new(PORTGUARD);
    let output = contained(&host, &["attach", IFACE, "--allowlist", &host.list()]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
    let status = host.portguard().status();
    assert_eq!(program_on(&host.namespace, IFACE), Some(status.program.id));
    host.machine.assert_tidy(1);
}

/// As `ip netns exec` does it: what is pinned there goes with the process, and the guard with it.
#[test]
fn mounts_that_end_with_the_process_are_refused() {
    let host = bench_without_bpffs();
    for arguments in
        [&["attach", IFACE, "--allowlist", &host.list()][..], &["status"], &["stats"], &["reload"]]
    {
        let told = host.portguard().fails(1, arguments);
        assert!(told.contains("ip netns exec") && told.contains("nsenter --net="), "{told}");
    }
    assert_eq!(program_on(&host.namespace, IFACE), None);
}

/// One that was mounted there goes with the process as well; who keeps it says so.
#[test]
fn a_file_system_of_its_own_is_refused_unless_somebody_keeps_it() {
    let host = SingleHost::new(PORTGUARD);
    let run = |arguments: &[&str], own: Option<&str>| {
        let mut command = host.machine.command(&host.namespace, "unshare");
        let script = format!("mount -t bpf bpf /sys/fs/bpf && exec {PORTGUARD} \"$@\"");
        command
            .args(["--mount", "sh", "-c", &script, "sh"])
            .args(arguments)
            .env_remove("PORTGUARD_OWN_MOUNTS");
        command.envs(own.map(|value| ("PORTGUARD_OWN_MOUNTS", value)));
        Output::of(&mut command)
    };
    let attach = ["attach", IFACE, "--allowlist", &host.list()];
    for arguments in [&attach[..], &["run", IFACE, "--allowlist", &host.list()]] {
        for own in [None, Some(""), Some("0")] {
            let output = run(arguments, own);
            assert_eq!(output.code, 1, "{arguments:?}: {output:?}");
            assert!(output.stderr.contains("is not that of the host"), "{output:?}");
            assert!(output.stderr.contains("PORTGUARD_OWN_MOUNTS=1"), "{output:?}");
        }
    }
    assert_eq!(program_on(&host.namespace, IFACE), None);
    assert_eq!(run(&attach, Some("1")).code, 0);
}

/// A machine whose own mounts lack the file system, until the value goes.
struct Unmounted;

impl Unmounted {
    fn new() -> Self {
        umount("/sys/fs/bpf").expect("the file system of the machine");
        Self
    }
}

impl Drop for Unmounted {
    fn drop(&mut self) {
        let _ = umount("/sys/fs/bpf");
        let mounted = mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>);
        mounted.expect("the file system of the machine");
    }
}

#[test]
#[ignore = "changes the mounts of the machine; cargo xtask vm-test has a machine for it, and runs it"]
fn attach_mounts_it_where_it_is_missing_and_says_so() {
    const NOTE: &str = "note: mounted the BPF file system at /sys/fs/bpf\n";
    let host = SingleHost::new(PORTGUARD);
    let run = |arguments: &[&str]| Output::of(host.namespace.command(PORTGUARD).args(arguments));
    let list = host.list();
    let _unmounted = Unmounted::new();
    // To look, and to be refused, takes no mount.
    for arguments in [&["status"][..], &["stats"], &["detach", "--all"]] {
        let output = run(arguments);
        assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{output:?}");
    }
    for (code, arguments) in
        [(4, &["detach", IFACE][..]), (4, &["reload"]), (3, &["attach", IFACE, "--allowlist", "/no"])]
    {
        assert_eq!(run(arguments).code, code);
    }
    let mut command = host.namespace.command("/sbin/setpriv");
    command.args(["--bounding-set=-sys_admin", "--", PORTGUARD]);
    let output = Output::of(command.args(["attach", IFACE, "--allowlist", &list]));
    assert_eq!(output.code, 5, "{output:?}");
    assert!(output.stderr.contains("/sys/fs/bpf") && output.stderr.contains("CAP_SYS_ADMIN"), "{output:?}");
    assert!(output.stderr.contains("mount -t bpf bpf /sys/fs/bpf"), "{output:?}");

    let output = run(&["attach", IFACE, "--allowlist", &list]);
    assert_eq!((output.code, output.stderr.as_str()), (0, NOTE), "{output:?}");
    let output = run(&["attach", IFACE, "--allowlist", &list]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "only once: {output:?}");
    assert!(program_on(&host.namespace, IFACE).is_some());
    assert_eq!(run(&["detach", IFACE]).code, 0);
}

#[test]
fn a_directory_that_others_can_write_to_is_not_trusted() {
    let host = SingleHost::new(PORTGUARD);
    let chmod = || {
        let root = std::path::Path::new("/sys/fs/bpf/portguard");
        std::fs::create_dir_all(root)?;
        Ok(std::fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o777))?)
    };
    host.machine.mounts().run(chmod).expect("a directory");
    for arguments in [&["attach", IFACE, "--allowlist", &host.list()][..], &["status"]] {
        let told = host.portguard().fails(1, arguments);
        assert!(
            told.contains("/sys/fs/bpf/portguard cannot be trusted") && told.contains("mode 0777"),
            "{told}"
        );
    }
    assert_eq!(program_on(&host.namespace, IFACE), None);
}

#[test]
fn where_it_is_of_no_use_the_reason_is_told() {
    let host = bench_without_bpffs();
    let list = host.list();
    host.machine.mount_bpffs(MsFlags::MS_RDONLY);
    let told = contained(&host, &["attach", IFACE, "--allowlist", &list]).stderr;
    assert!(told.contains("/sys/fs/bpf/portguard") && told.contains("Read-only file system"), "{told}");

    let host = bench_without_bpffs();
    let list = host.list();
    let cover = || Ok(mount(Some("tmpfs"), "/sys/fs", Some("tmpfs"), MsFlags::empty(), None::<&str>)?);
    host.machine.mounts().run(cover).expect("an empty /sys/fs");
    let told = contained(&host, &["attach", IFACE, "--allowlist", &list]).stderr;
    assert!(told.contains("/sys/fs/bpf") && told.contains("CONFIG_BPF_SYSCALL"), "{told}");
}
