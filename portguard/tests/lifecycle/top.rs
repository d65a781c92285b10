//! `top`, in a real terminal: what it shows is what `stats` says, keys and sizes work, and nothing is left of it.

use std::env;
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Forger, Size, Terminal, rpc, wait_until};

use crate::flood::flood;
use crate::support::{
    ALLOWED, DENIED, IFACE, OTHER, PATIENCE, PORTGUARD, Portguard, Role, SERVER, SingleHost, Stats, Testbed,
    Traffic, flow,
};

const SMALL: Size = Size { columns: 80, rows: 24 };
const LARGE: Size = Size { columns: 200, rows: 60 };

/// Starts `portguard top`, and waits until it has the terminal.
fn start(command: &mut Command, size: Size) -> Terminal {
    let terminal = Terminal::spawn(command, size).expect("a terminal");
    terminal.until("a first screen", PATIENCE, |text| text.starts_with("portguard top")).expect("top");
    assert_taken_over(&terminal);
    terminal
}

fn top(portguard: Portguard<'_>, arguments: &[&str], size: Size) -> Terminal {
    start(&mut portguard.command([&["top"], arguments].concat()), size)
}

#[track_caller]
fn until(terminal: &Terminal, text: &str) {
    terminal
        .until(text, PATIENCE, |screen| screen.contains(text))
        .unwrap_or_else(|error| panic!("{error:#}"));
}

#[track_caller]
fn assert_taken_over(terminal: &Terminal) {
    // The cursor is hidden when the whole screen is there.
    let taken = wait_until("the terminal is taken over", PATIENCE, || terminal.is_taken_over());
    assert!(taken.is_ok(), "{}", terminal.text());
}

/// Presses keys, and waits for what they do.
#[track_caller]
fn press(terminal: &Terminal, keys: &str, text: &str) {
    terminal.type_in(keys).expect("a terminal");
    until(terminal, text);
}

/// Waits until it has ended well, and asserts that nothing is left of it.
#[track_caller]
fn assert_leaves(mut terminal: Terminal, why: &str) {
    let status = terminal.ended(PATIENCE).unwrap_or_else(|error| panic!("{why}: {error:#}"));
    assert_eq!(status.code(), Some(0), "{why}: {}", terminal.text());
    assert_clean(&terminal, why);
    assert_eq!(terminal.text(), "", "{why}: the screen is the one before");
}

#[track_caller]
fn assert_clean(terminal: &Terminal, why: &str) {
    // What it has written last is still on its way.
    let clean = wait_until("the terminal is as before", PATIENCE, || terminal.is_as_before());
    assert!(clean.is_ok(), "{why}: {:?}", terminal.screen().state_formatted());
}

/// The addresses in the table, from top to bottom.
fn rows(text: &str) -> Vec<String> {
    let table = text.lines().skip_while(|line| !line.starts_with("denied source")).skip(1);
    let first_words = table.filter_map(|line| line.split_whitespace().next());
    first_words.filter(|word| word.contains(['.', ':'])).map(str::to_owned).collect()
}

fn has_colours(terminal: &Terminal) -> bool {
    let screen = terminal.screen();
    let (rows, columns) = screen.size();
    let mut cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    cells.any(|(row, column)| {
        screen.cell(row, column).is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
    })
}

/// Many small packets, a few large ones, and one SYN; and three that are allowed.
fn send(testbed: &Testbed) -> Stats {
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("a packet socket");
    for (packet, times) in [
        (Packet::udp(flow(DENIED[0], SERVER[0], 111), &rpc::dump_call()), 20),
        (Packet::udp(flow(OTHER[1], SERVER[1], 111), &[0; 1400]), 10),
        (Packet::tcp_syn(flow(OTHER[0], SERVER[0], 111)), 1),
        (Packet::udp(flow(ALLOWED[0], SERVER[0], 111), &[0; 8]), 3),
    ] {
        for _ in 0..times {
            forger.send(&packet).expect("sending");
        }
    }
    testbed.portguard().stats_of(34)
}

