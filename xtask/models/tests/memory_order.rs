//! The order of memory accesses between the program, which changes a bucket, and a reader on another CPU, in loom: it runs all
//! interleavings, and all values that a CPU may see which does not keep stores in order.
//!
//! Two fields stand for those of a bucket and its records. The writer sets both to the number of its change, so a copy is torn
//! if they differ. What is modelled is [`Ways::advance`] and the reader in `portguard/src/guard/cells.rs`.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use portguard_common::source_table::{BucketV4, Ways};

/// How the writer counts its sequence number.
#[derive(Clone, Copy)]
enum Advance {
    /// By an atomic operation that is a full barrier: aarch64.
    Barrier,
    /// By a load and a store.
    Plain,
}

struct Cells {
    sequence: AtomicU32,
    fields: [AtomicU32; 2],
}

impl Cells {
    fn advance(&self, how: Advance) {
        match how {
            Advance::Barrier => {
                // An operation that returns a value is a barrier on both sides, in a BPF program as in the kernel's C.
                fence(Ordering::SeqCst);
                self.sequence.fetch_add(1, Ordering::SeqCst);
                fence(Ordering::SeqCst);
            }
            Advance::Plain => {
                let number = self.sequence.load(Ordering::Relaxed);
                self.sequence.store(number + 1, Ordering::Relaxed);
            }
        }
    }

    fn change(&self, to: u32, how: Advance) {
        self.advance(how);
        for field in &self.fields {
            field.store(to, Ordering::Relaxed);
        }
        self.advance(how);
    }

    /// A copy, if the reader takes it for consistent.
    fn read(&self) -> Option<[u32; 2]> {
        let before = self.sequence.load(Ordering::Acquire);
        let first = self.fields[0].load(Ordering::Relaxed);
        // A record is read after the state that points to it.
        fence(Ordering::Acquire);
        let second = self.fields[1].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let after = self.sequence.load(Ordering::Relaxed);
        BucketV4::is_whole(before, after).then_some([first, second])
    }
}

/// All copies that a reader takes for consistent while a writer makes two changes.
fn copies(how: Advance) -> Vec<[u32; 2]> {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let all = std::sync::Arc::clone(&seen);
    loom::model(move || {
        let cells =
            Arc::new(Cells { sequence: AtomicU32::new(0), fields: [AtomicU32::new(0), AtomicU32::new(0)] });
        let writer = {
            let cells = Arc::clone(&cells);
            loom::thread::spawn(move || {
                cells.change(1, how);
                cells.change(2, how);
            })
        };
        if let Some(copy) = cells.read() {
            seen.lock().expect("no panic").push(copy);
        }
        writer.join().expect("no panic");
    });
    all.lock().expect("no panic").clone()
}

#[test]
fn with_barriers_no_copy_is_torn() {
    let copies = copies(Advance::Barrier);
    for whole in [[0, 0], [1, 1], [2, 2]] {
        assert!(copies.contains(&whole), "{whole:?} is seen");
    }
    assert!(copies.iter().all(|[first, second]| first == second), "{copies:?}");
}

/// The model finds what is wrong without them.
#[test]
fn without_barriers_some_copy_is_torn() {
    assert!(copies(Advance::Plain).iter().any(|[first, second]| first != second));
}

/// On this machine: what the default does is what its documentation says.
#[test]
fn advancing_adds_one_and_wraps() {
    struct NoWays;
    impl Ways for NoWays {
        fn record(&mut self, _way: usize) -> &mut portguard_common::source_table::Record {
            unreachable!("it is not called")
        }

        fn requests(&mut self, _way: usize) -> Option<&mut portguard_common::rpc::Requests> {
            None
        }
    }
    let mut sequence = u32::MAX - 1;
    NoWays::advance(&mut sequence);
    assert_eq!(sequence, u32::MAX);
    NoWays::advance(&mut sequence);
    assert_eq!(sequence, 0);
}
