//! Debian's kernels: where they are found, and how they get here.
//!
//! The machine's own apt knows one release of Debian. The apt of this module has lists and a cache of its own, and asks
//! the machine's mirrors for the other releases; it installs nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// Its newest version in a release depends on the newest kernel of that release, with all the drivers.
const META_PACKAGE: &str = "linux-image-amd64";
/// What a kernel is made of; from 7.x on its image and its modules are two packages.
const PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];
/// Signs every release, the old ones and the next one, too.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A line of kernels that Debian looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Series {
    /// What it is called on the command line, and what its versions begin with, less an `x`.
    pub(super) name: &'static str,
    /// The suites that have it.
    suites: &'static [&'static str],
}

/// The kernels that portguard has to work on.
pub(super) const SERIES: [Series; 4] = [
    Series { name: "5.10", suites: &["bullseye", "bullseye-security"] },
    Series { name: "6.1", suites: &["bookworm", "bookworm-security"] },
    Series { name: "6.12", suites: &["trixie", "trixie-security"] },
    Series { name: "7.x", suites: &["sid", "trixie-backports"] },
];

impl Series {
    /// The series of that name.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        SERIES.into_iter().find(|series| series.name == name).ok_or_else(|| {
            let names: Vec<_> = SERIES.iter().map(|series| series.name).collect();
            format!("there are {}", names.join(", "))
        })
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// Whether a version of a package is one of the series.
    fn has(self, version: &str) -> bool {
        let beginning = self.name.trim_end_matches('x');
        version.strip_prefix(beginning).is_some_and(|rest| beginning.ends_with('.') || rest.starts_with('.'))
    }
}

/// A kernel that is unpacked on this machine.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The version of its package.
    pub(crate) version: String,
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// What was in its packages.
    pub(crate) packages: PathBuf,
}

/// An apt of our own.
#[derive(Debug)]
pub(crate) struct Apt {
    root: PathBuf,
}

impl Apt {
    /// Reads the package lists of all the suites into `root`.
    pub(crate) fn update(root: PathBuf) -> Result<Self> {
        ensure!(Path::new(KEYRING).is_file(), "{KEYRING} is missing: install debian-archive-keyring");
        let (main, security) = mirrors()?;
        let mut sources = String::new();
        for suite in SERIES.iter().flat_map(|series| series.suites) {
            let mirror = if suite.ends_with("-security") { &security } else { &main };
            sources += &format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(root.join("sources.list"), sources).context("cannot write a list of sources")?;
        let apt = Self { root };
        // What cannot be fetched is a warning for apt: the suite may be one that nobody asks for now.
        output(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    /// Fetches and unpacks the newest kernel of a series, if that has not been done, into a folder of `kernels`.
    pub(crate) fn kernel(&self, series: Series, kernels: &Path) -> Result<Kernel> {
        let offers = output(self.command("apt-cache").args(["madison", META_PACKAGE]))?;
        let version = newest(series, &offers).with_context(|| {
            format!(
                "there is no kernel {} in the suites {}: do the mirrors of this machine have them?",
                series.name,
                series.suites.join(" and ")
            )
        })?;
        let folder = kernels.join(format!("{META_PACKAGE}-{version}"));
        if !folder.is_dir() {
            // Half of a kernel must not be taken for a kernel.
            let partial = kernels.join(format!("{META_PACKAGE}-{version}.partial"));
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            fs::create_dir_all(&partial)?;
            for package in self.parts(&version)? {
                eprintln!("vm-test: fetching {package}");
                self.unpack(&package, &partial).with_context(|| format!("cannot get {package} {version}"))?;
            }
            fs::rename(&partial, &folder)?;
        }
        let image = find(&folder, &|name| name.starts_with("vmlinuz"))
            .with_context(|| format!("no kernel image in the packages of {version}"))?;
        Ok(Kernel { version, image, packages: folder })
    }

    /// The packages that the kernel of this version consists of.
    fn parts(&self, version: &str) -> Result<Vec<String>> {
        let mut packages = vec![META_PACKAGE.to_owned()];
        let mut next = 0;
        while let Some(package) = packages.get(next) {
            let offer = format!("{package}={version}");
            let shown = output(self.command("apt-cache").args(["show", &offer]))?;
            for part in kernel_parts(&shown) {
                if !packages.contains(&part) {
                    packages.push(part);
                }
            }
            next += 1;
        }
        packages.remove(0);
        ensure!(!packages.is_empty(), "{META_PACKAGE} {version} depends on no kernel");
        Ok(packages.into_iter().map(|package| format!("{package}={version}")).collect())
    }

    /// Fetches a package, as `apt-get download` names it, and unpacks it into a folder.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let download = into.join("download");
        fs::create_dir_all(&download)?;
        output(self.command("apt-get").args(["download", package]).current_dir(&download))?;
        let archive = fs::read_dir(&download)?.next().context("apt-get has downloaded nothing")??.path();
        output(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(into))?;
        Ok(fs::remove_dir_all(&download)?)
    }

    /// A program of apt that neither reads nor changes the machine's lists and cache.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |path: &str| self.root.join(path).display().to_string();
        for (option, value) in [
            ("Dir::Etc::SourceList", at("sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::State::Lists", at("lists")),
            ("Dir::State::Status", "/dev/null".to_owned()),
            ("Dir::Cache", at("cache")),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".to_owned()),
            // apt's own user may not look into everybody's folders.
            ("APT::Sandbox::User", "root".to_owned()),
            ("quiet", "2".to_owned()),
        ] {
            command.arg("--option").arg(format!("{option}={value}"));
        }
        command.env("LC_ALL", "C");
        command
    }
}

/// The mirror that this machine gets Debian from, and the one it gets security updates from.
pub(crate) fn mirrors() -> Result<(String, String)> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]);
    let targets = output(command.env("LC_ALL", "C"))?;
    choose_mirrors(&targets)
}

