//! What doctor says of devices that only kernels with all drivers have, and what a denied host then gets.

use portguard_testkit::documents::doctor::Document;
use portguard_testkit::net::Namespace;

use super::{DEVICE, Pair};
use crate::support::DENIED;

impl Pair {
    /// What doctor says on the near host of an interface: the status, and what was found.
    #[track_caller]
    pub(super) fn diagnosis(&self, interface: &str) -> (String, String) {
        let document = Document::of(&self.portguard().run(&["doctor", "--json"]));
        let finding = document.finding("coverage", Some(interface));
        (finding.status.clone(), finding.found.clone())
    }

    /// Asserts that doctor calls [`DEVICE`] open, or guarded.
    #[track_caller]
    pub(super) fn assert_diagnosis(&self, open: bool) {
        let (status, found) = self.diagnosis(DEVICE);
        let expected = if open { "failure" } else { "ok" };
        assert_eq!(status, expected, "{found}");
    }

    /// Whether a denied host is answered, while a server answers at port 111: everybody, or those of a VRF.
    fn answers_denied(&self, vrf: Option<&str>, expected: bool) -> bool {
        let servers = ["198.51.100.1", "2001:db8:51::1"].map(|address| address.parse().expect("an address"));
        Self::serve_at(&self.near.namespace, vrf, || self.ask(DENIED, servers, expected).0)
    }
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn ports_of_a_vrf_are_open_to_sockets_of_the_vrf() {
    let far = "link set eth0 down\nlink set eth0 name dev0\nlink set dev0 up";
    let pair = Pair::with(far, far);
    let near = &pair.near.namespace;
    near.ip("link add vrf0 type vrf table 9\nlink set vrf0 up\nlink set dev0 master vrf0").expect("a VRF");
    pair.address();
    for (vrf, guarded, answered, expected) in [
        (None, false, false, "warning"),
        (Some("vrf0"), false, true, "failure"),
        (Some("vrf0"), true, false, "ok"),
    ] {
        if guarded {
            pair.portguard().ok(&["attach", DEVICE, "--allowlist", &pair.list()]);
        }
        let (status, found) = Pair::serve_at(near, vrf, || pair.diagnosis(DEVICE));
        assert_eq!(status, expected, "{vrf:?}: {found}");
        if status == "warning" {
            assert!(found.contains("no process that listens on port 111 gets packets from it"), "{found}");
        }
        assert_eq!(pair.answers_denied(vrf, answered), answered, "{vrf:?}, {guarded}");
    }
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn an_ipvlan_is_covered_by_the_card_under_it_but_not_from_its_siblings() {
    let pair = Pair::with(
        "link add link eth0 name dev0 type ipvlan mode l2",
        "link set eth0 down\nlink set eth0 name dev0\nlink set dev0 up",
    );
    pair.address();
    let near = &pair.near.namespace;
    let sibling = Namespace::new("sibling").expect("a namespace");
    near.ip(&format!("link add link eth0 name dev1 netns {} type ipvlan mode l2", sibling.name()))
        .expect("an ipvlan");
    sibling.ip("link set dev1 up").expect("an ipvlan");
    pair.serve(|| {
        pair.assert_diagnosis(true);
        pair.assert_answers(true, "without a guard");
        pair.portguard().ok(&["attach", "eth0", "--allowlist", &pair.list()]);
        pair.assert_answers(false, "guarded");
        let (status, found) = pair.diagnosis(DEVICE);
        assert_eq!(status, "warning", "{found}");
        assert!(found.contains("but not from other devices"), "{found}");
        // As doctor says.
        near.ip("link set dev0 type ipvlan private").expect("isolation");
        pair.assert_diagnosis(false);
    });
}
