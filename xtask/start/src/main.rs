//! Hands `cargo xtask` over to the package `xtask`, if this cargo is new enough for it.
//!
//! Written for the Rust of 2018, and without a dependency: an old cargo has to be able to build this.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command};

/// The manifest that says what is new enough.
const WORKSPACE: &str = include_str!("../../../Cargo.toml");

fn main() {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let version = match Command::new(&cargo).arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => fail(&format!("cannot run {}: {}", cargo.to_string_lossy(), error)),
    };
    let wanted = wanted(WORKSPACE);
    if numbers(&version) < numbers(wanted) {
        fail(&refusal(&version, wanted));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let error = Command::new(cargo)
        .args(["run", "--quiet", "--package", "xtask", "--manifest-path"].iter())
        .arg(root.join("Cargo.toml"))
        .arg("--")
        .args(env::args_os().skip(1))
        .exec();
    fail(&format!("cannot run cargo: {}", error));
}

fn fail(why: &str) -> ! {
    eprintln!("error: {}", why);
    process::exit(1);
}

/// What somebody with an old cargo is told.
fn refusal(version: &str, wanted: &str) -> String {
    format!(
        "portguard needs cargo {} or newer, and this is {}\n\
         \x20 On Debian 12 and 13 (cargo-web takes the place of cargo and rustc):\n\
         \x20     apt-get install --no-install-recommends cargo-web\n\
         \x20 Elsewhere, with rustup (https://rustup.rs):\n\
         \x20     rustup update stable",
        wanted, version
    )
}

/// The `rust-version` of a manifest.
fn wanted(manifest: &str) -> &str {
    let line = manifest.lines().find(|line| line.starts_with("rust-version")).unwrap_or_default();
    line.split('"').nth(1).unwrap_or_default()
}

/// The numbers of a version, as in `cargo 1.65.0` or `1.89`.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}
