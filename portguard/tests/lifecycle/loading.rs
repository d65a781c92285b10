//! What a command reads to load the program.

use std::fs;

use crate::support::{IFACE, Output, PORTGUARD, SingleHost};

/// They are megabytes, and the object has no relocations by them.
#[test]
fn the_types_of_the_kernel_are_not_read() {
    let host = SingleHost::new(PORTGUARD);
    let list = host.list();
    let log = host.machine.state().join("strace");
    for line in [&["attach", IFACE, "--allowlist", &list][..], &["explain", "192.0.2.1"]] {
        let mut strace = host.machine.command(&host.namespace, "strace");
        strace
            .args(["--follow-forks", "--trace=openat", "--output"])
            .arg(&log)
            .arg("--")
            .arg(PORTGUARD)
            .args(line);
        let told = Output::of(&mut strace);
        let opened = fs::read_to_string(&log).expect("the log");
        assert_eq!(told.code, 0, "{told:?}");
        let asked: Vec<&str> = opened.lines().filter(|it| it.contains("btf/vmlinux")).collect();
        assert!(!asked.is_empty() && asked.iter().all(|it| it.contains("ENOENT")), "{line:?}: {opened}");
    }
}
