//! Changes of a file, for all ways to replace it: it is written in place, another file is renamed to it, or one of the
//! symbolic links on its path is replaced, as Kubernetes does with a ConfigMap.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::allowlist::path_walk::{Walk, walk};
use crate::allowlist::{FileStamp, absolute};
use crate::ops::Console;

/// The time without events after which the file is checked: to replace a file takes several operations in a row.
const QUIET: Duration = Duration::from_millis(100);
/// The time since the first event after which the file is checked in any case.
const PATIENCE: Duration = Duration::from_secs(1);
/// The interval at which the file is checked without an event. Some changes cause none: a directory far up the path is
/// renamed, or a file on a file server is written by another host.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Notifies after each possible change of the file at a path.
pub(super) fn watch(path: &Path, console: &Arc<dyn Console>) -> Arc<Notify> {
    let changed = Arc::new(Notify::new());
    let told = Arc::clone(&changed);
    let mut watch = Watch::new(path, Arc::clone(console));
    tokio::spawn(async move {
        let mut poll = interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = watch.events.notified() => settle(&watch.events).await,
                _ = poll.tick() => {}
            }
            if watch.has_moved() {
                watch.begin();
                told.notify_one();
            }
        }
    });
    changed
}

/// Waits until no more events come.
async fn settle(events: &Notify) {
    let latest = Instant::now() + PATIENCE;
    loop {
        tokio::select! {
            () = events.notified() => {}
            () = sleep(QUIET) => return,
            () = sleep_until(latest) => return,
        }
    }
}

/// The state of a file and of its path, without the content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Trace {
    /// The directories on the path of the file in which a name may be replaced, each with its device and inode.
    places: BTreeSet<(PathBuf, u64, u64)>,
    file: Option<FileStamp>,
}

impl Trace {
    fn of(path: &Path) -> Self {
        let inode = |place: PathBuf| {
            let metadata = fs::metadata(&place).ok()?;
            Some((place, metadata.dev(), metadata.ino()))
        };
        let file = FileStamp::at(path);
        Self { places: places(path).into_iter().filter_map(inode).collect(), file }
    }
}

/// The directories that have the symbolic links on a path, and the directory of the file. If the path does not lead to a
/// file, the last one is the last directory that exists.
fn places(path: &Path) -> BTreeSet<PathBuf> {
    let Walk { steps, end, .. } = walk(path);
    let links = steps.into_iter().filter(|step| step.metadata.is_symlink()).map(|step| step.directory);
    links.chain([end]).collect()
}

/// A watch on the places of a path.
#[derive(Debug)]
struct Watch {
    path: PathBuf,
    events: Arc<Notify>,
    trace: Trace,
    watcher: Option<RecommendedWatcher>,
    console: Arc<dyn Console>,
}

impl Watch {
    fn new(path: &Path, console: Arc<dyn Console>) -> Self {
        let mut watch = Self {
            path: absolute(path),
            events: Arc::default(),
            trace: Trace::default(),
            watcher: None,
            console,
        };
        watch.begin();
        watch
    }

    /// Whether the path leads to another place, or the file has changed, since the watch began.
    fn has_moved(&self) -> bool {
        Trace::of(&self.path) != self.trace
    }

    /// Watches the directories on the current path.
    fn begin(&mut self) {
        let before = std::mem::take(&mut self.trace);
        loop {
            let trace = Trace::of(&self.path);
            if self.watcher.is_none() || trace.places != before.places {
                self.watcher = self
                    .watcher(&trace)
                    .inspect_err(|error| {
                        self.console.warning(format!(
                            "cannot watch {}: {error}. Changes are noticed late; SIGHUP reloads at once.",
                            self.path.display()
                        ));
                    })
                    .ok();
            }
            // The path may have changed again before the watch began.
            if Trace::of(&self.path).places == trace.places {
                self.trace = trace;
                return;
            }
        }
    }

    fn watcher(&self, trace: &Trace) -> notify::Result<RecommendedWatcher> {
        let events = Arc::clone(&self.events);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| matters(&event)) {
                events.notify_one();
            }
        })?;
        for (place, ..) in &trace.places {
            match watcher.watch(place, RecursiveMode::NonRecursive) {
                // The directory is gone again, so the path has changed.
                Err(error) if is_gone(&error) => {}
                result => result?,
            }
        }
        Ok(watcher)
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Whether an event can be the last one of a change. A file that is being written is checked when it is closed.
fn matters(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(ModifyKind::Data(_)) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_turn_of_a_path_is_a_place_to_watch() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (list, there) = (root.join("cm/allowlist.yaml"), root.join("elsewhere"));
        assert_eq!(places(&list), BTreeSet::from([root.clone()]), "the last one that is there");
        fs::create_dir_all(root.join("cm/..1")).unwrap();
        fs::create_dir_all(&there).unwrap();
        assert_eq!(places(&list), BTreeSet::from([root.join("cm")]));
        // As in a ConfigMap.
        symlink("..1", root.join("cm/..data")).unwrap();
        symlink("..data/allowlist.yaml", &list).unwrap();
        fs::write(root.join("cm/..1/allowlist.yaml"), "").unwrap();
        assert_eq!(places(&list), BTreeSet::from([root.join("cm"), root.join("cm/..1")]));
        // A link that leads out, and back up.
        fs::remove_file(&list).unwrap();
        symlink(there.join("../elsewhere/list.yaml"), &list).unwrap();
        assert_eq!(places(&list), BTreeSet::from([root.join("cm"), there.clone()]));
        symlink("list.yaml", there.join("list.yaml")).unwrap();
        assert_eq!(
            places(&list),
            BTreeSet::from([root.join("cm"), there]),
            "round and round, and no further"
        );
    }
}
