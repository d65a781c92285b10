//! `deploy/kubernetes`: what kustomize makes of it, against the schemas of the API.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::tools::Tools;
use crate::vm_test::output;
use crate::workspace;

/// What is deployed.
const DEPLOYMENTS: [&str; 2] = ["base", "overlays/example"];
/// The first version that knows every field, and the newest.
const VERSIONS: [&str; 2] = ["1.30.0", "1.37.0"];

/// Fails unless the API of each version would take each deployment. Returns how many objects were looked at.
pub(super) fn validate(tools: &Tools, folder: &Path) -> Result<u64> {
    let mut objects = 0;
    let rendered = folder.join("rendered.yaml");
    for deployment in DEPLOYMENTS {
        let path = workspace().join("deploy/kubernetes").join(deployment);
        let text = output(tools.command("kubectl").arg("kustomize").arg(path))?;
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
