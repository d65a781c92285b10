//! The table of what must be on the machine, why, and how to see whether it is.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::toolchain::{Compiler, Linker};

/// A package of ordinary programs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tool {
    /// The Debian package.
    pub(super) package: &'static str,
    /// The programs that show that it is there.
    programs: &'static [&'static str],
    /// What would be impossible without it.
    why: &'static str,
    /// The units that Debian would start at once and at every boot.
    pub(super) units: &'static [&'static str],
}

/// A command of cargo that crates.io has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CargoTool {
    /// The crate.
    pub(super) name: &'static str,
    /// Its version: the one that was tried.
    pub(super) version: &'static str,
    /// What would be impossible without it.
    why: &'static str,
}

/// What the requirements are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To build, to test, to lint, and to show.
    Development,
    /// That, and to test on other kernels.
    Kernels,
    /// That, and to boot a whole Debian.
    Systemd,
    /// Development, and to roll out to hosts with the operators' tools.
    Fleet,
    /// Development, and to compare with peers.
    Bench,
    /// Development, and to build packages.
    Package,
    /// That, for another machine than this.
    Cross,
    /// To build packages, to boot a whole Debian, to install packages there, and to roll them out.
    Distribution,
}

impl Purpose {
    /// What it takes from the distribution beside the compilers.
    fn tools(self) -> impl Iterator<Item = &'static Tool> {
        let more: [&[Tool]; 4] = match self {
            Self::Development | Self::Package => [&[], &[], &[], &[]],
            Self::Kernels => [&KERNEL_TOOLS, &[], &[], &[]],
            Self::Systemd => [&KERNEL_TOOLS, &SYSTEMD_TOOLS, &[], &[]],
            Self::Fleet => [&SYSTEMD_TOOLS, &FLEET_TOOLS, &[], &[]],
            Self::Bench => [&PEERS, &[], &[], &[]],
            Self::Cross => [&CROSS_TOOLS, &[], &[], &[]],
            Self::Distribution => [&KERNEL_TOOLS, &SYSTEMD_TOOLS, &FLEET_TOOLS, &DISTRIBUTION_TOOLS],
        };
        TOOLS.iter().chain(more.into_iter().flatten())
    }

    /// What it takes from crates.io.
    fn cargo_tools(self) -> &'static [CargoTool] {
        match self {
            Self::Package | Self::Cross | Self::Distribution => &CARGO_TOOLS,
            Self::Development | Self::Kernels | Self::Systemd | Self::Fleet | Self::Bench => &[],
        }
    }
}

/// What it takes to build packages.
pub(super) static CARGO_TOOLS: [CargoTool; 1] =
    [CargoTool { name: "cargo-deb", version: "3.8.0", why: "packs the Debian package" }];

/// What it takes to build for another machine.
static CROSS_TOOLS: [Tool; 3] = [
    Tool {
        package: "gcc-aarch64-linux-gnu",
        programs: &["aarch64-linux-gnu-gcc"],
        why: "links programs for aarch64",
        units: &[],
    },
    Tool {
        package: "libc6-dev-arm64-cross",
        // Not a program, but what shows that it is there: the compiler's folder has it on its path.
        programs: &["../aarch64-linux-gnu/lib/libc.a"],
        why: "the C library for aarch64",
        units: &[],
    },
    Tool {
        package: "qemu-user-static",
        programs: &["qemu-aarch64-static"],
        why: "runs programs for aarch64",
        units: &[],
    },
];

/// What it takes to try packages.
static DISTRIBUTION_TOOLS: [Tool; 3] = [
    Tool { package: "buildah", programs: &["buildah"], why: "makes the image for containers", units: &[] },
    Tool { package: "lintian", programs: &["lintian"], why: "judges the Debian package", units: &[] },
    Tool { package: "e2fsprogs", programs: &["mkfs.ext4"], why: "makes the disk of a machine", units: &[] },
];

/// What it takes to boot other kernels.
static KERNEL_TOOLS: [Tool; 8] = [
    Tool {
        package: "qemu-system-x86",
        programs: &["qemu-system-x86_64"],
        why: "the machines that other kernels are tested on",
        units: &[],
    },
    Tool {
        package: "busybox-static",
        programs: &["busybox"],
        why: "the little that such a machine needs beside the tests",
        units: &[],
    },
    Tool { package: "ethtool", programs: &["ethtool"], why: "changes the queues of a device", units: &[] },
    Tool { package: "iw", programs: &["iw"], why: "joins radios", units: &[] },
    Tool { package: "kmod", programs: &["modinfo"], why: "tells which drivers need which", units: &[] },
    Tool { package: "wireguard-tools", programs: &["wg"], why: "keys for a wireguard device", units: &[] },
    Tool { package: "libteam-utils", programs: &["teamnl"], why: "makes a team device work", units: &[] },
    Tool {
        package: "openvswitch-switch",
        programs: &["ovs-dpctl"],
        why: "makes a switch of the kernel's",
        units: &["openvswitch-switch.service"],
    },
];

