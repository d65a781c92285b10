//! What to do about a guard. It depends on who keeps the guard: a command would be refused, or undone, where a service does;
//! and where there is none, a command must name what the guard was ordered to do, or it would get another list.

use portguard_common::listed;
use serde::Serialize;

use super::guards::Owner;
use super::kernel;
use crate::allowlist::Allowlist;
use crate::guard::{LastOrder, default_sources};
use crate::ops::default_allowlist;
use crate::printable::quoted;

listed! {
    /// The kinds of remedies: all that doctor can propose. A test follows each of them, and asks doctor again.
    #[derive(Serialize)]
    #[serde(into = "&'static str")]
    pub enum RemedyKind {
        // What a guard needs.
        /// Run portguard with the rights that it needs.
        BecomeRoot = "become_root",
        /// Permit netlink.
        PermitNetlink = "permit_netlink",
        /// Mount the BPF file system.
        Mount = "mount",
        /// Make the BPF file system writable.
        Remount = "remount",
        /// Use the BPF file system of the host.
        MountOfHost = "mount_of_host",
        /// Boot a newer kernel.
        NewerKernel = "newer_kernel",
        /// Boot a kernel with other options.
        OtherKernel = "other_kernel",
        /// Try whether a guard can be attached.
        TryAttach = "try_attach",
        /// Switch the compiler for BPF on.
        EnableJit = "enable_jit",
        /// Look at the setting of the compiler on the host itself.
        LookAtJit = "look_at_jit",
        /// Remove what the driver refuses native mode for.
        MakeNative = "make_native",
        // Guards.
        /// Attach a guard.
        Attach = "attach",
        /// Write a list, and attach a guard.
        WriteList = "write_list",
        /// Let the guard drop.
        Enforce = "enforce",
        /// Let the guards under it drop.
        EnforceBelow = "enforce_below",
        /// Attach the guard again, with the order that it had.
        AttachAgain = "attach_again",
        /// The same, once the interface is there again.
        AttachCreated = "attach_created",
        /// Put the guard in front of the programs of others.
        ToTheFront = "to_the_front",
        /// Put the list in force.
        Reload = "reload",
        /// See what is wrong with the list.
        CheckList = "check_list",
        /// Put a server of this host onto the list.
        AllowServer = "allow_server",
        /// Put hosts of a link onto the list.
        AllowLinkLocal = "allow_link_local",
        /// Let systemd start the guard at boot.
        EnableUnit = "enable_unit",
        // Guards that a service keeps.
        /// Order the service to drop.
        OrderEnforcing = "order_enforcing",
        /// Order the service to use the mode that the guard has.
        OrderMode = "order_mode",
        /// Wait until the service restores the guard.
        AwaitPoll = "await_poll",
        /// Remove what keeps the service from guarding.
        RemoveCause = "remove_cause",
        /// Name another interface in the order of the service.
        RenameOrdered = "rename_ordered",
        /// Restart the service.
        RestartService = "restart_service",
        // Where no guard can be, or does not see everything.
        /// Guard another interface, or block the port by other means.
        GuardElsewhere = "guard_elsewhere",
        /// Remove somebody else's program.
        RemoveProgram = "remove_program",
        /// Isolate the devices that sit on one interface.
        Isolate = "isolate",
        /// Guard what packets are redirected from.
        GuardOtherEnd = "guard_other_end",
        /// See whether filters redirect packets.
        LookAtFilters = "look_at_filters",
        /// See which routes unpack packets.
        LookAtRoutes = "look_at_routes",
        /// Switch MPLS off.
        MplsOff = "mpls_off",
        /// Switch segment routing off.
        SegmentRoutingOff = "segment_routing_off",
        /// Open the tun device without packet information.
        PacketInformationOff = "packet_information_off",
        /// Accept sources only on the interface that leads to them.
        StrictReversePath = "strict_reverse_path",
        /// Ask from another host.
        AskFromOutside = "ask_from_outside",
        // rpcbind.
        /// Switch rpcbind off.
        SwitchOff = "switch_off",
        /// Start rpcbind without -r.
        RemoteCallsOff = "remote_calls_off",
        /// Set the addresses of the sockets that systemd makes.
        SocketAddresses = "socket_addresses",
        /// Guard every interface.
        GuardEvery = "guard_every",
        /// Block the ports of other services.
        BlockPorts = "block_ports",
        /// Ask rpcbind.
        Probe = "probe",
        /// Write the addresses of the list for systemd.
        MakeDropIn = "make_drop_in",
        /// Update rpcbind.
        Update = "update",
        // What could not be found out.
        /// Run doctor again.
        Again = "again",
        /// Read an earlier finding.
        ReadAbove = "read_above",
        /// What the error advises.
        OfError = "of_error",
    }
}

