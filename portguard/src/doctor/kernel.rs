//! What the kernel can do.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::thread;

use flate2::read::GzDecoder;
use nix::sched::{CloneFlags, setns};
use nix::sys::utsname::uname;

use super::remedy::RemedyKind;
use super::{Finding, facts};

const BTF: &str = "/sys/kernel/btf/vmlinux";
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";
/// The oldest kernel that a guard was tried on.
const OLDEST: (u32, u32) = (5, 10);
/// The first with support for packets in several buffers.
pub(super) const SEVERAL_BUFFERS: (u32, u32) = (5, 18);
/// The first with tcx.
pub(super) const TCX: (u32, u32) = (6, 6);
/// What a guard cannot do without, as `Kconfig` calls it.
const NEEDED: [&str; 4] = ["CONFIG_BPF_SYSCALL", "CONFIG_BPF_JIT", "CONFIG_INET", "CONFIG_NET"];
/// A configuration has a few hundred kilobytes.
const LARGEST: u64 = 16 << 20;

/// What is known of the kernel.
#[derive(Debug)]
struct Kernel {
    release: String,
    /// `CONFIG_NAME=y` lines; why there are none otherwise.
    config: Result<String, String>,
    btf: bool,
    /// `None`: it cannot be seen from here.
    jit: Option<u32>,
}

pub(super) fn examine() -> Vec<Finding> {
    let release = release();
    let config = config(&release);
    judge(&Kernel { config, btf: Path::new(BTF).exists(), jit: jit(), release })
}

/// The version of this kernel, as `uname -r` shows it.
fn release() -> String {
    uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// The version of this kernel.
pub(super) fn version() -> Option<(u32, u32)> {
    parse(&release())
}

fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers =
        release.split(|character: char| !character.is_ascii_digit()).map(|word| word.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The configuration, from where this kernel keeps it, or from where distributions do.
fn config(release: &str) -> Result<String, String> {
    let of_distribution = format!("/boot/config-{release}");
    let mut text = String::new();
    let mut read = || -> io::Result<()> {
        match File::open("/proc/config.gz") {
            Ok(file) => GzDecoder::new(file).take(LARGEST).read_to_string(&mut text)?,
            Err(_) => File::open(&of_distribution)?.take(LARGEST).read_to_string(&mut text)?,
        };
        Ok(())
    };
    read().map_err(|error| format!("neither /proc/config.gz nor {of_distribution} can be read: {error}"))?;
    Ok(text)
}

/// Only the first network namespace shows the setting. A thread goes there, and ends there.
fn jit() -> Option<u32> {
    if let Ok(Some(setting)) = facts::number(JIT) {
        return Some(setting);
    }
    let there = || {
        setns(File::open("/proc/1/ns/net").ok()?, CloneFlags::CLONE_NEWNET).ok()?;
        fs::read_to_string(JIT).ok()?.trim().parse().ok()
    };
    thread::spawn(there).join().ok().flatten()
}

fn judge(kernel: &Kernel) -> Vec<Finding> {
    let has = |name: &str, values: &[&str]| {
        let config = kernel.config.as_ref().ok()?;
        Some(config.lines().any(|line| {
            line.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('='))
                .is_some_and(|it| values.contains(&it))
        }))
    };
    vec![
        version_finding(&kernel.release),
        config_finding(kernel, &has),
        btf_finding(kernel),
        jit_finding(kernel, &has),
    ]
}

fn version_finding(release: &str) -> Finding {
    const ID: &str = "kernel.version";
    match parse(release) {
        None => Finding::warning(
            ID,
            format!("Linux {release}: portguard cannot parse the version"),
            RemedyKind::NewerKernel.text("portguard needs Linux 5.10 or later."),
        ),
        Some(version) if version < OLDEST => Finding::failure(
            ID,
            format!("Linux {release} is too old"),
            RemedyKind::NewerKernel.text("portguard needs Linux 5.10 or later."),
        ),
        Some(version) if version < SEVERAL_BUFFERS => Finding::ok(
            ID,
            format!("Linux {release}; without native mode for an MTU above 3498 (that needs 5.18)"),
        ),
        Some(_) => Finding::ok(ID, format!("Linux {release}")),
    }
}

fn config_finding(kernel: &Kernel, has: &dyn Fn(&str, &[&str]) -> Option<bool>) -> Finding {
    const ID: &str = "kernel.config";
    if let Err(why) = &kernel.config {
        return Finding::warning(
            ID,
            format!("it cannot be read: {why}"),
            RemedyKind::TryAttach
                .text("If `portguard attach` works, the kernel has everything that a guard needs."),
        );
    }
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| has(name, &["y"]) == Some(false)).collect();
    if missing.is_empty() {
        Finding::ok(ID, "it has everything that a guard needs")
    } else {
        Finding::failure(
            ID,
            format!("{} missing", missing.join(", ")),
            RemedyKind::OtherKernel.text("Use a kernel that is built with that."),
        )
    }
}

