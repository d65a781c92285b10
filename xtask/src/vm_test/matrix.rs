//! What was found out, kernel by kernel, as a table.

use std::fmt::Write as _;

use super::debian::Series;
use super::devices;
use super::verdict::{Console, Verdict};

/// One line of the matrix: some tests of one suite.
pub(super) struct Check {
    /// What works if they pass.
    what: &'static str,
    /// Where they are: `portguard/tests/SUITE`.
    pub(super) suite: &'static str,
    /// Their names.
    pub(super) tests: &'static [&'static str],
}

/// The lines of the matrix.
pub(super) const CHECKS: [Check; 32] = [
    Check {
        what: "the table of frames, host build",
        suite: PROGRAM_SUITE,
        tests: &[
            "the_host_build_judges_ethernet_frames_as_the_table_says",
            "the_host_build_judges_raw_ip_frames_as_the_table_says",
        ],
    },
    Check {
        what: "the table of frames in the kernel: verdict and counters",
        suite: PROGRAM_SUITE,
        tests: &["the_kernel_judges_and_counts_ethernet_frames_as_the_table_says"],
    },
    Check {
        what: "the same without Ethernet header (tun)",
        suite: PROGRAM_SUITE,
        tests: &["the_kernel_judges_and_counts_raw_ip_frames_as_the_table_says"],
    },
    Check {
        what: "the same in audit mode",
        suite: PROGRAM_SUITE,
        tests: &["in_audit_mode_everything_passes_and_is_counted_the_same"],
    },
    Check {
        what: "the same for frames of several pages (MTU 9000)",
        suite: PROGRAM_SUITE,
        tests: &["the_kernel_judges_and_counts_frames_of_several_pages_as_the_table_says"],
    },
    Check {
        what: "the same with headers spread over several buffers",
        suite: PROGRAM_SUITE,
        tests: &["it_does_not_matter_how_much_of_a_frame_is_in_its_first_buffer"],
    },
    Check {
        what: "50,000 random frames: oracle, host build and kernel agree",
        suite: PROGRAM_SUITE,
        tests: &["parsers::oracle_host_and_kernel_agree_on_random_frames"],
    },
    Check {
        what: "`udp: lookups`: the table of calls, and 50,000 random calls",
        suite: PROGRAM_SUITE,
        tests: &[
            "calls::the_kernel_permits_lookups_only",
            "calls::lists_that_permit_no_calls_over_udp_deny_them_and_nothing_else",
            "parsers::oracle_host_and_kernel_agree_on_random_calls",
        ],
    },
    Check {
        what: "the same with calls spread over several buffers",
        suite: PROGRAM_SUITE,
        tests: &["calls::the_kernel_permits_lookups_only_however_little_is_in_the_first_buffer"],
    },
    Check {
        what: "look-ups: the index, the tries and the list agree",
        suite: PROGRAM_SUITE,
        tests: &["lookups::index_tries_and_list_agree"],
    },
    Check {
        what: "entries with conditions: the longest one decides, and lets pass as many packets as its rate",
        suite: PROGRAM_SUITE,
        tests: &[
            "conditions::the_longest_entry_decides_with_its_own_conditions",
            "conditions::an_entry_lets_pass_as_many_datagrams_in_a_second_as_its_rate",
        ],
    },
    Check {
        what: "conditions come and go under traffic; explain says what becomes of packets",
        suite: "lifecycle",
        tests: &[
            "conditions::changes::conditions_come_and_go_and_no_packet_leaks_and_none_is_lost_in_native_mode",
            "conditions::wire::what_explain_says_of_lists_with_conditions_is_what_becomes_of_the_packets",
        ],
    },
    Check {
        what: "the clock is set, forward and back: an entry never allows later than its `until` plus 2 s",
        suite: "lifecycle",
        tests: &["conditions::set_clocks::an_entry_ends_in_time_and_comes_back_when_the_clock_is_set"],
    },
    Check {
        what: "the machine sleeps (suspend to memory) beyond the `until` of an entry: it has ended when the machine wakes",
        suite: "lifecycle",
        tests: &["conditions::set_clocks::an_entry_ends_while_its_machine_sleeps"],
    },
    Check {
        what: "attach, native mode on veth, under traffic",
        suite: "lifecycle",
        tests: &["modes::native_mode_on_veth"],
    },
    Check {
        what: "attach, generic mode on veth, under traffic",
        suite: "lifecycle",
        tests: &["modes::generic_mode_on_veth"],
    },
    Check {
        what: "attach, reload, upgrade, detach on virtio-net, native mode",
        suite: "lifecycle",
        tests: &["modes::native_mode_on_virtio_net"],
    },
    Check {
        what: "attach, reload, upgrade, detach on virtio-net, generic mode",
        suite: "lifecycle",
        tests: &["modes::generic_mode_on_virtio_net"],
    },
    Check {
        what: "reload and upgrade under traffic: nothing leaks, nothing is lost, counters kept",
        suite: "lifecycle",
        tests: &[
            "reload::no_packet_leaks_and_none_is_lost_while_a_thousand_entries_are_replaced",
            "upgrade::upgrades_in_place_neither_leak_nor_lose_and_keep_the_counters",
        ],
    },
    Check {
        what: "detach leaves nothing behind",
        suite: "lifecycle",
        tests: &["detach::detach_opens_the_port_again_and_leaves_nothing_behind"],
    },
    Check {
        what: "explain: what it says of 10,000 sources is what becomes of their packets",
        suite: "lifecycle",
        tests: &["explain::wire::what_explain_says_is_what_becomes_of_the_packet"],
    },
    Check {
        what: "explain moves no counter, and knows each entry; audit mode, tun",
        suite: "lifecycle",
        tests: &[
            "explain::asking_moves_no_counter_and_leaves_nothing_behind",
            "explain::a_file_that_has_changed_is_not_taken_for_the_list_in_force",
            "explain::in_audit_mode_it_says_what_would_be_dropped",
            "explain::frames_without_an_ethernet_header_are_judged_as_such",
        ],
    },
    Check {
        what: "explain says of each call over UDP what the program does with it",
        suite: "lifecycle",
        tests: &["calls::explain_says_of_each_call_what_the_program_does_with_it"],
    },
    Check {
        what: "attach mounts the BPF file system where it is missing",
        suite: "lifecycle",
        tests: &["bpffs::attach_mounts_it_where_it_is_missing_and_says_so"],
    },
    Check {
        what: "a guarded bond: ports come and go, its mode changes, and why it has no native mode",
        suite: "lifecycle",
        tests: &[
            "devices::changes::ports_of_every_kind_can_join_a_guarded_bond",
            "devices::changes::the_mode_of_a_guarded_bond_can_be_changed",
            "devices::changes::why_a_bond_has_no_native_mode_is_told_by_name",
        ],
    },
    Check {
        what: "a guarded interface gets another MTU, and is put into a VRF",
        suite: "lifecycle",
        tests: &["devices::changes::a_guard_goes_on_in_a_vrf_and_with_another_mtu"],
    },
    Check {
        what: "the queues of a guarded cable change",
        suite: "lifecycle",
        tests: &["devices::changes::a_guard_goes_on_while_the_queues_of_a_cable_change"],
    },
    Check {
        what: "doctor names MPLS and seg6local",
        suite: "lifecycle",
        tests: &["devices::detours::doctor_names_mpls_and_seg6local"],
    },
    Check {
        what: "doctor says of an ipvlan and of a VRF what a denied host gets",
        suite: "lifecycle",
        tests: &[
            "devices::diagnosis::an_ipvlan_is_covered_by_the_card_under_it_but_not_from_its_siblings",
            "devices::diagnosis::ports_of_a_vrf_are_open_to_sockets_of_the_vrf",
        ],
    },
    Check {
        what: "an ipvlan of each mode is covered by a guard under it",
        suite: "lifecycle",
        tests: &["devices::refused::ipvlan_is_covered_by_what_is_under_it"],
    },
    Check {
        what: "at tcx, frames and packets are judged and counted as at XDP",
        suite: PROGRAM_SUITE,
        tests: &[
            "at_tcx_frames_are_judged_and_counted_as_at_xdp",
            "at_tcx_packets_without_an_ethernet_header_are_judged_from_their_ip_header_on",
            "parsers::at_tcx_oracle_host_and_kernel_agree_on_random_frames_and_calls",
        ],
    },
    Check {
        what: "the verifier takes every program",
        suite: PROGRAM_SUITE,
        tests: &[
            "verifier::every_program_is_verified_with_room_to_spare",
            "verifier::every_program_is_verified_in_audit_mode_and_with_conditions_too",
        ],
    },
];

