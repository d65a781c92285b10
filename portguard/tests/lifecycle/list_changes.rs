//! `allow`, `revoke` and `edit` where guards use the list: what they write is in force.

use std::fs;
use std::process::Stdio;

use portguard_testkit::documents::change::Document;

use crate::support::{
    IFACE, Output, PORTGUARD, Portguard, Service, SingleHost, Traced, run_to, system_calls,
};

/// A host whose guard uses a list of both families.
fn guarded() -> (SingleHost, String) {
    let host = SingleHost::new(PORTGUARD);
    let list = host.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/32"]);
    host.portguard().ok(&["attach", IFACE, "--allowlist", &list]);
    (host, list)
}

fn is_allowed(portguard: Portguard<'_>, source: &str) -> bool {
    portguard.run(&["explain", source]).stdout.starts_with(&format!("{source} on eth0: allowed"))
}

#[test]
fn what_is_allowed_and_revoked_is_in_force_and_the_difference_is_shown() {
    let (host, list) = guarded();
    let portguard = host.portguard();
    assert!(!is_allowed(portguard, "198.51.100.7"));
    let told = portguard.ok(&["allow", "198.51.100.0/24", "--comment", "rack 4"]);
    assert_eq!(
        told,
        format!(
            "198.51.100.0/24 added to {list}, line 4\neth0: +1 -0, 2 unchanged, generation 1 -> 2\n  + 198.51.100.0/24\n"
        )
    );
    assert!(is_allowed(portguard, "198.51.100.7"));
    let status = portguard.status();
    assert_eq!((status.generation, &*status.allowlist.file.state), (2, "unchanged"));
    // Once more is once: neither the file nor the guard changes.
    let told = portguard.ok(&["allow", "198.51.100.0/24"]);
    assert_eq!(told, "198.51.100.0/24 is already on the list, line 4\n");
    assert_eq!(portguard.status(), status);

    let told = portguard.ok(&["revoke", "198.51.100.0/24", "--dry-run"]);
    assert!(told.contains("would be taken out of") && told.contains("eth0: +0 -1, 2 unchanged"), "{told}");
    assert_eq!(portguard.status(), status);
    let json = portguard.ok(&["revoke", "198.51.100.0/24", "--json"]);
    let document: Document = serde_json::from_str(&json).expect("one document");
    let guards = document.guards.expect("guards");
    assert!(document.written && guards.len() == 1 && guards[0].in_force, "{json}");
    assert_eq!((&*guards[0].interface, guards[0].generation), (IFACE, Some(3)));
    assert!(!is_allowed(portguard, "198.51.100.7"));
    assert_eq!(fs::read_to_string(&list).expect("the list"), "allow:\n  - 192.0.2.0/24\n  - 2001:db8::/32\n");
}

/// Through the service, which does not put it in force a second time when it notices the file.
#[test]
fn a_service_puts_it_in_force_and_reports_the_difference() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let told = portguard.ok(&["allow", "198.51.100.0/24"]);
    assert!(told.contains("198.51.100.0/24 added to"), "{told}");
    assert!(told.contains("eth0: +1 -0, 1 unchanged, generation 1 -> 2"), "{told}");
    assert!(is_allowed(portguard, "198.51.100.7"));
    let told = portguard.ok(&["revoke", "198.51.100.0/24"]);
    assert!(told.contains("eth0: +0 -1, 1 unchanged, generation 2 -> 3"), "{told}");
    // The last entry: by the same consent as of a reload.
    let told = portguard.fails(1, &["revoke", "192.0.2.0/24"]);
    assert!(told.contains("has no IPv4 entry any more") && told.contains("--allow-empty"), "{told}");
    let told = portguard.ok(&["revoke", "192.0.2.0/24", "--allow-empty"]);
    assert!(told.contains("eth0: +0 -1, 0 unchanged, generation 3 -> 4"), "{told}");
    assert_eq!(fs::read_to_string(&list).expect("the list"), "allow: []\n");
    service.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(service.ended().success());
    assert_eq!(portguard.status().generation, 4, "{}", service.said());
}

#[test]
fn what_a_reload_would_refuse_is_not_written() {
    let (host, list) = guarded();
    let portguard = host.portguard();
    let before = fs::read_to_string(&list).expect("the list");
    let told = portguard.fails(1, &["revoke", "2001:db8::/32"]);
    assert!(told.contains("has no IPv6 entry any more") && told.contains("--allow-empty"), "{told}");
    assert_eq!(fs::read_to_string(&list).expect("the list"), before);
    portguard.ok(&["revoke", "2001:db8::/32", "--allow-empty"]);
    assert_eq!(portguard.status().allowlist.prefixes_v6, 0);

    // While a change is on trial.
    host.lists.write("allowlist.yaml", ["192.0.2.0/24", "203.0.113.0/24"]);
    portguard.ok(&["reload", "--confirm=600"]);
    let on_trial = fs::read_to_string(&list).expect("the list");
    let told = portguard.fails(1, &["allow", "198.51.100.7"]);
    assert!(told.contains("a change waits for its confirmation"), "{told}");
    assert_eq!(fs::read_to_string(&list).expect("the list"), on_trial);
    portguard.ok(&["confirm"]);
    portguard.ok(&["allow", "198.51.100.7"]);
}

