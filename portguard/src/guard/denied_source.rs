//! A source that was denied.

use std::net::IpAddr;

use portguard_common::rpc::{REQUESTS, Request, Requests};
use portguard_common::totals::Count;
use portguard_common::transport::Protocol;

/// A source that was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its address.
    pub address: IpAddr,
    /// Its packets.
    pub count: Count,
    /// The number of packets with each kind of request.
    pub asked: Asked,
    /// The time of the first packet, in nanoseconds of Unix time.
    pub first_seen: u64,
    /// The time of the last packet, in nanoseconds of Unix time.
    pub last_seen: u64,
}

impl Source {
    /// The number of its TCP packets.
    pub fn tcp_packets(&self) -> u64 {
        let requests = Requests::from(&self.asked);
        let is_tcp = |request: &Request| request.protocol() == Protocol::Tcp;
        Request::all().filter(is_tcp).map(|request| requests[request.index()]).sum()
    }
}

/// The number of packets of a source with each kind of request: a compact form of [`Requests`]. It is small for nearly
/// all sources, because these repeat one request. There may be a million sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked(Kinds);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kinds {
    /// One kind of request, and its number.
    One(Request, u64),
    /// Several kinds of requests.
    Several(Box<Requests>),
}

impl From<&Requests> for Asked {
    fn from(requests: &Requests) -> Self {
        let kinds = requests.iter().filter(|count| **count > 0).count();
        if kinds > 1 {
            return Self(Kinds::Several(Box::new(*requests)));
        }
        let index = requests.iter().position(|count| *count > 0).unwrap_or(0);
        Self(Kinds::One(Request::from_index(index as u8), requests[index]))
    }
}

impl From<&Asked> for Requests {
    fn from(asked: &Asked) -> Self {
        match &asked.0 {
            Kinds::One(request, count) => {
                let mut requests = [0; REQUESTS];
                requests[request.index()] = *count;
                requests
            }
            Kinds::Several(requests) => **requests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_counter_of_what_was_asked_for_is_lost() {
        let nothing = [0; REQUESTS];
        let one = |index: usize, count| {
            let mut requests = nothing;
            requests[index] = count;
            requests
        };
        let all = std::array::from_fn(|index| index as u64 + 1);
        let last_two = std::array::from_fn(|index| if index + 2 < REQUESTS { 0 } else { u64::MAX });
        for requests in [nothing, one(0, 1), one(REQUESTS - 1, u64::MAX), all, last_two] {
            assert_eq!(Requests::from(&Asked::from(&requests)), requests);
        }
    }
}
