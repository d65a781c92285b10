//! What is shipped fits together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::workspace;

/// Where the package has its documents.
const DOCUMENTS: &str = "usr/share/doc/portguard/";

/// The documents of the package, and the files that they are copies of.
fn documents() -> Vec<(PathBuf, PathBuf)> {
    let manifest = fs::read_to_string(workspace().join("portguard/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let mut documents = Vec::new();
    for asset in assets {
        let [from, to] = [0, 1].map(|column| asset[column].as_str().unwrap());
        let Some(to) = to.strip_prefix(DOCUMENTS) else { continue };
        let pattern = workspace().join("portguard").join(from);
        let (folder, name) = (pattern.parent().unwrap(), pattern.file_name().unwrap().to_str().unwrap());
        let (start, end) = name.split_once('*').unwrap_or((name, ""));
        let before = documents.len();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if path.is_file() && file.starts_with(start) && file.ends_with(end) {
                documents.push((Path::new(to).join(file), path));
            }
        }
        assert!(documents.len() > before, "{from} matches nothing");
    }
    documents
}

/// The targets of the links of a Markdown text that are files.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let files = targets.map(|target| target.split_once('#').map_or(target, |(file, _)| file));
    files.filter(|file| !file.is_empty() && !file.contains("://"))
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, component| {
        match component {
            Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
        path
    })
}

#[test]
fn the_links_of_shipped_documents_lead_to_what_is_shipped() {
    let documents = documents();
    let shipped: BTreeSet<&Path> = documents.iter().map(|(path, _)| &**path).collect();
    let mut tried = 0;
    for (path, source) in documents.iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "md")) {
        for link in links(&fs::read_to_string(source).unwrap()) {
            let target = normal(&path.parent().unwrap().join(link));
            let is_there = shipped.contains(&*target) || shipped.iter().any(|file| file.starts_with(&target));
            assert!(is_there, "{}: {link} is not in the package", path.display());
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} links were found");
}

/// The archive has whole folders.
#[test]
fn what_the_package_has_of_the_deployment_is_all_of_it() {
    let mut folders = vec![workspace().join("deploy")];
    let sources: BTreeSet<PathBuf> = documents().into_iter().map(|(_, source)| normal(&source)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert!(sources.contains(&normal(&path)), "{} is not in the package", path.display());
            }
        }
    }
}
