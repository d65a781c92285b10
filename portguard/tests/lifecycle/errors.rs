//! What portguard refuses, and how it tells.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use nix::mount::{MsFlags, mount};

use crate::support::{IFACE, Output, PORTGUARD, SingleHost, program_on};

#[test]
fn the_loopback_interface_is_refused_with_the_reason() {
    let host = SingleHost::bare(PORTGUARD);
    let told = host.portguard().fails(1, &["attach", "lo", "--allowlist", &host.list()]);
    assert!(told.contains("lo: the loopback interface is not guarded"), "{told}");
    assert!(told.contains("local clients"), "{told}");
    assert_eq!(program_on(&host.namespace, "lo"), None);
    host.machine.assert_tidy(0);
}

#[test]
fn what_cannot_be_offloaded_is_refused() {
    let host = SingleHost::new(PORTGUARD);
    let told =
        host.portguard().fails(1, &["attach", IFACE, "--mode", "offload", "--allowlist", &host.list()]);
    assert!(told.contains("eth0: offload XDP refused") && told.contains("--mode native"), "{told}");
    assert_eq!(program_on(&host.namespace, IFACE), None);
    host.machine.assert_tidy(0);
    // Nor is anybody sent to take the guard off for it.
    host.portguard().ok(&["attach", IFACE, "--allowlist", &host.list()]);
    assert_eq!(
        host.portguard().fails(1, &["attach", IFACE, "--mode", "offload", "--allowlist", &host.list()]),
        told
    );
}

#[test]
fn a_driver_without_native_mode_gets_generic_and_is_told_so() {
    let host = SingleHost::bare(PORTGUARD);
    host.namespace.ip("link add br0 type bridge\nlink set br0 up").expect("a device without native XDP");
    let portguard = host.portguard();
    let list = host.list();
    let told = portguard.fails(1, &["attach", "br0", "--mode", "native", "--allowlist", &list]);
    assert!(told.contains("br0: native XDP refused") && told.contains("--mode generic"), "{told}");
    host.machine.assert_tidy(0);

    let output = portguard.run(&["attach", "br0", "--allowlist", &list]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.stdout, "br0: attached in generic mode, enforcing, 1 entry\n");
    let notes: Vec<&str> = output.stderr.lines().collect();
    let [refusal, fallback] = notes[..] else { panic!("{notes:?}") };
    assert!(refusal.starts_with("note: br0: native XDP refused: "), "{refusal}");
    assert!(fallback.starts_with("note: br0: generic mode instead"), "{fallback}");
    assert_eq!(portguard.status().mode, "generic");
}

/// The kernel attaches to it, and then shows the program none of its packets.
#[test]
fn a_device_that_hides_its_packets_is_refused() {
    let host = SingleHost::bare(PORTGUARD);
    host.namespace.ip("link add ifb7 type ifb\nlink set ifb7 up").expect("CONFIG_IFB");
    let told = host.portguard().fails(1, &["attach", "ifb7", "--allowlist", &host.list()]);
    assert!(told.contains("ifb7: a device of kind ifb cannot be guarded"), "{told}");
    assert_eq!(program_on(&host.namespace, "ifb7"), None);
    host.machine.assert_tidy(0);
}

/// What `setpriv` runs a command with.
fn with_rights(host: &SingleHost, rights: &[&str], arguments: &[&str]) -> Output {
    let mut command = host.machine.command(&host.namespace, "setpriv");
    Output::of(command.args(rights).arg("--").arg(PORTGUARD).args(arguments))
}

/// All commands that need rights.
fn privileged(list: &str) -> [Vec<&str>; 8] {
    [
        vec!["attach", IFACE, "--allowlist", list],
        vec!["status", "--json"],
        vec!["stats", "--json"],
        vec!["explain", "192.0.2.7"],
        vec!["report"],
        vec!["stats", "--reset"],
        vec!["reload", IFACE],
        vec!["detach", "--all"],
    ]
}

