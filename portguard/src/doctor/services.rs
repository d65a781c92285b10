//! What is registered at rpcbind, who needs it, and which ports stay open beside 111.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use portguard_common::PORT;
use portguard_common::rpc::PROGRAM;
use portguard_common::transport::Protocol;

use super::Finding;
use super::init::Init;
use super::remedy::RemedyKind;
use crate::rpcbind::{self, NoReply, Programs, Question, Registration, registrations};
use crate::sockets::{Socket, Sockets};

/// How long rpcbind may take.
const LIMIT: Duration = Duration::from_secs(5);
const NEEDED: &str = "rpcbind.needed";

/// `is_blocked`: whether a firewall keeps strangers off a socket.
pub(super) fn examine(sockets: &Sockets, is_blocked: &dyn Fn(&Socket) -> bool) -> Vec<Finding> {
    if sockets.of_rpcbind().next().is_none() {
        return Vec::new();
    }
    let switch_off = Init::of(Path::new("/")).switch_off();
    judge(registered(sockets), sockets, is_blocked, &Programs::of_this_host(), &switch_off)
}

/// Asks the rpcbind of this network namespace, over the loopback interface.
fn registered(sockets: &Sockets) -> Result<Vec<Registration>, String> {
    let dumps: Vec<Question> =
        Question::ALL.into_iter().filter(|question| question.name() == "DUMP").collect();
    let servers =
        [SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), SocketAddr::from((Ipv6Addr::LOCALHOST, PORT))];
    let has = |protocol| sockets.of_rpcbind().any(|socket| socket.protocol == protocol);
    let protocols = Protocol::ALL.into_iter().filter(|protocol| has(*protocol));
    let mut why = NoReply::Refused.to_string();
    for (protocol, server) in protocols.flat_map(|protocol| servers.map(|server| (protocol, server))) {
        let replies = rpcbind::ask(server, protocol, &dumps, LIMIT);
        // A later version tells more.
        for (question, reply) in dumps.iter().zip(replies).rev() {
            let list = reply.map_err(|error| error.to_string()).and_then(|reply| reply.results);
            match list.and_then(|results| registrations(question.version(), &results)) {
                Ok(list) => return Ok(list),
                Err(error) => why = error,
            }
        }
    }
    Err(why)
}

fn judge(
    registered: Result<Vec<Registration>, String>,
    sockets: &Sockets,
    is_blocked: &dyn Fn(&Socket) -> bool,
    programs: &Programs,
    switch_off: &str,
) -> Vec<Finding> {
    let registered = match registered {
        Ok(registered) => registered,
        Err(why) => {
            let found = format!("the registered services cannot be read: {why}");
            return vec![Finding::warning(
                NEEDED,
                found,
                RemedyKind::Probe.text("Check whether it replies: portguard probe"),
            )];
        }
    };
    // Program -> where it is registered, by protocol and port.
    let mut services: BTreeMap<u32, BTreeSet<(&'static str, u32)>> = BTreeMap::new();
    for service in registered.iter().filter(|service| service.program != PROGRAM) {
        let places = services.entry(service.program).or_default();
        let protocol = protocol(&service.netid).map(Protocol::name);
        places.extend(protocol.zip(service.port));
    }
    let called = |program: u32| {
        programs
            .name(program)
            .map_or_else(|| format!("program {program}"), |name| format!("{name} ({program})"))
    };
    if services.is_empty() {
        let found = "no service is registered: nothing on this host needs rpcbind";
        return vec![Finding::warning(
            NEEDED,
            found,
            RemedyKind::SwitchOff.text(format!("Switch it off: {switch_off}")),
        )];
    }
    let names: Vec<String> = services.keys().map(|program| called(*program)).collect();
    let mut findings = vec![Finding::ok(NEEDED, format!("registered: {}", names.join(", ")))];
    for (program, places) in &services {
        findings.push(judge_service(places, sockets, is_blocked).about(called(*program)));
    }
    findings
}

fn judge_service(
    places: &BTreeSet<(&'static str, u32)>,
    sockets: &Sockets,
    is_blocked: &dyn Fn(&Socket) -> bool,
) -> Finding {
    const ID: &str = "service";
    let is_open = |(protocol, port): &&(&'static str, u32)| {
        let at = |it: &&Socket| it.protocol.name() == *protocol && u32::from(it.local.port()) == *port;
        sockets.0.iter().filter(at).any(|it| it.is_exposed() && !is_blocked(it))
    };
    let open: Vec<String> =
        places.iter().filter(is_open).map(|(protocol, port)| format!("{protocol} {port}")).collect();
    if open.is_empty() {
        return Finding::ok(ID, "no port of it is open to other hosts");
    }
    Finding::warning(
        ID,
        format!("remains open beside port 111, unless a firewall blocks other hosts: {}", open.join(", ")),
        RemedyKind::BlockPorts.text("portguard guards port 111 only: set fixed ports (/etc/nfs.conf for NFS, fs.nfs.nlm_tcpport and nlm_udpport of sysctl for nlockmgr), and block them with nft \
         for hosts that must not use them."),
    )
}

fn protocol(netid: &str) -> Option<Protocol> {
    match netid {
        "udp" | "udp6" => Some(Protocol::Udp),
        "tcp" | "tcp6" => Some(Protocol::Tcp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn service(program: u32, netid: &str, port: u32) -> Registration {
        Registration { program, version: 3, netid: netid.into(), port: Some(port), more: None }
    }

    fn findings(registered: Result<Vec<Registration>, String>) -> Vec<Finding> {
        let at = |local: &str| Socket { protocol: Protocol::Udp, local: local.parse().unwrap(), inode: 1 };
        let sockets = Sockets(vec![at("0.0.0.0:111"), at("0.0.0.0:20048"), at("127.0.0.1:662")]);
        judge(registered, &sockets, &|_| false, &Programs::well_known(), "systemctl mask")
    }

    #[test]
    fn services_beside_port_111_are_named_with_the_ports_that_are_open() {
        let all = findings(Ok(vec![
            service(100_000, "udp", 111),
            service(100_005, "udp", 20_048),
            service(100_005, "udp6", 20_048),
            service(100_005, "tcp", 20_048),
            service(100_024, "udp", 662),
        ]));
        let [needed, mountd, status] = &all[..] else { panic!("{all:?}") };
        assert_eq!(
            (needed.status, &*needed.found),
            (Status::Ok, "registered: mountd (100005), status (100024)")
        );
        assert_eq!((mountd.status, mountd.subject.as_deref()), (Status::Warning, Some("mountd (100005)")));
        assert!(mountd.found.ends_with("blocks other hosts: UDP 20048"), "{mountd:?}");
        assert_eq!(status.status, Status::Ok, "{status:?}");
    }

    #[test]
    fn an_rpcbind_that_nobody_needs_is_to_be_switched_off() {
        let [needed] = findings(Ok(vec![service(100_000, "udp", 111)])).try_into().unwrap();
        assert_eq!(needed.remedy.map(|it| it.text).as_deref(), Some("Switch it off: systemctl mask"));
        let [unknown] = findings(Err("no reply".into())).try_into().unwrap();
        assert_eq!(unknown.status, Status::Warning);
    }
}