/// The tests of the kernel program.
pub(super) const PROGRAM_SUITE: &str = "program";

/// The facts that the tests tell, and what they are.
const FACTS: [(&str, &str); 5] = [
    ("program", "the program that `attach` takes"),
    ("portguard_frags", "instructions verified: `portguard_frags`"),
    ("portguard", "instructions verified: `portguard`"),
    ("portguard_tcx", "instructions verified: `portguard_tcx`"),
    ("portguard_clock", "instructions verified: `portguard_clock`"),
];

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    /// The kinds of devices alone.
    Devices,
    /// The kernel program alone: the verifier, and its verdicts.
    Program,
}

impl Scope {
    /// Whether a check belongs to it.
    fn has(self, check: &Check) -> bool {
        match self {
            Self::Everything => true,
            Self::Devices => check.tests.iter().all(|test| devices::is_about(test)),
            Self::Program => check.suite == PROGRAM_SUITE,
        }
    }
}

/// What was found out about one kernel.
pub(super) struct Column {
    /// What was tried.
    pub(super) scope: Scope,
    /// Its series.
    pub(super) series: Series,
    /// The version of its package.
    pub(super) version: String,
    /// What its machine has printed.
    pub(super) console: Console,
}

impl Column {
    /// What a check has come to: the worst of its tests.
    fn cell(&self, check: &Check) -> Cell {
        let cells = check.tests.iter().map(|test| match self.console.verdict(check.suite, test) {
            Some(Verdict::Passed) => Cell::Yes,
            Some(Verdict::NotSupported(reason)) => Cell::Lacking(reason.clone()),
            Some(Verdict::Failed) => Cell::Failed(format!("{test} failed")),
            None => Cell::Failed(format!("{test} did not run to its end")),
        });
        cells.max().unwrap_or_else(|| Cell::Failed("no test".to_owned()))
    }

