//! Record marking (RFC 5531, section 11): how messages follow one another in a stream.

use std::io::{self, Read};

use super::NoReply;
use crate::printable::counted;

/// In front of each fragment of a message.
pub(super) const MARK_LEN: usize = 4;
/// A mark says that no more fragments of the message follow.
pub(super) const LAST: u32 = 1 << 31;
/// Far more than any rpcbind has to tell.
const LARGEST: usize = 1 << 20;
/// Servers make one fragment, or a few.
const MOST_FRAGMENTS: usize = 256;

/// Reads the next message.
///
/// # Errors
/// There is none, it is larger than anything that is expected, or what comes stops within it.
pub(super) fn read(from: &mut impl Read) -> Result<Vec<u8>, NoReply> {
    let mut message = Vec::new();
    for number in 0..MOST_FRAGMENTS {
        let mut mark = Vec::new();
        if let Err(stop) = exactly(from, MARK_LEN, &mut mark) {
            return Err(match (number, mark.len()) {
                (0, 0) => stop.between_messages(),
                _ => stop.within(message.len(), None),
            });
        }
        let mark = mark.try_into().map_or(0, u32::from_be_bytes);
        let length = (mark & !LAST) as usize;
        let announced = message.len() + length;
        if announced > LARGEST {
            return Err(NoReply::Garbled(format!(
                "its header announces {announced} bytes, but the limit is {LARGEST}"
            )));
        }
        exactly(from, length, &mut message).map_err(|stop| stop.within(message.len(), Some(announced)))?;
        if mark & LAST != 0 {
            return Ok(message);
        }
    }
    Err(NoReply::Garbled(format!("it has no end after {MOST_FRAGMENTS} fragments")))
}

/// Why nothing more comes.
enum Stop {
    Closed,
    TimedOut,
}

impl Stop {
    fn between_messages(self) -> NoReply {
        match self {
            Self::Closed => NoReply::Closed,
            Self::TimedOut => NoReply::Stalled,
        }
    }

    fn within(self, bytes: usize, of: Option<usize>) -> NoReply {
        let why = match self {
            Self::Closed => "the connection was closed",
            Self::TimedOut => "no more data arrived in time",
        };
        let after = of.map_or_else(|| counted(bytes as u64, "byte"), |of| format!("{bytes} of {of} bytes"));
        NoReply::Garbled(format!("{why} after {after} of it"))
    }
}

/// Appends so many bytes, or as many as there are.
fn exactly(from: &mut impl Read, length: usize, to: &mut Vec<u8>) -> Result<(), Stop> {
    match from.by_ref().take(length as u64).read_to_end(to) {
        Ok(read) if read == length => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Stop::TimedOut),
        // A connection that is reset is closed.
        Ok(_) | Err(_) => Err(Stop::Closed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fragment(last: bool, bytes: &[u8]) -> Vec<u8> {
        let mark = bytes.len() as u32 | if last { LAST } else { 0 };
        [&mark.to_be_bytes(), bytes].concat()
    }

    fn garbled(stream: &[u8]) -> String {
        match read(&mut &*stream) {
            Err(NoReply::Garbled(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fragments_are_put_together_and_messages_kept_apart() {
        let stream =
            [fragment(false, b"ab"), fragment(false, b""), fragment(true, b"c"), fragment(true, b"de")];
        let stream = stream.concat();
        let mut stream = stream.as_slice();
        assert_eq!(read(&mut stream), Ok(b"abc".to_vec()));
        assert_eq!(read(&mut stream), Ok(b"de".to_vec()));
        assert_eq!(read(&mut stream), Err(NoReply::Closed));
    }

    #[test]
    fn a_liar_is_not_believed() {
        assert!(garbled(&[0xff; 64]).contains("announces 2147483647 bytes"));
        assert!(garbled(b"HTTP/1.1 400 Bad Request\r\n\r\n").contains("announces"));
        let endless = fragment(false, b"").repeat(MOST_FRAGMENTS + 1);
        assert!(garbled(&endless).contains("no end after 256 fragments"));
        // Each is small, but together they are not.
        let half = fragment(false, &vec![0; LARGEST / 2 + 1]);
        assert!(garbled(&half.repeat(2)).contains("announces"));
        assert!(garbled(&fragment(true, b"abcd")[..6]).contains("closed after 2 of 4 bytes"));
        assert!(garbled(&fragment(true, b"abcd")[..3]).contains("closed after 0 bytes"));
        assert!(garbled(&[fragment(false, b"abcd"), vec![0x80]].concat()).contains("closed after 4 bytes"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut stream = bytes.as_slice();
            while read(&mut stream).is_ok() {}
        }

        #[test]
        fn a_message_in_fragments_is_the_message(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..20)
        ) {
            let last = parts.len() - 1;
            let stream: Vec<u8> =
                parts.iter().enumerate().flat_map(|(index, part)| fragment(index == last, part)).collect();
            prop_assert_eq!(read(&mut stream.as_slice()), Ok(parts.concat()));
        }
    }
}
