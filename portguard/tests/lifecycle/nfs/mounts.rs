//! A guard on a client.

use portguard_testkit::net::rpc;

use super::{
    MODES, assert_answered, assert_writes_and_reads, guard, on, sources, start_ganesha, unguard, wire_of,
};
use crate::support::{PORTGUARD, Role, SERVER, Testbed};

#[test]
fn a_guarded_client_mounts_whether_its_list_has_the_server_or_not() {
    let testbed = Testbed::new(PORTGUARD);
    let _services = start_ganesha(&testbed);
    let client = Role::Allowed;
    for mode in MODES {
        // The networks of the denied host are those of a list that lacks the server.
        for listed in [Role::Server, Role::Denied] {
            guard(&testbed, client, mode, &[listed]);
            let mut wire = wire_of(&testbed, client);
            // The first time with a guard on the client alone, then with one on both.
            for is_server_guarded in [false, true] {
                if is_server_guarded {
                    guard(&testbed, Role::Server, mode, &[client]);
                }
                for server in SERVER {
                    assert_answered(testbed.host(client), server);
                    assert_writes_and_reads(testbed.host(client), server, "3");
                }
            }
            unguard(&testbed, Role::Server);
            // The answers come from port 111, and nothing goes to port 111 of the client.
            assert_eq!(sources(wire.from_port(rpc::PORT)), SERVER, "{mode}, {listed:?} on the list");
            assert_eq!(on(&testbed, client).stats().packets(), 0, "{mode}, {listed:?} on the list");
            unguard(&testbed, client);
        }
    }
}
