//! What a probe has found, as text and JSON.

use std::net::SocketAddr;

use insta::assert_snapshot;
use portguard::cli::probe::document::Document;
use portguard::cli::probe::text::text;
use portguard::probe::Finding;
use portguard::probe::targets::Target;
use portguard::rpcbind::{NoReply, Programs, Question, Reply};

use super::NOW;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Lists as a server would write them, if it were not for their owner's name.
fn list(version: u32) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = [&words(&[text.len() as u32]), text.as_bytes()].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    if version == 2 {
        return words(&[1, 100_000, 2, 17, 111, 1, 100_003, 3, 6, 2049, 1, 536_870_913, 1, 132, 40_000, 0]);
    }
    let entry = |program, version, netid, address, owner| {
        [words(&[1, program, version]), text(netid), text(address), text(owner)].concat()
    };
    [
        entry(100_000, 2, "udp", "0.0.0.0.0.111", "superuser"),
        entry(100_000, 4, "local", "/run/rpcbind.sock", "superuser"),
        entry(100_024, 1, "tcp6", "::.182.17", "\u{1b}[2J\n"),
        words(&[0]),
    ]
    .concat()
}

type Answer = Result<Reply, NoReply>;

/// What a server answers that does as it should; but for versions above `latest`.
fn honest(latest: u32) -> impl Fn(Question) -> Answer {
    move |question| {
        let request_len = if question.name().starts_with("GETADDR") { 64 } else { 40 };
        let reply = |reply_len, results| Ok(Reply { request_len, reply_len, from: None, results });
        match question.name() {
            _ if question.version() > latest => {
                reply(32, Err(format!("it has versions 2 to {latest} of the program only")))
            }
            "DUMP" => reply(24 + list(question.version()).len(), Ok(list(question.version()))),
            _ => reply(28, Ok(vec![0; 4])),
        }
    }
}

fn finding(
    address: &str,
    own: bool,
    udp: impl Fn(Question) -> Answer,
    tcp: impl Fn(Question) -> Answer,
) -> Finding {
    let address: SocketAddr = address.parse().unwrap();
    let zone = matches!(address, SocketAddr::V6(it) if it.scope_id() != 0).then(|| "eth0".to_owned());
    let mut questions = Question::ALL;
    questions.sort_unstable();
    let ask = |of: &dyn Fn(Question) -> Answer| questions.map(|question| (question, of(question))).to_vec();
    Finding { target: Target { address, zone, own }, udp: ask(&udp), tcp: ask(&tcp) }
}

fn nothing(reason: NoReply) -> impl Fn(Question) -> Answer {
    move |_| Err(reason.clone())
}

fn document(host: Option<&str>, findings: &[Finding]) -> Document {
    Document::new(NOW, host.map(str::to_owned), findings, &Programs::well_known())
}

#[test]
fn a_reflector() {
    let found = [
        finding("192.0.2.1:111", false, honest(4), honest(4)),
        finding("[2001:db8::1]:111", false, honest(4), honest(4)),
    ];
    assert_snapshot!(text(&document(Some("nfs1.example"), &found)));
}

#[test]
fn a_reflector_as_json() {
    let mut document =
        document(Some("192.0.2.1"), &[finding("192.0.2.1:111", false, honest(3), nothing(NoReply::Silent))]);
    let [address] = &mut document.addresses[..] else { panic!("one address") };
    for transport in [&mut address.udp, &mut address.tcp] {
        transport.replies.retain(|reply| reply.call == "DUMP");
    }
    assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
}

#[test]
fn own_addresses() {
    let found = [
        finding("192.0.2.1:111", true, honest(3), honest(3)),
        finding("[fe80::1%2]:111", true, nothing(NoReply::Refused), honest(4)),
    ];
    assert_snapshot!(text(&document(None, &found)));
}

/// Each verdict, and each reason.
#[test]
fn nobody_there_or_nobody_sane() {
    let garbled = |why: &str| NoReply::Garbled(why.to_owned());
    let unreachable = || NoReply::Unreachable("No route to host (os error 113)".to_owned());
    let lying = |question: Question| match question.name() {
        "DUMP" => Ok(Reply { request_len: 40, reply_len: 40, from: None, results: Ok(vec![7; 16]) }),
        "NULL" => Err(garbled("it is cut short")),
        _ => Err(NoReply::Silent),
    };
    let found = [
        finding("192.0.2.1:111", false, nothing(NoReply::Silent), nothing(NoReply::Silent)),
        finding("192.0.2.2:111", false, nothing(NoReply::Refused), nothing(NoReply::Refused)),
        finding("192.0.2.3:111", false, nothing(unreachable()), nothing(unreachable())),
        finding("192.0.2.4:111", false, nothing(NoReply::Refused), nothing(NoReply::Stalled)),
        finding("192.0.2.5:111", false, nothing(NoReply::Silent), nothing(NoReply::Closed)),
        finding("192.0.2.6:111", false, nothing(garbled("it is a call")), nothing(unreachable())),
        finding("192.0.2.7:111", false, nothing(garbled("it is a call")), honest(4)),
        finding("127.0.0.1:111", true, lying, lying),
    ];
    assert_snapshot!(text(&document(Some("a\u{1b}[2Jb"), &found)));
    assert_snapshot!(
        "a_silent_host",
        text(&document(
            Some("192.0.2.1"),
            &[finding("192.0.2.1:111", false, nothing(NoReply::Silent), nothing(NoReply::Refused))]
        ))
    );
}

#[test]
fn the_eye_is_not_shown_more_than_it_can_take() {
    let endless = |question: Question| match (question.name(), question.version()) {
        ("DUMP", 2) => {
            let entries = (0..3000).flat_map(|program| words(&[1, program, 2, 17, 111]));
            let results: Vec<u8> = entries.chain(words(&[0])).collect();
            Ok(Reply { request_len: 40, reply_len: 24 + results.len(), from: None, results: Ok(results) })
        }
        _ => Err(NoReply::Silent),
    };
    let found = [finding("192.0.2.1:111", false, endless, endless)];
    let document = document(Some("192.0.2.1"), &found);
    assert_eq!(document.addresses[0].services.len(), 3000, "over UDP and TCP alike");
    let text = text(&document);
    assert!(text.contains("and 2800 more (--json)\n"), "{text}");
    assert!(text.lines().count() < 250, "{text}");
}
