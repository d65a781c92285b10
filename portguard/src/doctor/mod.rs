//! What on this host works, or stands in the way of a guard.
//!
//! Each module looks at one area: it gathers facts, which needs the host, and judges them, which does not. Nothing here
//! changes anything.

mod boot;
mod bpffs;
mod coverage;
mod detours;
mod facts;
mod finding;
mod guards;
mod init;
mod kernel;
mod native;
mod owners;
mod privileges;
mod remedy;
mod routing;
mod rpcbind;
mod services;
mod xdp;

pub use self::finding::{Finding, Status};

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
    match interface::all().and_then(|all| Ok((all, interface::addresses()?))) {
        Ok((all, addresses)) => {
            let exposed = sockets.is_exposed();
            findings.extend(coverage::examine(&all, &addresses, &guards, exposed));
            findings.extend(native::examine(&all, &guards));
            findings.extend(routing::examine(&all, &addresses));
            findings.extend(detours::examine(&all, &guards));
        }
        Err(error) => findings.push(Finding::failure(
            "interfaces",
            error.to_string(),
            "Run portguard in a place where netlink is permitted.",
        )),
    }
    findings.extend(rpcbind::examine(&sockets));
    findings.extend(services::examine(&sockets));
    findings
}
