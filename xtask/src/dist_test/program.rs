//! The program needs nothing of the system that it runs on.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};

use super::Release;
use crate::vm_test::output;

/// Runs it where there is nothing else, and where names are looked up in places that glibc has libraries for.
pub(super) fn check(release: &Release) -> Result<()> {
    eprintln!("dist-test: the program alone");
    let empty = tempfile::tempdir()?;
    fs::copy(&release.program, empty.path().join("portguard"))?;
    fs::write(empty.path().join("list.yaml"), "allow:\n  - 192.0.2.0/24\n")?;
    let alone = |arguments: &[&str]| {
        output(Command::new("chroot").arg(empty.path()).arg("/portguard").args(arguments))
    };
    ensure!(alone(&["--version"])?.starts_with("portguard "), "it does not know its version");
    ensure!(alone(&["check", "/list.yaml"])?.contains("1 entry"), "it cannot check a list");

    // In a network namespace of its own: nobody is asked.
    let settings = empty.path().join("nsswitch.conf");
    fs::write(&settings, "hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns\n")?;
    fs::create_dir_all(empty.path().join("host/etc"))?;
    fs::write(empty.path().join("host/etc/exports"), "/srv nosuchhost.invalid(ro)\n")?;
    let script = "mount --bind \"$1/nsswitch.conf\" /etc/nsswitch.conf && \
                  exec strace --follow-forks --trace=openat \"$1/portguard\" suggest --root \"$1/host\" 2>&1";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "sh", "-c", script, "sh"]).arg(empty.path());
    let seen = output(&mut command)?;
    ensure!(seen.contains("\"/etc/hosts\""), "it has not looked up a name: {seen}");
    ensure!(!seen.contains("libnss"), "it loads libraries: {seen}");
    Ok(())
}
