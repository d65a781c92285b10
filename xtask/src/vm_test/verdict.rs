//! Reads from the console of a machine what became of the tests.

use std::collections::BTreeMap;

/// Before the output of a suite, with its name.
pub(super) const BEGIN: &str = "vm-test: begin";
/// Behind it, with its name and exit code.
pub(super) const END: &str = "vm-test: end";
/// Before the kernel's log.
pub(super) const LOG: &str = "vm-test: kernel log";
/// The last words of a machine that did not die.
pub(super) const COMPLETE: &str = "vm-test: complete";

/// How a test says that the kernel itself cannot do what it is about; the reason follows.
const NOT_SUPPORTED: &str = "not supported by this kernel: ";
/// How a test tells something for the matrix: `fact: NAME = VALUE`.
const FACT: &str = "fact: ";
/// What the kernel says when something is wrong with it.
const COMPLAINTS: [&str; 5] = ["WARNING: ", "BUG: ", "Oops: ", "Kernel panic", "Call Trace:"];

/// What became of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has passed.
    Passed,
    /// It has failed.
    Failed,
    /// It could not be tried, because the kernel lacks something: neither passed nor a fault of portguard's.
    NotSupported(String),
}

/// What a machine has printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Console {
    /// The tests that have run, as `SUITE NAME`.
    verdicts: BTreeMap<String, Verdict>,
    /// What they have told.
    facts: BTreeMap<String, String>,
    /// What the kernel has complained about.
    pub(super) complaints: Vec<String>,
    /// Whether it got to its end.
    pub(super) complete: bool,
}

impl Console {
    /// Reads the output.
    pub(super) fn read(text: &str) -> Self {
        let mut console = Self::default();
        let (mut suite, mut told_by) = ("", String::new());
        let mut in_log = false;
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            if let Some(name) = line.strip_prefix(BEGIN) {
                suite = name.trim();
            } else if line.starts_with(END) {
                suite = "";
            } else if line.starts_with(LOG) {
                in_log = true;
            } else if line.starts_with(COMPLETE) {
                (in_log, console.complete) = (false, true);
            } else if in_log {
                if COMPLAINTS.iter().any(|complaint| line.contains(complaint)) {
                    console.complaints.push(line.to_owned());
                }
            } else if let Some(fact) = line.strip_prefix(FACT) {
                let (name, value) = fact.split_once(" = ").unwrap_or((fact, ""));
                console.facts.insert(name.to_owned(), value.to_owned());
            } else if let Some(name) =
                line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"))
            {
                told_by = format!("{suite} {name}");
            } else if let Some((_, reason)) = line.split_once(NOT_SUPPORTED) {
                if let Some(verdict @ Verdict::Failed) = console.verdicts.get_mut(&told_by) {
                    *verdict = Verdict::NotSupported(reason.to_owned());
                }
            } else if let Some((name, verdict)) = verdict(line) {
                console.verdicts.insert(format!("{suite} {name}"), verdict);
            }
        }
        console
    }

    /// What became of a test; `None` if it has not come to an end.
    pub(super) fn verdict(&self, suite: &str, test: &str) -> Option<&Verdict> {
        self.verdicts.get(&format!("{suite} {test}"))
    }

    /// What a test has told.
    pub(super) fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }
}

/// `test NAME ... ok`
fn verdict(line: &str) -> Option<(&str, Verdict)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    match result {
        "ok" => Some((name, Verdict::Passed)),
        "FAILED" => Some((name, Verdict::Failed)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
vm-test: begin program\r
\r
running 3 tests\r
test one ... ok\r
test two ... FAILED\r
test three ... FAILED\r
\r
successes:\r
\r
---- one stdout ----\r
fact: portguard = 5063\r
\r
failures:\r
\r
---- two stdout ----\r
thread 'two' panicked at here:1:2:\r
it does not work\r
\r
---- three stdout ----\r
thread 'three' panicked at here:1:2:\r
not supported by this kernel: frames in several buffers\r
\r
test result: FAILED. 1 passed; 2 failed\r
vm-test: end program 101\r
vm-test: begin lifecycle\r
test one ... FAILED\r
vm-test: end lifecycle 101\r
vm-test: kernel log\r
[    1.0] Linux version\r
[    2.0] WARNING: CPU: 0 PID: 1 at net/core/dev.c\r
vm-test: complete\r
";

    #[test]
    fn each_test_of_each_suite_has_a_verdict() {
        let console = Console::read(CONSOLE);
        assert!(console.complete);
        assert_eq!(console.verdict("program", "one"), Some(&Verdict::Passed));
        assert_eq!(console.verdict("program", "two"), Some(&Verdict::Failed));
        let reason = "frames in several buffers".to_owned();
        assert_eq!(console.verdict("program", "three"), Some(&Verdict::NotSupported(reason)));
        assert_eq!(console.verdict("lifecycle", "one"), Some(&Verdict::Failed));
        assert_eq!(console.verdict("program", "four"), None, "it has not run");
        assert_eq!(console.fact("portguard"), Some("5063"));
        assert_eq!(console.complaints.len(), 1);
    }

    #[test]
    fn a_machine_that_dies_is_not_complete_and_its_test_has_no_verdict() {
        let (before, _) = CONSOLE.split_once("test two").expect("it is there");
        let console = Console::read(&format!("{before}test two ... Kernel panic - not syncing"));
        assert!(!console.complete);
        assert_eq!(console.verdict("program", "two"), None);
    }

    #[test]
    fn a_test_that_passes_is_not_unsupported_whatever_it_prints() {
        let console = Console::read(
            "vm-test: begin program\ntest one ... ok\n---- one stdout ----\nnot supported by this kernel: x\n",
        );
        assert_eq!(console.verdict("program", "one"), Some(&Verdict::Passed));
    }
}
