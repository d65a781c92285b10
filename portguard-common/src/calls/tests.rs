use super::*;
use crate::cursor::Linear;
use crate::rpc::PROGRAM;

extern crate std;
use std::vec::Vec;

/// A string or bytes, with their length and padding.
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut text = (bytes.len() as u32).to_be_bytes().to_vec();
    text.extend_from_slice(bytes);
    text.resize(text.len().next_multiple_of(4), 0);
    text
}

/// Credentials or a verifier.
fn auth(flavor: u32, body: &[u8]) -> Vec<u8> {
    [&flavor.to_be_bytes()[..], &text(body)].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn call(version: u32, procedure: u32, credentials: &[u8], arguments: &[u8]) -> Vec<u8> {
    let header = words(&[0x1234_5678, 0, 2, PROGRAM, version, procedure]);
    [&header[..], credentials, &auth(0, b""), arguments].concat()
}

fn plain(version: u32, procedure: u32, arguments: &[u8]) -> Vec<u8> {
    call(version, procedure, &auth(0, b""), arguments)
}

fn service(netid: &str, address: &str, owner: &str) -> Vec<u8> {
    let texts = [netid, address, owner].map(|it| text(it.as_bytes())).concat();
    [words(&[100_003, 3]), texts].concat()
}

/// A datagram with this payload, whose header says this length.
fn datagram(payload: &[u8], length: usize) -> Vec<u8> {
    let mut datagram = words(&[600 << 16 | 111, (length as u32) << 16]);
    datagram.extend_from_slice(payload);
    datagram
}

fn permits(payload: &[u8]) -> bool {
    is_lookup(Linear::new(&datagram(payload, 8 + payload.len())))
}

/// The credentials of Linux' client: stamp, name, user, group, groups (RFC 5531, appendix A).
fn unix(groups: &[u32]) -> Vec<u8> {
    let body = [words(&[7]), text(b"client.example.net"), words(&[0, 0, groups.len() as u32]), words(groups)];
    auth(1, &body.concat())
}

fn lookups() -> Vec<Vec<u8>> {
    let mut lookups: Vec<_> = (2..=4).map(|version| plain(version, 0, &[])).collect();
    lookups.push(plain(2, 3, &words(&[100_003, 3, 17, 0])));
    lookups.push(plain(2, 3, &words(&[PROGRAM, 2, 17, 0])));
    for version in [3, 4] {
        lookups.push(plain(
            version,
            3,
            &service("udp6", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff.255.255", "rpcb"),
        ));
        lookups.push(plain(version, 3, &service("tcp", "", "")));
        lookups.push(plain(version, 6, &[]));
        lookups.push(plain(version, 7, &text(b"192.0.2.1.0.111")));
        lookups.push(plain(version, 8, &[words(&[16]), text(&[0, 2, 0, 111, 192, 0, 2, 1])].concat()));
    }
    lookups.push(plain(4, 9, &service("udp", "192.0.2.1.3.1", "")));
    lookups.push(call(2, 3, &unix(&[]), &words(&[100_021, 4, 17, 0])));
    lookups.push(call(4, 3, &unix(&[0; 16]), &service("udp", "0.0.0.0.0.0", "0")));
    lookups
}

#[test]
fn what_clients_ask_is_a_lookup_and_nothing_shorter_or_longer_is() {
    for lookup in lookups() {
        assert!(lookup.len() >= 40 && permits(&lookup), "{lookup:x?}");
        for end in 0..lookup.len() {
            assert!(!permits(&lookup[..end]), "cut to {end}: {lookup:x?}");
            let of_whole = datagram(&lookup[..end], 8 + lookup.len());
            assert!(!is_lookup(Linear::new(&of_whole)), "the frame ends after {end}: {lookup:x?}");
        }
        for more in 1..=48 {
            let longer = [&lookup[..], &[0; 48][..more]].concat();
            assert!(!permits(&longer), "{more} bytes more: {lookup:x?}");
            // Bytes behind the datagram are padding.
            assert!(is_lookup(Linear::new(&datagram(&longer, 8 + lookup.len()))), "{lookup:x?}");
        }
        for length in [0, 7, 8, lookup.len(), lookup.len() + 7, lookup.len() + 9, 0xffff] {
            assert!(!is_lookup(Linear::new(&datagram(&lookup, length))), "length {length}: {lookup:x?}");
        }
    }
}

#[test]
fn no_other_call_and_no_other_message_is_a_lookup() {
    for version in 0..8 {
        for procedure in (0..32).chain([u32::MAX]) {
            let expected = match version {
                2 => [0, 3].contains(&procedure),
                3 => [0, 3, 6, 7, 8].contains(&procedure),
                4 => [0, 3, 6, 7, 8, 9].contains(&procedure),
                _ => false,
            };
            let arguments = [
                Vec::new(),
                words(&[1, 2, 3, 4]),
                service("udp", "", ""),
                text(b"x"),
                [words(&[1]), text(b"x")].concat(),
            ];
            let some = arguments.iter().any(|arguments| permits(&plain(version, procedure, arguments)));
            assert_eq!(some, expected, "version {version}, procedure {procedure}");
        }
    }
    for lookup in lookups() {
        // The type of the message, the version of RPC, and the program.
        for at in [4, 7, 8, 11, 12, 15] {
            let mut other = lookup.clone();
            other[at] ^= 1;
            assert!(!permits(&other), "byte {at}: {lookup:x?}");
        }
    }
}

#[test]
fn lengths_have_limits() {
    let netid = |length: usize| plain(4, 3, &service(&"x".repeat(length), "", ""));
    assert!(permits(&netid(64)) && !permits(&netid(65)));
    let credentials = |length: usize| call(2, 0, &auth(1, &std::vec![1; length]), &[]);
    assert!(permits(&credentials(400)) && !permits(&credentials(401)));
    let both = [&words(&[1, 0, 2, PROGRAM, 2, 0]), &auth(0, &[1; 400])[..], &auth(0, &[1; 400])].concat();
    assert!(!permits(&both), "longer than any client's");
    let wrapping = call(2, 0, &words(&[0, u32::MAX - 2]), &[]);
    assert!(!permits(&wrapping));
}

#[test]
fn a_lookup_does_not_carry_another_call() {
    let dump = plain(3, 4, &[]);
    for shift in 0..4 {
        let hidden = [&std::vec![b'x'; shift][..], &dump].concat();
        assert!(!permits(&call(4, 0, &auth(1, &hidden), &[])), "in the credentials, {shift} bytes in");
        let in_text = [words(&[100_003, 3]), text(b"udp"), text(&hidden), text(b"")].concat();
        assert!(!permits(&plain(4, 3, &in_text)), "in a text, {shift} bytes in");
        let in_address = [words(&[64]), text(&hidden)].concat();
        assert!(!permits(&plain(4, 8, &in_address)), "in an address, {shift} bytes in");
    }
    // The arguments of GETPORT are the end of a call that begins in its verifier.
    assert!(!permits(&plain(2, 3, &words(&[2, PROGRAM, 3, 4]))));
    // The groups of a user.
    assert!(!permits(&call(2, 0, &unix(&[0, 2, PROGRAM, 3, 4, 0]), &[])));
    assert!(permits(&call(2, 0, &unix(&[PROGRAM]), &[])), "a group may have that number");
}
