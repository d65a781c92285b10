//! Allowlist files.

use std::fmt::Display;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder with allowlists, which goes away with the value.
#[derive(Debug)]
pub struct Lists {
    folder: TempDir,
}

impl Default for Lists {
    fn default() -> Self {
        Self::new()
    }
}

impl Lists {
    /// An empty folder.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        // Tests that give up their rights read it, too.
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("chmod");
        Self { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file in the folder, whether it is there or not.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a list of these prefixes, in place of what the file held. Returns its path.
    pub fn write(&self, name: &str, prefixes: impl IntoIterator<Item = impl Display>) -> String {
        let entries: Vec<String> = prefixes.into_iter().map(|prefix| format!("  - {prefix}\n")).collect();
        let text = if entries.is_empty() {
            "allow: []\n".to_owned()
        } else {
            format!("allow:\n{}", entries.concat())
        };
        self.write_text(name, &text)
    }

    /// Writes a file that only its owner can write, whatever the umask is. Returns its path.
    pub fn write_text(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("writing a list");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("chmod");
        path.to_str().expect("a temporary folder with a UTF-8 name").to_owned()
    }
}
