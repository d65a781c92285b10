//! Whether systemd lets through to rpcbind whom the lists of the guards let through: the drop-ins of `portguard suggest --systemd`, or others.

use std::collections::HashSet;
use std::path::Path;

use ipnet::IpNet;

use super::init::Init;
use super::remedy::RemedyKind;
use super::units;
use super::{Finding, Remedy};
use crate::allowlist::{is_covered, short};
use crate::error::Result;
use crate::guard::{self, Guard, PinRoot};
use crate::interface;
use crate::printable::counted;
use crate::suggest::systemd::Unit;

const ID: &str = "systemd.addresses";
/// How many prefixes are named.
const NAMED: usize = 3;
/// What `localhost` means to systemd.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

pub(super) fn examine() -> Vec<Finding> {
    if Init::of(Path::new("/")) != Init::Systemd {
        return Vec::new();
    }
    let ordered: Vec<(Unit, Vec<IpNet>)> = Unit::ALL
        .into_iter()
        .filter_map(|unit| Some((unit, units::Unit::named(unit.name().to_owned()).allowed_of_all()?)))
        .collect();
    // Nobody has a second net, or the guards cannot be seen, which is told elsewhere.
    let (false, Ok(Some(listed))) = (ordered.is_empty(), listed()) else { return Vec::new() };
    // This host may ask itself by them.
    let own: Vec<IpNet> = interface::addresses()
        .map(|addresses| addresses.iter().map(|it| it.address.into()).collect())
        .unwrap_or_default();
    let mut findings: Vec<Finding> =
        ordered.iter().map(|(unit, allowed)| judge(*unit, allowed, &listed, &own)).collect();
    findings.extend(Unit::ALL.into_iter().filter(|unit| ordered.iter().all(|(it, _)| it != unit)).map(
        |unit| {
            let found = format!("{} filters no addresses, and the other unit of rpcbind does", unit.name());
            Finding::warning(ID, found, remedy(unit))
        },
    ));
    findings
}

/// The prefixes of the lists of all guards here that have not ended; `None` without any guard.
fn listed() -> Result<Option<Vec<IpNet>>> {
    guard::require_privileges()?;
    let mut listed = None;
    for guard in Guard::select(PinRoot::find()?.as_ref(), &[])? {
        listed.get_or_insert_with(Vec::new).extend(guard?.prefixes_now()?);
    }
    Ok(listed)
}

fn remedy(unit: Unit) -> Remedy {
    let name = unit.name();
    RemedyKind::MakeDropIn.text(format!(
        "mkdir -p /etc/systemd/system/{name}.d; portguard suggest --systemd {name} > /etc/systemd/system/{name}.d/portguard-addresses.conf; systemctl daemon-reload; systemctl restart {name}"
    ))
}

/// What differs between those that a unit allows, if it denies all others, and those that are listed; `own` are the addresses of this host, which
/// a unit may allow as well.
fn judge(unit: Unit, allowed: &[IpNet], listed: &[IpNet], own: &[IpNet]) -> Finding {
    let name = unit.name();
    let loopback = LOOPBACK.map(|it| it.parse().expect("a prefix"));
    let (allowed, listed) = (IpNet::aggregate(&allowed.to_vec()), IpNet::aggregate(&listed.to_vec()));
    let outside = |of: &[IpNet], around: &[&[IpNet]]| -> Vec<IpNet> {
        let around: HashSet<IpNet> = around.concat().into_iter().collect();
        of.iter().copied().filter(|it| !is_covered(*it, &around)).collect()
    };
    let missing = outside(&listed, &[&allowed]);
    if !missing.is_empty() {
        let found = format!(
            "IPAddressAllow= of {name} lacks {} of the allowlist, which get no answer: {}",
            counted(missing.len() as u64, "prefix"),
            named(&missing)
        );
        return Finding::warning(ID, found, remedy(unit));
    }
    let more = outside(&allowed, &[&listed, &loopback, own]);
    if !more.is_empty() {
        let found = format!(
            "IPAddressAllow= of {name} has {} that the allowlist has not: {}",
            counted(more.len() as u64, "prefix"),
            named(&more)
        );
        return Finding::warning(ID, found, remedy(unit));
    }
    Finding::ok(ID, format!("IPAddressAllow= of {name} is as the allowlist"))
}

fn named(prefixes: &[IpNet]) -> String {
    let mut names: Vec<String> = prefixes.iter().take(NAMED).map(|it| short(*it)).collect();
    if prefixes.len() > NAMED {
        names.push("...".to_owned());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn prefixes(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn what_one_has_and_the_other_has_not_is_named() {
        let list = prefixes(&["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/48"]);
        let local = ["127.0.0.0/8", "::1/128"];
        for (allowed, status, expected) in [
            (&["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/48"][..], Status::Ok, "is as the allowlist"),
            // The same in halves.
            (
                &["192.0.2.0/25", "192.0.2.128/25", "198.51.100.7/32", "2001:db8::/48"],
                Status::Ok,
                "is as the allowlist",
            ),
            (
                &["192.0.2.0/24", "2001:db8::/49"],
                Status::Warning,
                "lacks 2 prefixes of the allowlist, which get no answer: 198.51.100.7, 2001:db8::/48",
            ),
            (
                &["192.0.2.0/23", "198.51.100.7/32", "2001:db8::/48"],
                Status::Warning,
                "has 1 prefix that the allowlist has not: 192.0.2.0/23",
            ),
        ] {
            for local in [&[][..], &local] {
                let finding = judge(Unit::Socket, &prefixes(&[allowed, local].concat()), &list, &[]);
                assert_eq!(finding.status, status, "{allowed:?}: {}", finding.found);
                assert!(finding.found.contains(expected), "{}", finding.found);
            }
        }
        let own = prefixes(&["192.0.3.1/32"]);
        let allowed = [&list[..], &own].concat();
        assert_eq!(judge(Unit::Service, &allowed, &list, &own).status, Status::Ok);
        assert_eq!(judge(Unit::Service, &allowed, &list, &[]).status, Status::Warning);
    }
}
