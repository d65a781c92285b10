//! What a doctor has found, as text and JSON.

use insta::assert_snapshot;
use portguard::cli::doctor::document::Document;
use portguard::cli::doctor::text::text;
use portguard::doctor::{Finding, RemedyKind};

fn ill() -> Document {
    Document::new(vec![
        Finding::ok("kernel.version", "Linux 6.18.44"),
        Finding::warning(
            "rp_filter",
            "2: loose",
            RemedyKind::StrictReversePath.text("sysctl -w net.ipv4.conf.all.rp_filter=1"),
        )
        .about("eth0"),
        Finding::failure("coverage", "not guarded", RemedyKind::Attach.text("portguard attach eth1"))
            .about("eth1"),
        // Whoever registers a service, or makes an interface, may call it as he likes.
        Finding::warning("service", "\u{1b}[2Jstays open", RemedyKind::BlockPorts.text("Use nft."))
            .about("a\nb"),
    ])
}

#[test]
fn findings_as_text() {
    assert_snapshot!(text(&ill()));
}

#[test]
fn findings_as_json() {
    assert_snapshot!(serde_json::to_string_pretty(&ill()).unwrap());
}

#[test]
fn all_is_well() {
    assert_snapshot!(text(&Document::new(vec![Finding::ok("kernel.btf", "it is there")])));
}
