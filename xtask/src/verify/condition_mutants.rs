//! Deliberate bugs in the conditions of entries: whether the test that is about each catches it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::DOCUMENT;
use super::patched::{Patched, must, name, patches};

/// Where the patches are.
const PATCHES: &str = "xtask/condition-mutants";

/// A test: its package, the argument of `cargo test` that names its program, and its name.
type Test = (&'static str, &'static str, &'static str);

/// The test that must catch each bug.
const CAUGHT_BY: [(&str, Test); 8] = [
    (
        "a rate has one more",
        (
            "portguard",
            "--test=program",
            "conditions::an_entry_lets_pass_as_many_datagrams_in_a_second_as_its_rate",
        ),
    ),
    (
        "a tick is never over",
        (
            "portguard",
            "--test=lifecycle",
            "conditions::ends::an_entry_answers_its_clients_until_its_end_and_then_no_more_without_any_process",
        ),
    ),
    (
        "an entry allows at its end",
        ("portguard-common", "--lib", "conditions::tests::conditions_are_asked_in_the_order_of_the_document"),
    ),
    (
        "each cpu has a rate of its own",
        (
            "portguard",
            "--test=lifecycle",
            "conditions::rate::an_entry_lets_pass_its_rate_over_all_cpus_in_generic_mode",
        ),
    ),
    (
        "interfaces are ignored",
        ("portguard", "--test=program", "conditions::the_longest_entry_decides_with_its_own_conditions"),
    ),
    (
        "the conditions of the next entry decide",
        ("portguard", "--test=program", "conditions::the_longest_entry_decides_with_its_own_conditions"),
    ),
    (
        "the conditions of the shorter prefix decide",
        ("portguard", "--test=program", "conditions::the_longest_entry_decides_with_its_own_conditions"),
    ),
    (
        "what has expired is counted and passes",
        ("portguard", "--test=program", "conditions::the_longest_entry_decides_with_its_own_conditions"),
    ),
];

/// Plants each bug into a copy of the committed sources, and runs its test there.
pub(super) fn run() -> Result<()> {
    let mut table = "| bug | test that catches it |\n|---|---|\n".to_owned();
    let mut escaped = Vec::new();
    for patch in &patches(PATCHES)? {
        let name = name(patch);
        let (package, program, test) = test_of(&name)?;
        eprintln!("verify: mutant of conditions: {name}");
        let caught =
            is_caught(patch, (package, program, test)).with_context(|| format!("the bug \"{name}\""))?;
        eprintln!("verify: mutant of conditions: {name}: {}", if caught { "caught" } else { "NOT CAUGHT" });
        table += &format!("| {name} | `{}`: `{test}` |\n", program.trim_start_matches("--test="));
        if !caught {
            escaped.push(name);
        }
    }
    ensure!(escaped.is_empty(), "not caught: {}", escaped.join(", "));
    DOCUMENT.write("condition-mutants", &table)
}

fn test_of(name: &str) -> Result<Test> {
    let found = CAUGHT_BY.iter().find(|(bug, _)| *bug == name);
    found.map(|(_, test)| *test).with_context(|| format!("no test is to catch the bug \"{name}\""))
}

fn is_caught(patch: &Path, (package, program, test): Test) -> Result<bool> {
    let patched = Patched::new(patch)?;
    // A bug that does not compile would be caught by every test.
    must(&mut patched.test_in(package, &[program, "--no-run"]))?;
    let output = patched
        .test_in(package, &[program, "--", "--exact", test])
        .output()
        .context("cannot run cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |verdict: &str| text.contains(&format!("test {test} ... {verdict}\n"));
    ensure!(
        line("FAILED") || line("ok"),
        "the test {test} did not run:\n{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(line("FAILED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bugs_fit_the_sources_and_each_has_its_test() {
        super::super::patched::assert_fit(PATCHES);
        let names: Vec<String> =
            patches(PATCHES).expect("the patches").iter().map(|patch| name(patch)).collect();
        assert_eq!(names, CAUGHT_BY.map(|(bug, _)| bug));
    }
}
