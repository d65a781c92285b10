//! How much rpcbind answers: what the requests that a guard has dropped would have brought to those in whose name they
//! came.
//!
//! A guard counts procedures, not versions and arguments, so all of it is a range. Sizes are bytes of UDP payload, of the
//! answers to well-formed calls, as they are now: `DUMP` answers with what is registered, `GETSTAT` with what was asked for.

use std::iter::Sum;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Add;
use std::time::Duration;

use libc::{sockaddr_in, sockaddr_in6};
use portguard_common::PORT;
use portguard_common::rpc::Procedure;
use portguard_common::transport::Protocol;
use serde::Serialize;

use crate::family::Family;
use crate::rpcbind::{self, NoReply, Question};

/// How long all questions over one family may take.
const LIMIT: Duration = Duration::from_secs(3);

/// From the least to the most it can have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Range {
    /// Not less.
    pub at_least: u64,
    /// Not more.
    pub at_most: u64,
}

impl Range {
    const fn new(at_least: u64, at_most: u64) -> Self {
        Self { at_least, at_most }
    }

    /// So many times as much.
    #[must_use]
    fn times(self, count: u64) -> Self {
        Self::new(self.at_least.saturating_mul(count), self.at_most.saturating_mul(count))
    }

    /// One or the other.
    #[must_use]
    fn or(self, other: Self) -> Self {
        Self::new(self.at_least.min(other.at_least), self.at_most.max(other.at_most))
    }
}

impl Add for Range {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::new(self.at_least.saturating_add(other.at_least), self.at_most.saturating_add(other.at_most))
    }
}

impl Sum for Range {
    fn sum<I: Iterator<Item = Self>>(ranges: I) -> Self {
        ranges.fold(Self::default(), Add::add)
    }
}

impl Family {
    /// Where this host's own rpcbind listens: calls go over `lo`, and never meet a guard.
    pub fn rpcbind(self) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::LOCALHOST, PORT).into(),
            Self::V6 => (Ipv6Addr::LOCALHOST, PORT).into(),
        }
    }

    /// The longest universal address (RFC 5665) as a string of XDR, without its length: `255.255.255.255.255.255`.
    const fn address_len(self) -> u64 {
        match self {
            Self::V4 => 24,
            Self::V6 => 48,
        }
    }

    /// The sizes of answers that no question was asked for, from RFC 5531 and RFC 1833.
    pub fn stated(self, procedure: Procedure) -> Option<Range> {
        /// An accepted reply without results (RFC 5531, section 9): success, or most errors.
        const REPLY: u64 = 24;
        /// A reply that the caller may not do this.
        const REJECTED: u64 = 20;
        const WORD: u64 = 4;
        // A string has its length in front; none is in it if the service is not there.
        let address = WORD + self.address_len();
        match procedure {
            Procedure::GetAddress | Procedure::GetVersionAddress | Procedure::ToUniversal => {
                Some(Range::new(REPLY + WORD, REPLY + address))
            }
            // More follow, the address, "udp6", semantics, "inet6", "udp"; for UDP and TCP. Of a service that is not there, none
            // follow.
            Procedure::GetAddressList => {
                let family = if matches!(self, Self::V4) { 4 } else { 8 };
                let entry = WORD + address + (WORD + 4) + WORD + (WORD + family) + (WORD + 4);
                Some(Range::new(REPLY + WORD, REPLY + 2 * entry + WORD))
            }
            Procedure::GetTime => Some(Range::new(REPLY + WORD, REPLY + WORD)),
            // `struct netbuf`: its size, its length, and an address of the server's own kind, if it could make one.
            Procedure::ToTransport => {
                let address = if matches!(self, Self::V4) {
                    size_of::<sockaddr_in>()
                } else {
                    size_of::<sockaddr_in6>()
                };
                Some(Range::new(REPLY + 2 * WORD, REPLY + 2 * WORD + address as u64))
            }
            // Strangers are refused; who is not gets a bool.
            Procedure::Set => Some(Range::new(REJECTED, REPLY + WORD)),
            // Silence, and an error for INDIRECT; unless rpcbind runs with -r, which nobody can measure safely.
            Procedure::CallIt => Some(Range::new(0, REPLY)),
            // An error: of another version, with the first and the last one that there are.
            Procedure::OtherRpc => Some(Range::new(REPLY, REPLY + 2 * WORD)),
            Procedure::OtherProgram => Some(Range::new(REPLY, REPLY)),
            // Not even an error. The first fragment of a call that is torn within its header is counted here, too.
            Procedure::NotRpc => Some(Range::default()),
            Procedure::Null | Procedure::Dump | Procedure::GetStat => None,
        }
    }
}

/// What an answer weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The question.
    pub question: Question,
    /// Its bytes.
    pub request: u64,
    /// Those of the answer.
    pub reply: u64,
}

/// What this host's own rpcbind answers, over IPv4 and IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    v4: Result<Vec<Size>, NoReply>,
    v6: Result<Vec<Size>, NoReply>,
}

impl Answers {
    /// Asks the rpcbind of this network namespace, for a few seconds at most.
    pub fn measure() -> Self {
        let [v4, v6] = Family::ALL.map(|family| measure(family.rpcbind()));
        Self { v4, v6 }
    }

    /// What was measured elsewhere, in the order of [`Question::COUNTED`].
    pub fn new(v4: Result<Vec<Size>, NoReply>, v6: Result<Vec<Size>, NoReply>) -> Self {
        Self { v4, v6 }
    }

    /// The answers over one family, or why there are none.
    pub fn over(&self, family: Family) -> Result<&[Size], &NoReply> {
        match family {
            Family::V4 => self.v4.as_deref(),
            Family::V6 => self.v6.as_deref(),
        }
    }

    /// Whether an rpcbind has answered.
    pub fn are_known(&self) -> bool {
        Family::ALL.into_iter().any(|family| self.over(family).is_ok())
    }

    /// The bytes of the answers to so many UDP requests for `procedure`, from sources of a family, or of either of them.
    /// `None`: no rpcbind has answered.
    ///
    /// Where it answers over one family only, it answers nothing over the other.
    pub fn bytes(&self, from: Option<Family>, procedure: Procedure, requests: u64) -> Option<Range> {
        let size = match from {
            Some(family) => self.size(family, procedure),
            None => self.size(Family::V4, procedure).or(self.size(Family::V6, procedure)),
        };
        self.are_known().then(|| size.times(requests))
    }

    /// The size of an answer.
    fn size(&self, family: Family, procedure: Procedure) -> Range {
        let Ok(sizes) = self.over(family) else { return Range::default() };
        sizes
            .iter()
            .filter(|size| size.question.procedure() == procedure)
            .map(|size| Range::new(size.reply, size.reply))
            .chain(family.stated(procedure))
            .reduce(Range::or)
            .unwrap_or_default()
    }
}

fn measure(server: SocketAddr) -> Result<Vec<Size>, NoReply> {
    // GETSTAT comes first: it tells of the questions for an address, too, and would tell of these.
    let mut questions = Question::COUNTED;
    questions.reverse();
    let replies = rpcbind::ask(server, Protocol::Udp, &questions, LIMIT);
    let sizes = questions.into_iter().zip(replies).map(|(question, reply)| {
        let reply = reply?;
        Ok(Size { question, request: reply.request_len as u64, reply: reply.reply_len as u64 })
    });
    let mut sizes = sizes.collect::<Result<Vec<_>, NoReply>>()?;
    sizes.reverse();
    Ok(sizes)
}
