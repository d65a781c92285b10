//! Guards of earlier ABIs, as the portguard of an earlier commit attaches them. `cargo xtask` builds it and names it in
//! [`PROGRAM`], and another one, whose guards have ABI 8, in [`PROGRAM_ABI_8`].
//!
//! `cargo xtask torture upgrades` builds one whose guards have ABI 4. For `cargo xtask test` there is one with ABI 5: the maps
//! of both have the same layout, but for the meaning of the fields that hold times, so a guard gets the name of one of ABI 4.
//! The times that are shown of it may be odd; nothing else is. A guard of ABI 6 differs from one of ABI 8 in the form of
//! its index, which only its own program reads, so one of ABI 8 gets its name.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::{IFACE, Machine, Status, Testbed};

/// The oldest ABI that upgrades are supported from.
pub(crate) const ABI_4: u32 = 4;
/// The first ABI with the cells of today.
pub(crate) const ABI_6: u32 = 6;
/// The last ABI before this one.
pub(crate) const ABI_8: u32 = 8;
/// Names the program of an earlier portguard.
const PROGRAM: &str = "PORTGUARD_EARLIER";
/// Names the program of the portguard whose guards have ABI 8.
const PROGRAM_ABI_8: &str = "PORTGUARD_EARLIER_ABI8";

/// The program of an earlier portguard.
fn program(variable: &str) -> PathBuf {
    PathBuf::from(env::var_os(variable).unwrap_or_else(|| {
        panic!("{variable} is not set: cargo xtask test and cargo xtask torture upgrades build it and set it")
    }))
}

/// Gives the guard the name of one of another ABI. Nothing looks at more of a guard before it knows its ABI.
fn rename(machine: &Machine, guard: &Status, to: u32) {
    let abi = guard.program.abi_version;
    if abi == to {
        return;
    }
    let directory = Path::new(&guard.pinned).parent().expect("the directory of the interface");
    let renamed = machine.mounts().run(|| {
        let mut renamed = 0;
        for entry in directory.read_dir()? {
            let name = entry?.file_name().into_string().expect("a name in UTF-8");
            if let Some(instance) = name.strip_prefix(&format!("abi{abi}-")) {
                fs::rename(directory.join(&name), directory.join(format!("abi{to}-{instance}")))?;
                renamed += 1;
            }
        }
        Ok(renamed)
    });
    assert_eq!(renamed.expect("renaming"), 1, "a guard that nothing was left behind of has one instance");
}

/// Puts a guard of an earlier ABI on the server, with more arguments of `attach`.
#[track_caller]
pub(crate) fn attach_earlier(testbed: &Testbed, arguments: &[&str]) {
    attach_by(testbed, PROGRAM, arguments);
}

#[track_caller]
fn attach_by(testbed: &Testbed, variable: &str, arguments: &[&str]) {
    let attach = [&["attach", IFACE], arguments].concat();
    testbed.machine.other_portguard(&program(variable), testbed.server.namespace()).ok(&attach);
}

/// Puts a guard of ABI 4 on the server, with more arguments of `attach`.
#[track_caller]
pub(crate) fn attach_abi4(testbed: &Testbed, arguments: &[&str]) {
    attach_abi(testbed, ABI_4, arguments);
}

/// Puts a guard of ABI 4, 6 or 8 on the server, with more arguments of `attach`.
#[track_caller]
pub(crate) fn attach_abi(testbed: &Testbed, abi: u32, arguments: &[&str]) {
    match abi {
        ABI_6 | ABI_8 => attach_by(testbed, PROGRAM_ABI_8, arguments),
        _ => attach_earlier(testbed, arguments),
    }
    rename(&testbed.machine, &testbed.portguard().status(), abi);
    assert_eq!(testbed.portguard().status().program.abi_version, abi);
}
