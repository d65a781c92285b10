//! Whether the installed `rpcinfo`, with which administrators check port 111 of hosts that they do not trust, can be crashed by
//! a reply.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;

use super::Finding;
use super::command;
use super::remedy::RemedyKind;

const ID: &str = "rpcinfo";
/// Where it is: it belongs to the package `rpcbind`.
const PLACES: [&str; 3] = ["/usr/bin/rpcinfo", "/usr/sbin/rpcinfo", "/sbin/rpcinfo"];
/// Buffers on its stack that replies can overflow, with the option that does it; fixed in this version.
const FLAWS: [(&str, &str); 2] = [("CVE-2026-16461", "-s"), ("CVE-2026-16277", "-l")];
const FIXED: [u64; 3] = [1, 2, 9];
/// Distributions mend older versions, and say so here.
const CHANGELOGS: [&str; 2] =
    ["/usr/share/doc/rpcbind/changelog.Debian.gz", "/usr/share/doc/rpcbind/changelog.gz"];
/// The most that is read of one, in bytes.
const MAX_SIZE: u64 = 16 << 20;

pub(super) fn examine() -> Option<Finding> {
    let is_installed = PLACES.iter().any(|place| Path::new(place).exists());
    is_installed.then(|| judge(version().as_deref(), &changelog()))
}

/// The version of the package, as the package manager tells it.
fn version() -> Option<String> {
    let dpkg = || command::output("dpkg-query", &["--show", "--showformat=${Version}", "rpcbind"]).ok();
    let rpm = || command::output("rpm", &["--query", "--queryformat=%{VERSION}-%{RELEASE}", "rpcbind"]).ok();
    dpkg().or_else(rpm).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What the package says of its changes.
fn changelog() -> String {
    let mut text = String::new();
    for path in CHANGELOGS {
        // Without it, the version alone decides.
        let _ = File::open(path).map(|file| GzDecoder::new(file).take(MAX_SIZE).read_to_string(&mut text));
    }
    if text.is_empty() {
        text = command::output("rpm", &["--query", "--changelog", "rpcbind"]).unwrap_or_default();
    }
    text
}

fn judge(version: Option<&str>, changelog: &str) -> Finding {
    let remedy = || {
        RemedyKind::Update.text(
            "Update rpcbind (fixed in 1.2.9). To ask a host that you do not trust: portguard probe HOST",
        )
    };
    let Some(version) = version else {
        let found = "the version of rpcinfo is not known: hostile servers can crash it before 1.2.9";
        return Finding::warning(ID, found, remedy());
    };
    let open: Vec<String> = FLAWS
        .iter()
        .filter(|(name, _)| !changelog.contains(name))
        .map(|(name, option)| format!("rpcinfo {option} ({name})"))
        .collect();
    if numbers(version) >= FIXED.to_vec() || open.is_empty() {
        return Finding::ok(ID, format!("rpcbind {version}: no flaw of rpcinfo is known"));
    }
    let found =
        format!("rpcbind {version}: a hostile server can overflow the stack of {}", open.join(" and "));
    Finding::warning(ID, found, remedy())
}

/// `1:1.2.6-6+b1` -> 1, 2, 6.
fn numbers(version: &str) -> Vec<u64> {
    let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
    let upstream = upstream.split(['-', '+', '~']).next().unwrap_or_default();
    upstream.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn flaws_are_told_until_the_version_or_the_changelog_says_that_they_are_mended() {
        use Status::{Ok, Warning};
        let both = "  * Fix CVE-2026-16461, CVE-2026-16277";
        for (version, changelog, expected) in [
            (Some("1.2.6-6+b1"), "", Warning),
            (Some("1.2.6-6+deb12u1"), both, Ok),
            (Some("1.2.6-6+deb12u1"), "  * Fix CVE-2026-16461", Warning),
            (Some("1.2.9-1"), "", Ok),
            (Some("1:1.2.10-1"), "", Ok),
            (Some("1.3-0.rc1"), "", Ok),
            (Some("1.2.8~rc2"), "", Warning),
            (Some("0.2.0"), "", Warning),
            (None, both, Warning),
        ] {
            assert_eq!(judge(version, changelog).status, expected, "{version:?}");
        }
        let told = judge(Some("1.2.6"), "CVE-2026-16461").found;
        assert!(told.contains("rpcinfo -l (CVE-2026-16277)") && !told.contains("-s"), "{told}");
    }
}
