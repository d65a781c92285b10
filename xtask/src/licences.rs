//! Checks that every dependency may be used under a licence of `.cargo/deny.toml`.
//!
//! cargo-deny does this and more, but takes minutes to compile; the file has its form, so that it can be used as well.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

use crate::{cargo, metadata, workspace};

/// The list, below the root of the workspace.
const LIST: &str = ".cargo/deny.toml";

#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// Where it comes from; the crates of this workspace come from nowhere.
    source: Option<String>,
}

/// Fails naming every dependency whose licence is not on the list.
pub(crate) fn check() -> Result<()> {
    let list = workspace().join(LIST);
    let text = fs::read_to_string(&list).with_context(|| format!("cannot read {LIST}"))?;
    let deny: Deny = toml::from_str(&text).with_context(|| format!("{LIST} is no list of licences"))?;
    let allowed = parse_list(&deny.licenses.allow)?;

    let packages = dependencies()?;
    ensure!(!packages.is_empty(), "cargo metadata names no dependency: nothing was checked");
    let refused: Vec<_> = packages.iter().filter_map(|package| refusal(package, &allowed)).collect();
    if !refused.is_empty() {
        bail!(
            "the licences of {} of {} dependencies are not on the list in {LIST}:\n  {}",
            refused.len(),
            packages.len(),
            refused.join("\n  ")
        );
    }
    eprintln!("lint: {} dependencies, all under allowed licences", packages.len());
    Ok(())
}

/// The crates from outside that this machine compiles for portguard.
fn dependencies() -> Result<Vec<Package>> {
    let metadata: Metadata = metadata(&host()?)?;
    Ok(metadata.packages.into_iter().filter(|package| package.source.is_some()).collect())
}

/// The triple of this machine.
fn host() -> Result<String> {
    let output = cargo().arg("-vV").output().context("cannot run cargo -vV")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("cargo -vV names no host")?.to_owned())
}

/// The licences of the list; one that is not in SPDX is an error, not an entry that never matches.
fn parse_list(list: &[String]) -> Result<Vec<Licensee>> {
    let parse = |name: &String| Licensee::parse(name).with_context(|| format!("{LIST}: `{name}`"));
    list.iter().map(parse).collect()
}

/// Why the package may not be used, if it may not.
fn refusal(package: &Package, allowed: &[Licensee]) -> Option<String> {
    let Package { name, version, license, source: _ } = package;
    let Some(license) = license else {
        return Some(format!("{name} {version} names no licence"));
    };
    // Lax, for the `MIT/Apache-2.0` of old crates.
    match Expression::parse_mode(license, ParseMode::LAX) {
        Err(error) => Some(format!("{name} {version} has the licence `{license}`: {}", error.reason)),
        Ok(expression) if expression.evaluate(|wanted| is_allowed(wanted, allowed)) => None,
        Ok(_) => Some(format!("{name} {version} is under {license}")),
    }
}

/// Whether one licence of an expression is on the list.
fn is_allowed(wanted: &LicenseReq, allowed: &[Licensee]) -> bool {
    allowed.iter().any(|licence| licence.satisfies(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(license: Option<&str>) -> Option<String> {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        let package = Package {
            name: "crate".to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: None,
        };
        refusal(&package, &parse_list(&allowed).expect("three licences"))
    }

    #[test]
    fn one_of_several_is_enough() {
        assert_eq!(refused(Some("MIT OR GPL-3.0-only")), None);
        assert_eq!(refused(Some("MIT/Apache-2.0")), None, "the old way to write it");
        assert_eq!(refused(Some("(MIT OR Apache-2.0) AND Unicode-3.0")), None);
    }

    #[test]
    fn all_of_several_have_to_be_allowed() {
        assert_eq!(
            refused(Some("MIT AND GPL-3.0-only")).as_deref(),
            Some("crate 1.0.0 is under MIT AND GPL-3.0-only")
        );
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        assert!(refused(None).is_some(), "no licence");
        assert!(refused(Some("My-Own-1.0")).is_some(), "unknown to SPDX");
        assert!(refused(Some("Apache-2.0 WITH LLVM-exception")).is_some(), "an exception that is not listed");
    }

    #[test]
    fn a_misspelt_list_is_an_error() {
        parse_list(&["MITT".to_owned()]).expect_err("there is no such licence");
    }
}