/// What was not confirmed comes into force by nobody's way.
#[test]
fn a_change_that_was_not_confirmed_does_not_come_along() {
    let (host, list) = guarded();
    let portguard = host.portguard();
    host.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/32", "203.0.113.0/24"]);
    portguard.ok(&["reload", "--confirm=1"]);
    let until = portguard_testkit::net::wait_until("it comes back", crate::support::PATIENCE, || {
        Ok(portguard.status().confirmation.is_some_and(|it| it.state == "rejected"))
    });
    until.expect("it comes back");
    let rejected = fs::read_to_string(&list).expect("the list");
    let told = portguard.fails(1, &["allow", "198.51.100.7"]);
    assert!(
        told.contains("has a change that was not confirmed") && told.contains("portguard reload eth0"),
        "{told}"
    );
    assert_eq!(fs::read_to_string(&list).expect("the list"), rejected);
    portguard.ok(&["reload"]);
    portguard.ok(&["allow", "198.51.100.7"]);
    // A change that somebody has made by hand comes into force as well, and the command says so.
    host.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/32"]);
    let Output { code, stdout, stderr } = portguard.run(&["allow", "198.51.100.7"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("+0 -1") && stderr.contains("all of it comes into force"), "{stdout}{stderr}");
}

#[test]
fn of_several_lists_one_has_to_be_named() {
    let (host, list) = guarded();
    let portguard = host.portguard();
    host.plug("eth7", "peer7");
    let other = host.lists.write("other.yaml", ["203.0.113.0/24"]);
    portguard.ok(&["attach", "eth7", "--allowlist", &other]);
    for verb in [&["allow", "198.51.100.7"][..], &["revoke", "192.0.2.0/24"], &["edit"]] {
        let told = portguard.fails(2, verb);
        assert!(told.contains("the guards here have several lists"), "{told}");
        assert!(told.contains(&list) && told.contains(&other), "{told}");
        assert!(told.contains(&format!("portguard {} --allowlist PATH", verb[0])), "{told}");
    }
    let told = portguard.ok(&["allow", "198.51.100.7", "--allowlist", &other]);
    assert!(told.contains("eth7: +1 -0") && !told.contains("eth0"), "{told}");
    // By another name it is the same list.
    let link = host.lists.path("link.yaml");
    std::os::unix::fs::symlink(&list, &link).expect("a link");
    let told = portguard.ok(&["allow", "198.51.100.7", "--allowlist", link.to_str().expect("UTF-8")]);
    assert!(told.contains("eth0: +1 -0"), "{told}");
    // Two guards with one list.
    portguard.ok(&["attach", "eth7", "--allowlist", &list]);
    let told = portguard.ok(&["revoke", "198.51.100.7"]);
    assert!(told.contains("eth0: +0 -1") && told.contains("eth7: +0 -1"), "{told}");
}

#[test]
fn a_list_that_guards_use_is_not_made_anew_when_its_file_is_gone() {
    let (host, list) = guarded();
    let portguard = host.portguard();
    fs::remove_file(&list).expect("removing");
    for verb in [&["allow", "198.51.100.7"][..], &["edit"]] {
        let told = portguard.fails(3, verb);
        assert!(told.contains("a new file would take all its entries out of force"), "{told}");
        let (_, command) = told.split_once("force from it: ").expect("a command");
        assert!(command.starts_with("cp "), "{told}");
    }
    assert!(!std::path::Path::new(&list).exists());
    assert_eq!(portguard.status().generation, 1);
}

#[test]
fn what_the_editor_has_made_is_in_force() {
    let (host, list) = guarded();
    let portguard = host.portguard();
    let edit = |script: &str| {
        let mut command = portguard.command(["edit"]);
        Output::of(command.env("EDITOR", script).stdin(Stdio::null()))
    };
    let told = edit("sed -i 's/192.0.2/198.51.100/'");
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stdout.contains("eth0: +1 -1, 1 unchanged, generation 1 -> 2"), "{told:?}");
    let before = fs::read_to_string(&list).expect("the list");
    let told = edit("sed -i '/2001/d'");
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.stderr.contains("no IPv6 entry any more") && told.stderr.contains("your edited copy"),
        "{told:?}"
    );
    let (_, copy) = told.stderr.split_once("your edited copy is in ").expect("a path");
    let copy = std::path::Path::new(copy.lines().next().expect("a line"));
    fs::remove_dir_all(copy.parent().expect("its directory")).expect("removing");
    assert_eq!(fs::read_to_string(&list).expect("the list"), before);
}

/// Whenever it is killed, the old list is there or the new one, and whoever comes next is not disturbed.
#[test]
fn a_process_that_is_killed_at_any_call_leaves_the_old_list_or_the_new_one() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let before = fs::read_to_string(&list).expect("the list");
    let after = format!("{before}  - 198.51.100.7\n");
    let arguments = ["allow", "198.51.100.7", "--allowlist", &list];
    let calls = system_calls(&mut portguard.command(arguments)).end;
    assert_eq!(fs::read_to_string(&list).expect("the list"), after);
    let (mut old, mut new) = (0, 0);
    for call in 0..calls {
        fs::write(&list, &before).expect("writing");
        if let Traced::Ended(code) = run_to(&mut portguard.command(arguments), call) {
            assert_eq!(code, 0, "{call}");
        }
        let text = fs::read_to_string(&list).expect("the list");
        *(if text == before { &mut old } else { &mut new }) += 1;
        assert!(text == before || text == after, "{call}: {text}");
        portguard.ok(&arguments);
        assert_eq!(fs::read_to_string(&list).expect("the list"), after, "{call}");
    }
    assert!(old > 20 && new > 0, "{old} {new}");
    let left = fs::read_dir(host.lists.folder()).expect("the folder").count();
    assert!(left <= 2, "{left} files");
    portguard.ok(&["revoke", "198.51.100.7", "--allowlist", &list]);
    assert_eq!(fs::read_dir(host.lists.folder()).expect("the folder").count(), 1);
}
