//! What the virtual machine boots into: the tests, linked statically, in a file system in memory.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use portguard_testkit::built;

use super::debian::{Kernel, find, output};
use super::devices;
use super::verdict::{BEGIN, COMPLETE, END, LOG};
use crate::cargo;

/// Debian's kernels for virtual machines are for this machine only.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The drivers that the tests need, and those that they need themselves.
const MODULES: [Module; 13] = [
    Module::MaybeBuiltIn("virtio"),
    Module::MaybeBuiltIn("virtio_ring"),
    Module::MaybeBuiltIn("virtio_pci_legacy_dev"),
    Module::MaybeBuiltIn("virtio_pci_modern_dev"),
    Module::MaybeBuiltIn("virtio_pci"),
    Module::Needed("failover"),
    Module::Needed("net_failover"),
    Module::Needed("virtio_net"),
    Module::Needed("veth"),
    Module::Needed("tun"),
    Module::Needed("llc"),
    Module::Needed("stp"),
    Module::Needed("bridge"),
];

/// A module of the kernel.
#[derive(Debug, Clone, Copy)]
enum Module {
    /// All of the kernels have it.
    Needed(&'static str),
    /// Some of them have it built in.
    MaybeBuiltIn(&'static str),
}

/// The tests, as programs that need nothing but a kernel.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The command line that they test: they run it by the path that it was built at.
    portguard: PathBuf,
    /// The test programs by name.
    suites: Vec<(String, PathBuf)>,
}

impl Programs {
    /// Builds the command line and these test programs below `target_dir`.
    pub(crate) fn build(suites: &BTreeSet<&str>, target_dir: &Path) -> Result<Self> {
        let mut command = cargo();
        command.args(["test", "--no-run", "--locked", "--package=portguard", "--target", TARGET]);
        command.arg("--target-dir").arg(target_dir).arg("--message-format=json-render-diagnostics");
        command.args(suites.iter().flat_map(|suite| ["--test", suite]));
        command.env("RUSTFLAGS", "-Ctarget-feature=+crt-static").stderr(Stdio::inherit());
        let built = command.output().context("cannot run cargo test")?;
        ensure!(built.status.success(), "the tests do not build");
        let executable = |name| built::executable(&built.stdout, name);
        let suites = suites.iter().map(|suite| Ok(((*suite).to_owned(), executable(suite)?)));
        Ok(Self { portguard: executable("portguard")?, suites: suites.collect::<Result<_>>()? })
    }

    /// Puts them below a root: the command line at the path where its tests look for it, and these into `/bin`.
    pub(crate) fn install(&self, root: &Path) -> Result<()> {
        install(&self.portguard, root, &self.portguard.display().to_string())?;
        self.suites.iter().try_for_each(|(suite, path)| install(path, root, &format!("/bin/{suite}")))
    }

    /// Makes the file system, below `folder`, and packs it; `tests` are the suites with the names of their tests.
    pub(super) fn pack(
        &self,
        kernel: &Kernel,
        tests: &[(&str, Vec<&str>)],
        folder: &Path,
    ) -> Result<PathBuf> {
        let root = folder.join("root");
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        for mount_point in ["proc", "sys", "dev", "run", "tmp", "modules", "devices", "bin"] {
            fs::create_dir_all(root.join(mount_point))?;
        }
        install(&program("busybox")?, &root, "/bin/busybox")?;
        for applet in ["sh", "mount", "cat", "unshare"] {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        for tool in ["ip", "bpftool"].into_iter().chain(devices::TOOLS) {
            install_with_libraries(&program(tool)?, &root)?;
        }
        self.install(&root)?;
        for module in MODULES {
            let (Module::Needed(name) | Module::MaybeBuiltIn(name)) = module;
            match install_module(kernel, name, &root) {
                Err(_) if matches!(module, Module::MaybeBuiltIn(_)) => {}
                result => result?,
            }
        }
        for module in devices::MODULES {
            unpack_with_dependencies(kernel, module, &root.join("devices"))?;
        }
        let init = root.join("init");
        fs::write(&init, script(tests))?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        pack(&root, &folder.join("initramfs"))
    }
}

/// The first process of the machine.
fn script(tests: &[(&str, Vec<&str>)]) -> String {
    let mut script = "\
#!/bin/sh
export PATH=/bin:/sbin:/usr/sbin
export PORTGUARD_TEST_MAY_SET_THE_CLOCK=1
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
$bb mount -t tmpfs tmpfs /run
$bb mount -t bpf bpf /sys/fs/bpf
"
    .to_owned();
    // Which module needs which differs from kernel to kernel: whatever is refused now is taken in a later round.
    script +=
        "for round in 1 2 3 4; do for module in /modules/*; do $bb insmod $module 2>/dev/null; done; done\n";
    let mut devices_are_there = false;
    for (suite, tests) in tests {
        if tests.iter().any(|test| devices::is_about(test)) && !devices_are_there {
            // Behind all other tests: some of these drivers make devices in each namespace.
            script += &load_devices();
            devices_are_there = true;
        }
        // Output of tests that succeed, too, because it may hold facts; one after the other, as there is one CPU.
        script += &format!(
            "$bb echo '{BEGIN} {suite}'\n{suite} --exact --include-ignored --test-threads=1 --show-output {} 2>&1\n\
             $bb echo \"{END} {suite} $?\"\n",
            tests.join(" ")
        );
    }
    script + &format!("$bb echo '{LOG}'\n$bb dmesg\n$bb echo '{COMPLETE}'\n$bb poweroff -f\n")
}

/// Loads the drivers of devices, without the devices that some of them make by themselves.
fn load_devices() -> String {
    "$bb echo 1 > /proc/sys/net/core/fb_tunnels_only_for_init_net
for round in 1 2 3 4 5; do for module in /devices/*; do
case $module in
*/bonding.ko) $bb insmod $module max_bonds=0 ;;
*/dummy.ko) $bb insmod $module numdummies=0 ;;
*/ifb.ko) $bb insmod $module numifbs=0 ;;
*) $bb insmod $module ;;
esac 2>/dev/null
done; done\n"
        .to_owned()
}

