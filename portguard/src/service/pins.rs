//! Events of pins: the pin of a link, a directory on its path, or the BPF file system was removed.
//!
//! After each event, the pins of links are listed again, and a pin that is missing or was replaced causes a
//! notification. So the service's own changes, and its attempts that fail, cause no notification.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::descriptor::register;
use crate::guard::LINK_PIN;
use crate::ops::Console;

/// The wait before a notification: pins are often removed several in a row.
const QUIET: Duration = Duration::from_millis(100);
/// The pause before the next check, for any number of events.
const PAUSE: Duration = Duration::from_millis(10);
/// The number of directories between the root and a pin: the network namespace, and the interface.
const DEPTH: u32 = 2;

/// Notifies after the removal of a pin below a directory of guards, or of its file system. The directory need not exist
/// yet.
pub(super) fn watch(root: &Path, console: &Arc<dyn Console>) -> Arc<Notify> {
    let lost = Arc::new(Notify::new());
    match Watch::new(root) {
        Ok(watch) => {
            tokio::spawn(watch.notify(Arc::clone(&lost), Arc::clone(console)));
        }
        Err(error) => console.warning(format!(
            "cannot watch {}: {error}. If a pin there is removed, the service notices it late.",
            root.display()
        )),
    }
    lost
}

/// A pin or a mount point: its path, and its device and inode, which distinguish it from another one with the same path.
type Seen = (PathBuf, u64, u64);

#[derive(Debug)]
struct Watch {
    root: PathBuf,
    inotify: Inotify,
    /// The same queue as `inotify`.
    events: AsyncFd<OwnedFd>,
    /// The mounts of this mount namespace. After a change, a poll of this file reports urgent data.
    mounts: AsyncFd<OwnedFd>,
    seen: BTreeSet<Seen>,
}

