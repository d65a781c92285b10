//! How a change on trial ends: confirmed here or elsewhere, or not, with the command, its terminal and the guardian there or
//! gone.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use portguard_testkit::net::{Process, Size, Terminal, wait_until};

use super::{
    LONG, SHORT, assert_restored, guardians, kill_guardian, state, until_state, until_unwatched, write_longer,
};
use crate::support::{IFACE, PATIENCE, PORTGUARD, Testbed, program_on, under_traffic};

const SIZE: Size = Size { columns: 200, rows: 24 };
const QUESTION: &str = "Keep this? Type yes and Enter within ";

/// A testbed with a guard whose file has a longer list by now.
fn testbed() -> Testbed {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    write_longer(&testbed);
    testbed
}

/// `reload --confirm` in a terminal, which has asked.
fn ask(testbed: &Testbed, confirm: &str) -> Terminal {
    let command = &mut testbed.portguard().command(["reload", confirm]);
    let terminal = Terminal::spawn(command, SIZE).expect("a terminal");
    terminal.until("the question", PATIENCE, |text| text.contains(QUESTION)).expect("a question");
    terminal
}

#[test]
fn the_guardian_takes_a_reload_back_at_the_deadline_and_nothing_is_lost() {
    let testbed = testbed();
    let portguard = testbed.portguard();
    let before = portguard.status();
    let ((), exchanged) = under_traffic(&testbed, || {
        let told = portguard.ok(&["reload", "--confirm=2"]);
        assert!(told.contains("+1 -0"), "{told}");
        let restores = "portguard restores the previous state at ";
        assert!(told.contains(restores) && told.contains("unless you run: portguard confirm eth0"), "{told}");
        let pending = portguard.status();
        assert_eq!((state(&pending), pending.allowlist.prefixes_v4), (Some("pending"), 2));
        let text = portguard.ok(&["status"]);
        assert!(text.contains("waits for its confirmation until "), "{text}");
        until_state(portguard, Some("rejected"));
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    until_unwatched(&testbed);
    assert_restored(&testbed, &before);
    let text = portguard.ok(&["status"]);
    assert!(text.contains("rejected: not confirmed"), "{text}");
}

#[test]
fn a_first_attachment_that_is_not_confirmed_is_taken_off() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let told = portguard.ok(&["attach", IFACE, "--allowlist", &list, SHORT]);
    assert!(told.contains("attached in native mode"), "{told}");
    wait_until("no guard", PATIENCE, || Ok(portguard.all_status().is_empty())).expect("it is taken off");
    assert_eq!(program_on(testbed.server.namespace(), IFACE), None);
    until_unwatched(&testbed);
    testbed.machine.assert_tidy(0);

    portguard.ok(&["attach", IFACE, "--allowlist", &list, LONG]);
    assert_eq!(state(&portguard.status()), Some("pending"));
    assert_eq!(portguard.ok(&["confirm", IFACE]), "eth0: confirmed\n");
    until_unwatched(&testbed);
    assert_eq!(state(&portguard.status()), None);
    testbed.machine.assert_tidy(1);
}

#[test]
fn yes_on_the_terminal_keeps_the_change() {
    let testbed = testbed();
    let portguard = testbed.portguard();
    let mut terminal = ask(&testbed, LONG);
    assert!(terminal.text().contains("+1 -0"), "what has changed is told first: {}", terminal.text());
    terminal.type_in("what?\r").expect("typing");
    let again = |text: &str| text.matches(QUESTION).count() == 2;
    terminal.until("the question again", PATIENCE, again).expect("a question");
    terminal.type_in("yes\r").expect("typing");
    assert_eq!(terminal.ended(PATIENCE).expect("its end").code(), Some(0));
    terminal.until("a reply", PATIENCE, |text| text.contains("eth0: confirmed")).expect("a reply");
    let status = portguard.status();
    assert_eq!((state(&status), status.allowlist.prefixes_v4), (None, 2));
    assert!(!status.allowlist.changed_on_disk);
    until_unwatched(&testbed);
    testbed.machine.assert_tidy(1);
}

#[test]
fn no_on_the_terminal_restores_at_once() {
    let testbed = testbed();
    let before = testbed.portguard().status();
    let mut terminal = ask(&testbed, LONG);
    terminal.type_in("no\r").expect("typing");
    assert_eq!(terminal.ended(PATIENCE).expect("its end").code(), Some(1));
    assert_restored(&testbed, &before);
    until_unwatched(&testbed);
}

#[test]
fn silence_on_the_terminal_restores_at_the_deadline() {
    let testbed = testbed();
    let before = testbed.portguard().status();
    let mut terminal = ask(&testbed, "--confirm=2");
    assert_eq!(terminal.ended(PATIENCE).expect("its end").code(), Some(1));
    let told = "eth0: the change was not confirmed, and the previous state is in force";
    terminal.until(told, PATIENCE, |text| text.contains(told)).expect("an error");
    assert_restored(&testbed, &before);
    until_unwatched(&testbed);
}

#[test]
fn a_terminal_that_hangs_up_leaves_it_to_the_guardian() {
    let testbed = testbed();
    let portguard = testbed.portguard();
    let before = portguard.status();
    let (_, exchanged) = under_traffic(&testbed, || {
        let terminal = ask(&testbed, "--confirm=2");
        terminal.hang_up(PATIENCE).expect("its end");
        until_state(portguard, Some("rejected"))
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    assert_restored(&testbed, &before);
}

#[test]
fn a_terminal_that_hangs_up_leaves_time_to_confirm_from_elsewhere() {
    let testbed = testbed();
    let portguard = testbed.portguard();
    ask(&testbed, LONG).hang_up(PATIENCE).expect("its end");
    assert_eq!(portguard.ok(&["confirm"]), "eth0: confirmed\n");
    let status = portguard.status();
    assert_eq!((state(&status), status.allowlist.prefixes_v4), (None, 2));
    until_unwatched(&testbed);
    testbed.machine.assert_tidy(1);
}

#[test]
fn the_question_ends_when_it_is_confirmed_from_elsewhere() {
    let testbed = testbed();
    let portguard = testbed.portguard();
    let mut terminal = ask(&testbed, LONG);
    portguard.ok(&["confirm", IFACE]);
    assert_eq!(terminal.ended(PATIENCE).expect("its end").code(), Some(0));
    assert_eq!(state(&portguard.status()), None);
    let told = portguard.fails(1, &["confirm"]);
    assert!(told.contains("no change waits for its confirmation"), "{told}");
    let told = portguard.fails(1, &["confirm", IFACE]);
    assert!(told.contains("eth0: no change waits for its confirmation"), "{told}");
    testbed.machine.assert_tidy(1);
}

#[test]
fn a_command_that_is_killed_at_the_question_leaves_it_to_the_guardian() {
    for signal in [Signal::SIGKILL, Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        let testbed = testbed();
        let before = testbed.portguard().status();
        let mut terminal = ask(&testbed, "--confirm=2");
        terminal.signal(signal).expect("a process");
        terminal.ended(PATIENCE).expect("its end");
        assert_restored(&testbed, &before);
    }
}

#[test]
fn with_the_guardian_killed_status_says_overdue_and_the_next_command_restores() {
    for next in [&["reload", "eth0"][..], &["attach", "eth0"], &["stats", "--reset"], &["confirm", "eth0"]] {
        let testbed = testbed();
        let portguard = testbed.portguard();
        let before = portguard.status();
        portguard.ok(&["reload", SHORT]);
        kill_guardian(&testbed);
        let (_, exchanged) = under_traffic(&testbed, || until_state(portguard, Some("overdue")));
        exchanged.assert_sealed();
        let text = portguard.ok(&["status"]);
        assert!(text.contains("CONFIRMATION OVERDUE"), "{text}");
        portguard.ok(&["explain", "192.0.2.10"]);
        portguard.assert_counted(&exchanged);

        let output = portguard.run(next);
        assert!(output.stderr.contains("eth0: the change was not confirmed"), "{next:?}: {output:?}");
        let after = portguard.status();
        match next[0] {
            "confirm" => {
                assert_eq!(output.code, 1, "{output:?}");
                assert_restored(&testbed, &before);
            }
            // It is asked for.
            "reload" => assert_eq!((state(&after), after.allowlist.prefixes_v4), (None, 2), "{output:?}"),
            // The list in force stays.
            _ => {
                assert_eq!((state(&after), after.allowlist.prefixes_v4), (Some("rejected"), 1), "{output:?}");
            }
        }
    }
}

#[test]
fn a_guardian_that_is_told_to_end_restores_at_once() {
    let testbed = testbed();
    let before = testbed.portguard().status();
    testbed.portguard().ok(&["reload", LONG]);
    let [guardian] = guardians(&testbed)[..] else { panic!("one guardian") };
    kill(guardian, Signal::SIGTERM).expect("a guardian");
    assert_restored(&testbed, &before);
    until_unwatched(&testbed);
}

/// Its end of the pipes of a command that has ended would keep those who read them waiting.
#[test]
fn the_guardian_keeps_nothing_of_the_command_open() {
    let testbed = testbed();
    let command = &mut testbed.portguard().command(["reload", LONG]);
    let mut process = Process::spawn(command).expect("starting");
    assert!(process.wait(PATIENCE).expect("waiting").is_some_and(|status| status.success()));
    let [guardian] = guardians(&testbed)[..] else { panic!("one guardian") };
    let descriptors = || {
        let entries = std::fs::read_dir(format!("/proc/{guardian}/fd"))?.flatten();
        Ok(entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect::<Vec<_>>())
    };
    // Others are open for the moment of a look.
    wait_until("standard streams only", Duration::from_secs(10), || {
        let open: Vec<_> = descriptors()?;
        Ok(open.len() == 3 && open.iter().all(|path| path.as_os_str() == "/dev/null"))
    })
    .unwrap_or_else(|error| {
        panic!("{error:#}: {:?}", descriptors().unwrap_or_else(|error: std::io::Error| panic!("{error}")))
    });
    let session = nix::unistd::getsid(Some(guardian)).expect("a session");
    assert_ne!(session, nix::unistd::getsid(None).expect("a session"));
    assert_ne!(session, guardian, "it leads no session, so it never gets a terminal");
    testbed.portguard().ok(&["confirm"]);
    until_unwatched(&testbed);
}
