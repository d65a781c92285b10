//! The image for containers: made by the commands that `deploy/kubernetes/Dockerfile` tells, as they are written there.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::vm_test::output;
use crate::workspace;

/// Where the commands are, below the root of the workspace.
const DOCKERFILE: &str = "deploy/kubernetes/Dockerfile";
/// A docker that needs no daemon, and takes the same arguments.
const BUILDER: &str = "buildah";
/// The command that makes what the others need; it was run before.
const DIST: &str = "cargo xtask dist";

/// Makes the image, and runs the program that is in it.
pub(super) fn check(folder: &Path) -> Result<()> {
    eprintln!("dist-test: {DOCKERFILE}");
    let text = std::fs::read_to_string(workspace().join(DOCKERFILE))?;
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let [DIST, unpack, build] = &*commands else {
        anyhow::bail!("{DOCKERFILE} tells other commands than expected: {commands:?}");
    };
    let arguments = build.strip_prefix("docker build ").context("the last command builds the image")?;
    let tag = arguments.split_whitespace().skip_while(|word| *word != "--tag").nth(1).context("no --tag")?;
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(workspace());
        command.env("BUILDAH_ISOLATION", "chroot").env("STORAGE_DRIVER", "vfs");
        // Nothing is left on the machine.
        let storage = folder.join("containers");
        command.env("CONTAINERS_STORAGE_CONF", storage.join("storage.conf"));
        (command, storage)
    };
    let (mut prepare, storage) = shell("mkdir -p \"$0\" \"$1\"");
    output(prepare.arg(storage.join("run")).arg(storage.join("graph")))?;
    let configuration = format!(
        "[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/graph\"\n",
        storage.display()
    );
    std::fs::write(storage.join("storage.conf"), configuration)?;
    output(&mut shell(unpack).0)?;
    output(&mut shell(&format!("{BUILDER} build {arguments}")).0)?;
    let script = format!(
        "container=$({BUILDER} from {tag}); root=$({BUILDER} mount $container); chroot \"$root\" /portguard --version; \
         {BUILDER} umount $container > /dev/null; {BUILDER} rm $container > /dev/null; {BUILDER} rmi {tag} > /dev/null"
    );
    let version = output(&mut shell(&script).0)?;
    ensure!(version.starts_with("portguard "), "the image has no portguard: {version}");
    Ok(())
}
