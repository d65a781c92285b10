//! Asks the port 111 of hosts as an attacker would, and says what became of it.

pub mod services;
pub mod targets;
pub mod verdict;

use std::thread;
use std::time::Duration;

use portguard_common::transport::Protocol;

use self::targets::Target;
use crate::rpcbind::{self, NoReply, Question, Reply};

/// What came of a question.
pub type Answer = (Question, Result<Reply, NoReply>);

/// What one address answers; by version and procedure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The address.
    pub target: Target,
    /// What came over UDP.
    pub udp: Vec<Answer>,
    /// What came over TCP.
    pub tcp: Vec<Answer>,
}

impl Finding {
    /// What came over a protocol.
    pub fn over(&self, protocol: Protocol) -> &[Answer] {
        match protocol {
            Protocol::Udp => &self.udp,
            Protocol::Tcp => &self.tcp,
        }
    }
}

/// Asks all of them at the same time, for so long at most.
pub fn probe(targets: Vec<Target>, limit: Duration) -> Vec<Finding> {
    let over = |target: &Target, protocol| {
        let answers = rpcbind::ask(target.address, protocol, &Question::ALL, limit);
        let mut answers: Vec<Answer> = Question::ALL.into_iter().zip(answers).collect();
        answers.sort_by_key(|(question, _)| *question);
        answers
    };
    let of = |target: Target| {
        thread::scope(|scope| {
            let tcp = scope.spawn(|| over(&target, Protocol::Tcp));
            let udp = over(&target, Protocol::Udp);
            let tcp = tcp.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Finding { target: target.clone(), udp, tcp }
        })
    };
    thread::scope(|scope| {
        let threads: Vec<_> = targets.into_iter().map(|target| scope.spawn(|| of(target))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Finding>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}
