//! Servers that lie, stall, send garbage, or do not stop. That the probe ends at all shows that it is bounded.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{PORTGUARD, SingleHost};
use portguard_testkit::documents::probe::{Address, one};

const POLL: Duration = Duration::from_millis(20);

/// A call, as far as a liar cares.
#[derive(Clone, Copy)]
struct Call {
    xid: u32,
    version: u32,
    procedure: u32,
}

impl Call {
    fn parse(message: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        assert_eq!([word(4), word(8), word(12)], [0, 2, 100_000], "a call of rpcbind's program");
        Self { xid: word(0), version: word(16), procedure: word(20) }
    }

    /// A reply with results.
    fn reply(self, results: &[u8]) -> Vec<u8> {
        [&words(&[self.xid, 1, 0, 0, 0, 0]), results].concat()
    }

    fn is_dump(self) -> bool {
        self.procedure == 4
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn record(message: &[u8]) -> Vec<u8> {
    [&words(&[0x8000_0000 | message.len() as u32]), message].concat()
}

/// A server at an address of the loopback interface, until it is told to stop.
struct Liar {
    udp: Option<UdpSocket>,
    tcp: TcpListener,
}

impl Liar {
    /// In the network namespace of the thread.
    fn at(address: Ipv4Addr, with_udp: bool) -> Self {
        let udp = with_udp.then(|| UdpSocket::bind((address, 111)).expect("a socket"));
        let tcp = TcpListener::bind((address, 111)).expect("a socket");
        tcp.set_nonblocking(true).unwrap();
        Self { udp, tcp }
    }

    /// Answers each datagram.
    fn over_udp(&self, stop: &AtomicBool, lie: impl Fn(Call) -> Vec<u8>) {
        let Some(udp) = &self.udp else { return };
        udp.set_read_timeout(Some(POLL)).unwrap();
        let mut message = [0; 512];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((length, from)) = udp.recv_from(&mut message) {
                let lie = lie(Call::parse(&message[..length]));
                // Who has heard enough is gone.
                let _ = udp.send_to(&lie[..lie.len().min(60_000)], from);
            }
        }
    }

    /// Deals with one connection after the other.
    fn over_tcp(&self, stop: &AtomicBool, serve: impl Fn(&mut TcpStream)) {
        while !stop.load(Ordering::Relaxed) {
            match self.tcp.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    serve(&mut stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// The calls that come over a connection, until the client has gone.
fn calls(stream: &mut TcpStream, mut each: impl FnMut(&mut TcpStream, Call)) {
    let mut mark = [0; 4];
    while stream.read_exact(&mut mark).is_ok() {
        let mut message = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
        if stream.read_exact(&mut message).is_err() {
            return;
        }
        each(stream, Call::parse(&message));
    }
}

/// Reads until the client has gone.
fn wait(stream: &mut TcpStream) {
    while stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {}
}

/// Sends until nobody reads any more.
fn endlessly(stream: &mut TcpStream, bytes: &[u8]) {
    while stream.write_all(bytes).is_ok() {}
}

/// A message for a call, over UDP and TCP alike.
type Lie = fn(Call) -> Vec<u8>;
/// What is done with a connection.
type Serve = fn(&mut TcpStream);

/// What is probed, with what finding.
type Check = fn(&Address);

#[track_caller]
fn assert_garbled(address: &Address, told: &str) {
    assert_eq!(address.states(), ("unclear", "garbled", "garbled"), "{address:?}");
    for transport in [&address.udp, &address.tcp] {
        let problem = transport.problem.as_ref().unwrap();
        assert!(
            problem.starts_with("the received data is not a reply: ") && problem.contains(told),
            "{problem}"
        );
    }
}

#[track_caller]
fn assert_over_tcp(address: &Address, state: &str, told: &str) {
    assert_eq!(address.states(), ("unclear", "refused", state), "{address:?}");
    let problem = address.tcp.problem.as_ref().unwrap();
    assert!(problem.contains(told), "{problem}");
}

/// It must be an answer, and no list.
#[track_caller]
fn assert_no_list(address: &Address, version: u32, told: &[&str]) {
    assert_eq!(address.states(), ("reflector", "answers", "answers"), "{address:?}");
    for transport in [&address.udp, &address.tcp] {
        let problem = transport.reply("DUMP", version).problem.as_ref().expect("no list");
        assert!(told.iter().any(|told| problem.contains(told)), "{problem}");
    }
}

/// Runs a probe of one server after another; all of them at the same time.
#[test]
fn whoever_answers_the_probe_ends_and_says_what_is_wrong() {
    let lies: [(Lie, Check); 8] = [
        (
            |call| Call { xid: !call.xid, ..call }.reply(&[]),
            |found| {
                assert_garbled(found, "a transaction ID that no call has");
            },
        ),
        (|_| vec![0xff; 48], |found| assert_garbled(found, "a transaction ID that no call has")),
        (|_| vec![7], |found| assert_garbled(found, "1 byte only")),
        (|call| call.reply(&[])[..20].to_vec(), |found| assert_garbled(found, "it is cut short")),
        (
            |call| words(&[call.xid, 0, 2, 100_000, 4, 4, 0, 0, 0, 0]),
            |found| {
                assert_garbled(found, "it is a call");
            },
        ),
        // A list that does not end.
        (
            |call| {
                let entry = words(&[1, 100_000, 2, 17, 111]);
                call.reply(&if call.is_dump() { entry.repeat(5000) } else { vec![] })
            },
            |found| assert_no_list(found, 2, &["it is cut short", "more than 4096 entries"]),
        ),
        // A text that is longer than anything; and one that does things to terminals.
        (
            |call| match (call.is_dump(), call.version) {
                (true, 3) => call.reply(&words(&[1, 100_000, 3, 0x7fff_ffff])),
                (true, 4) => {
                    let text = [&words(&[4]), b"\x1b[2J".as_slice()].concat();
                    call.reply(&[words(&[1, 100_000, 4]), text.repeat(3), words(&[0])].concat())
                }
                _ => call.reply(&words(&[0])),
            },
            |found| {
                assert_no_list(found, 3, &["a text of 2147483647 bytes"]);
                let [service] = &found.services[..] else { panic!("{found:?}") };
                assert_eq!(service.owner.as_deref(), Some("\u{1b}[2J"));
            },
        ),
        // Errors are answers, and a forger likes them, too.
        (
            |call| words(&[call.xid, 1, 1, 1, 5]),
            |found| {
                assert_eq!(found.states(), ("reflector", "answers", "answers"), "{found:?}");
                let reply = found.udp.reply("DUMP", 3);
                assert_eq!((reply.reply_bytes, reply.amplification), (Some(20), Some(0.5)));
                assert_eq!(reply.problem.as_deref(), Some("an error: it requires stronger credentials"));
            },
        ),
    ];
    let streams: [(Serve, Check); 7] = [
        (wait, |found| assert_over_tcp(found, "stalled", "does not reply in time")),
        (|_| (), |found| assert_over_tcp(found, "closed", "without a reply")),
        (|stream| endlessly(stream, &[0; 4]), |found| assert_over_tcp(found, "garbled", "no end after")),
        (
            |stream| endlessly(stream, &record(&[7; 24])),
            |found| {
                assert_over_tcp(found, "garbled", "a transaction ID that no call has");
            },
        ),
        (
            |stream| endlessly(stream, &[0x7f; 64]),
            |found| {
                assert_over_tcp(found, "garbled", "announces 2139062143 bytes");
            },
        ),
        (
            |stream| {
                let _ = stream.write_all(&record(&[7; 100])[..54]);
                wait(stream);
            },
            |found| assert_over_tcp(found, "garbled", "no more data arrived in time after 50 of 100 bytes"),
        ),
        // The first answers over and over again; to the others there is none.
        (
            |stream| {
                calls(stream, |stream, call| endlessly(stream, &record(&call.reply(&[]))));
            },
            |found| {
                assert_eq!(found.states(), ("tcp_only", "refused", "answers"), "{found:?}");
                let problem = found.tcp.reply("GETTIME", 3).problem.as_ref().expect("no reply");
                assert!(problem.contains("not a reply to an open call"), "{problem}");
            },
        ),
    ];
    let host = SingleHost::bare(PORTGUARD);
    let address = |number: usize| Ipv4Addr::new(127, 0, 1, number as u8);
    let (liars, servers) = host.namespace.run(|| {
        let liars: Vec<Liar> = (0..lies.len()).map(|number| Liar::at(address(number), true)).collect();
        let servers = (0..streams.len()).map(|number| Liar::at(address(100 + number), false));
        (liars, servers.collect::<Vec<Liar>>())
    });
    let stop = AtomicBool::new(false);
    let stop = &stop;
    thread::scope(|scope| {
        for (liar, &(lie, _)) in liars.iter().zip(&lies) {
            scope.spawn(move || liar.over_udp(stop, lie));
            scope.spawn(move || {
                liar.over_tcp(stop, |stream| {
                    calls(stream, |stream, call| {
                        let _ = stream.write_all(&record(&lie(call)));
                    });
                });
            });
        }
        for (server, &(serve, _)) in servers.iter().zip(&streams) {
            scope.spawn(move || server.over_tcp(stop, serve));
        }
        let checks = lies.iter().map(|(_, check)| check).enumerate();
        let checks = checks.chain((100..).zip(streams.iter().map(|(_, check)| check)));
        let probes: Vec<_> = checks
            .map(|(number, check)| {
                let (host, address) = (&host, address(number).to_string());
                scope.spawn(move || check(&one(host.portguard(), &[&address])))
            })
            .collect();
        let failed = probes.into_iter().filter_map(|probe| probe.join().err()).count();
        // The one that plays with terminals.
        let text = scope.spawn(|| host.portguard().ok(&["probe", &address(6).to_string()])).join();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failed, 0, "see above");
        let text = text.expect("a probe");
        assert!(text.contains(r"\u{1b}[2J") && !text.contains('\u{1b}'), "{text}");
    });
}