    /// What is wrong with this kernel, or with portguard on it.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if !self.console.complete {
            failures.push("the machine did not get to its end".to_owned());
        }
        if self.scope != Scope::Program {
            failures.extend(devices::failures(self));
        }
        for check in CHECKS.iter().filter(|check| self.scope.has(check)) {
            if let Cell::Failed(why) = self.cell(check) {
                failures.push(format!("{}: {why}", check.what));
            }
        }
        for (fact, what) in FACTS {
            if self.scope == Scope::Everything && self.console.fact(fact).is_none() {
                failures.push(format!("{what}: not told"));
            }
        }
        failures.extend(self.console.complaints.iter().map(|line| format!("the kernel complains: {line}")));
        failures
    }

    /// What the kernel lacks.
    fn lacks(&self) -> Vec<String> {
        let mut reasons: Vec<String> = CHECKS
            .iter()
            .filter_map(|check| match self.cell(check) {
                Cell::Lacking(reason) => Some(reason),
                _ => None,
            })
            .collect();
        reasons.dedup();
        reasons
    }
}

/// What is in a field of the matrix; the worst is the greatest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Yes,
    /// The kernel cannot do what it takes.
    Lacking(String),
    Failed(String),
}

impl Cell {
    fn symbol(&self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Lacking(_) => "not supported",
            Self::Failed(_) => "**FAILED**",
        }
    }
}

