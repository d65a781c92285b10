//! rpcbind itself: whether it runs, for whom, and how.

use std::collections::BTreeSet;

use portguard_common::PORT;
use portguard_common::transport::Protocol;

use super::Finding;
use super::owners::{self, Process};
use super::remedy::RemedyKind;
use crate::sockets::{Socket, Sockets};

const RUNNING: &str = "rpcbind.running";

pub(super) fn examine(sockets: &Sockets) -> Vec<Finding> {
    let wanted: BTreeSet<u64> = sockets.of_rpcbind().map(|socket| socket.inode).collect();
    judge(sockets, &owners::of(&wanted))
}

fn judge(sockets: &Sockets, owners: &[Process]) -> Vec<Finding> {
    let open: Vec<String> = sockets.of_rpcbind().map(Socket::words).collect();
    if open.is_empty() {
        return vec![Finding::ok(RUNNING, "no process listens on port 111")];
    }
    let who: Vec<String> = owners.iter().map(|it| format!("{} (process {})", it.name, it.id)).collect();
    let open = open.join(", ");
    let mut findings = vec![if who.is_empty() {
        let found = format!("a process listens on {open}; portguard cannot see which one");
        Finding::warning(
            RUNNING,
            found,
            RemedyKind::BecomeRoot.text("Run portguard as root, on the host itself."),
        )
    } else {
        Finding::ok(RUNNING, format!("{} on {open}", who.join(" and ")))
    }];
    let is_manager = |it: &Process| it.id == 1 || it.name == "systemd";
    let activated = owners.iter().any(is_manager);
    for rpcbind in owners.iter().filter(|it| !is_manager(it)) {
        let options = Options::of(&rpcbind.command);
        findings.push(judge_remote_calls(&options, rpcbind, sockets));
        findings.extend(judge_addresses(&options, activated, sockets));
    }
    if activated {
        findings.push(Finding::ok(
            "rpcbind.activation",
            "systemd holds the sockets (rpcbind.socket), and starts rpcbind again when a request arrives",
        ));
    }
    findings
}

fn judge_remote_calls(options: &Options, rpcbind: &Process, sockets: &Sockets) -> Finding {
    const ID: &str = "rpcbind.remote_calls";
    if !options.remote_calls {
        return Finding::ok(ID, "off: it forwards no calls to other services");
    }
    let is_beside = |it: &&Socket| {
        it.protocol == Protocol::Udp
            && it.local.port() != PORT
            && it.is_exposed()
            && rpcbind.sockets.contains(&it.inode)
    };
    let beside: Vec<String> = sockets.0.iter().filter(is_beside).map(Socket::words).collect();
    let beside =
        if beside.is_empty() { String::new() } else { format!(", and has {} open", beside.join(", ")) };
    Finding::warning(
        ID,
        format!(
            "rpcbind runs with -r: it forwards calls to other services, with its own source address{beside}"
        ),
        RemedyKind::RemoteCallsOff.text("Remove -r from OPTIONS in /etc/default/rpcbind (RPCBIND_ARGS in /etc/sysconfig/rpcbind), and restart it."),
    )
}

/// `-h` is for UDP only, and for nothing at all if systemd has made the sockets.
fn judge_addresses(options: &Options, activated: bool, sockets: &Sockets) -> Option<Finding> {
    const ID: &str = "rpcbind.addresses";
    if !options.addresses {
        return None;
    }
    if activated {
        return Some(Finding::warning(
            ID,
            "rpcbind runs with -h, which has no effect on the sockets that systemd has made",
            RemedyKind::SocketAddresses.text(
                "Set ListenStream= and ListenDatagram= of rpcbind.socket (systemctl edit rpcbind.socket).",
            ),
        ));
    }
    let everywhere: Vec<String> =
        sockets.of_rpcbind().filter(|it| it.local.ip().is_unspecified()).map(Socket::words).collect();
    Some(if everywhere.is_empty() {
        Finding::ok(ID, "-h is in force")
    } else {
        Finding::warning(
            ID,
            format!(
                "rpcbind runs with -h, but listens on all addresses nevertheless: {}",
                everywhere.join(", ")
            ),
            RemedyKind::GuardEvery.text("Guard every interface: -h is for UDP only."),
        )
    })
}

/// What it was started with (rpcbind(8)).
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    remote_calls: bool,
    addresses: bool,
}

impl Options {
    /// Options of one letter each, which may stand together; `-h` takes the rest of its word, or the next one.
    fn of(command: &[String]) -> Self {
        let mut options = Self::default();
        let mut words = command.iter().skip(1);
        while let Some(letters) = words.next().and_then(|word| word.strip_prefix('-')) {
            for (at, letter) in letters.char_indices() {
                options.remote_calls |= letter == 'r';
                if letter == 'h' {
                    options.addresses = true;
                    if at + 1 == letters.len() {
                        words.next();
                    }
                    break;
                }
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn process(id: u32, name: &str, command: &str) -> Process {
        let command = command.split_whitespace().map(str::to_owned).collect();
        Process { id, name: name.into(), command, sockets: [1, 2].into() }
    }

    fn sockets(local: &str) -> Sockets {
        let at =
            |local: &str, inode| Socket { protocol: Protocol::Udp, local: local.parse().unwrap(), inode };
        Sockets(vec![at(local, 1), at("0.0.0.0:54321", 2), at("0.0.0.0:55555", 3)])
    }

    #[test]
    fn options_are_read_as_rpcbind_reads_them() {
        let options = |command: &str| {
            let Options { remote_calls, addresses } = Options::of(&process(2, "rpcbind", command).command);
            (remote_calls, addresses)
        };
        assert_eq!(options("/sbin/rpcbind -f -w"), (false, false));
        assert_eq!(options("/sbin/rpcbind -wr"), (true, false));
        assert_eq!(options("rpcbind -h -r -f"), (false, true), "the address is called -r");
        assert_eq!(options("rpcbind -h127.0.0.1 -r"), (true, true));
    }

    #[test]
    fn what_stands_open_is_named() {
        let remote = judge(&sockets("0.0.0.0:111"), &[process(9, "rpcbind", "rpcbind -r")]);
        let [running, remote] = &remote[..] else { panic!("{remote:?}") };
        assert_eq!(running.found, "rpcbind (process 9) on UDP 0.0.0.0:111");
        assert_eq!(remote.status, Status::Warning);
        assert!(remote.found.contains("UDP 0.0.0.0:54321") && !remote.found.contains("55555"), "{remote:?}");
        let both = [process(1, "systemd", "/sbin/init"), process(9, "rpcbind", "rpcbind -w -h 192.0.2.1")];
        let ids: Vec<(&str, Status)> =
            judge(&sockets("0.0.0.0:111"), &both).iter().map(|it| (it.id, it.status)).collect();
        assert!(ids.contains(&("rpcbind.activation", Status::Ok)), "{ids:?}");
        assert!(ids.contains(&("rpcbind.addresses", Status::Warning)), "{ids:?}");
        assert_eq!(judge(&sockets("0.0.0.0:111"), &[])[0].status, Status::Warning);
        assert_eq!(judge(&Sockets::default(), &[]).len(), 1);
    }
}
