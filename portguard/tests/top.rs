//! `top` without a terminal and without guards: what it makes of polls, times and keys, and what it draws.

#[path = "top/cut.rs"]
mod cut;

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use insta::assert_snapshot;
use portguard::guard::{Hook, SetId, Snapshot, Source};
use portguard::interface::XdpMode;
use portguard::top::keys;
use portguard::top::model::{Model, Order, Poll, Reading};
use portguard::top::rate::Rate;
use portguard::top::view::{self, Palette};
use portguard::top::view_state::{Flow, Page, ViewState};
use portguard_common::reason::{ByFault, Denial};
use portguard_common::rpc::{Procedure, REQUESTS, Request, Requests};
use portguard_common::totals::Count;
use portguard_common::transport::Protocol;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

const SECOND: u64 = 1_000_000_000;
/// 2026-11-23T05:12:31.123456Z.
const NOW: u64 = 1_795_410_751_123_456_789;

fn count(packets: u64) -> Count {
    Count { packets, bytes: 68 * packets }
}

fn source(address: &str, packets: u64, first: u64, last: u64) -> Source {
    let mut requests: Requests = [0; REQUESTS];
    requests[Procedure::Dump as usize] = packets - packets / 4;
    requests[Request::new(Protocol::Tcp, Procedure::NotRpc).index()] = packets / 4;
    let [first_seen, last_seen] = [first, last].map(|age| NOW - age * SECOND);
    Source {
        address: address.parse().unwrap(),
        count: count(packets),
        asked: (&requests).into(),
        first_seen,
        last_seen,
    }
}

/// Counters with these sources, and `unattributed` packets of others; in the second `second` after they began.
fn snapshot(second: u64, allowed: u64, unattributed: u64, sources: &[Source]) -> Snapshot {
    let mut denied = count(unattributed);
    let mut requests = [0; REQUESTS];
    requests[Procedure::Dump as usize] = unattributed;
    for source in sources {
        denied.add(source.count);
        for (sum, more) in requests.iter_mut().zip(Requests::from(&source.asked)) {
            *sum += more;
        }
    }
    Snapshot {
        taken_at: NOW + second * SECOND,
        since: NOW - 3600 * SECOND,
        set: SetId(1),
        allowed: count(allowed),
        denied: Denial::ALL.map(|reason| if reason == Denial::NotAllowed { denied } else { count(0) }),
        faults: ByFault::default(),
        would_drop: count(0),
        sources: sources.to_vec(),
        unattributed: count(unattributed),
        requests,
        not_logged: 0,
    }
}

fn poll_of(interface: &str, snapshot: Snapshot) -> Poll {
    let found = Ok(Reading { hook: Hook::Xdp(XdpMode::Native), enforcing: true, snapshot });
    Poll { interface: interface.to_owned(), found }
}

fn update(model: &mut Model, second: u64, polls: Vec<Poll>) {
    model.update(Duration::from_secs(second), NOW + second * SECOND, Ok(polls));
}

const FLOOD: &str = "203.0.113.9";
const V6: &str = "2001:db8:3::9";
const SCANNER: &str = "198.51.100.20";

/// A minute of a flood that comes and goes, and of two slow sources.
fn minute() -> Model {
    let mut model = Model::new(Vec::new());
    let mut flood = 0;
    for second in 0..=60 {
        flood += if second % 20 < 12 { 700 * (second % 20) } else { 0 };
        let sources = [
            source(FLOOD, 1000 + flood, 300, 0),
            source(V6, 40 + 3 * second, 7200, 1),
            source(SCANNER, 400_000, 200_000, 95),
        ];
        update(
            &mut model,
            second,
            vec![poll_of("eth0", snapshot(second, 10 * second, 50 * second, &sources))],
        );
    }
    model
}

fn draw(model: &Model, state: &ViewState, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let every = Duration::from_secs(1);
    terminal.draw(|frame| view::draw(frame, model, state, every, Palette::Colours)).unwrap();
    terminal
}

fn picture(model: &Model, state: &ViewState, width: u16, height: u16) -> String {
    draw(model, state, width, height).backend().to_string()
}

/// Presses keys, one after the other: characters, or Enter for `\n`, Escape for `\u{1b}`, Tab for `\t`, down for `\u{b}`.
fn press(model: &mut Model, state: &mut ViewState, text: &str) -> Flow {
    let mut next = Flow::Show;
    for character in text.chars() {
        let code = match character {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            '\u{b}' => KeyCode::Down,
            character => KeyCode::Char(character),
        };
        let action = keys::action(&KeyEvent::new(code, KeyModifiers::NONE), &state.page);
        next = state.apply(action.expect("a key that means something"), model);
    }
    next
}

