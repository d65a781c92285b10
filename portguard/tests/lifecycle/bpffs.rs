//! The place where guards are kept: there, not there, or of no use.

use nix::mount::{MsFlags, mount};

use crate::support::{Bench, IFACE, Machine, Output, Portguard, program_on};

/// The command line as the first process of a container has it: nobody has started it, so its mounts are there to stay.
fn contained(bench: &Bench, arguments: &[&str]) -> Output {
    let mut command = bench.machine.command(&bench.namespace, "unshare");
    Output::of(command.args(["--pid", "--fork", Portguard::BINARY]).args(arguments))
}

fn bench_without_bpffs() -> Bench {
    Bench { machine: Machine::without_bpffs(), ..Bench::new() }
}

#[test]
fn attach_mounts_it_where_it_is_missing_and_says_so() {
    const NOTE: &str = "note: mounted the BPF file system at /sys/fs/bpf\n";
    let bench = bench_without_bpffs();
    let portguard = bench.portguard();
    let list = bench.list();
    // To look, and to be refused, takes no mount.
    for arguments in [&["status"][..], &["stats"], &["detach", "--all"]] {
        let output = contained(&bench, arguments);
        assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{output:?}");
    }
    for (code, arguments) in
        [(4, &["detach", IFACE][..]), (4, &["reload"]), (3, &["attach", IFACE, "--allowlist", "/no"])]
    {
        assert_eq!(contained(&bench, arguments).code, code);
    }

    let output = contained(&bench, &["attach", IFACE, "--allowlist", &list]);
    assert_eq!((output.code, output.stderr.as_str()), (0, NOTE), "{output:?}");
    assert_eq!(portguard.status().interface, IFACE);
    let output = contained(&bench, &["attach", IFACE, "--allowlist", &list]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "only once: {output:?}");
    bench.machine.assert_tidy(1);
}

/// As `ip netns exec` does it: what is pinned there goes with the process, and the guard with it.
#[test]
fn mounts_that_end_with_the_process_are_refused() {
    let bench = bench_without_bpffs();
    for arguments in
        [&["attach", IFACE, "--allowlist", &bench.list()][..], &["status"], &["stats"], &["reload"]]
    {
        let told = bench.portguard().fails(1, arguments);
        assert!(told.contains("ip netns exec") && told.contains("nsenter --net="), "{told}");
    }
    assert_eq!(program_on(&bench.namespace, IFACE), None);
}

#[test]
fn a_directory_that_others_can_write_to_is_not_trusted() {
    let bench = Bench::new();
    let chmod = || {
        let root = std::path::Path::new("/sys/fs/bpf/portguard");
        std::fs::create_dir_all(root)?;
        Ok(std::fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o777))?)
    };
    bench.machine.mounts().run(chmod).expect("a directory");
    for arguments in [&["attach", IFACE, "--allowlist", &bench.list()][..], &["status"]] {
        let told = bench.portguard().fails(1, arguments);
        assert!(
            told.contains("/sys/fs/bpf/portguard is not to be trusted") && told.contains("mode 0777"),
            "{told}"
        );
    }
    assert_eq!(program_on(&bench.namespace, IFACE), None);
}

#[test]
fn where_it_cannot_be_mounted_the_capability_is_named() {
    let bench = bench_without_bpffs();
    let mut command = bench.machine.command(&bench.namespace, "unshare");
    command.args(["--pid", "--fork", "setpriv", "--bounding-set=-sys_admin", "--", Portguard::BINARY]);
    let output = Output::of(command.args(["attach", IFACE, "--allowlist", &bench.list()]));
    assert_eq!(output.code, 5, "{output:?}");
    assert!(output.stderr.contains("/sys/fs/bpf") && output.stderr.contains("CAP_SYS_ADMIN"), "{output:?}");
    assert!(output.stderr.contains("mount -t bpf bpf /sys/fs/bpf"), "{output:?}");
}

#[test]
fn where_it_is_of_no_use_the_reason_is_told() {
    let bench = bench_without_bpffs();
    let list = bench.list();
    bench.machine.mount_bpffs(MsFlags::MS_RDONLY);
    let told = contained(&bench, &["attach", IFACE, "--allowlist", &list]).stderr;
    assert!(told.contains("/sys/fs/bpf/portguard") && told.contains("Read-only file system"), "{told}");

    let bench = bench_without_bpffs();
    let list = bench.list();
    let cover = || Ok(mount(Some("tmpfs"), "/sys/fs", Some("tmpfs"), MsFlags::empty(), None::<&str>)?);
    bench.machine.mounts().run(cover).expect("an empty /sys/fs");
    let told = contained(&bench, &["attach", IFACE, "--allowlist", &list]).stderr;
    assert!(told.contains("/sys/fs/bpf") && told.contains("CONFIG_BPF_SYSCALL"), "{told}");
}
