//! `probe --json`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::portguard::Portguard;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    schema: u32,
    #[serde(rename = "taken_at")]
    _taken_at: String,
    pub host: Option<String>,
    pub verdict: String,
    pub addresses: Vec<Address>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    pub address: String,
    pub own: bool,
    pub verdict: String,
    pub amplification: Option<Worst>,
    pub udp: Transport,
    pub tcp: Transport,
    pub services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worst {
    pub call: String,
    pub version: u32,
    pub factor: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    pub state: String,
    pub problem: Option<String>,
    pub replies: Vec<Reply>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    pub call: String,
    pub version: u32,
    pub request_bytes: Option<u64>,
    pub reply_bytes: Option<u64>,
    pub amplification: Option<f64>,
    pub from: Option<String>,
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub program: u32,
    pub version: u32,
    pub netid: String,
    pub address: Option<String>,
    pub port: Option<u32>,
    pub service: Option<String>,
    pub owner: Option<String>,
}

/// A line of `rpcinfo -s`: versions, netids, service and owner of a program.
pub type Short = BTreeMap<u32, (BTreeSet<u32>, BTreeSet<String>, String, String)>;

#[track_caller]
pub fn parsed(json: &str) -> Document {
    let document: Document = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(document.schema, 1);
    document
}

/// What a host finds out about another one, or about itself.
#[track_caller]
pub fn probed(portguard: Portguard<'_>, arguments: &[&str]) -> Document {
    parsed(&portguard.ok(&[&["probe", "--json"], arguments].concat()))
}

/// The same, where there is one address.
#[track_caller]
pub fn one(portguard: Portguard<'_>, arguments: &[&str]) -> Address {
    let document = probed(portguard, arguments);
    assert_eq!(document.host.as_deref(), arguments.first().copied());
    let [address] = document.addresses.try_into().expect("one address");
    assert_eq!(document.verdict, address.verdict);
    address
}

impl Transport {
    #[track_caller]
    pub fn reply(&self, call: &str, version: u32) -> &Reply {
        let is = |reply: &&Reply| (&*reply.call, reply.version) == (call, version);
        self.replies.iter().find(is).unwrap_or_else(|| panic!("no {call} {version}: {self:?}"))
    }
}

impl Address {
    pub fn states(&self) -> (&str, &str, &str) {
        (&self.verdict, &self.udp.state, &self.tcp.state)
    }

    /// As `rpcinfo -p` would show them: program, version, protocol, port, service.
    pub fn ports(&self) -> BTreeSet<Vec<String>> {
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
    pub fn lines(&self) -> Vec<Vec<String>> {
        let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let line = |it: &Service| {
            let numbers = [it.program, it.version].map(|number| number.to_string());
            let texts = [it.netid.clone(), cell(&it.address), cell(&it.service), cell(&it.owner)];
            numbers.into_iter().chain(texts).collect()
        };
        self.services.iter().map(line).collect()
    }

    /// As `rpcinfo -s` would show them.
    pub fn short(&self) -> Short {
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
