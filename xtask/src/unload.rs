//! An `xdp-loader` of xdp-tools 1.5 or later: its `unload` detaches links of others (libxdp's `xdp_detach_link`), which that of
//! Debian 12 does not. It comes from the next release of Debian, with the libraries that it needs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::vm_test::Apt;
use crate::workspace;

/// Names the program to the tests.
pub(crate) const VARIABLE: &str = "PORTGUARD_XDP_LOADER";
/// Where it is unpacked, below the root of the workspace.
const FOLDER: &str = "target/unload";
/// The release of Debian.
const RELEASE: &str = "trixie";
/// The program, and every library that it is linked with.
const PACKAGES: [&str; 8] =
    ["xdp-tools", "libxdp1", "libbpf1", "libelf1t64", "libc6", "zlib1g", "libzstd1", "libpcap0.8t64"];

/// The program, fetched if that has not been done.
pub(crate) fn xdp_loader() -> Result<PathBuf> {
    let folder = workspace().join(FOLDER);
    let program = folder.join("xdp-loader");
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&folder)?;
    let apt = Apt::update(folder.join("apt"))?;
    let root = folder.join("root");
    fs::create_dir_all(&root)?;
    for package in PACKAGES {
        eprintln!("torture: fetching {package} of {RELEASE}");
        apt.unpack(&format!("{package}/{RELEASE}"), &root)
            .with_context(|| format!("cannot get {package} of {RELEASE}"))?;
    }
    let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let linker = libraries.join(match std::env::consts::ARCH {
        "aarch64" => "ld-linux-aarch64.so.1",
        _ => "ld-linux-x86-64.so.2",
    });
    // By the dynamic linker of that release, which this one's need not be compatible with.
    let script = format!(
        "#!/bin/sh\nexec {} --library-path {} {} \"$@\"\n",
        linker.display(),
        libraries.display(),
        root.join("usr/sbin/xdp-loader").display()
    );
    // Only when all is there.
    let new = folder.join("xdp-loader.new");
    fs::write(&new, script)?;
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    fs::rename(&new, &program)?;
    Ok(program)
}