#[test]
fn it_shows_what_stats_says_and_keys_and_sizes_work() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let mut stats = send(&testbed);
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("a packet socket");
    let more = Packet::udp(flow(DENIED[0], SERVER[0], 111), &rpc::dump_call());
    for (size, other, plain) in [(SMALL, LARGE, false), (LARGE, SMALL, true)] {
        let mut command = testbed.portguard().command(["top", IFACE]);
        command.env(if plain { "NO_COLOR" } else { "COLORTERM" }, "1");
        let terminal = start(&mut command, size);
        until(&terminal, &format!("{IFACE}: enforcing, native mode, since {}", stats.since));
        until(&terminal, &format!("in total {} packets", stats.totals.dropped.packets));
        until(&terminal, &format!("in total {} packets", stats.totals.allowed.packets));
        assert_eq!(has_colours(&terminal), !plain);
        let screen = terminal.text();
        for row in &stats.sources {
            let shown = screen.lines().find(|line| line.starts_with(&format!("{} ", row.source)));
            let shown: Vec<&str> = shown.expect("each source").split_whitespace().collect();
            assert_eq!(shown[1], row.packets.to_string(), "{screen}");
        }
        let dump = screen.lines().find(|line| line.starts_with(&DENIED[0].to_string())).expect("a source");
        assert!(dump.contains(" DUMP "), "{screen}");

        for (key, title, first) in [("b", "bytes▾", OTHER[1]), ("p", "packets▾", DENIED[0])] {
            press(&terminal, key, title);
            assert_eq!(rows(&terminal.text())[0], first.to_string(), "{}", terminal.text());
        }
        press(&terminal, "/203.0.113.0/24", "1 of 3 sources, filter: 203.0.113.0/24_");
        assert_eq!(rows(&terminal.text()), [OTHER[0].to_string()]);
        press(&terminal, "\rc", "3 sources");
        // The first source is chosen, and then the second one.
        press(&terminal, "\u{1b}[B\u{1b}[B\r", &format!("{} on {IFACE}", OTHER[1]));
        let permille = 10_000 / stats.totals.dropped.packets;
        let share = format!("packets     10, {}.{}% of all denied here", permille / 10, permille % 10);
        until(&terminal, &share);
        press(&terminal, "\u{1b}", "3 sources");
        press(&terminal, "?", "show one interface after the other");
        press(&terminal, "?", "3 sources");

        press(&terminal, " ", "PAUSED");
        let before = format!("in total {} packets", stats.totals.dropped.packets);
        forger.send(&more).expect("sending");
        let packets = stats.packets();
        stats = testbed.portguard().stats_of(packets + 1);
        assert!(terminal.text().contains(&before), "{}", terminal.text());
        press(&terminal, " ", &format!("in total {} packets", stats.totals.dropped.packets));

        for size in [other, Size { columns: 30, rows: 8 }, Size { columns: 47, rows: 13 }, size] {
            terminal.resize(size).expect("another size");
            let fits = |text: &str| {
                let head = text.lines().next().unwrap_or_default();
                head == "too small" || head.chars().count() == usize::from(size.columns)
            };
            terminal.until(&format!("{size:?}"), PATIENCE, fits).unwrap_or_else(|error| panic!("{error:#}"));
        }
        terminal.type_in("q").expect("a terminal");
        assert_leaves(terminal, "q");
    }
}

#[test]
fn however_it_ends_the_terminal_is_as_before() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    for keys in ["q", "\u{1b}", "\u{3}", "?\u{3}", "/1\u{3}"] {
        let terminal = top(portguard, &[], SMALL);
        terminal.type_in(keys).expect("a terminal");
        assert_leaves(terminal, &format!("{keys:?}"));
    }
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        let terminal = top(portguard, &[IFACE], LARGE);
        terminal.signal(signal).expect("a process");
        assert_leaves(terminal, signal.as_str());
    }
    let status = top(portguard, &[], SMALL).hang_up(PATIENCE).expect("it ends when nobody is there any more");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn it_leaves_the_terminal_before_it_panics() {
    let itself = env::current_exe().expect("this test");
    let mut command = Command::new(itself);
    command.args(["--ignored", "--exact", "top::panics_in_a_terminal", "--nocapture", "--test-threads=1"]);
    let mut terminal = Terminal::spawn(&mut command, SMALL).expect("a terminal");
    until(&terminal, "taken over");
    assert_taken_over(&terminal);
    terminal.type_in("x").expect("a terminal");
    let status = terminal.ended(PATIENCE).expect("its end");
    assert_clean(&terminal, "a panic");
    assert!(!terminal.text().contains("taken over"), "{}", terminal.text());
    until(&terminal, "panicked at");
    until(&terminal, "on purpose");
    assert_eq!(status.code(), Some(0), "a panic was expected: {}", terminal.text());
}

