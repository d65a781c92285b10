//! No number, time or address is cut off so that it reads as another one, whatever the size of the screen.

use portguard::guard::{Hook, Source};
use portguard::interface::XdpMode;
use portguard::top::model::{Model, Poll, Reading};
use portguard::top::view_state::ViewState;

use super::{count, picture, press, snapshot, source, update};

/// Numbers of every length, and names and addresses as long as they can be. Rates do not change, so that a peak is the
/// same on each screen.
pub(super) fn extremes(enforcing: bool) -> Model {
    const SOURCES: [&str; 3] = ["2001:db8:aaaa:bbbb:cccc:dddd:eeee:fff1", "203.0.113.255", "fe80::1"];
    let mut model = Model::new(["enp0s31f6np0.40", "eth1", "gone0"].map(str::to_owned).to_vec());
    for second in 0..200 {
        let counts = [12_345_678_901_234 + 1_234_567 * second, 123_456_789 + 123 * second, 7];
        let sources: Vec<Source> = SOURCES
            .iter()
            .zip(counts)
            .map(|(address, packets)| source(address, packets, 200_000_000, 1_234_567))
            .collect();
        let mut long = snapshot(second, 9_876_543_210 + second, 98_765_432_109 + 9 * second, &sources);
        long.would_drop = count(31_415_926_535);
        let audit = snapshot(second, second, 1, &[source(SOURCES[1], 65 * second, 59, 0)]);
        let found =
            |enforcing, snapshot| Ok(Reading { hook: Hook::Xdp(XdpMode::Generic), enforcing, snapshot });
        let why = "gone0: the guard was taken off 1234567 seconds ago, by process 987654321";
        let polls = vec![
            Poll { interface: "enp0s31f6np0.40".to_owned(), found: found(enforcing, long) },
            Poll { interface: "eth1".to_owned(), found: found(!enforcing, audit) },
            Poll { interface: "gone0".to_owned(), found: Err(why.to_owned()) },
        ];
        update(&mut model, second, polls);
    }
    model
}

/// The words of a screen that have digits, each with its unit.
fn numbers(screen: &str) -> Vec<String> {
    let is_unit = |word: &str| {
        matches!(
            word.trim_end_matches([',', ')', ';']).trim_end_matches("/s"),
            "k" | "M"
                | "G"
                | "T"
                | "P"
                | "E"
                | "B"
                | "kB"
                | "MB"
                | "GB"
                | "TB"
                | "PB"
                | "s"
                | "m"
                | "h"
                | "d"
                | "y"
        )
    };
    let mut numbers: Vec<String> = Vec::new();
    for line in screen.lines() {
        let mut after_number = false;
        // A graph may follow at once.
        let line = line.replace(|c: char| ('\u{2580}'..='\u{259f}').contains(&c), " ");
        for word in line.trim_matches('"').split_whitespace() {
            if after_number && is_unit(word) {
                let last = numbers.last_mut().expect("a number");
                *last += word;
            }
            after_number = word.contains(|c: char| c.is_ascii_digit());
            if after_number {
                numbers.push(word.to_owned());
            }
        }
    }
    let bare = |number: &String| number.trim_matches(['(', ')', ',', ';', ':', '▾']).to_owned();
    numbers.iter().map(bare).collect()
}

/// The pages of a model, the last of them following its first source.
fn pages(model: &mut Model) -> Vec<ViewState> {
    let keys = ["", "?", "/2001:db8:aaaa:bbbb:cccc::/80", "p\u{b}\n", "\t", " "];
    let mut pages = Vec::new();
    for keys in keys {
        let mut state = ViewState::default();
        press(model, &mut state, keys);
        pages.push(state);
    }
    pages
}

#[test]
fn no_number_is_cut_off_so_that_it_reads_as_another_one() {
    for enforcing in [true, false] {
        let mut model = extremes(enforcing);
        for state in pages(&mut model) {
            // In full, and as `12.3 T` where there is no room for that.
            let mut known = numbers(&picture(&model, &state, 400, 100));
            for short in ["12.3T", "98.8G", "9.88G", "31.4G", "12.4T", "40x10", "1", "2"] {
                known.push(short.to_owned());
            }
            for width in 20..=240 {
                for height in [5, 10, 11, 14, 24, 40] {
                    let screen = picture(&model, &state, width, height);
                    for number in numbers(&screen) {
                        let is_marked = number.ends_with('…');
                        assert!(
                            is_marked || known.contains(&number),
                            "{number} at {width}x{height}:\n{screen}"
                        );
                    }
                    assert!(width > 46 || !screen.contains("peak 0"), "there is no graph:\n{screen}");
                }
            }
        }
    }
}
