//! Servers that do not do what they should.

use std::io::{Read as _, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use super::*;

/// For replies that come: a busy machine may take its time.
const LONG: Duration = Duration::from_secs(60);
/// For those that never do, although something may come before.
const SHORT: Duration = Duration::from_secs(2);

type Answer = Result<Reply, NoReply>;

/// The reply of a procedure without results.
fn reply(xid: [u8; 4]) -> Vec<u8> {
    [&xid[..], &[0, 0, 0, 1], &[0; 16]].concat()
}

fn other(xid: [u8; 4]) -> [u8; 4] {
    xid.map(|byte| !byte)
}

fn garbled(answer: &Answer) -> &str {
    match answer {
        Err(NoReply::Garbled(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Asks a server that sends `answers` to each call it gets.
fn over_udp(limit: Duration, answers: impl Fn([u8; 4]) -> Vec<Vec<u8>> + Send) -> Answer {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut call = [0; 512];
            // A datagram too short for a call ends it.
            while let Ok((24.., from)) = server.recv_from(&mut call) {
                for answer in answers(call[..4].try_into().unwrap()) {
                    // Who has heard enough is gone.
                    let _ = server.send_to(&answer, from);
                }
            }
        });
        let [answer] = ask(address, Protocol::Udp, &Question::COUNTED[..1], limit).try_into().unwrap();
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(&[], address).unwrap();
        answer
    })
}

/// Asks a server that does as it likes with a connection and the first call.
fn over_tcp(limit: Duration, serve: impl FnOnce(&mut TcpStream, [u8; 4]) + Send) -> Vec<Answer> {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut calls = [0; 2 * 44];
            stream.read_exact(&mut calls).unwrap();
            serve(&mut stream, calls[4..8].try_into().unwrap());
        });
        ask(address, Protocol::Tcp, &Question::COUNTED[..2], limit)
    })
}

fn record(message: &[u8]) -> Vec<u8> {
    [&(record::LAST | message.len() as u32).to_be_bytes(), message].concat()
}

#[test]
fn a_reply_is_taken_and_all_else_before_it_is_not() {
    let answer = over_udp(LONG, |xid| {
        let whole = reply(xid);
        let call = [&xid[..], &[0; 36]].concat();
        let too_long = [&whole[..12], &[0xff; 500]].concat();
        vec![
            vec![],
            vec![0xff; 1400],
            xid.to_vec(),
            whole[..20].to_vec(),
            call,
            too_long,
            reply(other(xid)),
            whole,
        ]
    });
    assert_eq!(answer, Ok(Reply { request_len: 40, reply_len: 24, from: None, results: Ok(vec![]) }));
}

#[test]
fn what_never_is_the_reply_is_told() {
    type Answers = fn([u8; 4]) -> Vec<Vec<u8>>;
    assert_eq!(over_udp(Duration::from_millis(100), |_| vec![]), Err(NoReply::Silent));
    let cases: [(Answers, &str); 3] = [
        (|xid| vec![reply(other(xid)), vec![7; 24]], "a transaction ID that no call has"),
        (|xid| vec![reply(xid)[..20].to_vec()], "cut short"),
        (|_| vec![vec![1]], "1 byte only"),
    ];
    thread::scope(|scope| {
        for (answers, told) in cases {
            scope.spawn(move || {
                let answer = over_udp(SHORT, answers);
                assert!(garbled(&answer).contains(told), "{answer:?}");
            });
        }
    });
    let answer = over_udp(LONG, |xid| vec![[reply(xid), vec![0; 3]].concat()]);
    assert_eq!(answer.unwrap().results, Ok(vec![0; 3]), "results may be anything");
}

#[test]
fn errors_of_a_server_are_replies() {
    for (status, told) in
        [(1, "the program"), (3, "this procedure"), (4, "the arguments"), (5, "a system error")]
    {
        let answer = over_udp(LONG, |xid| {
            let mut message = reply(xid);
            message[23] = status;
            vec![message]
        });
        let answer = answer.unwrap().results.unwrap_err();
        assert!(answer.contains(told), "{answer}");
    }
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let mismatch = over_udp(LONG, |xid| vec![[&xid[..], &words(&[1, 0, 0, 0, 2, 2, 2])].concat()]).unwrap();
    assert_eq!(
        (mismatch.reply_len, &*mismatch.results.unwrap_err()),
        (32, "it has version 2 of the program only")
    );
    let denied = over_udp(LONG, |xid| vec![[&xid[..], &words(&[1, 1, 1, 5])].concat()]).unwrap();
    assert_eq!((denied.reply_len, &*denied.results.unwrap_err()), (20, "it requires stronger credentials"));
}

#[test]
fn the_largest_datagram_is_received_whole() {
    let answer = over_udp(LONG, |xid| vec![[reply(xid), vec![1; 65_507 - 24]].concat()]);
    assert_eq!(answer.unwrap().reply_len, 65_507);
}

