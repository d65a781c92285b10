//! Every call that rpcbind knows, and some that it does not, made by hand.

use portguard_testkit::net::rpc::PROGRAM;

/// A call, and as what it is to be counted.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) procedure: &'static str,
    pub(super) message: Vec<u8>,
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn text(text: &[u8]) -> Vec<u8> {
    let mut bytes = [&words(&[text.len() as u32]), text].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn call(program: u32, version: u32, number: u32, arguments: &[u8]) -> Vec<u8> {
    [&words(&[0x7067_0001, 0, 2, program, version, number, 0, 0, 0, 0])[..], arguments].concat()
}

/// Calls as rpcbind's own clients make them, over UDP of a family.
pub(super) fn all(is_v6: bool) -> Vec<Call> {
    const UDP: u32 = 17;
    /// RFC 1833, sections 3.1 and 2.2.1, by their numbers.
    const VERSION_2: [&str; 8] =
        ["null", "set", "set", "getaddr", "dump", "callit", "other_rpc", "other_rpc"];
    const VERSION_3: [&str; 10] = [
        "null",
        "set",
        "set",
        "getaddr",
        "dump",
        "callit",
        "gettime",
        "uaddr2taddr",
        "taddr2uaddr",
        "other_rpc",
    ];
    const VERSION_4: [&str; 14] = [
        "null",
        "set",
        "set",
        "getaddr",
        "dump",
        "callit",
        "gettime",
        "uaddr2taddr",
        "taddr2uaddr",
        "getversaddr",
        "callit",
        "getaddrlist",
        "getstat",
        "other_rpc",
    ];
    let mapping = words(&[PROGRAM, 2, UDP, 0]);
    let netid: &[u8] = if is_v6 { b"udp6" } else { b"udp" };
    let rpcb = [words(&[PROGRAM, 4]), text(netid), text(b""), text(b"")].concat();
    let nested = [words(&[PROGRAM, 4, 0]), text(b"")].concat();
    let address: &[u8] = if is_v6 { b"2001:db8::1.0.111" } else { b"192.0.2.1.0.111" };
    let sockaddr = [words(&[16]), text(&[2, 0, 0, 111, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0])].concat();

    let versions: [(u32, &[&'static str]); 3] = [(2, &VERSION_2), (3, &VERSION_3), (4, &VERSION_4)];
    let mut calls = Vec::new();
    for (version, procedures) in versions {
        for (number, &procedure) in (0..).zip(procedures) {
            let arguments = match (version, number) {
                (_, 0 | 4 | 6 | 12 | 13) => &[][..],
                (_, 5 | 10) => &nested,
                (2, _) => &mapping,
                (_, 7) => &text(address),
                (_, 8) => &sockaddr,
                _ => &rpcb,
            };
            calls.push(Call { procedure, message: call(PROGRAM, version, number, arguments) });
        }
    }
    let mut more = |procedure, message| calls.push(Call { procedure, message });
    for version in [1, 5] {
        more("other_rpc", call(PROGRAM, version, 0, &[]));
    }
    more("other_program", call(100_003, 3, 0, &[]));
    // A datagram of nothing much, the beginning of a call, a reply, and a call of an RPC that is no more.
    more("not_rpc", vec![0; 4]);
    more("not_rpc", call(PROGRAM, 3, 4, &[])[..20].to_vec());
    more("not_rpc", words(&[1, 1, 0, 0, 0, 0]));
    more("not_rpc", words(&[1, 0, 1, PROGRAM, 3, 4, 0, 0, 0, 0]));
    calls
}
