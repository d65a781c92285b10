//! `probe --json`, read by somebody who knows nothing of the code that writes it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::support::Portguard;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    schema: u32,
    #[serde(rename = "taken_at")]
    _taken_at: String,
    pub(super) host: Option<String>,
    pub(super) verdict: String,
    pub(super) addresses: Vec<Address>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Address {
    pub(super) address: String,
    pub(super) own: bool,
    pub(super) verdict: String,
    pub(super) amplification: Option<Worst>,
    pub(super) udp: Transport,
    pub(super) tcp: Transport,
    pub(super) services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Worst {
    pub(super) call: String,
    pub(super) version: u32,
    pub(super) factor: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transport {
    pub(super) state: String,
    pub(super) problem: Option<String>,
    pub(super) replies: Vec<Reply>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    pub(super) call: String,
    pub(super) version: u32,
    pub(super) request_bytes: Option<u64>,
    pub(super) reply_bytes: Option<u64>,
    pub(super) amplification: Option<f64>,
    pub(super) problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) program: u32,
    pub(super) version: u32,
    pub(super) netid: String,
    pub(super) address: Option<String>,
    pub(super) port: Option<u32>,
    pub(super) service: Option<String>,
    pub(super) owner: Option<String>,
}

/// A line of `rpcinfo -s`: versions, netids, service and owner of a program.
pub(super) type Short = BTreeMap<u32, (BTreeSet<u32>, BTreeSet<String>, String, String)>;

#[track_caller]
pub(super) fn parsed(json: &str) -> Document {
    let document: Document = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(document.schema, 1);
    document
}

/// What a host finds out about another one, or about itself.
#[track_caller]
pub(super) fn probed(portguard: Portguard<'_>, arguments: &[&str]) -> Document {
    parsed(&portguard.ok(&[&["probe", "--json"], arguments].concat()))
}

/// The same, where there is one address.
#[track_caller]
pub(super) fn one(portguard: Portguard<'_>, arguments: &[&str]) -> Address {
    let document = probed(portguard, arguments);
    assert_eq!(document.host.as_deref(), arguments.first().copied());
    let [address] = document.addresses.try_into().expect("one address");
    assert_eq!(document.verdict, address.verdict);
    address
}

impl Transport {
    #[track_caller]
    pub(super) fn reply(&self, call: &str, version: u32) -> &Reply {
        let is = |reply: &&Reply| (&*reply.call, reply.version) == (call, version);
        self.replies.iter().find(is).unwrap_or_else(|| panic!("no {call} {version}: {self:?}"))
    }
}

impl Address {
    pub(super) fn states(&self) -> (&str, &str, &str) {
        (&self.verdict, &self.udp.state, &self.tcp.state)
    }

    /// As `rpcinfo -p` would show them: program, version, protocol, port, service.
    pub(super) fn ports(&self) -> BTreeSet<Vec<String>> {
        let of_v2 = self.services.iter().filter(|service| matches!(&*service.netid, "tcp" | "udp"));
        of_v2
            .map(|it| {
                let port = it.port.expect("UDP and TCP have ports").to_string();
                let service = it.service.clone().unwrap_or_else(|| "-".to_owned());
                vec![it.program.to_string(), it.version.to_string(), it.netid.clone(), port, service]
            })
            .collect()
    }

    /// As `rpcinfo` would show them: program, version, netid, address, service, owner.
    pub(super) fn lines(&self) -> Vec<Vec<String>> {
        let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let line = |it: &Service| {
            let numbers = [it.program, it.version].map(|number| number.to_string());
            let texts = [it.netid.clone(), cell(&it.address), cell(&it.service), cell(&it.owner)];
            numbers.into_iter().chain(texts).collect()
        };
        self.services.iter().map(line).collect()
    }

    /// As `rpcinfo -s` would show them.
    pub(super) fn short(&self) -> Short {
        let mut short = Short::new();
        for it in &self.services {
            let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let entry = short
                .entry(it.program)
                .or_insert_with(|| (BTreeSet::new(), BTreeSet::new(), cell(&it.service), cell(&it.owner)));
            entry.0.insert(it.version);
            entry.1.insert(it.netid.clone());
        }
        short
    }
}
