//! Loaders of the kernel program.

use std::path::Path;
use std::thread;

use aya::EbpfLoader;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;

/// A loader that does not know the types of the kernel, because the object has no relocations by them.
///
/// aya 0.14 reads and parses them for each loader: five megabytes, which is a seventh of the time of `attach`. (0.15 does so only for
/// objects that need it, and takes a later Rust than this project.) So the loader is made by a thread with a root of its own, a
/// directory without that file. Without the capability for that (`CAP_SYS_CHROOT`), the loader takes longer to make, and works as well.
pub(super) fn new(elsewhere: &Path) -> EbpfLoader<'static> {
    let make = || {
        // Threads share their root until one parts from the others. It ends with this closure.
        let _ = unshare(CloneFlags::CLONE_FS).and_then(|()| chroot(elsewhere));
        EbpfLoader::new()
    };
    thread::scope(|scope| scope.spawn(make).join()).unwrap_or_else(|_| EbpfLoader::new())
}
