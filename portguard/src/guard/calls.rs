//! What denied packets asked rpcbind for.

use portguard_common::rpc::{Procedure, Request, Requests};
use portguard_common::transport::Protocol;
use serde::Serialize;

use crate::guard::Asked;

/// Packets by what they asked for. While packets come in, the sums may be behind the packets by those that were being
/// counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Datagrams: exact, as each is a whole call. The first fragment of a call that is fragmented within its header is
    /// `not_rpc`.
    pub udp: ByProcedure,
    /// Segments: a best effort, which assumes that a call begins where the data of a segment begin. Segments without
    /// data are `not_rpc`. While the packets of a source are dropped, it sends no segments with data, unless they are
    /// forged.
    pub tcp_best_effort: ByProcedure,
}

/// Packets by procedure of rpcbind (RFC 1833).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ByProcedure {
    /// Is anybody there?
    pub null: u64,
    /// `GETPORT`, `GETADDR`, `GETVERSADDR`.
    pub getaddr: u64,
    /// `DUMP`.
    pub dump: u64,
    /// `CALLIT`, `BCAST`, `INDIRECT`.
    pub callit: u64,
    /// `GETSTAT`.
    pub getstat: u64,
    /// `SET`, `UNSET`.
    pub set: u64,
    /// Any other call.
    pub other_rpc: u64,
    /// No call.
    pub not_rpc: u64,
}

/// The name of a procedure in documents.
pub fn key(procedure: Procedure) -> &'static str {
    match procedure {
        Procedure::Null => "null",
        Procedure::GetAddress => "getaddr",
        Procedure::Dump => "dump",
        Procedure::CallIt => "callit",
        Procedure::GetStat => "getstat",
        Procedure::Set => "set",
        Procedure::OtherRpc => "other_rpc",
        Procedure::NotRpc => "not_rpc",
    }
}

/// The name of a procedure in tables.
pub fn name(procedure: Procedure) -> &'static str {
    match procedure {
        Procedure::Null => "NULL",
        Procedure::GetAddress => "GETADDR",
        Procedure::Dump => "DUMP",
        Procedure::CallIt => "CALLIT",
        Procedure::GetStat => "GETSTAT",
        Procedure::Set => "SET",
        Procedure::OtherRpc => "other RPC",
        Procedure::NotRpc => "not RPC",
    }
}

/// The name of a protocol.
pub fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "UDP",
        Protocol::Tcp => "TCP",
    }
}

impl ByProcedure {
    /// The sum of the counters.
    pub fn sum(&self) -> u64 {
        Procedure::ALL.into_iter().map(|procedure| self.of(procedure)).sum()
    }

    /// The counter of a procedure.
    pub fn of(&self, procedure: Procedure) -> u64 {
        let mut copy = *self;
        *copy.counter(procedure)
    }

    fn counter(&mut self, procedure: Procedure) -> &mut u64 {
        match procedure {
            Procedure::Null => &mut self.null,
            Procedure::GetAddress => &mut self.getaddr,
            Procedure::Dump => &mut self.dump,
            Procedure::CallIt => &mut self.callit,
            Procedure::GetStat => &mut self.getstat,
            Procedure::Set => &mut self.set,
            Procedure::OtherRpc => &mut self.other_rpc,
            Procedure::NotRpc => &mut self.not_rpc,
        }
    }
}

impl From<Requests> for Calls {
    fn from(requests: Requests) -> Self {
        let mut calls = Self::default();
        for request in Request::all() {
            let protocol = match request.protocol() {
                Protocol::Udp => &mut calls.udp,
                Protocol::Tcp => &mut calls.tcp_best_effort,
            };
            *protocol.counter(request.procedure()) = requests[request.index()];
        }
        calls
    }
}

impl From<&Asked> for Calls {
    fn from(asked: &Asked) -> Self {
        Requests::from(asked).into()
    }
}

impl Calls {
    /// The headings of [`Calls::cells`].
    pub fn columns() -> impl Iterator<Item = String> {
        ["udp", "tcp"]
            .into_iter()
            .flat_map(|protocol| Procedure::ALL.map(|procedure| format!("{protocol}_{}", key(procedure))))
    }

    /// The counters as cells of a table.
    pub fn cells(&self) -> impl Iterator<Item = String> {
        [self.udp, self.tcp_best_effort]
            .into_iter()
            .flat_map(|by| Procedure::ALL.map(|procedure| by.of(procedure).to_string()))
    }

    /// What was asked for most, over UDP or else over TCP, in one word.
    pub fn mostly(&self) -> &'static str {
        let most = |by: &ByProcedure| {
            // The first of equals: `max_by_key` takes the last.
            Procedure::ALL.into_iter().rev().filter(|kind| by.of(*kind) > 0).max_by_key(|kind| by.of(*kind))
        };
        most(&self.udp).or_else(|| most(&self.tcp_best_effort)).map_or("", name)
    }
}
