//! Calls on their way, and what has come of each.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::SocketAddr;

use super::record::MARK_LEN;
use super::{NoReply, Question, Reply, reply};
use crate::printable::counted;

/// Questions that are asked together.
#[derive(Debug)]
pub(super) struct Calls {
    calls: Vec<Call>,
    /// Why the first message that came for none of them is no reply.
    stray: Option<String>,
}

#[derive(Debug)]
struct Call {
    xid: u32,
    record: Vec<u8>,
    reply: Option<Reply>,
    /// Why what bears its number is no reply.
    garbled: Option<String>,
}

/// What a message turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// It is about one of the calls.
    Expected,
    /// It is about one that is answered already.
    Again,
    /// It is about none.
    Stray,
}

impl Calls {
    pub(super) fn new(questions: &[Question], is_v6: bool) -> io::Result<Self> {
        let base = random();
        let call = |(number, question): (u32, &Question)| {
            let xid = base.wrapping_add(number);
            Ok(Call { xid, record: question.record(xid, is_v6)?, reply: None, garbled: None })
        };
        let calls = (0..).zip(questions).map(call).collect::<io::Result<_>>()?;
        Ok(Self { calls, stray: None })
    }

    /// The calls that have no reply, as records.
    pub(super) fn open(&self) -> impl Iterator<Item = &[u8]> {
        self.calls.iter().filter(|call| call.reply.is_none()).map(|call| &*call.record)
    }

    /// Whether nothing at all has come for one of them.
    pub(super) fn is_waiting(&self) -> bool {
        self.calls.iter().any(|call| call.reply.is_none() && call.garbled.is_none())
    }

    /// Whether a message has the transaction ID of one of the calls.
    pub(super) fn has_sent(&self, message: &[u8]) -> bool {
        let xid = message.first_chunk().copied().map(u32::from_be_bytes);
        self.calls.iter().any(|call| Some(call.xid) == xid)
    }

    /// Takes what has come; `from` is where from, if that is not the server that was asked.
    pub(super) fn take(&mut self, message: &[u8], from: Option<SocketAddr>) -> Message {
        let Some(xid) = message.first_chunk().copied().map(u32::from_be_bytes) else {
            self.stray
                .get_or_insert_with(|| format!("it has {} only", counted(message.len() as u64, "byte")));
            return Message::Stray;
        };
        let Some(call) = self.calls.iter_mut().find(|call| call.xid == xid) else {
            self.stray.get_or_insert_with(|| "it has a transaction ID that no call has".to_owned());
            return Message::Stray;
        };
        if call.reply.is_some() {
            return Message::Again;
        }
        match reply::parse(message) {
            Ok(results) => {
                let request_len = call.record.len() - MARK_LEN;
                call.reply = Some(Reply { request_len, reply_len: message.len(), from, results });
            }
            Err(why) => {
                call.garbled.get_or_insert(why);
            }
        }
        Message::Expected
    }

    /// What came of each; `rest` of those that nothing came of.
    pub(super) fn finish(self, rest: &NoReply) -> Vec<Result<Reply, NoReply>> {
        let Self { calls, stray } = self;
        let of = |Call { reply, garbled, .. }: Call| {
            let why = garbled.or_else(|| stray.clone());
            reply.ok_or_else(|| why.map_or_else(|| rest.clone(), NoReply::Garbled))
        };
        calls.into_iter().map(of).collect()
    }
}

/// A number that nobody guesses: the standard library's hash tables begin with such numbers.
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}
