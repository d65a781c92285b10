//! Deliberate bugs: whether the layers catch them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::document;
use crate::{cargo, workspace};

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

/// The bugs, in the order of their names.
fn patches() -> Result<Vec<PathBuf>> {
    let mut patches: Vec<PathBuf> = fs::read_dir(workspace().join(PATCHES))
        .with_context(|| format!("cannot list {PATCHES}"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    patches.sort();
    ensure!(!patches.is_empty(), "no patches in {PATCHES}");
    Ok(patches)
}

/// Plants each bug into a copy of the committed sources, and runs the layers against it.
pub(super) fn run() -> Result<()> {
    let patches = patches()?;
    let mut table = format!(
        "| bug | {} |\n|---|{}\n",
        LAYERS.map(|(layer, _)| layer).join(" | "),
        "---|".repeat(LAYERS.len())
    );
    let mut escaped = Vec::new();
    for patch in &patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().replace('-', " ");
        eprintln!("verify: mutant: {name}");
        let caught = try_out(patch).with_context(|| format!("the bug \"{name}\""))?;
        let words = caught.map(|caught| if caught { "caught" } else { "-" });
        eprintln!("verify: mutant: {name}: {}", words.join(", "));
        table += &format!("| {name} | {} |\n", words.join(" | "));
        if caught.iter().filter(|caught| **caught).count() < ENOUGH {
            escaped.push(name);
        }
    }
    document::write(document::MUTANTS, &table)?;
    ensure!(escaped.is_empty(), "caught by fewer than {ENOUGH} layers: {}", escaped.join(", "));
    Ok(())
}

/// Which layers catch the bug of a patch.
fn try_out(patch: &Path) -> Result<[bool; LAYERS.len()]> {
    // One place for all bugs, so that only what the patches touch is compiled anew.
    let place = workspace().join("target/mutants");
    let (copy, target) = (place.join("source"), place.join("target"));
    if copy.exists() {
        fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    }
    must(Command::new("git").args(["clone", "--quiet", "--local"]).arg(workspace()).arg(&copy))?;
    must(Command::new("git").arg("-C").arg(&copy).arg("apply").arg(patch))?;
    let test = |arguments: &[&str]| {
        let mut command = cargo();
        command.current_dir(&copy).arg("test").args(["--locked", "--package=portguard"]);
        command.arg("--target-dir").arg(&target).args(arguments);
        command
    };
    // A bug that does not compile would be caught by everybody.
    must(&mut test(&["--no-run", "--test=program", "--test=linux"]))?;
    let mut caught = [false; LAYERS.len()];
    for (caught, (layer, arguments)) in caught.iter_mut().zip(LAYERS) {
        let output = test(arguments).output().context("cannot run cargo test")?;
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

fn must(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "failed: {command:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bugs_fit_the_sources() {
        for patch in patches().expect("the patches") {
            let mut apply = Command::new("git");
            apply.arg("-C").arg(workspace()).args(["apply", "--check"]).arg(&patch);
            must(&mut apply).unwrap_or_else(|error| panic!("write {} anew: {error:#}", patch.display()));
        }
    }
}
