//! `deploy/kubernetes`: what kustomize makes of it, against the schemas of the API.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::tools::Tools;
use crate::vm_test::output;
use crate::{documented, workspace};

/// What the deployment that README.md tells is made from.
const BASE: &str = "deploy/kubernetes/base";
/// The command that README.md tells. Here is no cluster to apply anything to, so what it would apply is looked at.
const APPLY: &str = "kubectl apply -k ";
/// The first version that knows every field, and the newest.
const VERSIONS: [&str; 2] = ["1.30.0", "1.37.0"];

/// Fails unless the API of each version would take each deployment. Returns how many objects were looked at.
pub(super) fn validate(tools: &Tools, folder: &Path) -> Result<u64> {
    let mut objects = 0;
    let rendered = folder.join("rendered.yaml");
    let told = documented::command(APPLY)?;
    for deployment in [BASE, told.trim_start_matches(APPLY)] {
        let mut command = tools.command("kubectl");
        let text = output(command.args(["kustomize", deployment]).current_dir(workspace()))?;
        ensure!(text.contains("\nkind: DaemonSet\n"), "{deployment} has no DaemonSet");
        fs::write(&rendered, &text)?;
        for version in VERSIONS {
            objects += passed(tools, version, &rendered).with_context(|| format!("{deployment} is wrong"))?;
        }
        // Nor would it let pass what is wrong.
        fs::write(&rendered, text.replace("hostNetwork:", "hostsNetwork:"))?;
        ensure!(passed(tools, VERSIONS[0], &rendered).is_err(), "the schemas are not looked at");
    }
    Ok(objects)
}

/// How many objects of a file are as a version of the API wants them.
fn passed(tools: &Tools, version: &str, file: &Path) -> Result<u64> {
    let mut command = tools.command("kubernetes-validate");
    let text = output(command.args(["--strict", "--kubernetes-version", version]).arg(file))?;
    let passed = text.lines().filter(|line| line.contains(" passed for resource ")).count();
    ensure!(passed == 3, "a namespace, a ConfigMap and a DaemonSet are expected: {text}");
    Ok(passed as u64)
}
