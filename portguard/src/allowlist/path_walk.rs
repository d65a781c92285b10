//! Walks along a path as the kernel does, and shows the directories and symbolic links on the way.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::absolute;

/// The most symbolic links that Linux follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A name on the way.
#[derive(Debug)]
pub(crate) struct Step {
    /// The directory that has the name; its path has no symbolic links.
    pub(crate) directory: PathBuf,
    /// The path of the name in that directory.
    pub(crate) path: PathBuf,
    /// What has the name: a directory, a symbolic link, or the file.
    pub(crate) metadata: Metadata,
}

/// The way along a path.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The names in their order.
    pub(crate) steps: Vec<Step>,
    /// The directory in which the way ends.
    pub(crate) end: PathBuf,
    /// The first name that does not exist.
    pub(crate) missing: Option<Missing>,
}

/// A name that does not exist.
#[derive(Debug)]
pub(crate) struct Missing {
    /// The path of the name.
    pub(crate) path: PathBuf,
    /// The rest of the way, behind the name; empty if the name would be the file.
    pub(crate) rest: PathBuf,
}

impl Walk {
    /// Whether it has led to this file.
    pub(crate) fn led_to(&self, file: &Metadata) -> bool {
        let is_it = |it: &Metadata| (it.dev(), it.ino()) == (file.dev(), file.ino());
        self.steps.last().is_some_and(|step| is_it(&step.metadata))
    }
}

/// Walks along a path, until its end, or as far as there is something.
pub(crate) fn walk(path: &Path) -> Walk {
    let mut walk = Walk { steps: Vec::new(), end: PathBuf::from("/"), missing: None };
    let mut names: VecDeque<OsString> = names(&absolute(path)).collect();
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if name == ".." {
            walk.end.pop();
            continue;
        }
        let directory = walk.end.clone();
        let path = directory.join(&name);
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            walk.missing = Some(Missing { path, rest: names.into_iter().collect() });
            return walk;
        };
        let kind = metadata.file_type();
        walk.steps.push(Step { directory, path: path.clone(), metadata });
        if kind.is_dir() {
            walk.end = path;
        } else if kind.is_symlink() && links < MAX_LINKS {
            links += 1;
            let Ok(target) = fs::read_link(&path) else { return walk };
            if target.is_absolute() {
                walk.end = PathBuf::from("/");
            }
            for name in self::names(&target).collect::<Vec<_>>().into_iter().rev() {
                names.push_front(name);
            }
        } else {
            return walk;
        }
    }
    walk
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
