//! XDP programs of others, and others who meet the guard.

use std::process::Command;

use portguard_testkit::net::run;

use crate::support::{IFACE, Output, PORTGUARD, SingleHost, program_on};

fn xdp_filter(host: &SingleHost, arguments: &[&str]) -> Command {
    let mut command = host.machine.command(&host.namespace, "xdp-filter");
    command.args(arguments);
    command
}

#[test]
fn a_foreign_program_is_named_and_left_alone() {
    for mode in ["native", "skb"] {
        let host = SingleHost::new(PORTGUARD);
        let portguard = host.portguard();
        let list = host.list();
        run(&mut xdp_filter(&host, &["load", "--mode", mode, "--features", "udp", IFACE]))
            .expect("xdp-filter");
        let foreign = program_on(&host.namespace, IFACE).expect("the foreign program");

        let at_xdp = ["--hook", "xdp"];
        for more in
            [&at_xdp[..], &["--mode", "generic"], &["--mode", "native"], &["--hook", "xdp", "--audit"]]
        {
            let told = portguard.fails(1, &[&["attach", IFACE, "--allowlist", &list], more].concat());
            assert!(told.contains("eth0: another XDP program is attached already"), "{told}");
            assert!(told.contains(&format!("program {foreign}, xdpfilt")), "{told}");
            assert!(
                told.contains(if mode == "skb" { "in generic mode" } else { "in native mode" }),
                "{told}"
            );
        }
        for command in ["detach", "reload", "status", "stats"] {
            portguard.fails(4, &[command, IFACE]);
        }
        assert_eq!(program_on(&host.namespace, IFACE), Some(foreign), "untouched");
        host.machine.assert_tidy(0);

        run(&mut xdp_filter(&host, &["unload", IFACE])).expect("xdp-filter");
        portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    }
}

#[test]
fn others_cannot_take_the_guard_off_by_accident() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    portguard.ok(&["attach", IFACE, "--allowlist", &host.list()]);
    let before = portguard.status();
    let ip = |arguments: [&str; 6]| {
        let mut command = host.machine.command(&host.namespace, "ip");
        Output::of(command.args(arguments))
    };
    for mode in ["xdp", "xdpdrv", "xdpgeneric"] {
        ip(["link", "set", "dev", IFACE, mode, "off"]);
    }
    let detached = Output::of(
        host.machine.command(&host.namespace, "bpftool").args(["net", "detach", "xdp", "dev", IFACE]),
    );
    assert_ne!(detached.code, 0, "{detached:?}");
    let loaded =
        Output::of(&mut xdp_filter(&host, &["load", "--mode", "native", "--features", "udp", IFACE]));
    assert_ne!(loaded.code, 0, "{loaded:?}");
    assert_eq!(portguard.status(), before);
    assert_eq!(program_on(&host.namespace, IFACE), Some(before.program.id));
}
