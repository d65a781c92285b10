//! One more variant of a list that users see: whether it is everywhere without further change.

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};

use super::patched::{Patched, must, name, patches};

/// Where the patches are. Each has what a contributor writes: the variant, what finds it, and a case for the tests. The last
/// word of its name is the key of the variant.
const PATCHES: &str = "xtask/variants";

/// What shows that a variant is everywhere: arguments of `cargo test`. None of these tests names the variants of a list.
const PROOFS: [(&str, &[&str]); 3] = [
    ("text, JSON, CSV, metrics, history", &["--test=output", "--", "--nocapture", "lists::"]),
    (
        "the parser and the counters of the kernel",
        &["--test=program", "--", "--skip=parsers::", "--skip=lookups::"],
    ),
    ("the metrics of the service and stats", &["--test=lifecycle", "--", "service::metrics::"]),
];

/// Adds each variant to a copy of the committed sources, and runs the proofs there.
pub(super) fn run() -> Result<()> {
    for patch in &patches(PATCHES)? {
        let name = name(patch);
        let patched = Patched::new(patch)?;
        must(&mut patched.test(&["--no-run", "--test=output", "--test=program", "--test=lifecycle"]))
            .with_context(|| format!("the variant \"{name}\" does not compile"))?;
        let mut printed = Vec::new();
        for (what, arguments) in PROOFS {
            eprintln!("verify: variant: {name}: {what}");
            let output = patched.test(arguments).output().context("cannot run cargo test")?;
            std::io::stdout().write_all(&output.stdout).context("cannot print")?;
            ensure!(
                output.status.success(),
                "the variant \"{name}\" is missing in: {what}\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
            printed.extend(output.stdout);
        }
        let key = name.split(' ').next_back().unwrap_or_default();
        let shown = format!("shown: {key}\n");
        ensure!(
            String::from_utf8_lossy(&printed).contains(&shown),
            "no test has seen the variant \"{name}\""
        );
    }
    Ok(())
}

/// The short form. The long one compiles the kernel program, the library and its tests anew, which takes minutes.
#[cfg(test)]
mod tests {
    #[test]
    fn the_variants_fit_the_sources() {
        super::super::patched::assert_fit(super::PATCHES);
    }
}