/// The mirror that this machine gets Debian from.
pub(crate) fn mirror() -> Result<String> {
    Ok(mirrors()?.0)
}

fn choose_mirrors(targets: &str) -> Result<(String, String)> {
    let find = |security: bool, what: &str| {
        let mut repositories = targets.lines().filter_map(|line| line.split_once(' '));
        repositories
            .find(|(uri, codename)| codename.ends_with("-security") == security && uri.contains("debian"))
            .map(|(uri, _)| uri.to_owned())
            .with_context(|| {
                format!("the apt of this machine knows no mirror of {what}; try: apt-get update")
            })
    };
    Ok((find(false, "Debian")?, find(true, "Debian's security updates")?))
}

/// The newest version of a series among what `apt-cache madison` offers, which is in order.
fn newest(series: Series, offers: &str) -> Option<String> {
    let versions = offers.lines().filter_map(|line| line.split('|').nth(1));
    versions.map(str::trim).find(|version| series.has(version)).map(str::to_owned)
}

/// The parts of a kernel among the dependencies that `apt-cache show` tells.
fn kernel_parts(shown: &str) -> Vec<String> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
    depends
        .split(", ")
        .filter_map(|dependency| dependency.split_whitespace().next())
        .filter(|name| PARTS.iter().any(|part| name.starts_with(part)))
        .map(str::to_owned)
        .collect()
}

/// A file below a folder.
pub(super) fn find(folder: &Path, is_it: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).ok()?.filter_map(Result::ok).collect();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let here =
        entries.iter().find(|entry| !is_folder(entry) && entry.file_name().to_str().is_some_and(is_it));
    if let Some(entry) = here {
        return Some(entry.path());
    }
    entries.iter().filter(|entry| is_folder(entry)).find_map(|entry| find(&entry.path(), is_it))
}

/// What a command prints; its complaints if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: &str = "\
linux-image-amd64 | 7.3.4-1~bpo13+1 | http://mirror.example/debian trixie-backports/main amd64 Packages
linux-image-amd64 |   7.2.13-1 | http://mirror.example/debian sid/main amd64 Packages
linux-image-amd64 | 6.12.107-1 | http://mirror.example/debian trixie/main amd64 Packages
linux-image-amd64 | 5.10.262-1 | http://mirror.example/debian-security bullseye-security/main amd64 Packages
linux-image-amd64 | 5.10.223-1 | http://mirror.example/debian bullseye/main amd64 Packages
";

    #[test]
    fn the_newest_kernel_of_a_series_is_taken() {
        let newest = |name| newest(Series::named(name).expect("a series"), OFFERS);
        assert_eq!(newest("7.x").as_deref(), Some("7.3.4-1~bpo13+1"));
        assert_eq!(newest("6.12").as_deref(), Some("6.12.107-1"));
        assert_eq!(newest("5.10").as_deref(), Some("5.10.262-1"));
        assert_eq!(newest("6.1"), None, "6.12 is not 6.1");
    }

    #[test]
    fn an_unknown_series_is_told_with_those_that_there_are() {
        assert_eq!(Series::named("4.19"), Err("there are 5.10, 6.1, 6.12, 7.x".to_owned()));
    }

    #[test]
    fn a_kernel_is_its_image_and_its_modules() {
        let shown = "Package: linux-image-7.3.4-amd64\nVersion: 7.3.4-1\n\
                     Depends: initramfs-tools | linux-initramfs-tool, linux-base-7.3.4 (= 7.3.4-1), \
                     linux-binary-7.3.4-amd64 (= 7.3.4-1), linux-modules-7.3.4-amd64 (= 7.3.4-1)\n";
        assert_eq!(kernel_parts(shown), ["linux-binary-7.3.4-amd64", "linux-modules-7.3.4-amd64"]);
        assert_eq!(kernel_parts("Package: base-files\n"), [""; 0]);
    }

    #[test]
    fn mirrors_are_the_machines_own() {
        let targets = "http://mirror.example/debian/ bookworm\n\
                       http://mirror.example/debian/ bookworm-updates\n\
                       http://security.example/debian-security/ bookworm-security\n";
        let (main, security) = choose_mirrors(targets).expect("two mirrors");
        assert_eq!(main, "http://mirror.example/debian/");
        assert_eq!(security, "http://security.example/debian-security/");
        choose_mirrors("").expect_err("no mirror at all");
    }
}
