//! Several services, and which of them keeps an interface.

use portguard::control::Reload;
use portguard::control::client;

use super::harness::{NAMESPACE, Running, all, description, outcome, patient, temporary};

#[test]
fn services_are_found_and_each_gets_its_own_requests() {
    let (_folder, directory) = temporary();
    assert!(all(&directory).is_empty());
    let first = Running::start(&directory, description(11, &[("eth0", Some(2))]), |incoming| {
        incoming.reply.send(outcome(1));
    });
    let _second = Running::start(&directory, description(12, &[("eth1", Some(3))]), |incoming| {
        incoming.reply.send(outcome(2));
    });
    let found = all(&directory);
    let pids: Vec<u32> = found.iter().map(|service| service.description().pid).collect();
    assert_eq!(pids, [11, 12]);
    for (service, code) in found.iter().zip([1, 2]) {
        assert_eq!(service.reload(Reload::default()).expect("an outcome").code, code);
    }
    first.stop();
    assert_eq!(all(&directory).len(), 1);
    let error = found[0].reload(Reload::default()).expect_err("it has ended");
    assert!(error.to_string().contains("11.sock ended before it replied"), "{error}");
}

#[test]
fn the_owner_is_found_by_index_and_by_name_in_its_namespace() {
    let (_folder, directory) = temporary();
    let _first = Running::start(&directory, description(11, &[("eth0", Some(2)), ("late0", None)]), |_| {});
    let mut elsewhere = description(12, &[("eth7", Some(7))]);
    elsewhere.namespace = NAMESPACE + 1;
    let _second = Running::start(&directory, elsewhere, |_| {});
    let owner = |namespace, ifindex, names: &[&str]| {
        let services = client::services_in(std::slice::from_ref(&directory), patient()).expect("a directory");
        let found = client::owner_among(services, namespace, ifindex, names).expect("all answer");
        found.map(|service| service.description().pid)
    };
    assert_eq!(owner(NAMESPACE, Some(2), &["eth0"]), Some(11));
    assert_eq!(owner(NAMESPACE, Some(2), &["renamed", "alternative"]), Some(11), "by its index");
    assert_eq!(owner(NAMESPACE, Some(9), &["late0"]), Some(11), "it has just come");
    assert_eq!(owner(NAMESPACE, None, &["late0"]), Some(11), "it has not come yet");
    assert_eq!(owner(NAMESPACE, Some(9), &["new", "eth0"]), Some(11), "another one of that name");
    assert_eq!(owner(NAMESPACE, Some(9), &["eth9"]), None);
    assert_eq!(owner(NAMESPACE, None, &["eth9"]), None, "an index that is not known is not the same");
    assert_eq!(owner(NAMESPACE, Some(7), &["eth7"]), None, "in another namespace");
    assert_eq!(owner(NAMESPACE + 1, Some(7), &["eth7"]), Some(12));
}

#[test]
fn the_place_to_change_is_named() {
    let mut described = description(1234, &[]);
    assert_eq!(
        described.place(),
        "portguard@eth0.service (PORTGUARD_OPTIONS and PORTGUARD_ALLOWLIST in /etc/default/portguard or a drop-in)"
    );
    described.unit = Some("own.service".to_owned());
    assert_eq!(described.place(), "own.service (its ExecStart= and environment)");
    described.unit = None;
    assert_eq!(described.place(), "the command line of process 1234");
}
