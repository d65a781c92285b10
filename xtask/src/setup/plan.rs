//! From what is missing to the steps that bring it; pure, but for the look at the machine.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::apt::{self, Packages};
use super::requirement::{Component, Need};
use crate::toolchain::{OLDEST_RUST, numbers};

/// The bpf-linker that is installed where there is none.
const LINKER_VERSION: &str = "0.13.0";

/// The versions of LLVM it can be built with.
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// One family of Debian's Rust packages; all of a family have one version and stand or fall together.
struct Family {
    compiler: &'static str,
    core: &'static str,
    clippy: &'static str,
    rustfmt: &'static str,
    /// What apt would have to remove: never worth it.
    conflicts: &'static [&'static str],
}

const FAMILIES: [Family; 2] = [
    Family {
        compiler: "rustc",
        core: "libstd-rust-dev-bpf",
        clippy: "rust-clippy",
        rustfmt: "rustfmt",
        conflicts: &["rustc-web", "rustup"],
    },
    // What Debian's stable releases get, to build their browsers with.
    Family {
        compiler: "rustc-web",
        core: "libstd-rust-web-dev-bpf",
        clippy: "rust-web-clippy",
        rustfmt: "rustfmt-web",
        conflicts: &["rustc", "rustup"],
    },
];

/// What decides how a need is met.
#[derive(Debug, Default)]
pub(super) struct Machine {
    root: bool,
    /// What apt has, where there is apt.
    packages: Option<Packages>,
    rustup: bool,
    /// The toolchain of rustup that runs us, if one does.
    toolchain: Option<String>,
    /// Where the LLVM that the linker needs can be built against.
    llvm_prefix: Option<PathBuf>,
}

impl Machine {
    /// Looks at this machine, as far as it matters for what is missing.
    pub(super) fn inspect(missing: &[Need]) -> Result<Self> {
        let root = nix::unistd::geteuid().is_root();
        let names = packages_in_question(missing);
        let packages =
            (apt::is_there() && !names.is_empty()).then(|| Packages::find(&names, root)).transpose()?;
        let llvm = missing.iter().find_map(|need| match need {
            Need::Linker(llvm) => *llvm,
            _ => None,
        });
        Ok(Self {
            root,
            packages,
            rustup: Command::new("rustup").arg("--version").output().is_ok_and(|o| o.status.success()),
            toolchain: env::var("RUSTUP_TOOLCHAIN").ok(),
            llvm_prefix: llvm.and_then(llvm_prefix),
        })
    }
}

/// The prefix of that LLVM, if it can be linked against.
fn llvm_prefix(llvm: u32) -> Option<PathBuf> {
    let debian = debian_llvm_prefix(llvm);
    if debian.join("lib/libLLVM.so").exists() {
        return Some(debian);
    }
    [format!("llvm-config-{llvm}"), "llvm-config".to_owned()].iter().find_map(|program| {
        let ask = |question| {
            let output = Command::new(program).arg(question).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let fits = numbers(&ask("--version")?).first() == Some(&llvm);
        let prefix = PathBuf::from(ask("--prefix")?);
        let libraries = ["lib", "lib64"].map(|folder| prefix.join(folder).join("libLLVM.so"));
        (fits && libraries.iter().any(|library| library.exists())).then_some(prefix)
    })
}

/// Where Debian keeps that LLVM.
fn debian_llvm_prefix(llvm: u32) -> PathBuf {
    Path::new("/usr/lib").join(format!("llvm-{llvm}"))
}

/// What is installed by apt, in one go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AptInstall {
    /// The packages, each with the reason.
    pub(super) packages: Vec<(String, String)>,
    /// The suite to prefer, where apt's own choice would not do.
    pub(super) suite: Option<String>,
    /// Units of the packages that must not start.
    pub(super) units: Vec<&'static str>,
}

impl AptInstall {
    /// The arguments of apt-get.
    pub(super) fn arguments(&self) -> Vec<String> {
        let names: Vec<_> = self.packages.iter().map(|(name, _)| name.clone()).collect();
        apt::install_arguments(&names, self.suite.as_deref())
    }
}