#[test]
fn a_server_that_chatters_on_does_not_hold_anybody_up() {
    // More than can be read before the deadline is not needed: what ends it is the clock.
    let begin = Instant::now();
    let answer = over_udp(SHORT, |xid| (0..100).map(|_| reply(other(xid))).collect());
    assert!(garbled(&answer).contains("a transaction ID that no call has"), "{answer:?}");
    assert!(begin.elapsed() >= SHORT);
}

#[test]
fn where_nobody_listens_is_told() {
    // The port is taken, lest another test gets it, by a socket that hears nobody but one that never speaks.
    let deaf = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    deaf.connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
    let answers = ask(deaf.local_addr().unwrap(), Protocol::Udp, &Question::ALL, LONG);
    assert_eq!(answers, vec![Err(NoReply::Refused); Question::ALL.len()]);
}

#[test]
fn replies_are_taken_in_any_order_and_in_fragments() {
    let answers = over_tcp(LONG, |stream, xid| {
        let next = u32::from_be_bytes(xid).wrapping_add(1).to_be_bytes();
        let whole = reply(next);
        stream.write_all(&[&[0, 0, 0, 10], &whole[..10]].concat()).unwrap();
        stream.write_all(&record(&whole[10..])).unwrap();
        stream.write_all(&record(&[reply(xid), vec![7; 4]].concat())).unwrap();
    });
    let lengths: Vec<usize> = answers.into_iter().map(|answer| answer.unwrap().reply_len).collect();
    assert_eq!(lengths, [28, 24]);
}

#[test]
fn connections_that_come_to_nothing_are_told_apart() {
    let [first, second] = over_tcp(LONG, |_, _| ()).try_into().unwrap();
    assert_eq!((first, second), (Err(NoReply::Closed), Err(NoReply::Closed)));

    thread::scope(|scope| {
        scope.spawn(|| {
            let stalled = over_tcp(SHORT, |stream, xid| {
                stream.write_all(&record(&reply(xid))).unwrap();
                let _ = stream.read(&mut [0]);
            });
            assert_eq!((stalled[0].is_ok(), &stalled[1]), (true, &Err(NoReply::Stalled)));
        });
        scope.spawn(|| {
            let stalled = over_tcp(SHORT, |stream, xid| {
                stream.write_all(&record(&reply(xid))[..20]).unwrap();
                let _ = stream.read(&mut [0]);
            });
            assert!(garbled(&stalled[0]).contains("in time after 16 of 24 bytes"), "{stalled:?}");
        });
    });

    let strange = over_tcp(LONG, |stream, xid| stream.write_all(&record(&reply(other(xid)))).unwrap());
    assert!(garbled(&strange[0]).contains("a transaction ID that no call has"), "{strange:?}");

    let cut = over_tcp(LONG, |stream, xid| {
        let next = u32::from_be_bytes(xid).wrapping_add(1).to_be_bytes();
        stream.write_all(&record(&reply(xid)[..20])).unwrap();
        stream.write_all(&record(&reply(next))).unwrap();
    });
    assert!(garbled(&cut[0]).contains("cut short") && cut[1].is_ok(), "{cut:?}");

    let twice = over_tcp(LONG, |stream, xid| stream.write_all(&record(&reply(xid)).repeat(2)).unwrap());
    assert!(twice[0].is_ok() && garbled(&twice[1]).contains("not a reply to an open call"), "{twice:?}");
}

/// Each of these would go on for ever, and each byte comes in time.
#[test]
fn streams_without_end_are_left() {
    /// Sends until nobody reads any more.
    fn endlessly(bytes: &[u8]) -> impl FnOnce(&mut TcpStream, [u8; 4]) + Send {
        move |stream, _| while stream.write_all(bytes).is_ok() {}
    }
    let fragments = over_tcp(LONG, endlessly(&[0, 0, 0, 0]));
    assert!(garbled(&fragments[0]).contains("no end after"), "{fragments:?}");
    let records = over_tcp(LONG, endlessly(&record(&[7; 24])));
    assert!(garbled(&records[0]).contains("a transaction ID that no call has"), "{records:?}");
    let large = over_tcp(LONG, endlessly(&[0x7f; 64]));
    assert!(garbled(&large[0]).contains("announces"), "{large:?}");
    let begin = Instant::now();
    let drop_by_drop = over_tcp(SHORT, |stream, _| {
        stream.write_all(&record(&[7; 1 << 16])[..4]).unwrap();
        while stream.write_all(&[7]).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(garbled(&drop_by_drop[0]).contains("of 65536 bytes"), "{drop_by_drop:?}");
    assert!(begin.elapsed() >= SHORT);
}

proptest::proptest! {
    #[test]
    fn any_message_is_a_reply_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
        let _ = reply::parse(&bytes);
    }

    /// Beginning like a reply, it gets further.
    #[test]
    fn any_reply_is_results_or_an_error(
        bytes in proptest::collection::vec(0..8_u8, 0..20), tail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..5)
    ) {
        let words = bytes.iter().flat_map(|byte| [0, 0, 0, *byte]);
        let message: Vec<u8> = [1, 2, 3, 4, 0, 0, 0, 1].into_iter().chain(words).chain(tail).collect();
        let _ = reply::parse(&message);
    }
}