/// Who else could guard port 111, beside those that the tests need anyway.
static PEERS: [Tool; 2] = [
    Tool { package: "iptables", programs: &["iptables"], why: "a peer to compare with", units: &[] },
    Tool { package: "ipset", programs: &["ipset"], why: "holds the list for iptables", units: &[] },
];

/// What it takes to boot a whole Debian.
static SYSTEMD_TOOLS: [Tool; 1] = [Tool {
    package: "debootstrap",
    programs: &["debootstrap"],
    why: "makes the machine that systemd is tried on",
    units: &[],
}];

/// What an operator of many hosts has, beside what comes from the registry of Python.
static FLEET_TOOLS: [Tool; 2] = [
    Tool {
        package: "virtualenv",
        programs: &["virtualenv"],
        why: "keeps Ansible and the schemas of Kubernetes apart",
        units: &[],
    },
    Tool {
        package: "openssh-client",
        programs: &["ssh", "ssh-keygen"],
        why: "the way from Ansible to its hosts",
        units: &[],
    },
];

/// Not a program, but what shows that it is there, as a path from a folder of programs.
const GANESHA_VFS: &str = if cfg!(target_arch = "aarch64") {
    "../lib/aarch64-linux-gnu/ganesha/libfsalvfs.so"
} else {
    "../lib/x86_64-linux-gnu/ganesha/libfsalvfs.so"
};

/// Everything from the distribution but the compilers.
pub(super) static TOOLS: [Tool; 18] = [
    Tool {
        package: "iproute2",
        programs: &["ip"],
        why: "makes the network namespaces of the tests and the demo",
        units: &[],
    },
    Tool {
        package: "rpcbind",
        programs: &["rpcbind", "rpcinfo"],
        why: "the real service behind port 111, guarded in a namespace of its own",
        units: &["rpcbind.service", "rpcbind.socket"],
    },
    Tool {
        package: "nfs-common",
        programs: &["rpc.statd", "showmount", "sm-notify"],
        why: "real clients of port 111",
        units: &["rpc-statd.service", "rpc-statd-notify.service"],
    },
    Tool {
        package: "nfs-kernel-server",
        programs: &["rpc.mountd", "exportfs"],
        why: "gives showmount an answer, and is the second opinion on /etc/exports",
        units: &["nfs-server.service", "nfs-blkmap.service", "nfsdcld.service"],
    },
    Tool {
        package: "nfs-ganesha",
        programs: &["ganesha.nfsd"],
        why: "an NFS server for the namespaces of the tests",
        units: &["nfs-ganesha.service", "nfs-ganesha-config.service", "nfs-ganesha-lock.service"],
    },
    Tool { package: "nfs-ganesha-vfs", programs: &[GANESHA_VFS], why: "lets it serve files", units: &[] },
    Tool {
        package: "libnfs-utils",
        programs: &["nfs-ls", "nfs-cp", "nfs-cat"],
        why: "an NFS client for the namespaces of the tests",
        units: &[],
    },
    Tool {
        package: "nftables",
        programs: &["nft"],
        why: "the second opinion on verdicts and counters",
        units: &[],
    },
    Tool { package: "ipset", programs: &["ipset"], why: "prints what suggest reads", units: &[] },
    Tool {
        package: "bpftool",
        programs: &["bpftool"],
        why: "a view of programs, maps and links that is not our own",
        units: &[],
    },
    Tool {
        package: "xdp-tools",
        programs: &["xdp-filter", "xdp-loader"],
        why: "a foreign XDP program, and the peer to compare with",
        units: &[],
    },
    Tool { package: "systemd", programs: &["systemd-analyze"], why: "judges the units", units: &[] },
    Tool { package: "strace", programs: &["strace"], why: "kills loaders at each system call", units: &[] },
    Tool { package: "tcpdump", programs: &["tcpdump"], why: "shows what reaches a wire", units: &[] },
    Tool {
        package: "prometheus",
        programs: &["prometheus", "promtool"],
        why: "scrapes the service's metrics, and judges their names and the alert rules",
        units: &["prometheus.service"],
    },
    Tool { package: "groff-base", programs: &["groff"], why: "renders the man pages", units: &[] },
    Tool { package: "mandoc", programs: &["mandoc"], why: "judges the man pages", units: &[] },
    Tool {
        package: "shellcheck",
        programs: &["shellcheck"],
        why: "judges the scripts of packages",
        units: &[],
    },
];

