//! Reads XDR (RFC 4506), as far as rpcbind's lists need it.

/// The longest text that is taken: names of transports, addresses and owners.
const LONGEST: u32 = 1024;

/// Reads from the beginning of what is left.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// An unsigned integer.
    pub(super) fn word(&mut self) -> Result<u32, String> {
        let (word, rest) = self.0.split_first_chunk().ok_or("it is cut short")?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*word))
    }

    /// Whether there is one more entry of a list.
    pub(super) fn more(&mut self) -> Result<bool, String> {
        match self.word()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("{other} is found where 0 (end) or 1 (more) must be")),
        }
    }

    /// A string. What is no UTF-8 in it is replaced.
    pub(super) fn text(&mut self) -> Result<String, String> {
        let length = self.word()?;
        if length > LONGEST {
            return Err(format!("it has a text of {length} bytes, but the limit is {LONGEST}"));
        }
        let text = self.bytes(length as usize)?;
        self.bytes(text.len().next_multiple_of(4) - text.len())?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or("it is cut short")?;
        self.0 = rest;
        Ok(bytes)
    }
}
