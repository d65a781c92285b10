//! What is in the program, as a bill of materials that machines read (CycloneDX): the crates of the program and those of
//! the kernel program inside, each with its version, licence and checksum. What only builds and tests need is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::release::Release;
use crate::{metadata, workspace};

/// What goes into the program: itself, and what its build script compiles and embeds.
const ROOTS: [&str; 2] = ["portguard", "portguard-ebpf"];

/// What `cargo metadata` tells, as far as we look.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    /// Where it comes from; the crates of this workspace come from nowhere.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

/// A package, and what it depends on.
#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// Nothing for an ordinary dependency.
    kind: Option<String>,
}

/// `Cargo.lock`, as far as we look.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Writes it into `folder`.
pub(super) fn write(release: &Release, folder: &Path) -> Result<PathBuf> {
    let metadata: Metadata = metadata(&release.architecture.target())?;
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let lock: Lock = toml::from_str(&lock).context("cannot read Cargo.lock")?;
    let path = folder.join(format!("{}.cdx.json", release.name()));
    let text = serde_json::to_string_pretty(&document(&metadata, &lock)?)?;
    fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The document; without a time or a random number, so that it is the same for the same sources.
fn document(metadata: &Metadata, lock: &Lock) -> Result<Value> {
    let packages: BTreeMap<&str, &Package> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let graph: BTreeMap<&str, BTreeSet<&str>> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), linked(node))).collect();
    let root = |name: &str| {
        let found = metadata.packages.iter().find(|package| package.name == name && package.source.is_none());
        found.map(|package| package.id.as_str()).with_context(|| format!("there is no {name}"))
    };
    let mut waiting: Vec<&str> = ROOTS.iter().map(|name| root(name)).collect::<Result<_>>()?;
    let main = waiting[0];
    let mut inside = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if inside.insert(id) {
            waiting.extend(&graph[id]);
        }
    }
    let checksums: BTreeMap<(&str, &str), &str> = lock
        .package
        .iter()
        .filter_map(|locked| Some(((&*locked.name, &*locked.version), locked.checksum.as_deref()?)))
        .collect();
    let component = |id: &str| {
        let package = packages[id];
        let checksum = checksums.get(&(&*package.name, &*package.version)).copied();
        describe(package, checksum)
    };
    let dependencies = inside.iter().map(|id| {
        let mut on: Vec<String> = graph[id].iter().map(|id| reference(packages[id])).collect();
        if *id == main {
            on.extend(ROOTS[1..].iter().filter_map(|name| Some(reference(packages[root(name).ok()?]))));
        }
        json!({ "ref": reference(packages[id]), "dependsOn": on })
    });
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(main) },
        "components": inside.iter().filter(|id| **id != main).map(|id| component(id)).collect::<Vec<_>>(),
        "dependencies": dependencies.collect::<Vec<_>>(),
    }))
}

/// What a package is linked with.
fn linked(node: &Node) -> BTreeSet<&str> {
    let ordinary = |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
    node.deps.iter().filter(ordinary).map(|dependency| dependency.pkg.as_str()).collect()
}

/// The name of a package all over the world (purl).
fn reference(package: &Package) -> String {
    let (name, version) = (&package.name, &package.version);
    match package.source {
        Some(_) => format!("pkg:cargo/{name}@{version}"),
        None => format!("pkg:generic/{name}@{version}"),
    }
}

fn describe(package: &Package, checksum: Option<&str>) -> Value {
    let reference = reference(package);
    let mut component = json!({
        "type": if ROOTS.contains(&&*package.name) { "application" } else { "library" },
        "bom-ref": reference,
        "purl": reference,
        "name": package.name,
        "version": package.version,
    });
    if let Some(license) = &package.license {
        // Old crates separate alternatives by a slash.
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_in_it_and_what_tests_need_is_not() {
        let package = |name: &str, source: Option<&str>| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": source });
        let node = |id: &str, ordinary: &[&str], others: &[&str]| {
            let on = |kind: Value| move |id: &&str| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
            let deps = ordinary.iter().map(on(Value::Null)).chain(others.iter().map(on(json!("dev"))));
            json!({ "id": id, "deps": deps.collect::<Vec<_>>() })
        };
        let metadata: Metadata = serde_json::from_value(json!({
            "packages": [
                package("portguard", None), package("portguard-ebpf", None),
                package("clap", Some("registry")), package("insta", Some("registry")), package("aya-ebpf", Some("registry")),
            ],
            "resolve": { "nodes": [
                node("portguard", &["clap"], &["insta"]), node("portguard-ebpf", &["aya-ebpf"], &[]),
                node("clap", &[], &[]), node("insta", &[], &[]), node("aya-ebpf", &[], &[]),
            ] },
        }))
        .expect("metadata");
        let lock: Lock =
            toml::from_str("[[package]]\nname='clap'\nversion='1.0.0'\nchecksum='00ff'\n").expect("a lock");
        let document = document(&metadata, &lock).expect("a document");
        assert_eq!(document["metadata"]["component"]["name"], "portguard");
        let components = document["components"].as_array().expect("components");
        let names: Vec<_> = components.iter().map(|component| component["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["aya-ebpf", "clap", "portguard-ebpf"]);
        assert_eq!(components[1]["purl"], "pkg:cargo/clap@1.0.0");
        assert_eq!(components[1]["hashes"][0]["content"], "00ff");
        assert_eq!(components[1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(document["dependencies"][3]["ref"], "pkg:generic/portguard-ebpf@1.0.0");
        let on = document["dependencies"][2]["dependsOn"].as_array().expect("dependencies of portguard");
        assert_eq!(on, &[json!("pkg:cargo/clap@1.0.0"), json!("pkg:generic/portguard-ebpf@1.0.0")]);
    }
}