fn order(model: &Model, state: &ViewState) -> Vec<String> {
    state.rows(model).iter().map(|(_, row)| row.source.address.to_string()).collect()
}

fn rate_of(model: &Model, address: &str) -> Option<Rate> {
    let rows = model.rows(None, &ViewState::default().filter, Order::Packets);
    let (_, row) = rows.iter().find(|(_, row)| row.source.address.to_string() == address).expect("a source");
    row.rate
}

#[test]
fn the_screen_at_80x24() {
    assert_snapshot!(picture(&minute(), &ViewState::default(), 80, 24));
}

#[test]
fn the_screen_at_200x60() {
    assert_snapshot!(picture(&minute(), &ViewState::default(), 200, 60));
}

#[test]
fn the_screen_before_there_is_a_rate() {
    let mut model = Model::new(Vec::new());
    update(&mut model, 0, vec![poll_of("eth0", snapshot(0, 3, 0, &[source(FLOOD, 9, 5, 0)]))]);
    assert_snapshot!(picture(&model, &ViewState::default(), 80, 24));
}

#[test]
fn the_help() {
    let (mut model, mut state) = (minute(), ViewState::default());
    press(&mut model, &mut state, "?");
    assert_snapshot!(picture(&model, &state, 80, 24));
    press(&mut model, &mut state, "?");
    assert_eq!(state.page, Page::Sources);
}

#[test]
fn a_filter_while_it_is_typed_and_then() {
    let (mut model, mut state) = (minute(), ViewState::default());
    press(&mut model, &mut state, "/203");
    assert_snapshot!(picture(&model, &state, 80, 24));
    press(&mut model, &mut state, "\n");
    assert_eq!(order(&model, &state), [FLOOD]);
    assert!(picture(&model, &state, 80, 24).contains("1 of 3 sources, filter: 203"));
    // Given up, the one before is in force; and the keys have their meaning again.
    press(&mut model, &mut state, "/\u{8}\u{8}\u{8}2001:db8::/32");
    assert_eq!(order(&model, &state), [V6]);
    press(&mut model, &mut state, "\u{1b}");
    assert_eq!(order(&model, &state), [FLOOD]);
    press(&mut model, &mut state, "c");
    assert_eq!(order(&model, &state).len(), 3);
}

#[test]
fn paused_nothing_moves_and_nothing_is_lost() {
    let (mut model, mut state) = (minute(), ViewState::default());
    press(&mut model, &mut state, " ");
    let paused = picture(&model, &state, 80, 24);
    assert_snapshot!(paused);
    for second in 61..=63 {
        let sources = [source(FLOOD, 1_000_000 + 50 * second, 300, 0)];
        update(&mut model, second, vec![poll_of("eth0", snapshot(second, 700, 3000, &sources))]);
        assert_eq!(picture(&model, &state, 80, 24), paused, "second {second}");
    }
    press(&mut model, &mut state, " ");
    assert!(!state.is_paused());
    assert_eq!(rate_of(state.shown(&model), FLOOD).map(|rate| rate.packets), Some(50.0));
}

#[test]
fn a_followed_source() {
    let (mut model, mut state) = (minute(), ViewState::default());
    press(&mut model, &mut state, "p\n");
    assert_eq!(state.page, Page::Followed);
    for second in 61..=100_u64 {
        let sources =
            [source(FLOOD, 139_600, 300, 0), source(SCANNER, 400_000 + (second - 60).pow(2), 200_000, 0)];
        update(&mut model, second, vec![poll_of("eth0", snapshot(second, 700, 3000, &sources))]);
    }
    assert_snapshot!(picture(&model, &state, 80, 24));
    update(&mut model, 101, vec![poll_of("eth0", snapshot(101, 700, 500_000, &[]))]);
    let gone = picture(&model, &state, 80, 24);
    assert!(gone.contains("no longer remembers it") && gone.contains("401600"), "{gone}");
    press(&mut model, &mut state, "\u{1b}");
    assert_eq!(state.page, Page::Sources);
    assert!(model.followed().is_none());
}