#[test]
fn each_missing_capability_is_named() {
    let host = SingleHost::new(PORTGUARD);
    let list = host.list();
    host.portguard().ok(&["attach", IFACE, "--allowlist", &list]);
    let before = host.portguard().status();
    let capabilities = ["bpf", "net_admin", "perfmon"];
    for missing in capabilities {
        for arguments in privileged(&list) {
            let output = with_rights(&host, &[&format!("--bounding-set=-{missing}")], &arguments);
            assert_eq!(
                (output.code, output.stdout.as_str()),
                (5, ""),
                "{arguments:?} without {missing}: {output:?}"
            );
            let name = format!("CAP_{}", missing.to_uppercase());
            assert!(output.stderr.contains(&format!("not permitted: {name} missing")), "{output:?}");
        }
    }
    let all = "not permitted: CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON missing";
    for arguments in privileged(&list) {
        let output = with_rights(&host, &["--bounding-set=-all"], &arguments);
        assert_eq!(output.code, 5, "{output:?}");
        assert!(output.stderr.contains(all), "{output:?}");
    }
    assert_eq!(
        with_rights(&host, &["--bounding-set=-all"], &["check", &list]).code,
        0,
        "reading needs no rights"
    );
    assert_eq!(host.portguard().status(), before);
}

#[test]
fn three_capabilities_are_enough() {
    let host = SingleHost::new(PORTGUARD);
    let list = host.list();
    for arguments in privileged(&list) {
        let output = with_rights(&host, &["--bounding-set=-all,+bpf,+net_admin,+perfmon"], &arguments);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{arguments:?}: {output:?}");
    }
    host.machine.assert_tidy(0);
}

#[test]
fn an_unprivileged_user_is_told_what_is_missing() {
    let host = SingleHost::new(PORTGUARD);
    let list = host.list();
    // The build's own folder may be closed to others.
    let binary = host.lists.path("portguard");
    fs::copy(PORTGUARD, &binary).expect("a copy of the binary");
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).expect("chmod");
    for arguments in privileged(&list) {
        let mut command = host.machine.command(&host.namespace, "setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(&binary)
            .args(&arguments);
        let output = Output::of(&mut command);
        assert_eq!((output.code, output.stdout.as_str()), (5, ""), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON missing"), "{output:?}");
        assert!(output.stderr.contains("Run portguard as root"), "{output:?}");
    }
}

#[test]
fn the_list_is_found_where_it_is_said_to_be() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    // To a bare interface: a guard that is there keeps its list.
    let attach = |more: &[&str], environment: &str| {
        portguard.run(&["detach", IFACE]);
        let mut command = portguard.command([&["attach", IFACE], more].concat());
        Output::of(command.env("PORTGUARD_ALLOWLIST", environment))
    };
    let output = attach(&[], &list);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(portguard.status().allowlist.path, list);

    let other = host.lists.write("other.yaml", ["192.0.2.0/24", "198.51.100.0/24"]);
    let output = attach(&["--allowlist", &other], &list);
    assert_eq!(output.code, 0, "the command line comes first: {output:?}");
    assert_eq!(portguard.status().allowlist.path, other);

    // Set to nothing is not set; what is in that place is this machine's.
    let output = attach(&[], "");
    assert_ne!(output.code, 2, "{output:?}");
    assert!(output.code == 0 || output.stderr.contains("/etc/portguard/allowlist.yaml"), "{output:?}");

    let output = attach(&[], "/nowhere/list.yaml");
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("/nowhere/list.yaml"), "{output:?}");

    host.machine
        .mounts()
        .run(|| Ok(mount(Some("tmpfs"), "/etc", Some("tmpfs"), MsFlags::empty(), None::<&str>)?))
        .expect("an empty /etc");
    let told = portguard.fails(3, &["attach", IFACE]);
    assert!(told.contains("/etc/portguard/allowlist.yaml"), "{told}");
    assert_eq!(portguard.all_status(), []);
    host.machine
        .mounts()
        .run(|| {
            fs::create_dir("/etc/portguard")?;
            fs::copy(&list, "/etc/portguard/allowlist.yaml")?;
            Ok(())
        })
        .expect("a list in the default place");
    portguard.ok(&["attach", IFACE]);
    assert_eq!(portguard.status().allowlist.path, "/etc/portguard/allowlist.yaml");
}

#[test]
fn a_list_that_others_may_write_is_refused() {
    let host = SingleHost::new(PORTGUARD);
    let list = host.list();
    for mode in [0o666, 0o664, 0o646] {
        fs::set_permissions(&list, Permissions::from_mode(mode)).expect("chmod");
        let told = host.portguard().fails(3, &["attach", IFACE, "--allowlist", &list]);
        assert!(told.contains(&list) && told.contains(&format!("{mode:04o}")), "{told}");
        assert!(told.contains("writable by users other than its owner"), "{told}");
    }
    assert_eq!(program_on(&host.namespace, IFACE), None);
    host.machine.assert_tidy(0);
}
