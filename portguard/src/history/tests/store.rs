use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use portguard_testkit::net::MountNamespace;
use tempfile::TempDir;

use super::{DAY, NOON, SECOND, line, line_at, text};
use crate::history::History;
use crate::history::store::{Limits, Store};

/// A store in a directory of its own, which does not exist yet.
fn store(limits: Limits) -> (TempDir, Store) {
    let parent = tempfile::tempdir().unwrap();
    let store = Store::new(parent.path().join("history"), limits);
    (parent, store)
}

fn today(parent: &TempDir) -> std::path::PathBuf {
    parent.path().join("history/2026-11-26.jsonl")
}

/// The names in the directory of a store, in order.
fn names(parent: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(parent.path().join("history")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn what_is_kept_comes_back_and_only_root_can_look() {
    let (parent, store) = store(Limits::default());
    assert_eq!(store.read(None).unwrap(), History::default(), "no history is no error");
    store.append(&line(1, 10)).unwrap();
    store.append(&line(2, 5)).unwrap();
    store.append(&line_at(1, 30, NOON + DAY)).unwrap();
    let lines = vec![line_at(1, 30, NOON + DAY), line(2, 5)];
    assert_eq!(store.read(None).unwrap(), History { lines, skipped: 0 });
    assert_eq!(names(&parent), ["2026-11-26.jsonl", "2026-11-27.jsonl"]);
    assert_eq!(fs::read_to_string(today(&parent)).unwrap(), text(&line(1, 10)) + &text(&line(2, 5)));
    assert_eq!((mode(&parent.path().join("history")), mode(&today(&parent))), (0o700, 0o600));
}

#[test]
fn the_file_is_that_of_the_day_in_utc() {
    let (parent, store) = store(Limits::default());
    let midnight = NOON + DAY / 2;
    store.append(&line_at(1, 1, midnight - 1)).unwrap();
    assert_eq!(names(&parent), ["2026-11-26.jsonl"]);
    store.append(&line_at(1, 2, midnight)).unwrap();
    assert_eq!(names(&parent), ["2026-11-26.jsonl", "2026-11-27.jsonl"]);
}

#[test]
fn a_clock_that_was_set_back_does_not_bring_back_older_counts() {
    let (_parent, store) = store(Limits::default());
    store.append(&line_at(1, 10, NOON)).unwrap();
    store.append(&line_at(1, 30, NOON - 2 * DAY)).unwrap();
    assert_eq!(store.read(None).unwrap().lines, [line_at(1, 30, NOON - 2 * DAY)]);
}

#[test]
fn a_torn_line_at_the_end_stays_apart() {
    let (parent, store) = store(Limits::default());
    store.append(&line(1, 10)).unwrap();
    let torn = &text(&line(2, 20))[..100];
    OpenOptions::new().append(true).open(today(&parent)).unwrap().write_all(torn.as_bytes()).unwrap();
    store.append(&line(3, 30)).unwrap();
    assert_eq!(store.read(None).unwrap(), History { lines: vec![line(1, 10), line(3, 30)], skipped: 1 });
    let whole = text(&line(1, 10)) + torn + "\n" + &text(&line(3, 30));
    assert_eq!(fs::read_to_string(today(&parent)).unwrap(), whole);
}

#[test]
fn a_full_disk_leaves_the_file_as_it_was() {
    const PAGE: usize = 4096;
    MountNamespace::new()
        .unwrap()
        .run(|| {
            let parent = tempfile::tempdir()?;
            let options = Some("size=64k,mode=0700");
            mount(Some("tmpfs"), parent.path(), Some("tmpfs"), MsFlags::empty(), options)?;
            let store = Store::new(parent.path().join("history"), Limits::default());
            store.append(&line(1, 10)).unwrap();
            // The file fills its page, so that a line needs new ones.
            let room = PAGE - fs::read(today(&parent))?.len();
            let padding = " ".repeat(room - 1) + "\n";
            OpenOptions::new().append(true).open(today(&parent))?.write_all(padding.as_bytes())?;
            let before = fs::read(today(&parent))?;
            let mut long = line(2, 20);
            long.sources = vec![long.sources[0].clone(); 40];
            assert!(text(&long).len() > PAGE);

            let ballast = parent.path().join("ballast");
            // Without a free page the write fails; with one it is short.
            for free_pages in [0, 1] {
                // Stops when the disk is full.
                let mut file = File::create(&ballast)?;
                while file.write(&[1; PAGE]).is_ok() {}
                file.set_len(file.metadata()?.len() - (free_pages * PAGE) as u64)?;

                let error = store.append(&long).unwrap_err();
                let why = error.why().unwrap_or_default();
                assert!(why.contains("No space left on device"), "{free_pages} free pages: {error}");
                assert!(error.what().contains("the counters of eth0 to "), "{error}");
                assert!(fs::read(today(&parent))? == before, "{free_pages} free pages: the file has changed");
            }
            fs::remove_file(&ballast)?;
            store.append(&line(3, 30)).unwrap();
            let lines = vec![line(1, 10), line(3, 30)];
            assert_eq!(store.read(None).unwrap(), History { lines, skipped: 1 }, "the padding is skipped");
            nix::mount::umount(parent.path())?;
            Ok(())
        })
        .unwrap();
}

/// Makes the directory of a store, and files of some size in it.
fn make(parent: &TempDir, names: &[&str], bytes: u64) {
    fs::create_dir_all(parent.path().join("history")).unwrap();
    fs::set_permissions(parent.path().join("history"), Permissions::from_mode(0o700)).unwrap();
    for name in names {
        File::create(parent.path().join("history").join(name)).unwrap().set_len(bytes).unwrap();
    }
}

#[test]
fn files_older_than_thirty_days_go_by_their_names() {
    let (parent, store) = store(Limits::default());
    let old = ["2026-10-26.jsonl", "2025-12-31.jsonl", "1970-01-01.jsonl"];
    let kept = ["2026-10-27.jsonl", "2026-11-25.jsonl", "2026-11-27.jsonl", "2099-01-01.jsonl"];
    let foreign = ["2026-10-26.jsonl.gz", "2026-1-2.jsonl", "20201026.jsonl", "2026-02-30.jsonl", "notes"];
    make(&parent, &[&old[..], &kept, &foreign].concat(), 1);
    let link = parent.path().join("history/2020-01-01.jsonl");
    symlink("/etc/hostname", &link).unwrap();
    store.append(&line(1, 10)).unwrap();
    let mut expected = [&kept[..], &foreign, &["2020-01-01.jsonl", "2026-11-26.jsonl"]].concat();
    expected.sort_unstable();
    assert_eq!(names(&parent), expected);
}

#[test]
fn the_oldest_files_go_until_the_rest_is_within_the_limit() {
    // The store reckons with one byte more, in case that the last line has no newline.
    let length = text(&line(1, 10)).len() as u64 + 1;
    let (parent, store) = store(Limits { bytes: 4 * length, ..Limits::default() });
    make(&parent, &["2026-11-22.jsonl", "2026-11-23.jsonl", "2026-11-24.jsonl", "2026-12-24.jsonl"], length);
    store.append(&line(1, 10)).unwrap();
    assert_eq!(
        names(&parent),
        ["2026-11-23.jsonl", "2026-11-24.jsonl", "2026-11-26.jsonl", "2026-12-24.jsonl"],
        "the oldest, not the one of the future nor the one of today"
    );
    for set in 2..=3 {
        store.append(&line(set, 10)).unwrap();
        let total: u64 = names(&parent)
            .iter()
            .map(|name| fs::metadata(parent.path().join("history").join(name)).unwrap().len())
            .sum();
        assert!(total <= 4 * length, "{total}");
    }
    assert_eq!(names(&parent), ["2026-11-26.jsonl", "2026-12-24.jsonl"]);
}

#[test]
fn a_day_that_is_full_takes_no_more_and_stays() {
    let length = text(&line(1, 10)).len() as u64;
    let (parent, store) = store(Limits { bytes: 2 * length + 10, ..Limits::default() });
    store.append(&line_at(1, 10, NOON - DAY)).unwrap();
    store.append(&line(2, 10)).unwrap();
    store.append(&line(3, 10)).unwrap();
    assert_eq!(names(&parent), ["2026-11-26.jsonl"]);
    let error = store.append(&line(4, 10)).unwrap_err().to_string();
    assert!(error.contains("2026-11-26.jsonl: the file of today has reached the limit of"), "{error}");
    assert_eq!(store.read(None).unwrap().lines, [line(2, 10), line(3, 10)]);
    // The next day has room, and pushes the full one out.
    store.append(&line_at(4, 10, NOON + DAY)).unwrap();
    assert_eq!(names(&parent), ["2026-11-27.jsonl"]);
}

#[test]
fn writers_at_once_lose_and_mix_nothing() {
    let (parent, store) = store(Limits { wait: Duration::from_secs(60), ..Limits::default() });
    let (writers, lines) = (6, 30);
    thread::scope(|scope| {
        for writer in 0..writers {
            let store = &store;
            scope.spawn(move || {
                for number in 0..lines {
                    store.append(&line(writer * lines + number, 10)).unwrap();
                }
            });
        }
    });
    let history = store.read(None).unwrap();
    assert_eq!(history.skipped, 0);
    let expected: Vec<_> = (0..writers * lines).map(|set| line(set, 10)).collect();
    assert_eq!(history.lines, expected);
    assert_eq!(fs::read_to_string(today(&parent)).unwrap().lines().count() as u64, writers * lines);
}

#[test]
fn a_writer_waits_for_another_one_but_not_for_long() {
    assert_eq!(Limits::default().wait, Duration::from_secs(1));
    // That a shared lock holds a writer off shows that its own is exclusive.
    for other in [FlockArg::LockExclusive, FlockArg::LockShared] {
        let (parent, store) = store(Limits { wait: Duration::from_millis(200), ..Limits::default() });
        store.append(&line(1, 10)).unwrap();
        let directory = File::open(parent.path().join("history")).unwrap();
        let lock = Flock::lock(directory, other).unwrap();
        let start = Instant::now();
        let error = store.append(&line(2, 10)).unwrap_err().to_string();
        assert!(start.elapsed() >= Duration::from_millis(200));
        assert!(error.contains("another process has been writing for 200 ms"), "{error}");
        assert_eq!(store.read(None).unwrap().lines, [line(1, 10)], "readers do not wait");

        let patient = Store::new(parent.path().join("history"), Limits::default());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| patient.append(&line(2, 10)));
            thread::sleep(Duration::from_millis(50));
            drop(lock);
            waiting.join().unwrap().unwrap();
        });
        assert_eq!(store.read(None).unwrap().lines, [line(1, 10), line(2, 10)]);
    }
}

