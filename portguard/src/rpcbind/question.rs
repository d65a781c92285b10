//! The calls that portguard makes.

use std::io;

use onc_rpc::auth::AuthFlavor;
use onc_rpc::{CallBody, MessageType, RpcMessage};
use portguard_common::rpc::{PROGRAM, Procedure};

/// A call that only reads. There are no others: `SET` and `UNSET` change the register, `CALLIT`, `BCAST` and `INDIRECT` call
/// somebody else, and `TADDR2UADDR` wants a piece of memory of the server's own kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    // In this order they are sorted.
    version: u32,
    number: u32,
    name: &'static str,
}

impl Question {
    /// Those whose answers a report measures. What it says of all others is stated by RFC 1833.
    pub const COUNTED: [Self; 10] = [
        Self::new("NULL", 2, 0),
        Self::new("NULL", 3, 0),
        Self::new("NULL", 4, 0),
        Self::new("GETPORT", 2, 3),
        Self::new("GETADDR", 3, 3),
        Self::new("GETADDR", 4, 3),
        Self::new("DUMP", 2, 4),
        Self::new("DUMP", 3, 4),
        Self::new("DUMP", 4, 4),
        Self::new("GETSTAT", 4, 12),
    ];

    /// All of them. `GETSTAT` tells of the other calls, so it stands in front of them.
    pub const ALL: [Self; 16] = [
        Self::new("GETSTAT", 4, 12),
        Self::new("NULL", 2, 0),
        Self::new("GETPORT", 2, 3),
        Self::new("DUMP", 2, 4),
        Self::new("NULL", 3, 0),
        Self::new("GETADDR", 3, 3),
        Self::new("DUMP", 3, 4),
        Self::new("GETTIME", 3, 6),
        Self::new("UADDR2TADDR", 3, 7),
        Self::new("NULL", 4, 0),
        Self::new("GETADDR", 4, 3),
        Self::new("DUMP", 4, 4),
        Self::new("GETTIME", 4, 6),
        Self::new("UADDR2TADDR", 4, 7),
        Self::new("GETVERSADDR", 4, 9),
        Self::new("GETADDRLIST", 4, 11),
    ];

    const fn new(name: &'static str, version: u32, number: u32) -> Self {
        Self { version, number, name }
    }

    /// The name of its procedure, in its version.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The version of rpcbind's program.
    pub fn version(self) -> u32 {
        self.version
    }

    /// As what it is counted.
    pub fn procedure(self) -> Procedure {
        Procedure::of_call(PROGRAM, self.version, self.number)
    }

    /// Its arguments: the questions for an address are for that of rpcbind itself, over UDP.
    fn arguments(self, is_v6: bool) -> Vec<u8> {
        const UDP: u32 = 17;
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let text = |text: &str| {
            let mut bytes: Vec<u8> = words(&[text.len() as u32]);
            bytes.extend(text.bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        match (self.version, self.number) {
            // struct mapping
            (2, 3) => words(&[PROGRAM, self.version, UDP, 0]),
            // struct rpcb
            (_, 3 | 9 | 11) => {
                let netid = if is_v6 { "udp6" } else { "udp" };
                [words(&[PROGRAM, self.version]), text(netid), text(""), text("")].concat()
            }
            // A universal address (RFC 5665).
            (_, 7) => text(if is_v6 { "::1.0.111" } else { "127.0.0.1.0.111" }),
            _ => Vec::new(),
        }
    }

    /// The call, as a record of one fragment: behind its mark (RFC 5531, section 11), it is the datagram.
    pub(super) fn record(self, xid: u32, is_v6: bool) -> io::Result<Vec<u8>> {
        let nobody = || AuthFlavor::<&[u8]>::AuthNone(None);
        let arguments = self.arguments(is_v6);
        let call = CallBody::new(PROGRAM, self.version, self.number, nobody(), nobody(), arguments);
        RpcMessage::new(xid, MessageType::Call(call)).serialise()
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::MARK_LEN;
    use super::*;

    #[test]
    fn questions_are_what_the_rfc_says() {
        for question in Question::ALL.into_iter().chain(Question::COUNTED) {
            let record = question.record(0x0102_0304, true).unwrap();
            let (mark, call) = record.split_at(MARK_LEN);
            assert_eq!(mark, (0x8000_0000 | call.len() as u32).to_be_bytes());
            let head = [0x0102_0304, 0, 2, PROGRAM, question.version, question.number, 0, 0, 0, 0];
            let head: Vec<u8> = head.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
            assert_eq!(call[..40], head);
        }
        let arguments = |name, version| {
            let named = |question: &Question| question.name == name && question.version == version;
            Question::ALL.into_iter().find(named).unwrap().arguments(true)
        };
        assert_eq!(arguments("GETPORT", 2), [0, 1, 0x86, 0xa0, 0, 0, 0, 2, 0, 0, 0, 17, 0, 0, 0, 0]);
        let rpcb =
            |version| [&[0, 1, 0x86, 0xa0, 0, 0, 0, version, 0, 0, 0, 4][..], b"udp6", &[0; 8]].concat();
        assert_eq!(arguments("GETADDR", 3), rpcb(3));
        assert_eq!(arguments("GETADDRLIST", 4), rpcb(4));
        assert_eq!(arguments("UADDR2TADDR", 3), [&[0, 0, 0, 9][..], b"::1.0.111", &[0; 3]].concat());
    }

    #[test]
    fn no_question_changes_anything_or_calls_anybody() {
        // RFC 1833, sections 3.2 and 2.2.1, by their numbers.
        for question in Question::ALL {
            let harmless: &[u32] = match question.version {
                2 => &[0, 3, 4],
                3 => &[0, 3, 4, 6, 7],
                4 => &[0, 3, 4, 6, 7, 9, 11, 12],
                version => panic!("version {version}"),
            };
            assert!(harmless.contains(&question.number), "{question:?}");
        }
        assert!(Question::COUNTED.iter().all(|question| Question::ALL.contains(question)));
    }
}