/// A program of this machine.
fn program(name: &str) -> Result<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    paths.find(|path| path.is_file()).with_context(|| format!("there is no {name}; try: cargo xtask setup"))
}

fn install(file: &Path, root: &Path, at: &str) -> Result<()> {
    let to = root.join(at.trim_start_matches('/'));
    fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
    fs::copy(file, &to).with_context(|| format!("cannot copy {} to {}", file.display(), to.display()))?;
    Ok(())
}

fn install_with_libraries(file: &Path, root: &Path) -> Result<()> {
    let file_name = file.file_name().context("a program has a name")?;
    install(file, root, &Path::new("/sbin").join(file_name).display().to_string())?;
    let listed = output(Command::new("ldd").arg(file))?;
    libraries(&listed).try_for_each(|library| install(Path::new(library), root, library))
}

/// The files that `ldd` lists.
fn libraries(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

/// Unpacks a module of a kernel into the folder `modules`, which is there.
pub(crate) fn install_module(kernel: &Kernel, name: &str, root: &Path) -> Result<()> {
    let file = unpack_module(kernel, name, &root.join("modules"))?;
    file.map(drop).with_context(|| format!("kernel {} has no module {name}", kernel.version))
}

/// Unpacks a module, and those that it needs, into a folder; none if the kernel has none of this name, or has it built in.
fn unpack_with_dependencies(kernel: &Kernel, name: &str, folder: &Path) -> Result<()> {
    if folder.join(format!("{}.ko", name.replace('-', "_"))).exists() {
        return Ok(());
    }
    let Some(file) = unpack_module(kernel, name, folder)? else { return Ok(()) };
    let depends = output(Command::new("modinfo").args(["-F", "depends"]).arg(&file))?;
    let mut needed = depends.trim().split(',').filter(|name| !name.is_empty());
    needed.try_for_each(|name| unpack_with_dependencies(kernel, name, folder))
}

/// Unpacks a module of a kernel into a folder, if it has one of this name; in names of modules, `-` is `_`.
fn unpack_module(kernel: &Kernel, name: &str, folder: &Path) -> Result<Option<PathBuf>> {
    let name = name.replace('-', "_");
    let is_it = |file: &str| {
        let stem = file.strip_suffix(".xz").unwrap_or(file).strip_suffix(".ko");
        stem.is_some_and(|stem| stem.replace('-', "_") == name)
    };
    let Some(file) = find(&kernel.packages, &is_it) else { return Ok(None) };
    let to = folder.join(format!("{name}.ko"));
    if file.extension().is_some_and(|extension| extension == "ko") {
        fs::copy(&file, &to)?;
        return Ok(Some(to));
    }
    let unpacked = fs::File::create(&to)?;
    let status = Command::new("busybox").args(["xzcat"]).arg(&file).stdout(unpacked).status()?;
    ensure!(status.success(), "cannot unpack {}", file.display());
    Ok(Some(to))
}

/// Packs a folder as the kernel wants it.
pub(crate) fn pack(root: &Path, archive: &Path) -> Result<PathBuf> {
    let mut names = Vec::new();
    list(root, Path::new(""), &mut names)?;
    let mut child = Command::new("busybox")
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(fs::File::create(archive)?)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run busybox")?;
    let mut input = child.stdin.take().context("it was asked for a pipe")?;
    for name in names {
        writeln!(input, "{}", name.display())?;
    }
    drop(input);
    if !child.wait()?.success() {
        bail!("cannot pack {}", root.display());
    }
    Ok(archive.to_owned())
}

/// The names of all that is below a folder, folders first.
fn list(root: &Path, folder: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = folder.join(entry.file_name());
        names.push(name.clone());
        if entry.file_type()?.is_dir() {
            list(root, &name, names)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_path() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found: Vec<_> = libraries(listed).collect();
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libelf.so.1", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn every_suite_is_run_between_its_marks_and_the_end_is_marked() {
        let script = script(&[("program", vec!["one", "two"])]);
        let at = |text: &str| script.find(text).unwrap_or_else(|| panic!("no {text} in {script}"));
        assert!(at(&format!("{BEGIN} program")) < at("--show-output one two"));
        assert!(at("--show-output one two") < at(&format!("{END} program")));
        assert!(at(&format!("{END} program")) < at(COMPLETE));
    }
}
