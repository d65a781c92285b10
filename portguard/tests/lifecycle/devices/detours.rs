//! Ways past a guard, which `doctor` looks for.

use std::fs;

use super::Pair;

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn doctor_names_mpls_and_seg6local() {
    let pair = Pair::new(1);
    let near = &pair.near.namespace;
    pair.portguard().ok(&["attach", "eth0", "--allowlist", &pair.list()]);
    let doctor = || pair.portguard().run(&["doctor"]).stdout;
    let told = doctor();
    assert!(!told.contains("MPLS") && !told.contains("seg6local"), "{told}");
    near.run(|| fs::write("/proc/sys/net/mpls/platform_labels", "100")).expect("mpls_router");
    let told = doctor();
    assert!(!told.contains("MPLS"), "no interface takes it: {told}");
    near.run(|| fs::write("/proc/sys/net/mpls/conf/eth0/input", "1")).expect("a setting");
    near.ip("-6 route add fd77::/64 encap seg6local action End dev eth0").expect("CONFIG_IPV6_SEG6_LWTUNNEL");
    let told = doctor();
    assert!(told.contains("it accepts MPLS") && told.contains("net/mpls/conf/eth0/input=0"), "{told}");
    assert!(told.contains("routes unpack packets here (seg6local)"), "{told}");
    // What it says to type helps.
    near.run(|| fs::write("/proc/sys/net/mpls/conf/eth0/input", "0")).expect("a setting");
    near.ip("-6 route del fd77::/64").expect("a route");
    let told = doctor();
    assert!(!told.contains("MPLS") && !told.contains("seg6local"), "{told}");
}
