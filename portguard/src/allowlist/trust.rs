//! Who else can write a list: whoever can, can open port 111. The rules are those of `StrictModes` in sshd, and of a
//! shared directory like /tmp:
//!
//! - The file, and each directory on its path, belong to root or to the user that runs portguard. So does a symbolic link
//!   in a shared directory.
//! - Nobody else has the right to write to the file. (With a POSIX ACL, the bits of the group are the most that any entry
//!   of it grants.)
//! - Nobody else has the right to write to a directory, unless it is sticky: only the owner of a name can replace it then.
//!   The directory of a ConfigMap has mode 0777, and Kubernetes mounts it read-only: in a read-only mount, these bits do
//!   not count.
//! - A user that this user namespace has no number for (65534, `overflowuid`) is another user: it may be any.
//!
//! The file is the one that was opened. A directory is found by its path; only those who may replace it anyway can change
//! that, because the directories before it belong to them.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;

use super::path_walk::{Step, Walk};
use crate::printable::{printable, quoted};

/// A problem: the message, and the advice for the user.
pub(super) type Problem = (String, String);

/// The problem with the file of a list, which is called `shown`.
pub(super) fn of_file(shown: &str, file: &Metadata) -> Option<Problem> {
    if !is_trusted(file.uid()) {
        return Some((
            format!("{shown} belongs to another user (uid {})", file.uid()),
            format!("a user who can write the list can open port 111: run `chown root {}`", quoted(shown)),
        ));
    }
    may_others_write(file).then(|| {
        (
            format!("{shown} is writable by users other than its owner (mode {:04o})", mode(file)),
            format!("a user who can write the list can open port 111: run `chmod go-w {}`", quoted(shown)),
        )
    })
}

/// The problems with the directories and symbolic links on the way to it.
pub(super) fn of_way(shown: &str, way: &Walk) -> Vec<Problem> {
    let root = fs::symlink_metadata("/").ok();
    let root = root.and_then(|root| of_directory(shown, Path::new("/"), &root));
    root.into_iter().chain(way.steps.iter().filter_map(|step| of_step(shown, step))).collect()
}

fn of_step(shown: &str, Step { directory, path, metadata }: &Step) -> Option<Problem> {
    if metadata.is_dir() {
        return of_directory(shown, path, metadata);
    }
    let is_replaceable = metadata.is_symlink() && !is_trusted(metadata.uid()) && is_shared(directory);
    is_replaceable
        .then(|| of_other(&format!("the symbolic link {}", printable_path(path)), metadata.uid(), shown))
}

fn of_directory(shown: &str, path: &Path, directory: &Metadata) -> Option<Problem> {
    let name = format!("the directory {}", printable_path(path));
    if !is_trusted(directory.uid()) {
        return Some(of_other(&name, directory.uid(), shown));
    }
    (may_others_write(directory) && !is_sticky(directory) && !is_read_only(path)).then(|| {
        (
            format!(
                "users other than its owner can write to {name} (mode {:04o}), and replace {shown}",
                mode(directory)
            ),
            format!(
                "a user who can replace the list can open port 111: run `chmod go-w {}`",
                quoted(&printable_path(path))
            ),
        )
    })
}

/// A directory or a link of another user.
fn of_other(name: &str, uid: u32, shown: &str) -> Problem {
    (
        format!("{name} belongs to another user (uid {uid}), who can replace {shown}"),
        "a user who can replace the list can open port 111: keep it in a directory of root, like /etc/portguard"
            .to_owned(),
    )
}

fn printable_path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

fn mode(metadata: &Metadata) -> u32 {
    Mode::from_bits_truncate(metadata.mode()).bits()
}

fn may_others_write(metadata: &Metadata) -> bool {
    Mode::from_bits_truncate(metadata.mode()).intersects(Mode::S_IWGRP | Mode::S_IWOTH)
}

fn is_sticky(metadata: &Metadata) -> bool {
    Mode::from_bits_truncate(metadata.mode()).contains(Mode::S_ISVTX)
}

/// Whether others may make names in a directory.
fn is_shared(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|it| may_others_write(&it)) && !is_read_only(directory)
}

fn is_read_only(directory: &Path) -> bool {
    statvfs(directory).is_ok_and(|it| it.flags().contains(FsFlags::ST_RDONLY))
}
