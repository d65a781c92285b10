//! Deliberate bugs: whether the layers catch them.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::DOCUMENT;
use super::patched::{Patched, must, name, patches};

/// Where the patches are.
const PATCHES: &str = "xtask/mutants";
/// By how many layers each bug must be caught.
const ENOUGH: usize = 2;

/// A layer, and the tests that are it: arguments of `cargo test`.
const LAYERS: [(&str, &[&str]); 3] = [
    ("table of frames", &["--test=program", "--", "--skip=parsers::", "--skip=lookups::"]),
    ("two parsers", &["--test=program", "--", "parsers::"]),
    ("Linux", &["--test=linux", "--", "linux_delivers"]),
];

/// Plants each bug into a copy of the committed sources, and runs the layers against it.
pub(super) fn run() -> Result<()> {
    let patches = patches(PATCHES)?;
    let mut table = format!(
        "| bug | {} |\n|---|{}\n",
        LAYERS.map(|(layer, _)| layer).join(" | "),
        "---|".repeat(LAYERS.len())
    );
    let mut escaped = Vec::new();
    for patch in &patches {
        let name = name(patch);
        eprintln!("verify: mutant: {name}");
        let caught = try_out(patch).with_context(|| format!("the bug \"{name}\""))?;
        let words = caught.map(|caught| if caught { "caught" } else { "-" });
        eprintln!("verify: mutant: {name}: {}", words.join(", "));
        table += &format!("| {name} | {} |\n", words.join(" | "));
        if caught.iter().filter(|caught| **caught).count() < ENOUGH {
            escaped.push(name);
        }
    }
    DOCUMENT.write("mutants", &table)?;
    ensure!(escaped.is_empty(), "caught by fewer than {ENOUGH} layers: {}", escaped.join(", "));
    Ok(())
}

/// Which layers catch the bug of a patch.
fn try_out(patch: &Path) -> Result<[bool; LAYERS.len()]> {
    let patched = Patched::new(patch)?;
    // A bug that does not compile would be caught by everybody.
    must(&mut patched.test(&["--no-run", "--test=program", "--test=linux"]))?;
    let mut caught = [false; LAYERS.len()];
    for (caught, (layer, arguments)) in caught.iter_mut().zip(LAYERS) {
        let output = patched.test(arguments).output().context("cannot run cargo test")?;
        let text = String::from_utf8_lossy(&output.stdout);
        *caught = text.contains("test result: FAILED");
        if !*caught && !text.contains("test result: ok") {
            bail!(
                "the tests of the layer \"{layer}\" did not run:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    Ok(caught)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_bugs_fit_the_sources() {
        super::super::patched::assert_fit(super::PATCHES);
    }
}
