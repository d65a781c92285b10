//! What shows that Linux has delivered a packet.

use std::net::IpAddr;

use portguard_testkit::oracle::Answer;

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arrival {
    /// A UDP socket has read this.
    Datagram { port: u16, source: (IpAddr, u16), payload: Vec<u8> },
    /// The host has answered: TCP on one of its ports, or an echo.
    Answer(Answer),
}

impl Arrival {
    /// The port that was reached.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Datagram { port, .. } | Self::Answer(Answer::Tcp { port, .. }) => Some(*port),
            Self::Answer(_) => None,
        }
    }

    /// Who sent what has arrived.
    pub(crate) fn source(&self) -> IpAddr {
        match self {
            Self::Datagram { source: (address, _), .. }
            | Self::Answer(Answer::Tcp { to: (address, _), .. }) => *address,
            Self::Answer(Answer::Echo { to, .. }) => *to,
            Self::Answer(Answer::Udp { .. }) => unreachable!("no UDP service on the host answers"),
        }
    }
}

/// Those of `due` that are not in `arrived`, each as often as it is missing.
pub(crate) fn missing(mut due: Vec<Arrival>, mut arrived: Vec<Arrival>) -> Vec<Arrival> {
    due.sort_unstable();
    arrived.sort_unstable();
    let mut arrived = arrived.into_iter().peekable();
    due.retain(|wanted| {
        while arrived.next_if(|next| next < wanted).is_some() {}
        arrived.next_if_eq(wanted).is_none()
    });
    due
}

#[test]
fn what_is_missing_is_counted() {
    let echo = |byte| Arrival::Answer(Answer::Echo { to: IpAddr::from([192, 0, 2, 1]), payload: vec![byte] });
    assert_eq!(missing(vec![echo(1), echo(1), echo(2)], vec![echo(3), echo(1)]), [echo(1), echo(2)]);
    assert_eq!(missing(vec![echo(2)], vec![echo(2), echo(2), echo(1)]), []);
}
