//! Random calls to rpcbind over UDP, and an oracle that says which of them are whole lookups: the second opinion on
//! `portguard_common::calls`.

use etherparse::UdpHeaderSlice;
use fastrand::Rng;

const RPCBIND: u32 = 100_000;
/// The longest datagram of a lookup, with its UDP header.
const LONGEST: usize = 520;
/// Version 2 of RPC, and rpcbind.
const CALL: [u8; 8] = [0, 0, 0, 2, 0, 1, 0x86, 0xa0];

/// Whether the UDP datagram that begins here is one whole lookup, and nothing else.
pub fn is_lookup(transport: &[u8]) -> bool {
    let Ok(header) = UdpHeaderSlice::from_slice(transport) else { return false };
    let length = usize::from(header.length());
    let Some(message) = transport.get(8..length).filter(|_| length <= LONGEST) else { return false };
    // The first call is the message itself.
    let hides_another = message.get(24..).is_some_and(|rest| rest.windows(8).any(|bytes| bytes == CALL));
    let end = Reader(message).lookup().map(<[u8]>::len);
    end == Some(0) && !hides_another
}

/// What is left of a message (RFC 4506, RFC 5531, RFC 1833).
struct Reader<'m>(&'m [u8]);

impl<'m> Reader<'m> {
    fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*word))
    }

    fn words(&mut self, count: usize) -> Option<()> {
        (0..count).try_for_each(|_| self.word().map(drop))
    }

    /// A length that is not greater than this, and as many bytes, padded.
    fn opaque(&mut self, longest: u32) -> Option<()> {
        let length = self.word().filter(|length| *length <= longest)?;
        self.words(length.div_ceil(4) as usize)
    }

    /// What is left behind a lookup.
    fn lookup(mut self) -> Option<&'m [u8]> {
        let _identifier = self.word()?;
        let (kind, rpc, program) = (self.word()?, self.word()?, self.word()?);
        let (version, procedure) = (self.word()?, self.word()?);
        if (kind, rpc, program) != (0, 2, RPCBIND) {
            return None;
        }
        for _ in ["credentials", "verifier"] {
            self.word()?;
            self.opaque(400)?;
        }
        match (version, procedure) {
            (2..=4, 0) | (3 | 4, 6) => {}
            (2, 3) => self.words(4)?,
            (3 | 4, 3) | (4, 9) => {
                self.words(2)?;
                (0..3).try_for_each(|_| self.opaque(64))?;
            }
            (3 | 4, 7) => self.opaque(64)?,
            (3 | 4, 8) => {
                self.word()?;
                self.opaque(64)?;
            }
            _ => return None,
        }
        Some(self.0)
    }
}

/// A call, a lookup more often than not.
pub(super) fn random(rng: &mut Rng) -> Vec<u8> {
    let version = rng.u32(2..=4);
    let procedure = match rng.u8(..8) {
        0..5 => [0, 3, 3, 6, 7, 8, 9][rng.usize(..7)],
        _ => rng.u32(..14),
    };
    let program = if rng.u8(..16) == 0 { 100_003 } else { RPCBIND };
    let mut call = words(&[rng.u32(..), 0, 2, program, version, procedure]);
    call.extend(credentials(rng));
    call.extend(words(&[0, 0]));
    call.extend(match procedure {
        3 if version == 2 => words(&[100_003, 3, 17, 0]),
        3 | 9 => {
            let mut arguments = words(&[if rng.bool() { 100_021 } else { RPCBIND }, rng.u32(..5)]);
            for longest in [6, 48, 10] {
                arguments.extend(text(rng, longest));
            }
            arguments
        }
        7 => text(rng, 30),
        8 => [words(&[16]), text(rng, 28)].concat(),
        _ => Vec::new(),
    });
    match rng.u8(..16) {
        0 => call.truncate(rng.usize(..=call.len())),
        1 => call.resize(call.len() + rng.usize(1..50), 0),
        // Another call behind it, as in a merged datagram.
        2 => call.extend(words(&[1, 0, 2, RPCBIND, 3, 4, 0, 0, 0, 0])),
        // A word that is not what it was.
        3 if call.len() >= 4 => {
            let at = rng.usize(..call.len() / 4) * 4;
            let value = [0, 1, 2, 3, 4, RPCBIND, 64, 400, u32::MAX][rng.usize(..9)];
            call[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        _ => {}
    }
    call
}

/// None, those of a Unix user, or some in which a call is hidden.
fn credentials(rng: &mut Rng) -> Vec<u8> {
    let mut body = match rng.u8(..8) {
        0..4 => return words(&[0, 0]),
        4..7 => {
            let groups: Vec<u32> = (0..rng.u32(..17)).map(|_| rng.u32(..4)).collect();
            [words(&[rng.u32(..)]), text(rng, 20), words(&[0, 0, groups.len() as u32]), words(&groups)]
                .concat()
        }
        _ => [vec![0x5a; rng.usize(..9)], words(&[1, 0, 2, RPCBIND, 3, 4, 0, 0, 0, 0])].concat(),
    };
    let length = body.len() as u32;
    body.resize(body.len().next_multiple_of(4), 0);
    [words(&[1, length]), body].concat()
}

fn text(rng: &mut Rng, longest: usize) -> Vec<u8> {
    let length = if rng.u8(..64) == 0 { rng.usize(..70) } else { rng.usize(..=longest) };
    let mut text = words(&[length as u32]);
    text.extend((0..length).map(|_| rng.u8(b'0'..=b'9')));
    text.resize(text.len().next_multiple_of(4), 0);
    text
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