#[test]
fn several_interfaces_in_audit_mode_gone_and_there() {
    let mut model = Model::new(vec!["wan0".to_owned(), "eth0".to_owned(), "eth1".to_owned()]);
    for second in 0..10 {
        let sources = [source(V6, 20 * second, 9, 0)];
        let mut audit = snapshot(second, 5, 0, &sources);
        audit.would_drop = audit.all_denied();
        let audit = Reading { hook: Hook::Xdp(XdpMode::Generic), enforcing: false, snapshot: audit };
        let gone = Poll { interface: "eth1".to_owned(), found: Err("eth1: no guard is attached".to_owned()) };
        let polls = vec![
            Poll { interface: "wan0".to_owned(), found: Ok(audit) },
            poll_of("eth0", snapshot(second, 7, 0, &[source(FLOOD, 3 * second, 9, 0)])),
            gone,
        ];
        update(&mut model, second, polls);
    }
    let mut state = ViewState::default();
    assert_snapshot!(picture(&model, &state, 80, 40));
    assert!(picture(&model, &state, 80, 24).contains("1 more guarded interface: "));
    press(&mut model, &mut state, "\t\t");
    assert_eq!(state.interface.as_deref(), Some("eth0"));
    assert_eq!(order(&model, &state), [FLOOD]);
    press(&mut model, &mut state, "\t\t");
    assert_eq!(state.interface, None);
}

#[test]
fn sources_in_each_order() {
    let (mut model, mut state) = (minute(), ViewState::default());
    let sources = |flood: u64, v6: u64, bytes: u64| {
        let mut large = source(SCANNER, 500, 90, 3);
        large.count.bytes = bytes;
        [source(FLOOD, flood, 9, 2), source(V6, v6, 8, 0), large]
    };
    for (second, flood, v6) in [(61, 90_000, 220), (62, 90_010, 300)] {
        update(
            &mut model,
            second,
            vec![poll_of("eth0", snapshot(second, 0, 0, &sources(flood, v6, 1 << 40)))],
        );
    }
    for (key, expected) in [
        ("p", [FLOOD, SCANNER, V6]),
        ("b", [SCANNER, FLOOD, V6]),
        ("r", [V6, FLOOD, SCANNER]),
        ("l", [V6, FLOOD, SCANNER]),
    ] {
        press(&mut model, &mut state, key);
        assert_eq!(order(&model, &state), expected, "{key}");
    }
}

#[test]
fn the_chosen_source_stays_chosen_when_the_order_changes() {
    let (mut model, mut state) = (minute(), ViewState::default());
    press(&mut model, &mut state, "p\u{b}\u{b}");
    let chosen = |model: &Model, state: &ViewState| {
        let rows = state.rows(model);
        rows[state.cursor(&rows).unwrap()].1.source.address.to_string()
    };
    assert_eq!(chosen(&model, &state), FLOOD);
    press(&mut model, &mut state, "l");
    assert_eq!(chosen(&model, &state), FLOOD);
    update(&mut model, 61, vec![poll_of("eth0", snapshot(61, 0, 0, &[source(V6, 500, 9, 0)]))]);
    assert_eq!(chosen(&model, &state), V6, "the only one");
    update(&mut model, 62, vec![poll_of("eth0", snapshot(62, 0, 0, &[]))]);
    assert_eq!(state.cursor(&state.rows(&model)), None);
    press(&mut model, &mut state, "\u{b}\n");
    assert_eq!(state.page, Page::Sources, "there is nothing to follow");
}

#[test]
fn rates_are_growth_by_time_whatever_the_time_between_looks() {
    let mut model = Model::new(Vec::new());
    let at =
        |second: u64, packets| vec![poll_of("eth0", snapshot(second, 0, 0, &[source(FLOOD, packets, 9, 0)]))];
    update(&mut model, 0, at(0, 100));
    assert_eq!(rate_of(&model, FLOOD), None);
    update(&mut model, 4, at(4, 140));
    assert_eq!(rate_of(&model, FLOOD), Some(Rate { packets: 10.0, bytes: 680.0 }));
    // A source that was not there has come since; one that has lost a part of its packets is not negative.
    let polls = [source(FLOOD, 30, 9, 0), source(V6, 200, 0, 0)];
    update(&mut model, 6, vec![poll_of("eth0", snapshot(6, 0, 500, &polls))]);
    assert_eq!(rate_of(&model, FLOOD).map(|rate| rate.packets), Some(0.0));
    assert_eq!(rate_of(&model, V6).map(|rate| rate.packets), Some(100.0));
}

