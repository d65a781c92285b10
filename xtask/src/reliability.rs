//! The keys of the figures of `docs/reliability.md`: what was broken on purpose.

use portguard_testkit::document::Document;

/// What readers see of it.
pub(crate) const DOCUMENT: Document = Document("docs/reliability.md");

/// Killed, starved, and given nonsense: the names that the tests of `portguard/tests/lifecycle/torture` give their figures.
pub(crate) const TORTURE: [&str; 15] = [
    "attachment",
    "upgrade and reload",
    "reset",
    "upgrades across ABIs",
    "orders",
    "unload",
    "lists",
    "memory",
    "descriptors",
    "limits",
    "files",
    "full disk",
    "races",
    "interfaces",
    "names and places",
];
/// Under a real systemd.
pub(crate) const SYSTEMD: &str = "systemd";
/// For a long time.
pub(crate) const SOAK: &str = "soak";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_a_place_for_each() {
        for key in TORTURE.into_iter().chain([SYSTEMD, SOAK]) {
            assert!(DOCUMENT.read(key).is_some(), "no marks of {key}");
        }
    }
}