/// As a look that panics does.
#[test]
#[ignore = "run by another test, in a terminal"]
#[should_panic(expected = "on purpose")]
fn panics_in_a_terminal() {
    let mut terminal = portguard::top::terminal::Terminal::enter().expect("a terminal");
    terminal.draw(|frame| frame.render_widget("taken over", frame.area())).expect("a terminal");
    crossterm::event::read().expect("a key");
    let looking = thread::spawn(|| assert!(env::args().count() == 0, "on purpose"));
    looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn guards_come_and_go() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let terminal = top(portguard, &[], SMALL);
    until(&terminal, "no interface of this network namespace is guarded");
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    until(&terminal, "eth0: enforcing, native mode");
    portguard.ok(&["attach", IFACE, "--allowlist", &list, "--audit"]);
    until(&terminal, "eth0: audit only, nothing is dropped");
    until(&terminal, "would drop");
    host.plug("eth1", "peer1");
    portguard.ok(&["attach", "eth1", "--allowlist", &list, "--mode", "generic"]);
    until(&terminal, "eth1: enforcing, generic mode");
    press(&terminal, "\t\t", "eth1: enforcing");
    terminal.until("one interface", PATIENCE, |text| !text.contains("eth0:")).expect("the other one");
    press(&terminal, "\t", "eth0: audit only");
    portguard.ok(&["detach", IFACE]);
    until(&terminal, "eth0: not guarded");
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    until(&terminal, "eth0: enforcing, native mode");
    host.namespace.ip("link delete eth1").expect("ip");
    until(&terminal, "eth1: not guarded");
    terminal.type_in("q").expect("a terminal");
    assert_leaves(terminal, "guards that have gone");

    // Asked for by name, it has to be there at the start, and the terminal is not touched.
    let mut terminal = Terminal::spawn(&mut portguard.command(["top", "eth1"]), SMALL).expect("a terminal");
    assert_eq!(terminal.ended(PATIENCE).expect("its end").code(), Some(4));
    until(&terminal, "error: eth1: no such interface. There are: ");
    assert_clean(&terminal, "no such interface");
    let terminal = top(portguard, &[IFACE], SMALL);
    portguard.ok(&["detach", IFACE]);
    until(&terminal, "no guard is attached. Attach one with: portguard attach eth0");
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    until(&terminal, "eth0: enforcing");
    host.namespace.ip(&format!("link delete {IFACE}")).expect("ip");
    until(&terminal, "no such interface");
    terminal.type_in("\u{3}").expect("a terminal");
    assert_leaves(terminal, "an interface that has gone");
}

/// The packets a second that are dropped, if the screen tells.
fn drop_rate(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(" dropped"))?;
    let (rate, _) = line.strip_prefix(" dropped")?.split_once("/s")?;
    let (number, factor) = match rate.trim().split_once(' ') {
        Some((number, "k")) => (number, 1e3),
        Some((number, _)) => (number, 1e6),
        None => (rate.trim(), 1.0),
    };
    Some(number.parse::<f64>().expect("a number") * factor)
}

#[test]
fn rates_are_those_of_the_traffic_also_when_counters_begin_anew() {
    /// The flows send no faster, but a machine that was busy may count in one look what came during two.
    const LIMIT: f64 = 10_000.0;
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let terminal = top(portguard, &[], SMALL);
    thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        let moves = |text: &str| drop_rate(text).is_some_and(|rate| rate > 50.0);
        terminal.until("a rate", PATIENCE, moves).unwrap_or_else(|error| panic!("{error:#}"));
        for anew in [&["stats", "--reset"][..], &["attach", IFACE, "--allowlist", &testbed.list()]] {
            portguard.ok(anew);
            let since = portguard.stats().since;
            until(&terminal, &format!("since {since}"));
            let rate = drop_rate(&terminal.text()).expect("a rate");
            assert!(rate < LIMIT, "{}", terminal.text());
        }
        traffic.end();
    });
    terminal.until("silence", PATIENCE, |text| drop_rate(text) == Some(0.0)).expect("a rate that ends");
    let dropped = portguard.stats().totals.dropped.packets;
    until(&terminal, &format!("in total {dropped} packets"));
}

#[test]
fn a_flood_in_audit_mode_is_shown_with_those_that_are_not_remembered() {
    let testbed = Testbed::new(PORTGUARD);
    let list = testbed.list();
    testbed.portguard().ok(&["attach", IFACE, "--allowlist", &list, "--audit", "--sources", "256"]);
    let terminal = top(testbed.portguard(), &[], SMALL);
    let (all, _) = flood(&testbed, 0, 3000);
    let stats = testbed.portguard().stats_of(all.packets);
    assert!(stats.unattributed.packets > 0, "{stats:?}");
    until(&terminal, "would drop");
    until(&terminal, &format!("in total {} packets", stats.totals.would_drop.packets));
    until(&terminal, &format!("unattributed: {} packets", stats.unattributed.packets));
    until(&terminal, &format!(" {} sources ", stats.sources.len()));
    // The one that is no forgery has sent most.
    press(&terminal, "p", "packets▾");
    assert_eq!(rows(&terminal.text())[0], stats.sources[0].source.to_string());
}