#[test]
fn a_link_in_place_of_a_file_is_neither_followed_nor_read() {
    let (parent, store) = store(Limits::default());
    make(&parent, &[], 0);
    let target = parent.path().join("target");
    fs::write(&target, text(&line(1, 10))).unwrap();
    symlink(&target, today(&parent)).unwrap();
    let error = store.append(&line(2, 20)).unwrap_err().to_string();
    assert!(error.contains("Too many levels of symbolic links"), "{error}");
    assert_eq!(fs::read_to_string(&target).unwrap(), text(&line(1, 10)));
    assert_eq!(store.read(None).unwrap(), History::default());
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    for (wrong, shown) in
        [(0o777, "mode 0777"), (0o1777, "mode 1777"), (0o770, "mode 0770"), (0o702, "mode 0702")]
    {
        let (parent, store) = store(Limits::default());
        store.append(&line(1, 10)).unwrap();
        fs::set_permissions(parent.path().join("history"), Permissions::from_mode(wrong)).unwrap();
        for error in [store.append(&line(2, 20)).unwrap_err(), store.read(None).unwrap_err()] {
            assert!(error.to_string().contains(shown), "{error}");
            assert!(error.advice().is_some_and(|advice| advice.contains("mode 0700")), "{error}");
        }
        assert_eq!(fs::read_to_string(today(&parent)).unwrap(), text(&line(1, 10)));
    }
}