/// One program to run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Why it is run.
    pub(super) why: String,
    /// The environment that it gets beside ours.
    pub(super) environment: Vec<(&'static str, PathBuf)>,
    /// The program.
    pub(super) program: &'static str,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
}

/// The steps, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// First what the distribution has,
    pub(super) apt: AptInstall,
    /// then the rest.
    pub(super) runs: Vec<Run>,
}

/// Every package that may be installed for a need, or decides how it is met.
fn packages_in_question(missing: &[Need]) -> Vec<String> {
    let mut names = Vec::new();
    for need in missing {
        match need {
            Need::Tool(tool) => names.push(tool.package.to_owned()),
            Need::Linker(Some(llvm)) => names.push(format!("llvm-{llvm}-dev")),
            Need::Linker(None) | Need::CargoTool(_) => {}
            Need::Compiler | Need::KernelClippy | Need::Component(_) => {
                let families = FAMILIES.iter();
                names.extend(
                    families.flat_map(|f| [f.compiler, f.core, f.clippy, f.rustfmt]).map(str::to_owned),
                );
                names.push("rustup".to_owned());
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Decides how each need is met; the error names the remedy of each that cannot be met from here.
pub(super) fn make(missing: &[Need], machine: &Machine) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut remedies = Vec::new();
    for need in missing {
        if let Err(remedy) = meet(*need, missing, machine, &mut plan) {
            remedies.push(format!("{need}: {remedy}"));
        }
    }
    if !plan.apt.packages.is_empty() && !machine.root {
        remedies.push(by_root(&plan.apt));
    }
    if !remedies.is_empty() {
        bail!("setup cannot install everything here:\n  {}", remedies.join("\n  "));
    }
    Ok(plan)
}

/// Adds to the plan what meets the need, or says what the user has to do.
fn meet(need: Need, missing: &[Need], machine: &Machine, plan: &mut Plan) -> Result<(), String> {
    let why = need.why().to_owned();
    match need {
        Need::Tool(tool) => {
            add_package(plan, machine, tool.package, &why)?;
            plan.apt.units.extend(tool.units);
            Ok(())
        }
        Need::Compiler => {
            if let Some((family, suite)) = machine.packages.as_ref().and_then(best_family) {
                plan.apt.suite = suite;
                plan.apt.packages.push((family.compiler.to_owned(), why));
                plan.apt.packages.push((family.core.to_owned(), "Rust's core, compiled for BPF".to_owned()));
                let clippy = Need::KernelClippy.why().to_owned();
                plan.apt.packages.push((family.clippy.to_owned(), clippy));
                Ok(())
            } else if machine.rustup {
                let arguments = "toolchain install nightly --profile minimal --component rust-src,clippy";
                plan.runs.push(rustup(why, arguments));
                Ok(())
            } else {
                Err("install rustup (https://rustup.rs), or enable the suite of Debian that has \
                     libstd-rust-web-dev-bpf (bookworm-security, trixie) or libstd-rust-dev-bpf (trixie-backports)"
                    .to_owned())
            }
        }
        // Both come with, or after, the compiler.
        Need::KernelClippy | Need::Linker(None) if missing.contains(&Need::Compiler) => Ok(()),
        Need::Linker(None) => Err("install the compiler first".to_owned()),
        Need::Linker(Some(llvm)) => {
            if !LINKER_LLVM.contains(&llvm) {
                return Err(format!(
                    "bpf-linker {LINKER_VERSION} cannot be built for the LLVM {llvm} of this rustc; install one \
                     that can and set PORTGUARD_BPF_LINKER, or choose another rustc with PORTGUARD_BPF_RUSTC"
                ));
            }
            let prefix = match &machine.llvm_prefix {
                Some(prefix) => prefix.clone(),
                None => {
                    let why = format!("bpf-linker is built against LLVM {llvm}");
                    add_package(plan, machine, &format!("llvm-{llvm}-dev"), &why)
                        .map_err(|remedy| format!("{remedy}, or install a bpf-linker with LLVM {llvm}"))?;
                    debian_llvm_prefix(llvm)
                }
            };
            plan.runs.push(Run {
                why,
                environment: vec![("LLVM_PREFIX", prefix)],
                program: "cargo",
                arguments: words(&format!(
                    "install bpf-linker --version {LINKER_VERSION} --locked --no-default-features --features \
                     llvm-{llvm}"
                )),
            });
            Ok(())
        }
        Need::CargoTool(tool) => {
            plan.runs.push(Run {
                why,
                environment: Vec::new(),
                program: "cargo",
                arguments: words(&format!("install {} --version {} --locked", tool.name, tool.version)),
            });
            Ok(())
        }
        Need::KernelClippy => match family_of_compiler(machine) {
            Some(family) => add_package(plan, machine, family.clippy, &why),
            None if machine.rustup => {
                plan.runs.push(rustup(why, "component add --toolchain nightly clippy"));
                Ok(())
            }
            None => Err("install the clippy that comes with the rustc of $PORTGUARD_BPF_RUSTC".to_owned()),
        },
        Need::Component(component) => match (&machine.toolchain, family_of_compiler(machine)) {
            (Some(toolchain), _) => {
                let arguments = format!("component add --toolchain {toolchain} {}", component.name());
                plan.runs.push(rustup(why, &arguments));
                Ok(())
            }
            (None, Some(family)) => {
                let package = match component {
                    Component::Rustfmt => family.rustfmt,
                    Component::Clippy => family.clippy,
                };
                add_package(plan, machine, package, &why)
            }
            (None, None) => Err(format!("install the {} of the Rust in use", component.name())),
        },
    }
}

/// Adds a package that apt has.
fn add_package(plan: &mut Plan, machine: &Machine, package: &str, why: &str) -> Result<(), String> {
    let Some(packages) = &machine.packages else {
        return Err(format!("install what Debian calls {package} with this system's package manager"));
    };
    if packages.candidate(package).is_none() {
        return Err(format!(
            "apt has no {package}: check the network and /etc/apt/sources.list.d, then try again"
        ));
    }
    if plan.apt.packages.iter().all(|(planned, _)| planned != package) {
        plan.apt.packages.push((package.to_owned(), why.to_owned()));
    }
    Ok(())
}

/// The newest family that is complete, new enough, and in nobody's way; with the suite to name to apt.
fn best_family(packages: &Packages) -> Option<(&'static Family, Option<String>)> {
    FAMILIES
        .iter()
        .filter(|family| !family.conflicts.iter().any(|package| packages.is_installed(package)))
        .filter_map(|family| {
            // The core decides the version: older releases have the compiler without it.
            let version = packages.candidate(family.core)?;
            let suite = packages.suite(family.compiler, version)?;
            let chosen = packages.candidate(family.compiler).map(apt::source_version);
            let suite = (chosen != Some(apt::source_version(version))).then(|| suite.to_owned());
            let release = numbers(version);
            (release >= numbers(OLDEST_RUST)).then_some((release, family, suite))
        })
        .max_by(|(one, ..), (other, ..)| one.cmp(other))
        .map(|(_, family, suite)| (family, suite))
}

/// The family whose compiler is installed.
fn family_of_compiler(machine: &Machine) -> Option<&'static Family> {
    let packages = machine.packages.as_ref()?;
    FAMILIES.iter().find(|family| packages.is_installed(family.compiler))
}

/// A call of rustup.
fn rustup(why: String, arguments: &str) -> Run {
    Run { why, environment: Vec::new(), program: "rustup", arguments: words(arguments) }
}

/// What somebody with root's rights has to type; with the masks that setup itself would set.
fn by_root(apt: &AptInstall) -> String {
    let mut commands = String::new();
    if !apt.units.is_empty() {
        let _ = write!(commands, "systemctl mask {} && ", apt.units.join(" "));
    }
    let _ = write!(commands, "apt-get update && apt-get {}", apt.arguments().join(" "));
    format!("not root. Run: sudo sh -c '{commands}'; then `cargo xtask setup` again does the rest")
}

/// The words of a command line without quotes.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
