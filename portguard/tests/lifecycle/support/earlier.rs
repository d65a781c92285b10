//! Guards of ABI 4: by the portguard that attached them, or by the one under test and a name.
//!
//! The real ones are those of commit e6a0683, whose program `cargo xtask torture upgrades` builds and names in
//! [`PROGRAM`]. In the short form there is no second build: the maps of ABI 5 have the layout of ABI 4, but for the
//! meaning of the fields that hold times, so a guard gets the name of one of ABI 4. The times that are shown of it may
//! be odd; nothing else is.

use std::env;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use super::{IFACE, Machine, Status, Testbed, is_long};

/// The ABI that upgrades are supported from.
pub(crate) const ABI_4: u32 = 4;
/// Names the program of an earlier portguard.
const PROGRAM: &str = "PORTGUARD_EARLIER";

/// The program of the earlier portguard, if there is one.
fn given() -> Option<&'static str> {
    static GIVEN: OnceLock<Option<String>> = OnceLock::new();
    GIVEN.get_or_init(|| env::var(PROGRAM).ok()).as_deref()
}

/// The program of the earlier portguard, which the long form cannot do without.
pub(super) fn program() -> &'static str {
    given()
        .unwrap_or_else(|| panic!("{PROGRAM} is not set: cargo xtask torture upgrades builds it and sets it"))
}

/// Gives the guard the name of one of ABI 4. Nothing looks at more of a guard before it knows its ABI.
pub(crate) fn as_abi4(machine: &Machine, guard: &Status) {
    let abi = guard.program.abi_version;
    if abi == ABI_4 {
        return;
    }
    let directory = Path::new(&guard.pinned).parent().expect("the directory of the interface");
    let renamed = machine.mounts().run(|| {
        let mut renamed = 0;
        for entry in directory.read_dir()? {
            let name = entry?.file_name().into_string().expect("a name in UTF-8");
            if let Some(instance) = name.strip_prefix(&format!("abi{abi}-")) {
                fs::rename(directory.join(&name), directory.join(format!("abi{ABI_4}-{instance}")))?;
                renamed += 1;
            }
        }
        Ok(renamed)
    });
    assert_eq!(renamed.expect("renaming"), 1, "a guard that nothing was left behind of has one instance");
}

/// Puts a guard of ABI 4 on the server, with more arguments of `attach`. In the long form it is a real one.
#[track_caller]
pub(crate) fn attach_abi4(testbed: &Testbed, arguments: &[&str]) {
    let attach = [&["attach", IFACE], arguments].concat();
    if is_long() || given().is_some() {
        let program = Path::new(program());
        testbed.machine.other_portguard(program, testbed.server.namespace()).ok(&attach);
    } else {
        testbed.portguard().ok(&attach);
        as_abi4(&testbed.machine, &testbed.portguard().status());
    }
    assert_eq!(testbed.portguard().status().program.abi_version, ABI_4);
}
