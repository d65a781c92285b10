//! What answers mean to others.

use portguard_common::listed;
use portguard_common::transport::Protocol;
use serde::Serialize;

use super::{Answer, Finding};
use crate::rpcbind::{NoReply, Question};

listed! {
    /// What one may think of a port 111; the worse, the greater.
    #[derive(PartialOrd, Ord, Serialize)]
    #[serde(into = "&'static str")]
    pub enum Verdict {
        /// It cannot be reached from here.
        Unreachable = "unreachable",
        /// Nobody listens there.
        Refused = "refused",
        /// A firewall rejects the packets.
        Rejected = "rejected",
        /// It says nothing at all.
        Silent = "silent",
        /// It answers over TCP, where a source cannot be forged.
        TcpOnly = "tcp_only",
        /// Something is there, but it does not speak as rpcbind does. Over UDP, that may do harm, too.
        Unclear = "unclear",
        /// It answers over UDP, and so to whom a forger likes.
        Reflector = "reflector",
    }
}

/// What became of the questions over one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State<'a> {
    /// At least one of them was answered.
    Answers,
    /// None was. The reason is the one that tells most.
    Nothing(&'a NoReply),
}

impl<'a> State<'a> {
    /// Of the answers over a protocol.
    pub fn of(answers: &'a [Answer]) -> Self {
        // In an order from what tells least.
        let told = |reason: &NoReply| match reason {
            NoReply::Silent => 0,
            NoReply::Unreachable(_) => 1,
            NoReply::Refused => 2,
            NoReply::Rejected => 3,
            NoReply::Stalled => 4,
            NoReply::Closed => 5,
            NoReply::Garbled(_) => 6,
        };
        let reasons = answers.iter().map(|(_, reply)| reply.as_ref().err());
        // None: that one was answered.
        let reasons: Option<Vec<&NoReply>> = reasons.collect();
        match reasons {
            None => Self::Answers,
            Some(reasons) => {
                // The first of equals.
                let most =
                    reasons.into_iter().reduce(|most, it| if told(it) > told(most) { it } else { most });
                Self::Nothing(most.unwrap_or(&NoReply::Silent))
            }
        }
    }
}

impl Verdict {
    /// Of what one address answers.
    pub fn of(finding: &Finding) -> Self {
        use State::{Answers, Nothing};
        match [Protocol::Udp, Protocol::Tcp].map(|protocol| State::of(finding.over(protocol))) {
            [Answers, _] => Self::Reflector,
            [Nothing(NoReply::Garbled(_)), _] => Self::Unclear,
            [_, Answers] => Self::TcpOnly,
            [Nothing(udp), Nothing(tcp)] => {
                [udp, tcp].map(Self::of_nothing).into_iter().max().unwrap_or(Self::Silent)
            }
        }
    }

    fn of_nothing(reason: &NoReply) -> Self {
        match reason {
            NoReply::Unreachable(_) => Self::Unreachable,
            NoReply::Refused => Self::Refused,
            NoReply::Rejected => Self::Rejected,
            NoReply::Silent => Self::Silent,
            NoReply::Stalled | NoReply::Closed | NoReply::Garbled(_) => Self::Unclear,
        }
    }
}

/// The most that a forger gets out of a host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Amplification {
    /// By asking this.
    pub question: Question,
    /// Bytes of answer for each byte of the call: UDP payload both.
    pub factor: f64,
}

impl Amplification {
    /// Of what came over UDP.
    pub fn of(answers: &[Answer]) -> Option<Self> {
        let factors = answers.iter().filter_map(|(question, reply)| {
            let reply = reply.as_ref().ok()?;
            Some(Self { question: *question, factor: factor(reply.request_len, reply.reply_len) })
        });
        factors.reduce(|most, it| if it.factor > most.factor { it } else { most })
    }
}

/// Bytes of a reply for each byte of its request.
pub fn factor(request: usize, reply: usize) -> f64 {
    reply as f64 / request as f64
}
