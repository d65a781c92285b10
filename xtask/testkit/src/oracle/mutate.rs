//! Damage to a frame: what bad cables, bad senders and bad parsers find hard.

use fastrand::Rng;

use crate::oracle::headers::checksum;

/// Bytes that mean something in one header or another.
const TELLING: [u8; 22] =
    [0, 1, 2, 3, 4, 5, 6, 16, 17, 43, 44, 50, 51, 58, 59, 60, 111, 112, 135, 0x45, 0x60, 0xff];
/// Where headers are, mostly.
const HEADERS: usize = 96;
/// The shortest frame that an Ethernet card knows of, and the kernel runs a program on.
const SHORTEST: usize = 14;

/// Damages a frame in one to three ways, and leaves it at least an Ethernet header long.
pub(super) fn mutate(rng: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..rng.u8(1..=3) {
        let end = if rng.u8(..4) > 0 { frame.len().min(HEADERS) } else { frame.len() };
        let at = rng.usize(12.min(end - 1)..end);
        match rng.u8(..16) {
            0..=4 => frame[at] ^= 1 << rng.u8(..8),
            5..=7 => frame[at] = rng.choice(TELLING).unwrap_or_default(),
            8 => frame[at] = rng.u8(..),
            9..=10 => frame.truncate(at.max(SHORTEST)),
            11 => frame.resize(frame.len() + rng.usize(1..64), rng.u8(..)),
            12 => frame.swap(at, at - 1),
            // A word too much, or one too little: everything behind it is out of place.
            13 => {
                let word = if rng.bool() { [0x9c, 0x40, 0, 111] } else { rng.u32(..).to_be_bytes() };
                frame.splice(at..at, word);
            }
            14 if frame.len() >= SHORTEST + 4 => {
                let at = at.min(frame.len() - 4);
                frame.drain(at..at + 4);
            }
            // A length that contradicts the others.
            _ => {
                let at = rng.choice([14, 16, 18, 38, 55]).unwrap_or(at).min(frame.len() - 1);
                frame[at] = frame[at].wrapping_add(rng.choice([1, 2, 8, 0x80, 0xff]).unwrap_or_default());
            }
        }
    }
    frame.resize(frame.len().max(SHORTEST), 0);
}

/// Makes the checksum of an untagged IPv4 header right again, so that Linux looks at what was damaged.
pub(super) fn mend_checksum(frame: &mut [u8]) {
    let is_ipv4 = frame.get(12..14) == Some(&[8, 0]);
    let Some(length) = frame.get(14).map(|byte| usize::from(byte & 0xf) * 4).filter(|_| is_ipv4) else {
        return;
    };
    if let Some(header) = frame.get_mut(14..14 + length).filter(|header| header.len() >= 20) {
        header[10..12].fill(0);
        let sum = checksum(header, 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}
