//! What Debian's package manager knows and does.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::progress;

/// What `apt-cache policy` tells of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Package {
    /// The version that is installed.
    pub(super) installed: Option<String>,
    /// The version that would be installed.
    pub(super) candidate: Option<String>,
    /// All versions that can be had, each with the suite it is in.
    pub(super) versions: Vec<(String, String)>,
}

/// The packages that were asked for, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Packages(BTreeMap<String, Package>);

impl Packages {
    /// Asks for packages, after a fresh look at the package lists if we may have one.
    pub(super) fn find(names: &[String], may_update: bool) -> Result<Self> {
        if may_update {
            let update = apt_get(&["update"]);
            // Stale lists may do; if they do not, the installation says so.
            if let Err(error) = progress::run("reading the package lists", update) {
                eprintln!("setup: going on with old package lists: {error:#}");
            }
        }
        let output = Command::new("apt-cache")
            .arg("policy")
            .args(names)
            .env("LC_ALL", "C")
            .output()
            .context("cannot run apt-cache")?;
        if !output.status.success() {
            bail!("apt-cache policy failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Reads the output of `apt-cache policy`.
    pub(super) fn parse(text: &str) -> Self {
        let mut packages = BTreeMap::new();
        let mut current: Option<&mut Package> = None;
        let mut version = "";
        for line in text.lines() {
            if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
                current = Some(packages.entry(name.to_owned()).or_default());
                continue;
            }
            let Some(package) = current.as_deref_mut() else { continue };
            let known = |value: &str| (value != "(none)").then(|| value.to_owned());
            let words: Vec<_> = line.trim_start_matches(" *** ").split_whitespace().collect();
            match words[..] {
                ["Installed:", value] => package.installed = known(value),
                ["Candidate:", value] => package.candidate = known(value),
                // `500 http://mirror/debian bookworm/main amd64 Packages`
                [_, _, suite, _, "Packages"] => {
                    let suite = suite.split('/').next().unwrap_or(suite);
                    package.versions.push((version.to_owned(), suite.to_owned()));
                }
                // `1.96.0+dfsg1-1 500`
                [value, _priority] if line.starts_with("  ") || line.starts_with(" ***") => version = value,
                _ => {}
            }
        }
        Self(packages)
    }

    /// Whether the package is installed.
    pub(super) fn is_installed(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|package| package.installed.is_some())
    }

    /// The version of the package that would be installed.
    pub(super) fn candidate(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.candidate.as_deref()
    }

    /// The suite that has this version of the package, however often it was built.
    pub(super) fn suite(&self, name: &str, version: &str) -> Option<&str> {
        let wanted = source_version(version);
        let (_, suite) =
            self.0.get(name)?.versions.iter().find(|(offered, _)| source_version(offered) == wanted)?;
        Some(suite)
    }
}

/// A version without what says that Debian has built the same sources once more: `1.96.0-1+b2` is of `1.96.0-1`.
pub(super) fn source_version(version: &str) -> &str {
    match version.rsplit_once("+b") {
        Some((source, times)) if !times.is_empty() && times.bytes().all(|byte| byte.is_ascii_digit()) => {
            source
        }
        _ => version,
    }
}

/// Whether this machine has apt.
pub(super) fn is_there() -> bool {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join("apt-get").is_file())
}

/// The arguments that install the packages, for us or for the user to type: nothing beside them, nothing removed.
pub(super) fn install_arguments(packages: &[String], suite: Option<&str>) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["install", "--yes", "--no-install-recommends", "--no-remove"].map(str::to_owned).into();
    arguments.extend(suite.map(|suite| format!("--target-release={suite}")));
    arguments.extend_from_slice(packages);
    arguments
}

/// The packages that apt would have to remove to install these.
pub(super) fn in_the_way(arguments: &[String]) -> Vec<String> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).filter(|&a| a != "--no-remove").collect();
    let simulated = apt_get(&[&["--simulate"], &arguments[..]].concat()).output();
    simulated.map(|output| removals(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// `Remv qemu-utils [1:10.0.2]`
fn removals(simulated: &str) -> Vec<String> {
    let names = simulated.lines().filter_map(|line| line.strip_prefix("Remv ")?.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// `apt-get`, asking nothing and waiting for another one to finish.
pub(super) fn apt_get<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "--option=Dpkg::Use-Pty=0", "--option=DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
rustc:
  Installed: (none)
  Candidate: 1.85.0+dfsg3-1
  Version table:
     1.96.0+dfsg1-1~bpo13+1 100
        100 http://mirror.example/debian trixie-backports/main amd64 Packages
     1.85.0+dfsg3-1 500
        500 http://mirror.example/debian trixie/main amd64 Packages
rpcbind:
  Installed: 1.2.7-1
  Candidate: 1.2.7-1
  Version table:
 *** 1.2.7-1 500
        500 http://mirror.example/debian trixie/main amd64 Packages
        100 /var/lib/dpkg/status
nonesuch:
  Installed: (none)
  Candidate: (none)
  Version table:
";

    #[test]
    fn policy_tells_what_is_installed_and_what_can_be() {
        let packages = Packages::parse(POLICY);
        assert!(packages.is_installed("rpcbind"));
        assert!(!packages.is_installed("rustc"));
        assert_eq!(packages.candidate("rustc"), Some("1.85.0+dfsg3-1"));
        assert_eq!(packages.candidate("nonesuch"), None);
        assert_eq!(packages.candidate("never-asked-for"), None);
    }

    #[test]
    fn policy_tells_the_suite_of_each_version() {
        let packages = Packages::parse(POLICY);
        assert_eq!(packages.suite("rustc", "1.96.0+dfsg1-1~bpo13+1"), Some("trixie-backports"));
        assert_eq!(packages.suite("rustc", "1.85.0+dfsg3-1"), Some("trixie"));
        assert_eq!(packages.suite("rpcbind", "1.2.7-1"), Some("trixie"));
        assert_eq!(packages.suite("rpcbind", "9"), None);
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let simulated = "Remv qemu-utils [1:10.0.2]\nInst busybox-static (1:1.35.0-4)\nConf busybox-static\n";
        assert_eq!(removals(simulated), ["qemu-utils"]);
        assert_eq!(removals("Inst busybox-static (1:1.35.0-4)\n"), [""; 0]);
    }

    #[test]
    fn installing_never_removes_anything() {
        let arguments = install_arguments(&["rpcbind".to_owned()], Some("trixie-backports"));
        assert!(arguments.contains(&"--no-remove".to_owned()));
        assert!(arguments.contains(&"--target-release=trixie-backports".to_owned()));
        assert_eq!(arguments.last().map(String::as_str), Some("rpcbind"));
    }
}
