//! `docs/reliability.md`: what was broken on purpose, and with which figures.

use portguard_testkit::document::{Document, Section};

const COMMAND: &str = "cargo xtask torture";

/// Killed, starved, and given nonsense: what each test tries, by the name of its figures.
pub(crate) const TORTURE: [Section; 15] = [
    Section {
        key: "attachment",
        title: "Killed while it attaches",
        words: "An attachment is killed (`ptrace`) before each of its system calls, from the first one to the last: between two of them nothing changes outside a process, so these are all the states that a killed loader can leave behind. Each is one with a guard that works, or one without any, as `status` says; the next command goes on.",
        command: COMMAND,
    },
    Section {
        key: "upgrade and reload",
        title: "Killed while it upgrades or reloads",
        words: "The same on a guarded interface, before each system call of a renewal and of a reload, from the first one on that changes something.",
        command: COMMAND,
    },
    Section {
        key: "reset",
        title: "Killed while it resets the counters",
        words: "The same with `stats --reset`.",
        command: COMMAND,
    },
    Section {
        key: "upgrades across ABIs",
        title: "Upgraded across ABIs",
        words: "The portguard of commit e6a0683 is built from that commit, and attaches guards of ABI 4. `portguard attach` upgrades them in place, and is killed before each of its system calls, from the first one on that changes something. Each kill leaves the old guard or the new one; the next command finishes the upgrade. The counters of both add up to what was sent, in total and for each source.",
        command: COMMAND,
    },
    Section {
        key: "orders",
        title: "Orders",
        words: "A guard is switched from audit to enforcing, with a list that alone covers the allowed source, and back; and both commands are killed before each of their system calls, from the first one on that changes something. Towards enforcing the list is put in force first, towards audit the program. No allowed packet may be lost; while the guard enforces, a denied source sends, and nothing of it may be delivered.",
        command: COMMAND,
    },
    Section {
        key: "unload",
        title: "Detached by another tool",
        words: "`xdp-loader unload` of xdp-tools 1.5 (Debian 13) detaches the link of a guard that a service keeps. The kernel tells nobody; the service looks once a second, and puts the guard back. The port is open meanwhile.",
        command: COMMAND,
    },
    Section {
        key: "lists",
        title: "Lists of all sizes",
        words: "Lists of 2 to 100,002 entries are switched, one after the other.",
        command: COMMAND,
    },
    Section {
        key: "memory",
        title: "A kernel that has nothing to give",
        words: "Each `bpf` call of an upgrade and of a reload fails once with ENOMEM, E2BIG and EPERM (`strace --inject`). The loader says so, or does without; the list in force stays.",
        command: COMMAND,
    },
    Section {
        key: "descriptors",
        title: "Loaders that may open no more files",
        words: "An upgrade and a reload with a limit of 4 to 63 descriptors.",
        command: COMMAND,
    },
    Section {
        key: "limits",
        title: "Loaders whose memory is limited",
        words: "A list of 50,002 entries is loaded, by `reload` and by `attach`, in memory control groups of 2 to 63 MiB, which the maps are charged to. The loader is refused memory, or is killed; or it has enough.",
        command: COMMAND,
    },
    Section {
        key: "files",
        title: "Files that are broken",
        words: "The file is removed, a directory, a pipe, a device, a link to nowhere or to itself, unreadable, anyone's to write, binary, cut short, empty, nonsense; under a service, `reload` and `attach`.",
        command: COMMAND,
    },
    Section {
        key: "full disk",
        title: "A full disk",
        words: "The state directory has no byte left. The lists are put in force all the same.",
        command: COMMAND,
    },
    Section {
        key: "races",
        title: "Portguards that race",
        words: "Six commands and a service change one guard at the same time.",
        command: COMMAND,
    },
    Section {
        key: "interfaces",
        title: "Interfaces that are made again",
        words: "The interface is deleted and made again, under a service. No packet is sent before it is up, which it is brought only when the guard is back.",
        command: COMMAND,
    },
    Section {
        key: "names and places",
        title: "Interfaces that get another name, or another place",
        words: "The interface is renamed under traffic, and moved to another network namespace and back; the guard goes along, and is shown where it is.",
        command: COMMAND,
    },
];

/// Under a real systemd.
pub(crate) const SYSTEMD: Section = Section {
    key: "systemd",
    title: "systemd",
    words: "\
A virtual machine with Debian's packages boots with `portguard@eth0.service` and the drop-ins for rpcbind. The unit is started, \
reloaded, killed, stopped with SIGSTOP until its watchdog ends it, restarted and stopped, with good and with broken lists, while \
an allowed and a denied flow run and tcpdump looks on behind the guard. At the end, rpcbind must not start without its guard. \
In a second boot, a bond makes the interface 60 seconds later, and an NFS server waits for rpcbind. In a third one, the interface comes between \
the readiness of the service and the check of its guard, which is in audit mode.",
    command: "cargo xtask systemd-test",
};

/// For a long time.
pub(crate) const SOAK: Section = Section {
    key: "soak",
    title: "Soak",
    words: "\
`portguard run` under a flood in which every packet has a new forged source, among allowed ones, while the list is changed twice a \
second. Memory, descriptors and maps must be as large at the end as at half time, and the sums must hold to the last packet.",
    command: "cargo xtask soak --seconds N",
};

const SECTIONS: [Section; TORTURE.len() + 2] = {
    let mut sections = [SYSTEMD; TORTURE.len() + 2];
    let mut number = 0;
    while number < TORTURE.len() {
        sections[number] = TORTURE[number];
        number += 1;
    }
    sections[TORTURE.len() + 1] = SOAK;
    sections
};

pub(crate) const DOCUMENT: Document = Document {
    path: "docs/reliability.md",
    head: "\
# Reliability

A guard that opens when something breaks protects nobody. What is promised is in the README (*When things go wrong*); here is how
it was broken on purpose. The figures below are written by the commands that make them.

In every test but the last two, a denied and an allowed flow of numbered datagrams, over IPv4 and IPv6, run while things go wrong.
No denied datagram may be delivered; every allowed one must be, once; the counters must hold exactly what was sent; `status` must
agree with the kernel after every fault; and nothing may be left behind.
",
    sections: &SECTIONS,
};