fn btf_finding(kernel: &Kernel) -> Finding {
    const ID: &str = "kernel.btf";
    if kernel.btf {
        Finding::ok(ID, format!("{BTF} is there"))
    } else {
        Finding::warning(
            ID,
            format!("no {BTF}: portguard was not tested on such a kernel"),
            RemedyKind::OtherKernel.text(
                "Use a kernel that is built with CONFIG_DEBUG_INFO_BTF, as those of distributions are.",
            ),
        )
    }
}

fn jit_finding(kernel: &Kernel, has: &dyn Fn(&str, &[&str]) -> Option<bool>) -> Finding {
    const ID: &str = "kernel.jit";
    match kernel.jit {
        Some(0) => Finding::warning(
            ID,
            "the JIT compiler for BPF is off: each packet costs many times as much",
            RemedyKind::EnableJit.text(
                "sysctl -w net.core.bpf_jit_enable=1, and the same in /etc/sysctl.d; then attach again.",
            ),
        ),
        Some(_) => Finding::ok(ID, "programs are compiled"),
        None if has("CONFIG_BPF_JIT_ALWAYS_ON", &["y"]) == Some(true) => {
            Finding::ok(ID, "programs are always compiled")
        }
        None => Finding::warning(
            ID,
            "portguard cannot see in this network namespace whether programs are compiled",
            RemedyKind::LookAtJit.text("Check on the host itself: sysctl net.core.bpf_jit_enable"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn kernel() -> Kernel {
        let config = NEEDED.map(|name| format!("{name}=y\n")).concat();
        Kernel { release: "6.18.44-generic".into(), config: Ok(config), btf: true, jit: Some(1) }
    }

    fn worst(kernel: &Kernel) -> Vec<(&'static str, Status)> {
        let all = judge(kernel);
        all.into_iter().filter(|it| it.status != Status::Ok).map(|it| (it.id, it.status)).collect()
    }

    #[test]
    fn each_shortcoming_is_named_alone() {
        use Status::{Failure, Warning};
        assert_eq!(worst(&kernel()), []);
        let old = Kernel { release: "5.4.0-42-generic".into(), ..kernel() };
        assert_eq!(worst(&old), [("kernel.version", Failure)]);
        assert_eq!(worst(&Kernel { release: "5.10.0".into(), ..kernel() }), []);
        assert_eq!(worst(&Kernel { release: "?".into(), ..kernel() }), [("kernel.version", Warning)]);
        let without = Kernel { config: Ok("# CONFIG_BPF_SYSCALL is not set\n".into()), ..kernel() };
        assert_eq!(worst(&without), [("kernel.config", Failure)]);
        let unseen = Kernel { config: Err("no".into()), jit: None, ..kernel() };
        assert_eq!(worst(&unseen), [("kernel.config", Warning), ("kernel.jit", Warning)]);
        assert_eq!(worst(&Kernel { btf: false, ..kernel() }), [("kernel.btf", Warning)]);
        assert_eq!(worst(&Kernel { jit: Some(0), ..kernel() }), [("kernel.jit", Warning)]);
        let always = format!("{}CONFIG_BPF_JIT_ALWAYS_ON=y\n", kernel().config.unwrap());
        assert_eq!(worst(&Kernel { jit: None, config: Ok(always), ..kernel() }), []);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(parse("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(parse("7.2-rc3"), Some((7, 2)));
        assert_eq!(parse("unknown"), None);
    }
}