/// The matrix as a document.
pub(super) fn document(columns: &[Column]) -> String {
    let mut text = "\
# Kernels

Written by `cargo xtask vm-test`, which boots Debian's kernels in virtual machines and runs these tests on each. *Not
supported* is what the kernel cannot do, by its own answer; it is below the table.

"
    .to_owned();
    text += &table(columns);
    for column in columns {
        for reason in column.lacks() {
            let _ = write!(text, "\n- Linux {}: {reason}", column.series.name);
        }
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn table(columns: &[Column]) -> String {
    let mut text = String::new();
    let mut row = |first: &str, cells: Vec<String>| {
        let _ = writeln!(text, "| {first} | {} |", cells.join(" | "));
    };
    row("", columns.iter().map(|column| column.version.clone()).collect());
    row("---", columns.iter().map(|_| "---".to_owned()).collect());
    for check in &CHECKS {
        row(check.what, columns.iter().map(|column| column.cell(check).symbol().to_owned()).collect());
    }
    for (fact, what) in FACTS {
        let told = |column: &Column| column.console.fact(fact).unwrap_or("**not told**").to_owned();
        row(what, columns.iter().map(told).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The console of a machine on which all is well, but for what `change` changes.
    fn column(change: impl Fn(&str) -> String) -> Column {
        let mut text = String::new();
        for check in &CHECKS {
            text += &format!("vm-test: begin {}\n", check.suite);
            for test in check.tests {
                text += &change(&format!("test {test} ... ok\n"));
            }
        }
        for (fact, _) in FACTS {
            text += &change(&format!("fact: {fact} = 7\n"));
        }
        text += &change(&devices::example());
        text += "vm-test: complete\n";
        let series = Series::named("6.12").expect("a series");
        Column {
            scope: Scope::Everything,
            series,
            version: "6.12.1-1".to_owned(),
            console: Console::read(&text),
        }
    }

    #[test]
    fn all_is_well_if_everything_passes_and_everything_is_told() {
        let column = column(str::to_owned);
        assert_eq!(column.failures(), [""; 0]);
        let document = document(&[column]);
        assert_eq!(document.matches("| yes |").count(), CHECKS.len());
        assert!(document.contains("| instructions verified: `portguard` | 7 |"), "{document}");
    }

    #[test]
    fn a_test_that_fails_or_does_not_run_is_a_failure() {
        for test in CHECKS.iter().flat_map(|check| check.tests) {
            let line = format!("test {test} ... ok\n");
            for instead in [format!("test {test} ... FAILED\n"), String::new()] {
                let column = column(|text| if text == line { instead.clone() } else { text.to_owned() });
                let failures = column.failures();
                assert!(failures.len() == 1 && failures[0].contains(test), "{failures:?}");
                assert!(document(&[column]).contains("| **FAILED** |"));
            }
        }
    }

    #[test]
    fn what_is_not_told_is_a_failure() {
        let column =
            column(
                |text| if text.starts_with("fact: portguard =") { String::new() } else { text.to_owned() },
            );
        assert_eq!(column.failures(), ["instructions verified: `portguard`: not told"]);
    }

    #[test]
    fn what_a_kernel_lacks_is_neither_a_failure_nor_a_pass() {
        let test = CHECKS[5].tests[0];
        let unsupported = format!(
            "test {test} ... FAILED\n---- {test} stdout ----\nnot supported by this kernel: it is old\n"
        );
        let column = column(|text| {
            if text == format!("test {test} ... ok\n") { unsupported.clone() } else { text.to_owned() }
        });
        assert_eq!(column.failures(), [""; 0]);
        let document = document(&[column]);
        assert!(document.contains("| not supported |"), "{document}");
        assert!(document.ends_with("\n- Linux 6.12: it is old\n"), "{document}");
    }
}
