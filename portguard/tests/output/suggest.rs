//! A proposal for the eye and as JSON.

use insta::assert_snapshot;
use portguard::cli::suggest::document::Document;
use portguard::cli::suggest::text::yaml;
use portguard::suggest::proposal::{self, Finding, LeftOut, Proposal, Proposed};

fn proposal() -> Document {
    let finding = |prefix: &str, origin: &str, detail: Option<&str>| Finding {
        prefix: prefix.parse().unwrap(),
        origin: origin.into(),
        detail: detail.map(str::to_owned),
    };
    let left_out = |what: &str, origin: &str, why: &str| LeftOut {
        what: what.into(),
        origin: origin.into(),
        why: why.into(),
    };
    let peers = (1..40).map(|host| finding(&format!("192.0.2.{host}/32"), "connected to port 111", None));
    let findings = [
        finding("2001:db8::7/128", "nfs1, /etc/exports, line 3", Some("for /srv/\"my files\"")),
        finding("192.0.2.0/24", "the network of eth0", Some("public addresses: are they all yours?")),
        finding(
            "192.0.2.0/24",
            "/etc/exports, line 3",
            Some("for /srv/a: b\n- 0.0.0.0/0 # \u{85}\u{feff}\u{7}"),
        ),
        finding("10.0.0.9/32", "connected to port 111", None),
    ];
    let left_out = vec![
        left_out("*.example.com", "/etc/exports, line 4 for /srv", "a pattern of names"),
        left_out("a\n  - 0.0.0.0/0", "/etc/exports, line 5 for /srv", "it cannot be looked up: \u{1b}[2J"),
    ];
    let mut proposal = Proposal::of(findings.into_iter().chain(peers), left_out);
    let seen = |prefix: &str| Proposed {
        prefix: prefix.parse().unwrap(),
        origins: vec![proposal::Origin {
            origin: "sent requests over TCP on eth0, which is in audit mode".into(),
            detail: Some("12 packets".into()),
            covers: vec![],
        }],
    };
    proposal.unproven = vec![seen("203.0.113.9/32"), seen("2001:db8:3::/128")];
    proposal.unproven_more = 29_000;
    Document::new(proposal)
}

#[test]
fn a_proposal_as_yaml() {
    assert_snapshot!(yaml(&proposal()));
    assert_snapshot!("an_empty_proposal_as_yaml", yaml(&Document::new(Proposal::default())));
}

#[test]
fn a_proposal_as_json() {
    let mut document = proposal();
    document.proposal.entries.retain(|entry| entry.prefix.addr().is_ipv6());
    document.proposal.left_out.truncate(1);
    assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
}