#[test]
fn a_directory_of_another_user_or_behind_a_link_is_refused() {
    let (parent, store) = store(Limits::default());
    make(&parent, &[], 0);
    let directory = parent.path().join("history");
    std::os::unix::fs::chown(&directory, Some(65_534), None).unwrap();
    let error = store.append(&line(1, 10)).unwrap_err().to_string();
    assert!(error.contains("it belongs to user 65534"), "{error}");
    fs::rename(&directory, parent.path().join("elsewhere")).unwrap();
    std::os::unix::fs::chown(parent.path().join("elsewhere"), Some(0), None).unwrap();
    symlink("elsewhere", &directory).unwrap();
    let error = store.append(&line(1, 10)).unwrap_err().to_string();
    assert!(error.contains("cannot use the history in"), "{error}");
    assert_eq!(fs::read_dir(parent.path().join("elsewhere")).unwrap().count(), 0);
}

#[test]
fn sets_are_asked_for_by_when_they_ended_not_by_the_names_of_files() {
    let (_parent, store) = store(Limits::default());
    // The clock was set back between the reading of the counters and the writing of the line.
    store.append(&line_at(1, 10, NOON - 3 * DAY)).unwrap();
    assert_eq!(store.read(Some(NOON)).unwrap().lines.len(), 1);
    assert_eq!(store.read(Some(NOON + SECOND)).unwrap().lines, []);
}