/// One thing that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A rustc that compiles for BPF.
    Compiler,
    /// A bpf-linker with the LLVM of that rustc, whose major version is known once the rustc is there.
    Linker(Option<u32>),
    /// The clippy of that rustc.
    KernelClippy,
    /// A component of the Rust toolchain that runs us.
    Component(Component),
    /// A package of programs.
    Tool(&'static Tool),
    /// A command of cargo.
    CargoTool(&'static CargoTool),
}

/// A component of a Rust toolchain that minimal installations lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Component {
    /// `cargo fmt`
    Rustfmt,
    /// `cargo clippy`
    Clippy,
}

impl Component {
    /// The name of the component, for rustup.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rustfmt => "rustfmt",
            Self::Clippy => "clippy",
        }
    }

    /// The program that shows that it is there.
    fn program(self) -> &'static str {
        match self {
            Self::Rustfmt => "cargo-fmt",
            Self::Clippy => "cargo-clippy",
        }
    }
}

impl Need {
    /// What would be impossible without it.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Compiler => "compiles the kernel program",
            Self::Linker(_) => "links the kernel program",
            Self::KernelClippy => "lints the kernel program",
            Self::Component(Component::Rustfmt) => "checks the formatting",
            Self::Component(Component::Clippy) => "lints the host's programs",
            Self::Tool(tool) => tool.why,
            Self::CargoTool(tool) => tool.why,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler => f.write_str("a rustc for BPF"),
            Self::Linker(None) => f.write_str("bpf-linker"),
            Self::Linker(Some(llvm)) => write!(f, "bpf-linker with LLVM {llvm}"),
            Self::KernelClippy => f.write_str("a clippy for BPF"),
            Self::Component(component) => f.write_str(component.name()),
            Self::Tool(tool) => f.write_str(tool.package),
            Self::CargoTool(tool) => f.write_str(tool.name),
        }
    }
}

/// The needs in one line.
pub(super) fn names(needs: &[Need]) -> String {
    needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Everything that is not there.
pub(super) fn missing(purpose: Purpose) -> Vec<Need> {
    let compiler = Compiler::find(&crate::kernel());
    let mut needs = match &compiler {
        Err(_) => vec![Need::Compiler, Need::Linker(None), Need::KernelClippy],
        Ok(compiler) => beside_compiler(
            compiler.llvm(),
            Linker::find(compiler.llvm()).is_ok(),
            compiler.companion(Component::Clippy.program()).is_some(),
        ),
    };
    let components = [Component::Rustfmt, Component::Clippy].into_iter();
    needs.extend(components.filter(|component| !has_component(component.program())).map(Need::Component));
    let folders = folders();
    let is_there = |program: &&str| folders.iter().any(|folder| folder.join(program).is_file());
    needs.extend(purpose.tools().filter(|tool| !tool.programs.iter().all(is_there)).map(Need::Tool));
    let tools = purpose.cargo_tools().iter();
    needs.extend(tools.filter(|tool| !has_cargo_tool(tool.name)).map(Need::CargoTool));
    needs
}

/// What a compiler with that LLVM lacks.
fn beside_compiler(llvm: u32, has_linker: bool, has_clippy: bool) -> Vec<Need> {
    let linker = (!has_linker).then_some(Need::Linker(Some(llvm)));
    let clippy = (!has_clippy).then_some(Need::KernelClippy);
    linker.into_iter().chain(clippy).collect()
}

/// Whether the toolchain that runs us has the program. The proxies of rustup prove nothing: they are always there.
fn has_component(program: &str) -> bool {
    let cargo = env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    cargo.with_file_name(program).is_file()
}

/// Whether cargo finds the command: in its own folder, or on the `PATH`.
fn has_cargo_tool(name: &str) -> bool {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let own = home.map(|home| home.join("bin"));
    own.into_iter().chain(folders()).any(|folder| folder.join(name).is_file())
}

/// Where programs are, those of the administrator included, which not every user has on the `PATH`.
fn folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrator = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(|folder| Path::new(folder).to_owned());
    env::split_paths(&path).chain(administrator).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linker_is_wanted_with_the_llvm_of_the_compiler() {
        assert_eq!(beside_compiler(22, false, true), [Need::Linker(Some(22))]);
        assert_eq!(beside_compiler(22, false, false), [Need::Linker(Some(22)), Need::KernelClippy]);
        assert_eq!(beside_compiler(22, true, true), []);
    }

    #[test]
    fn every_tool_can_be_recognised_and_says_what_it_is_for() {
        let purposes = [Purpose::Distribution, Purpose::Fleet, Purpose::Bench, Purpose::Cross];
        for tool in purposes.into_iter().flat_map(Purpose::tools) {
            assert!(!tool.programs.is_empty(), "{} would never be missing", tool.package);
            assert!(!tool.why.is_empty(), "{} is installed for no reason", tool.package);
        }
    }
}
