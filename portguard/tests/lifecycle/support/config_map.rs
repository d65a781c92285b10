//! A directory that holds a ConfigMap, as the kubelet makes and changes it (its `AtomicWriter`).

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A mounted ConfigMap with one key. It goes away with the value.
#[derive(Debug)]
pub(crate) struct ConfigMap {
    folder: TempDir,
    key: String,
    mode: u32,
    /// How often it has been written.
    versions: u32,
}

impl ConfigMap {
    /// One whose files have that mode.
    pub(crate) fn new(key: &str, mode: u32, text: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("chmod");
        let mut map = Self { folder, key: key.to_owned(), mode, versions: 0 };
        map.publish(text);
        symlink(format!("..data/{key}"), map.path()).expect("a link for the users");
        map
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What users of it read.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder().join(&self.key)
    }

    /// Changes it: a directory beside the old one, a link to it, renamed over the old link, and then the old directory goes.
    pub(crate) fn publish(&mut self, text: &str) {
        let root = self.folder.path();
        let old = fs::read_link(root.join("..data")).ok();
        self.versions += 1;
        let new = format!("..2026_11_25_04_00_{:02}.{:09}", self.versions % 60, self.versions);
        fs::create_dir(root.join(&new)).expect("a directory");
        fs::set_permissions(root.join(&new), Permissions::from_mode(0o755)).expect("chmod");
        let file = root.join(&new).join(&self.key);
        fs::write(&file, text).expect("writing");
        fs::set_permissions(&file, Permissions::from_mode(self.mode)).expect("chmod");
        symlink(&new, root.join("..data_tmp")).expect("a link");
        fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renaming");
        if let Some(old) = old {
            fs::remove_dir_all(root.join(old)).expect("removing");
        }
    }
}
