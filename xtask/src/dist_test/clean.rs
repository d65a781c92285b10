//! A Debian that has never seen portguard: the package comes, is used, and goes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::quiet;
use crate::dist::Deb;
use crate::machine::{RELEASES, copy, debian_of};
use crate::vm_test::output;

/// What packages of any kind change: the records of dpkg and apt, caches, logs.
const RECORDS: [&str; 6] = ["var/lib/dpkg", "var/lib/apt", "var/cache", "var/log", "root", "etc/ld.so.cache"];
/// What the Debian has: systemd, a way to log in, who sees what listens, and who reads man pages and completions. No rpcbind.
const PACKAGES: &str = "systemd-sysv,dbus,openssh-server,iproute2,man-db,bash-completion";

/// Installs the package by apt in each release, uses it, removes it, and purges it.
pub(super) fn check(deb: &Deb, folder: &Path) -> Result<()> {
    for (release, number) in RELEASES {
        eprintln!("dist-test: a clean Debian {number}");
        let debian = folder.join(release);
        debian_of(release, &debian, PACKAGES)?;
        check_in(&debian, deb, folder).with_context(|| format!("Debian {number}"))?;
    }
    Ok(())
}

fn check_in(debian: &Path, deb: &Deb, folder: &Path) -> Result<()> {
    let root = folder.join("clean");
    copy(debian, &root, &[])?;
    let package = deb.path.file_name().context("the package has a name")?;
    fs::copy(&deb.path, root.join("root").join(package))?;
    quiet::check(&root, folder)?;
    let run = |script: &str| {
        let mut command = Command::new("chroot");
        command.arg(&root).args(["bash", "-c", script]);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive");
        output(&mut command)
    };
    let before = files(&root)?;

    run(&format!("apt-get install --yes /root/{}", package.display()))?;
    let mut installed = files(&root)?;
    installed.retain(|path, _| !before.contains_key(path));
    for file in
        ["usr/sbin/portguard", "etc/portguard/allowlist.yaml", "usr/lib/systemd/system/portguard@.service"]
    {
        ensure!(installed.contains_key(Path::new(file)), "{file} is not installed");
    }
    // What a recommendation would bring along: an open portmapper, on a host that had none.
    ensure!(!root.join("usr/sbin/rpcbind").exists(), "the package brings an rpcbind along");
    // By the checksums that dpkg has made as it unpacked the files.
    ensure!(run("dpkg --verify portguard")?.is_empty(), "files are not as they were packed");
    let page = "usr/share/man/man8/portguard.8.gz";
    let packed = fs::read(root.join(page))?;
    fs::write(root.join(page), "changed")?;
    ensure!(run("dpkg --verify portguard || true")?.contains(page), "dpkg does not notice a changed file");
    fs::write(root.join(page), packed)?;
    let version = run("portguard --version")?;
    ensure!(version.trim() == format!("portguard {}", env!("CARGO_PKG_VERSION")), "it is {version}");
    ensure!(run("portguard check")?.contains("0 entries"), "the list that came with it is not empty");
    let pages: Vec<_> = installed.keys().filter(|path| path.starts_with("usr/share/man")).collect();
    ensure!(pages.len() > 2, "there are no man pages");
    for page in pages {
        let name = page.file_name().unwrap_or_default().display().to_string();
        let name = name.trim_end_matches(".gz");
        let Some((name, section)) = name.rsplit_once('.') else { bail!("{name} has no section") };
        let shown = run(&format!("MANWIDTH=80 man --warnings {section} {name} 2>&1"))?;
        ensure!(shown.contains("SEE ALSO") && !shown.contains("warning:"), "{name}({section}): {shown}");
    }
    let completed = run("source /usr/share/bash-completion/bash_completion; _completion_loader portguard; \
         COMP_WORDS=(portguard det); COMP_CWORD=1; _portguard portguard det portguard; echo \"${COMPREPLY[@]}\"")?;
    ensure!(completed == "detach\n", "bash completes `portguard det` to {completed}");

    run("echo '# mine' >> /etc/portguard/allowlist.yaml; dpkg --remove portguard")?;
    let mut left = files(&root)?;
    left.retain(|path, _| !before.contains_key(path));
    let left: Vec<_> = left.into_keys().collect();
    let settings =
        ["etc/default/portguard", "etc/portguard", "etc/portguard/allowlist.yaml"].map(PathBuf::from);
    ensure!(left == settings, "a removal leaves {left:?}");
    ensure!(run("cat /etc/portguard/allowlist.yaml")?.ends_with("# mine\n"), "the list is not the same");

    run("dpkg --purge portguard")?;
    let after = files(&root)?;
    let differ = |path: &&PathBuf| before.get(*path) != after.get(*path);
    let changed: Vec<_> = before.keys().chain(after.keys()).filter(differ).collect();
    ensure!(changed.is_empty(), "a purge leaves a trace: {changed:?}");
    eprintln!("dist-test: {} files came, and all went", installed.len());
    Ok(fs::remove_dir_all(&root)?)
}

/// Every file below a root but records, with what tells whether it has changed.
fn files(root: &Path) -> Result<BTreeMap<PathBuf, (u32, u32, u64)>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(root)?.to_owned();
            if RECORDS.iter().any(|record| name.starts_with(record)) {
                continue;
            }
            let metadata = fs::symlink_metadata(&path)?;
            let size = if metadata.is_dir() { 0 } else { metadata.size() };
            if metadata.is_dir() {
                folders.push(path);
            }
            files.insert(name, (metadata.mode(), metadata.uid(), size));
        }
    }
    Ok(files)
}
