//! The exit code of `status`: whether each guard is what the caller asks for.

use crate::support::{IFACE, PORTGUARD, SingleHost};

/// `status` with these arguments, as text and as JSON: the exit code, which is the same for both, and the text.
#[track_caller]
fn status(host: &SingleHost, arguments: &[&str]) -> (i32, String) {
    let portguard = host.portguard();
    let text = portguard.run(&[&["status"], arguments].concat());
    let json = portguard.run(&[&["status", "--json"], arguments].concat());
    assert_eq!(text.code, json.code, "{arguments:?}: {text:?} {json:?}");
    (text.code, text.stdout)
}

#[test]
fn the_exit_code_tells_guards_that_enforce_from_those_in_audit_mode() {
    let host = SingleHost::bare(PORTGUARD);
    for (interface, peer) in [(IFACE, "peer0"), ("eth1", "peer1"), ("eth2", "peer2")] {
        host.plug(interface, peer);
    }
    let portguard = host.portguard();
    let list = host.list();

    assert_eq!(status(&host, &[]), (0, String::new()), "no guard is no failure");
    assert_eq!(status(&host, &["--guarded"]), (1, String::new()), "unless one is asked for");
    assert_eq!(status(&host, &[IFACE]).0, 4);
    assert_eq!(status(&host, &["--guarded", IFACE]).0, 4);

    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    for arguments in [&[][..], &[IFACE], &["--guarded"], &["--guarded", IFACE]] {
        let (code, text) = status(&host, arguments);
        assert_eq!(code, 0, "enforcing: {arguments:?}");
        assert!(text.starts_with("eth0: enforcing"), "{arguments:?}: {text}");
    }

    portguard.ok(&["attach", "eth1", "--allowlist", &list, "--audit"]);
    let expected: [(&[&str], i32); 8] = [
        (&[], 1),
        (&["eth1"], 1),
        (&[IFACE, "eth1"], 1),
        (&[IFACE], 0),
        (&["--guarded"], 0),
        (&["--guarded", "eth1"], 0),
        (&["--guarded", IFACE, "eth1"], 0),
        // One has no guard: its error decides.
        (&["eth1", "eth2"], 4),
    ];
    for (arguments, code) in expected {
        assert_eq!(status(&host, arguments).0, code, "{arguments:?}");
    }
    let (code, text) = status(&host, &["eth1", IFACE]);
    assert_eq!(code, 1);
    assert!(text.contains("eth1: audit only") && text.contains("eth0: enforcing"), "all is printed: {text}");
    assert_eq!(status(&host, &["--guarded", IFACE, "eth1", "eth2"]).0, 4, "eth2 has no guard");
}
