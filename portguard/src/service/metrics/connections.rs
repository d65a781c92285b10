//! The open connections to the metrics: at most so many, in total and for each source.

use std::net::IpAddr;

use tokio::task::AbortHandle;

/// The most connections at a time.
const MOST: usize = 32;
/// The most connections of one source at a time. A scraper has one.
const MOST_OF_A_SOURCE: usize = 4;

/// The open connections, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Connections(Vec<(IpAddr, AbortHandle)>);

impl Connections {
    /// Adds a connection. If its source has too many, the oldest connection of the source is closed; if all are taken, the
    /// oldest connection of the source that has most. So the newest connection, which may be honest, always has room.
    pub(super) fn add(&mut self, peer: IpAddr, connection: AbortHandle) {
        self.0.retain(|(_, connection)| !connection.is_finished());
        let source = source(peer);
        if self.count(source) >= MOST_OF_A_SOURCE {
            self.close_oldest_of(source);
        } else if self.0.len() >= MOST {
            let sources = self.0.iter().map(|(source, _)| *source);
            if let Some(most) = sources.max_by_key(|source| self.count(*source)) {
                self.close_oldest_of(most);
            }
        }
        self.0.push((source, connection));
    }

    fn close_oldest_of(&mut self, source: IpAddr) {
        if let Some(oldest) = self.0.iter().position(|(other, _)| *other == source) {
            self.0.remove(oldest).1.abort();
        }
    }

    fn count(&self, source: IpAddr) -> usize {
        self.0.iter().filter(|(other, _)| *other == source).count()
    }
}

/// The source of a peer: its IPv4 address, or the first 64 bits of its IPv6 address, because a host chooses the other bits
/// itself.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn connect(connections: &mut Connections, peer: IpAddr) -> AbortHandle {
        let connection = tokio::spawn(pending::<()>()).abort_handle();
        connections.add(peer, connection.clone());
        connection
    }

    #[tokio::test]
    async fn a_source_has_few_connections_and_its_oldest_are_closed() {
        let mut connections = Connections::default();
        let flooder = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]);
        let all: Vec<AbortHandle> = (0..50).map(|host| connect(&mut connections, flooder(host))).collect();
        tokio::task::yield_now().await;
        assert_eq!(connections.0.len(), MOST_OF_A_SOURCE, "a /64 is one source");
        let open: Vec<usize> = (0..50).filter(|number| !all[*number].is_finished()).collect();
        assert_eq!(open, [46, 47, 48, 49]);
    }

    #[tokio::test]
    async fn the_source_with_most_connections_makes_room_for_others() {
        let mut connections = Connections::default();
        let scraper = connect(&mut connections, [192, 0, 2, 1].into());
        let flooder = [198, 51, 100, 1].into();
        for _ in 0..MOST_OF_A_SOURCE {
            connect(&mut connections, flooder);
        }
        for other in 2..=30 {
            connect(&mut connections, [203, 0, 113, other].into());
        }
        tokio::task::yield_now().await;
        assert_eq!((connections.0.len(), connections.count(flooder)), (MOST, 2));
        assert!(!scraper.is_finished());
    }
}
