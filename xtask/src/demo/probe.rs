//! The tools that an administrator checks port 111 with, run as a client, with a deadline.

use std::fmt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::testbed::Family;
use portguard_testkit::net::{Outcome, RpcServices, run_within};
use portguard_testkit::testbed::{Role, Testbed};

/// How long a client waits. rpcinfo itself would try for 15 seconds over UDP, and longer over TCP.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// A question to port 111.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tool {
    List,
    PingUdp,
    PingUdp6,
    Exports,
}

impl Tool {
    pub(super) const ALL: [Self; 4] = [Self::List, Self::PingUdp, Self::PingUdp6, Self::Exports];

    /// The command line, as a user types it.
    pub(super) fn command_line(self) -> String {
        let v4 = Family::V4.address_of(Role::Server);
        let v6 = Family::V6.address_of(Role::Server);
        match self {
            Self::List => format!("rpcinfo -p {v4}"),
            Self::PingUdp => format!("rpcinfo -T udp {v4} 100000 2"),
            Self::PingUdp6 => format!("rpcinfo -T udp6 {v6} 100000 3"),
            Self::Exports => format!("showmount -e {v4}"),
        }
    }

    /// What only a real answer contains.
    fn sign(self) -> &'static str {
        match self {
            Self::List => "portmapper",
            Self::PingUdp | Self::PingUdp6 => "ready and waiting",
            Self::Exports => RpcServices::EXPORT,
        }
    }
}

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Came(Duration),
    /// None within [`PATIENCE`].
    None,
    /// Neither an answer nor silence: a guard that drops does not look like this.
    Other(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Came(after) => write!(f, "answers in {} ms", after.as_millis()),
            Self::None => write!(f, "no answer in {} s", PATIENCE.as_secs()),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// One client's answer to one question.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) tool: Tool,
    pub(super) client: Role,
    pub(super) answer: Answer,
}

/// Asks everything from all `clients` at the same time.
pub(super) fn ask_all(testbed: &Testbed, clients: &[Role]) -> Result<Vec<Probe>> {
    thread::scope(|scope| {
        let asked: Vec<_> = Tool::ALL
            .into_iter()
            .flat_map(|tool| clients.iter().map(move |&client| (tool, client)))
            .map(|(tool, client)| scope.spawn(move || ask(testbed, tool, client)))
            .collect();
        asked.into_iter().map(|thread| thread.join().expect("asking does not panic")).collect()
    })
}

fn ask(testbed: &Testbed, tool: Tool, client: Role) -> Result<Probe> {
    let line = tool.command_line();
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let mut command: Command = testbed.host(client).command(program);
    let answer = match run_within(PATIENCE, command.args(words))? {
        Outcome::TimedOut => Answer::None,
        Outcome::Completed(done) if done.status.success() && done.stdout.contains(tool.sign()) => {
            Answer::Came(done.elapsed)
        }
        Outcome::Completed(done) => {
            let first = done.stderr.lines().chain(done.stdout.lines()).next().unwrap_or("no output");
            Answer::Other(format!("{first} ({})", done.status))
        }
    };
    Ok(Probe { tool, client, answer })
}
