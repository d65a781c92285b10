//! What on this host works, or stands in the way of a guard.
//!
//! Each module looks at one area: it gathers facts, which needs the host, and judges them, which does not. Nothing here
//! changes anything.

mod boot;
mod bpffs;
mod callers;
mod command;
mod coverage;
mod detours;
mod elsewhere;
mod entries;
mod facts;
mod finding;
mod firewall;
mod guards;
mod init;
mod kernel;
mod native;
mod owners;
mod privileges;
mod reach;
mod remedy;
mod routes;
mod routing;
mod rpcbind;
mod rpcinfo;
mod second_net;
mod services;
mod units;
mod xdp;

pub use self::finding::{Finding, Status};
pub use self::remedy::{Remedy, RemedyKind};

use self::reach::Exposure;
use crate::interface;
use crate::sockets::Sockets;

/// Looks at everything.
pub fn examine() -> Vec<Finding> {
    let sockets = Sockets::read();
    let mut findings = kernel::examine();
    findings.push(privileges::examine());
    findings.extend(bpffs::examine());
    let guards = guards::Guards::gather();
    findings.extend(guards.findings());
    findings.extend(boot::examine(&guards));
    let mut of_rpcbind = rpcbind::examine(&sockets);
    match interface::all().and_then(|all| Ok((all, interface::addresses()?))) {
        Ok((all, addresses)) => {
            let filtered = detours::filtered(&all);
            let known = filtered.as_ref().cloned().unwrap_or_default();
            let exposure = Exposure::gather(&all, &addresses, &sockets, &guards, known);
            findings.extend(coverage::examine(&all, &addresses, &guards, &exposure));
            findings.extend(native::examine(&all, &guards));
            findings.extend(routing::examine(&all, &addresses));
            findings.extend(detours::examine(&all, &guards, filtered));
            of_rpcbind.extend(services::examine(&sockets, &|socket| exposure.is_blocked(socket)));
        }
        Err(error) => {
            findings.push(Finding::failure(
                "interfaces",
                error.to_string(),
                RemedyKind::PermitNetlink.text("Run portguard in a place where netlink is permitted."),
            ));
            of_rpcbind.extend(services::examine(&sockets, &|_| false));
        }
    }
    findings.extend(of_rpcbind);
    findings.extend(second_net::examine());
    findings.extend(rpcinfo::examine());
    findings
}