impl RemedyKind {
    /// A remedy of this kind.
    pub fn text(self, text: impl Into<String>) -> Remedy {
        Remedy { kind: self, text: text.into() }
    }
}

/// What can be done about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// Its kind.
    pub kind: RemedyKind,
    /// What to do, in words and commands.
    pub text: String,
}

/// For an interface that never had a guard. A new guard gets the default list: a guard with an empty one would keep every
/// client out.
pub(super) fn of_unguarded(interface: &str) -> Remedy {
    let attach = format!("portguard attach {}", quoted(interface));
    let path = default_allowlist();
    match Allowlist::load(&path) {
        Ok(checked) if !checked.allowlist.entries().is_empty() => RemedyKind::Attach.text(attach),
        _ => RemedyKind::WriteList.text(format!(
            "Write the sources that may reach port 111 into {} (portguard suggest proposes a list); then: {attach}",
            path.display()
        )),
    }
}

/// For an interface whose guard was attached by hand, and lost its link. No name: the interface is gone as well.
pub(super) fn of_gone(interface: Option<&str>, order: Option<&LastOrder>) -> Remedy {
    let options = order.map_or_else(|| " --allowlist FILE".to_owned(), options);
    match interface {
        Some(name) => RemedyKind::AttachAgain.text(format!("portguard attach {}{options}", quoted(name))),
        None => RemedyKind::AttachCreated.text(format!(
            "If the interface was created again: portguard attach NAME{options}. `portguard run` does that by itself."
        )),
    }
}

/// The arguments of `attach` that give a guard this order.
fn options(order: &LastOrder) -> String {
    let LastOrder { list, audit, sources } = order;
    let mut options = format!(" --allowlist {}", quoted(&list.to_string_lossy()));
    if *audit {
        options += " --audit";
    }
    if default_sources() != Some(*sources) {
        options += &format!(" --sources {sources}");
    }
    options
}

/// For a guard that lets everything through because its service is ordered so.
pub(super) fn of_ordered_audit(owner: &Owner) -> Remedy {
    RemedyKind::OrderEnforcing
        .text(format!("Remove --audit from the order of {}, and restart that service.", owner.place))
}

/// For a guard that does otherwise than its service is ordered.
pub(super) fn of_difference(interface: &str, owner: &Owner, differences: &[String]) -> Remedy {
    let log = &owner.log;
    if differences.iter().any(|difference| difference.starts_with("mode ")) {
        let (interface, place) = (quoted(interface), &owner.place);
        let (command, then) = match kernel::version() {
            Some(version) if version >= kernel::TCX => {
                (format!("portguard attach {interface} --hook tcx"), "")
            }
            _ => (format!("portguard detach {interface}"), "; in between the port is open"),
        };
        return RemedyKind::OrderMode.text(format!(
            "A guard keeps its mode. Order the mode that it has: {place}. Or stop the service, run {command}, and start the service{then}."
        ));
    }
    RemedyKind::AwaitPoll.text(format!(
        "The service restores the guard at its next poll. If it does not, see the reason: {log}"
    ))
}

/// For an interface that its service could not guard.
pub(super) fn of_open(owner: &Owner) -> Remedy {
    RemedyKind::RemoveCause.text(format!(
        "Remove the cause, and the service guards the interface at its next poll. See the cause: {}",
        owner.log
    ))
}

/// For an interface that its service waits for.
pub(super) fn of_waiting(owner: &Owner) -> Remedy {
    RemedyKind::RenameOrdered.text(format!(
        "If the interface will be created, the service guards it then. If its name is wrong, change the name there, \
         and restart the service: {}",
        owner.place
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_that_is_gone_comes_back_with_the_order_that_it_had() {
        let order = LastOrder { list: "/etc/portguard/of eth0.yaml".into(), audit: true, sources: 512 };
        let expected =
            "portguard attach eth0 --allowlist '/etc/portguard/of eth0.yaml' --audit --sources 512";
        assert_eq!(of_gone(Some("eth0"), Some(&order)).text, expected);
    }
}