impl Watch {
    fn new(root: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let events = register(inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        let mounts = register(fs::File::open("/proc/self/mountinfo")?.into(), Interest::PRIORITY)?;
        let mut watch = Self { root: root.to_owned(), inotify, events, mounts, seen: BTreeSet::new() };
        watch.seen = watch.scan()?;
        Ok(watch)
    }

    async fn notify(mut self, lost: Arc<Notify>, console: Arc<dyn Console>) {
        loop {
            if let Err(error) = self.changed().await {
                console.warning(format!("cannot watch {} any longer: {error}", self.root.display()));
                return;
            }
            // Events during this check cause another check.
            let removed = self.take_events();
            let lost_any = match self.scan() {
                Ok(seen) => {
                    let before = std::mem::replace(&mut self.seen, seen);
                    removed || !before.is_subset(&self.seen)
                }
                // The service must check its guards after any error.
                Err(_) => true,
            };
            if lost_any {
                sleep(QUIET).await;
                lost.notify_one();
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits for an event.
    async fn changed(&self) -> io::Result<()> {
        tokio::select! {
            ready = self.events.ready(Interest::READABLE) => ready?.clear_ready(),
            ready = self.mounts.ready(Interest::PRIORITY) => ready?.clear_ready(),
        }
        Ok(())
    }

    /// Empties the queue. Returns true if an event reports that a pin was removed, which may be a new pin that no check
    /// has seen, or if the queue had no room for all events.
    fn take_events(&self) -> bool {
        let mut removed = false;
        while let Ok(events) = self.inotify.read_events()
            && !events.is_empty()
        {
            removed |= events.iter().any(|event| {
                event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
                    || event.mask.intersects(AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM)
                        && event.name.as_deref().is_some_and(|name| name == LINK_PIN)
            });
        }
        removed
    }

    /// The existing pins of links, and the mount point of the root. It watches each directory on the path before it
    /// reads that directory.
    fn scan(&self) -> io::Result<BTreeSet<Seen>> {
        let mut seen = BTreeSet::new();
        if let Some(mount_point) = self.root.parent() {
            self.watch_directory(mount_point)?;
            seen.extend(see(mount_point.to_owned()));
        }
        self.look_into(&self.root, DEPTH, &mut seen)?;
        Ok(seen)
    }

    fn look_into(&self, directory: &Path, depth: u32, seen: &mut BTreeSet<Seen>) -> io::Result<()> {
        if !self.watch_directory(directory)? {
            return Ok(());
        }
        if depth == 0 {
            seen.extend(see(directory.join(LINK_PIN)));
            return Ok(());
        }
        // The directory may be gone in the meantime, which is an event.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.look_into(&entry.path(), depth - 1, seen)?;
            }
        }
        Ok(())
    }

    /// Watches a directory, also if it is watched already. Returns false if there is none.
    fn watch_directory(&self, directory: &Path) -> io::Result<bool> {
        let changes = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.add_watch(directory, changes) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn see(path: PathBuf) -> Option<Seen> {
    let metadata = fs::symlink_metadata(&path).ok()?;
    Some((path, metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, remove_dir_all, remove_file, rename, write};

    use tempfile::TempDir;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::ops::{Message, Progress};

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// Long enough for what should not come.
    const SILENCE: Duration = Duration::from_millis(400);

    /// A console that must not get messages.
    #[derive(Debug)]
    struct Unexpected;

    impl Console for Unexpected {
        fn show(&self, message: &Message) {
            panic!("unexpected: {message:?}");
        }

        fn progress(&self) -> Box<dyn Progress> {
            unreachable!("no list is filled")
        }
    }

    /// A directory of guards, as there may be in a BPF file system.
    struct Guards {
        folder: TempDir,
        lost: Arc<Notify>,
    }

    impl Guards {
        /// Starts a watch before the directory of guards exists.
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            let console: Arc<dyn Console> = Arc::new(Unexpected);
            let lost = watch(&folder.path().join("portguard"), &console);
            Self { folder, lost }
        }

        fn root(&self) -> PathBuf {
            self.folder.path().join("portguard")
        }

        fn interface(&self) -> PathBuf {
            self.root().join("4026531840/2")
        }

        /// Pins a link, and gives the watch the time to see it.
        async fn pin(&self) {
            create_dir_all(self.interface()).unwrap();
            write(self.interface().join(LINK_PIN), "").unwrap();
            self.assert_quiet("a pin that came").await;
        }

        async fn assert_told(&self, what: &str) {
            timeout(PATIENCE, self.lost.notified()).await.unwrap_or_else(|_| panic!("not told of {what}"));
        }

        async fn assert_quiet(&self, what: &str) {
            assert!(timeout(SILENCE, self.lost.notified()).await.is_err(), "told of {what}");
        }
    }

    #[tokio::test]
    async fn whatever_takes_a_pin_away_is_told_of() {
        let guards = Guards::new();
        guards.pin().await;
        remove_file(guards.interface().join(LINK_PIN)).unwrap();
        guards.assert_told("its removal").await;

        guards.pin().await;
        rename(guards.interface().join(LINK_PIN), guards.interface().join("other")).unwrap();
        guards.assert_told("its new name").await;

        for directory in [guards.interface(), guards.interface().join(".."), guards.root()] {
            guards.pin().await;
            let directory = directory.canonicalize().unwrap();
            rename(&directory, guards.folder.path().join("elsewhere")).unwrap();
            guards.assert_told(&format!("{} that has another name", directory.display())).await;
            remove_dir_all(guards.folder.path().join("elsewhere")).unwrap();
            // The old directory was still watched. Its removal may cause a notification, but need not.
            let _ = timeout(SILENCE, guards.lost.notified()).await;
        }

        guards.pin().await;
        remove_dir_all(guards.root()).unwrap();
        guards.assert_told("the removal of everything").await;
        guards.assert_quiet("nothing").await;

        // One that is replaced is another one.
        guards.pin().await;
        let other = guards.root().join("other");
        write(&other, "").unwrap();
        rename(other, guards.interface().join(LINK_PIN)).unwrap();
        guards.assert_told("another pin in its place").await;
    }

    #[tokio::test]
    async fn what_the_service_does_itself_is_not_told_of() {
        let guards = Guards::new();
        guards.pin().await;
        // A reload, and an attempt to attach that fails.
        write(guards.interface().join("list2-v4"), "").unwrap();
        remove_file(guards.interface().join("list2-v4")).unwrap();
        create_dir_all(guards.root().join("4026531840/3/abi4-1")).unwrap();
        remove_dir_all(guards.root().join("4026531840/3")).unwrap();
        guards.assert_quiet("other changes").await;
    }

    #[tokio::test]
    async fn many_changes_are_few_notifications_and_none_is_lost() {
        let guards = Guards::new();
        guards.pin().await;
        let begin = Instant::now();
        let mut notifications = 0_u32;
        while begin.elapsed() < QUIET * 10 {
            remove_file(guards.interface().join(LINK_PIN)).unwrap();
            write(guards.interface().join(LINK_PIN), "").unwrap();
            if timeout(Duration::from_millis(1), guards.lost.notified()).await.is_ok() {
                notifications += 1;
            }
        }
        assert!(notifications <= 11, "{notifications}");
        let _ = timeout(SILENCE, guards.lost.notified()).await;
        remove_file(guards.interface().join(LINK_PIN)).unwrap();
        guards.assert_told("the last removal").await;
    }

    #[tokio::test]
    async fn a_pin_that_is_removed_before_any_look_is_told_of() {
        let guards = Guards::new();
        create_dir_all(guards.interface()).unwrap();
        guards.assert_quiet("a directory").await;
        write(guards.interface().join(LINK_PIN), "").unwrap();
        remove_file(guards.interface().join(LINK_PIN)).unwrap();
        guards.assert_told("its removal").await;
    }
}
