//! What denied packets asked rpcbind for.

use portguard_common::rpc::{self, Procedure, Request, Requests};
use portguard_common::transport::Protocol;
use serde::{Serialize, Serializer};

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

/// Packets by procedure of rpcbind (RFC 1833), which JSON has by the key of the procedure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByProcedure(rpc::ByProcedure<u64>);

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
        Procedure::GetAddressList => "GETADDRLIST",
        Procedure::GetTime => "GETTIME",
        Procedure::ToTransport => "UADDR2TADDR",
        Procedure::ToUniversal => "TADDR2UADDR",
        Procedure::GetVersionAddress => "GETVERSADDR",
        Procedure::OtherProgram => "other program",
    }
}

impl ByProcedure {
    /// The sum of the counters.
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The counter of a procedure.
    pub fn of(&self, procedure: Procedure) -> u64 {
        self.0[procedure as usize]
    }
}

impl Serialize for ByProcedure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Procedure::ALL.map(|procedure| (procedure.key(), self.of(procedure))))
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
            protocol.0[request.procedure() as usize] = requests[request.index()];
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
    /// Those over a protocol.
    fn over(&self, protocol: Protocol) -> ByProcedure {
        match protocol {
            Protocol::Udp => self.udp,
            Protocol::Tcp => self.tcp_best_effort,
        }
    }

    /// The headings of [`Calls::cells`].
    pub fn columns() -> impl Iterator<Item = String> {
        Protocol::ALL.into_iter().flat_map(|protocol| {
            Procedure::ALL.map(|procedure| format!("{}_{}", protocol.key(), procedure.key()))
        })
    }

    /// The counters as cells of a table.
    pub fn cells(&self) -> impl Iterator<Item = String> {
        let over = Protocol::ALL.map(|protocol| self.over(protocol));
        over.into_iter().flat_map(|by| Procedure::ALL.map(|procedure| by.of(procedure).to_string()))
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
