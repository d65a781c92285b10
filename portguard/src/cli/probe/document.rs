//! What a port 111 answers to anybody.

use serde::Serialize;

use crate::printable::printable;
use crate::probe::verdict::{Amplification, State, Verdict, factor};
use crate::probe::{Answer, Finding, services};
use crate::rpcbind::{More, Programs, Registration};
use crate::time;

/// The document of `probe --json`. Fields may be added; no field is renamed or removed.
///
/// Bytes are those of RPC messages: UDP payload, or TCP records without their marks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// The version of the meaning of the fields.
    pub schema: u32,
    /// RFC 3339; UTC.
    pub taken_at: String,
    /// The host as it was named; `null`: this host.
    pub host: Option<String>,
    /// The worst of those of the addresses.
    pub verdict: Verdict,
    /// Each address that was asked.
    pub addresses: Vec<Address>,
}

/// What one address answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Address {
    /// The address, with its zone if it takes one.
    pub address: String,
    /// Whether it is one of this host's own: calls went over the loopback interface, where no guard sees them.
    pub own: bool,
    /// What one may think of it.
    pub verdict: Verdict,
    /// The most that a forger gets out of it; `null`: nothing.
    pub amplification: Option<Worst>,
    /// The answers over UDP.
    pub udp: Transport,
    /// The answers over TCP.
    pub tcp: Transport,
    /// What it says is registered.
    pub services: Vec<Service>,
}

/// The call with the largest answer for its size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worst {
    /// Its name.
    pub call: &'static str,
    /// The version of rpcbind's program.
    pub version: u32,
    /// Bytes of UDP payload of the answer for each byte of the call.
    pub factor: f64,
}

/// Answers over one protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transport {
    /// `answers`, `refused`, `rejected`, `silent`, `stalled`, `closed`, `garbled` or `unreachable`.
    pub state: &'static str,
    /// Why there are no answers at all.
    pub problem: Option<String>,
    /// What came of each question.
    pub replies: Vec<Reply>,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reply {
    /// The name of the call.
    pub call: &'static str,
    /// The version of rpcbind's program.
    pub version: u32,
    /// The size of the call; `null` like the other sizes if there is no reply.
    pub request_bytes: Option<u64>,
    /// The size of the reply, be it an error.
    pub reply_bytes: Option<u64>,
    /// Bytes of the reply for each byte of the call.
    pub amplification: Option<f64>,
    /// Where the reply came from, if not from the address that was asked; `null`: from there, or there is none.
    pub from: Option<String>,
    /// Why there is no reply, or what is wrong with it.
    pub problem: Option<String>,
}

/// A registered service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The number of its program.
    pub program: u32,
    /// The version of that.
    pub version: u32,
    /// The transport.
    pub netid: String,
    /// Its universal address, or the path of its socket; `null`: only version 2 of rpcbind tells of it.
    pub address: Option<String>,
    /// Its port; `null`: it has none.
    pub port: Option<u32>,
    /// The name of the program; `null`: it has none on this host.
    pub service: Option<String>,
    /// Who has registered it; `null` as with the address.
    pub owner: Option<String>,
}

impl Document {
    /// A document of this version.
    pub fn new(taken_at: u64, host: Option<String>, findings: &[Finding], programs: &Programs) -> Self {
        let addresses: Vec<Address> =
            findings.iter().map(|finding| Address::new(finding, programs)).collect();
        let verdict = addresses.iter().map(|address| address.verdict).max().unwrap_or(Verdict::Silent);
        Self { schema: 1, taken_at: time::seconds(taken_at), host, verdict, addresses }
    }

    /// The host, to the eye.
    pub fn shown_host(&self) -> String {
        self.host.as_deref().map_or_else(|| "this host".to_owned(), printable)
    }
}

impl Address {
    fn new(finding: &Finding, programs: &Programs) -> Self {
        let worst = |Amplification { question, factor }| Worst {
            call: question.name(),
            version: question.version(),
            factor: rounded(factor),
        };
        let services = services::services(finding);
        Self {
            address: finding.target.to_string(),
            own: finding.target.own,
            verdict: Verdict::of(finding),
            amplification: Amplification::of(&finding.udp).map(worst),
            udp: Transport::new(&finding.udp),
            tcp: Transport::new(&finding.tcp),
            services: services.into_iter().map(|service| Service::new(service, programs)).collect(),
        }
    }
}

impl Transport {
    fn new(answers: &[Answer]) -> Self {
        let (state, problem) = match State::of(answers) {
            State::Answers => ("answers", None),
            State::Nothing(reason) => (reason.key(), Some(reason.to_string())),
        };
        Self { state, problem, replies: answers.iter().map(Reply::new).collect() }
    }
}

impl Reply {
    fn new(answer: &Answer) -> Self {
        let (question, reply) = answer;
        let problem = match reply {
            Err(reason) => Some(reason.to_string()),
            Ok(reply) => match (&reply.results, services::list(answer)) {
                (Err(why), _) => Some(format!("an error: {why}")),
                (_, Some(Err(why))) => Some(format!("its list is not valid: {why}")),
                _ => None,
            },
        };
        let reply = reply.as_ref().ok();
        Self {
            call: question.name(),
            version: question.version(),
            request_bytes: reply.map(|reply| reply.request_len as u64),
            reply_bytes: reply.map(|reply| reply.reply_len as u64),
            amplification: reply.map(|reply| rounded(factor(reply.request_len, reply.reply_len))),
            from: reply.and_then(|reply| reply.from).map(|from| from.to_string()),
            problem,
        }
    }
}

impl Service {
    fn new(registration: Registration, programs: &Programs) -> Self {
        let Registration { program, version, netid, port, more } = registration;
        let (address, owner) = more.map(|More { address, owner }| (address, owner)).unzip();
        let service = programs.name(program).map(str::to_owned);
        Self { program, version, netid, address, port, service, owner }
    }
}

/// To hundredths: nobody needs more.
fn rounded(factor: f64) -> f64 {
    (factor * 100.0).round() / 100.0
}
