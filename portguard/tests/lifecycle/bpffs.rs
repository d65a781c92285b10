//! The place where guards are kept: there, not there, or of no use.

use nix::mount::{MsFlags, mount};

use crate::support::{Bench, IFACE, Machine, Output, Portguard};

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
    assert_eq!(portguard.all_status(), []);
    assert_eq!(portguard.all_stats(&[]), []);
    portguard.fails(4, &["detach", IFACE]);
    portguard.fails(4, &["reload"]);
    portguard.fails(3, &["attach", IFACE, "--allowlist", "/nowhere/list.yaml"]);

    let output = portguard.run(&["attach", IFACE, "--allowlist", &list]);
    assert_eq!((output.code, output.stderr.as_str()), (0, NOTE), "{output:?}");
    assert_eq!(portguard.status().interface, IFACE);
    let output = portguard.run(&["attach", IFACE, "--allowlist", &list]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "only once: {output:?}");
    bench.machine.assert_tidy(1);
}

#[test]
fn where_it_cannot_be_mounted_the_capability_is_named() {
    let bench = bench_without_bpffs();
    let mut command = bench.machine.command(&bench.namespace, "setpriv");
    command.args(["--bounding-set=-sys_admin", "--", Portguard::BINARY]);
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
    let told = bench.portguard().fails(1, &["attach", IFACE, "--allowlist", &list]);
    assert!(told.contains("/sys/fs/bpf/portguard") && told.contains("Read-only file system"), "{told}");

    let bench = bench_without_bpffs();
    let list = bench.list();
    let cover = || Ok(mount(Some("tmpfs"), "/sys/fs", Some("tmpfs"), MsFlags::empty(), None::<&str>)?);
    bench.machine.mounts().run(cover).expect("an empty /sys/fs");
    let told = bench.portguard().fails(1, &["attach", IFACE, "--allowlist", &list]);
    assert!(told.contains("/sys/fs/bpf") && told.contains("CONFIG_BPF_SYSCALL"), "{told}");
}