#[test]
fn counters_that_begin_anew_give_no_absurd_rates() {
    let mut model = Model::new(vec!["eth0".to_owned()]);
    for second in [0, 60] {
        update(
            &mut model,
            second,
            vec![poll_of("eth0", snapshot(second, 0, 0, &[source(FLOOD, 9_000_000, 9, 0)]))],
        );
    }
    let mut anew = snapshot(61, 0, 0, &[source(FLOOD, 30, 0, 0)]);
    // Reset, a millisecond before the look.
    (anew.since, anew.set) = (anew.taken_at - 1_000_000, SetId(2));
    update(&mut model, 61, vec![poll_of("eth0", anew.clone())]);
    let refused = |model: &Model| {
        let watched = model.interfaces(None).next().expect("an interface");
        let guarded = watched.state.as_ref().expect("a guard");
        guarded.refused.expect("a rate").packets
    };
    assert_eq!(refused(&model), 30.0);
    assert_eq!(rate_of(&model, FLOOD).map(|rate| rate.packets), Some(30.0));
    // Gone for an hour, and attached again ten seconds before the look.
    model.update(Duration::from_secs(3600), NOW + 3600 * SECOND, Ok(vec![]));
    anew = snapshot(7200, 0, 0, &[source(FLOOD, 200, 0, 0)]);
    (anew.since, anew.set) = (anew.taken_at - 10 * SECOND, SetId(3));
    update(&mut model, 7200, vec![poll_of("eth0", anew)]);
    assert_eq!(rate_of(&model, FLOOD).map(|rate| rate.packets), Some(20.0));
}

#[test]
fn a_guard_that_is_gone_is_shown_so_for_a_minute() {
    let mut model = minute();
    update(&mut model, 61, vec![]);
    assert!(picture(&model, &ViewState::default(), 80, 24).contains("no guard is attached any more"));
    update(&mut model, 130, vec![]);
    assert_eq!(model.interfaces(None).count(), 0);
    assert!(
        picture(&model, &ViewState::default(), 80, 24).contains("no interface of this network namespace")
    );
    // One that was asked for by name stays, and is not lost when nothing can be looked at.
    let mut model = Model::new(vec!["eth0".to_owned()]);
    let gone = || Poll { interface: "eth0".to_owned(), found: Err("eth0: no such interface".to_owned()) };
    update(&mut model, 0, vec![gone()]);
    update(&mut model, 1000, vec![gone()]);
    model.update(Duration::from_secs(1001), NOW, Err("no netlink".to_owned()));
    let picture = picture(&model, &ViewState::default(), 80, 24);
    assert!(picture.contains("no such interface") && picture.contains("no netlink"), "{picture}");
}

#[test]
fn every_page_fits_every_screen() {
    let mut model = minute();
    let mut pages = vec![ViewState::default()];
    for keys in ["?", "/203.0.113.0/24", "\u{b}\n", " "] {
        let mut state = ViewState::default();
        press(&mut model, &mut state, keys);
        pages.push(state);
    }
    for state in &pages {
        for (width, height) in
            (1..60).map(|size| (size * 4, size)).chain((1..60).map(|size| (size, 200 / size)))
        {
            draw(&model, state, width, height);
        }
    }
}

#[test]
fn what_matters_is_on_the_smallest_screen() {
    let mut model = cut::extremes(false);
    let screen = picture(&model, &ViewState::default(), 40, 24);
    for expected in
        [" enp0s31f6np0.40: audit only", "would drop", "allowed", "2001:db8:aaaa", "unattributed: "]
    {
        assert!(screen.contains(expected), "{expected}:\n{screen}");
    }
    assert_snapshot!(screen);
    let mut state = ViewState::default();
    press(&mut model, &mut state, "p\u{b}\n");
    assert_snapshot!("a_followed_source_on_the_smallest_screen", picture(&model, &state, 40, 20));
    for (width, height, told) in
        [(39, 24, "needs 40x10 or more"), (40, 9, "needs 40x10 or more"), (12, 9, "too small")]
    {
        assert!(picture(&model, &state, width, height).contains(told), "{width}x{height}");
    }
}

#[test]
fn without_colours_there_are_none() {
    let (model, state) = (minute(), ViewState::default());
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let every = Duration::from_secs(1);
    terminal.draw(|frame| view::draw(frame, &model, &state, every, Palette::Plain)).unwrap();
    let coloured = |terminal: &Terminal<TestBackend>| {
        let cells = &terminal.backend().buffer().content;
        cells.iter().any(|cell| cell.fg != ratatui::style::Color::Reset)
    };
    assert!(!coloured(&terminal));
    assert!(coloured(&draw(&model, &state, 80, 24)), "and otherwise there are some");
    assert_eq!(terminal.backend().to_string(), picture(&model, &state, 80, 24), "the same text");
}
