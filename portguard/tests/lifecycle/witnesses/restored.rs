//! A service owns the order of the guards that it keeps: what is changed behind its back is restored, and told.

use crate::orders::DEFAULT_LIST;
use crate::support::{IFACE, Service, behind_its_back};

use super::testbed;
use super::testimony::{Arrivals, arrivals};

/// Finding 1.2: enforcing was ordered, and by hand the guard gets another list and audit mode.
#[test]
fn a_guard_that_was_put_into_audit_mode_behind_the_service_enforces_again() {
    let (testbed, other) = testbed();
    let portguard = testbed.portguard();
    let service = Service::start(portguard, &[IFACE]);
    let change = ["attach", IFACE, "--audit", "--allowlist", &other];
    let refused = portguard.fails(1, &change);
    assert!(refused.contains("the guard cannot be changed by hand"), "{refused}");

    let held = behind_its_back(&testbed.machine, portguard, &service, &change[2..]);
    assert_eq!(arrivals(&testbed), Arrivals { allowed: true, denied: true });
    assert!(!service.said().contains("not as ordered"), "{}", service.said());
    drop(held);
    service.wait_until("it is restored", || portguard.status().enforcing);
    assert_eq!(arrivals(&testbed), Arrivals { allowed: true, denied: false });
    assert_eq!(portguard.status().allowlist.path, DEFAULT_LIST);
    let expected = format!(
        "warning: eth0: not as ordered, and restored: allowlist {other} -> {DEFAULT_LIST}, audit -> enforcing"
    );
    service.until_said(&expected);
    assert_eq!(service.said().matches("not as ordered").count(), 1, "{}", service.said());
    // The service keeps the new guard as it kept the old one.
    portguard.fails(1, &change);
    portguard.fails(1, &["detach", IFACE]);
    testbed.machine.assert_tidy(1);
}
