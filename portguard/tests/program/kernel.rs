//! The loaded program, run by the kernel on frames of our choice (`BPF_PROG_TEST_RUN`), and its counters.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::Duration;

use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::util::KernelVersion;
use aya_obj::programs::XdpAttachType;
use nix::time::{ClockId, clock_gettime};
use portguard::guard::{Guard, Hook, PinRoot, Snapshot};
use portguard_common::reason::{Denial, DropReason, Fault};
use portguard_common::{ABI_VERSION, names};
use portguard_testkit::lists::Lists;
use portguard_testkit::net::Namespace;
use portguard_testkit::portguard::Portguard;

use crate::frames::{Expect, Link, Protocol};

/// The shortest frame that every kernel runs a program on (`ETH_HLEN`).
pub(crate) const SHORTEST: usize = 14;

/// The longest frame that every kernel runs a program on: what a page of 4096 bytes holds beside 256 of headroom and
/// 320 of `skb_shared_info`. Longer ones have several buffers, which only `portguard_frags` takes.
pub(crate) const ONE_BUFFER: usize = 3520;

/// The interface with the guard.
pub(crate) const GUARDED: &str = "guarded";

/// The file of the guard's list.
const LIST: &str = "allowlist.yaml";

/// `cargo xtask vm-test` takes a test that fails with this for one that cannot be made on that kernel.
const NOT_SUPPORTED: &str = "not supported by this kernel";

/// The guards of these tests share a BPF file system, and a portguard without tcx fails while one of them is at tcx.
static TCX: RwLock<()> = RwLock::new(());

/// Whether this kernel has tcx.
pub(crate) fn has_tcx() -> bool {
    KernelVersion::current().expect("a version") >= KernelVersion::new(6, 6, 0)
}

/// Keeps guards at tcx away for as long as the value lives.
pub(crate) fn without_tcx() -> RwLockWriteGuard<'static, ()> {
    TCX.write().unwrap_or_else(PoisonError::into_inner)
}

/// A guard on an interface that nothing is connected to.
pub(crate) struct Kernel {
    namespace: Namespace,
    lists: Lists,
    program: PathBuf,
    /// If the guard is at tcx. It goes last, when the guard has gone with its interface.
    _at_tcx: Option<RwLockReadGuard<'static, ()>>,
}

/// What the kernel made of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub passed: bool,
    /// The counters after less those before.
    pub moved: Vec<(Moved, i128)>,
}

/// A counter that can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moved {
    Allowed(Unit),
    /// By the key of the fault.
    Fault(&'static str, Unit),
    /// By the key of the reason.
    Denied(&'static str, Unit),
    WouldDrop(Unit),
    Unattributed(Unit),
    Source(IpAddr, Unit),
    SourceTcp(IpAddr),
    /// By the index of the request.
    Request(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    Packets,
    Bytes,
}

impl Kernel {
    /// Attaches a guard with a list to an interface of the given kind.
    pub(crate) fn new(link: Link, allowlist: &str, arguments: &[&str]) -> Self {
        Self::by(Path::new(env!("CARGO_BIN_EXE_portguard")), link, allowlist, arguments)
    }

    /// The same, by another portguard.
    pub(crate) fn by(program: &Path, link: Link, allowlist: &str, arguments: &[&str]) -> Self {
        let namespace = Namespace::new("program").unwrap();
        let interface = match link {
            Link::Ethernet => "link add guarded type veth peer name other",
            Link::RawIp => "tuntap add dev guarded mode tun",
        };
        namespace.ip(interface).unwrap();
        let at_tcx = arguments.contains(&"tcx");
        if at_tcx && !has_tcx() {
            panic!("{NOT_SUPPORTED}: tcx comes with Linux 6.6");
        }
        let _at_tcx = at_tcx.then(|| TCX.read().unwrap_or_else(PoisonError::into_inner));
        let kernel = Self { namespace, lists: Lists::new(), program: program.to_owned(), _at_tcx };
        let list = kernel.lists.write_text(LIST, allowlist);
        kernel.portguard().ok(&[&["attach", "guarded", "--allowlist", &list], arguments].concat());
        kernel
    }

    fn portguard(&self) -> Portguard<'_> {
        Portguard::new(&self.program, &self.namespace)
    }

    /// Puts another list in force, also one with no entry of a family.
    pub(crate) fn reload(&self, allowlist: &str) {
        self.lists.write_text(LIST, allowlist);
        self.portguard().ok(&["reload", "guarded", "--allow-empty"]);
    }

    /// Whether the tries of the list in force have an entry that covers an address.
    pub(crate) fn tries_cover(&self, addresses: &[IpAddr]) -> Vec<bool> {
        self.namespace.run(|| {
            let guard = self.guard();
            addresses.iter().map(|address| guard.covering(*address).unwrap().is_some()).collect()
        })
    }

    /// Runs the program on each of the frames, and gives each outcome to `check`. With `first_len`, the packet's first
    /// buffer has as many bytes, and the others have the rest.
    pub(crate) fn judge<'f, T: Sync>(
        &self,
        cases: &'f [T],
        frame: impl Fn(&'f T) -> &'f [u8] + Send + Sync,
        first_len: Option<u32>,
        mut check: impl FnMut(&'f T, Outcome) + Send,
    ) {
        self.namespace.run(|| {
            let guard = self.guard();
            let program = Program::of(&guard);
            if let Some(case) = cases.first() {
                assert_can_ask(&program, frame(case), first_len);
            }
            let mut before = guard.counters().unwrap();
            for case in cases {
                let frame = frame(case);
                let passed = program.passes(frame, first_len).unwrap();
                let after = guard.counters().unwrap();
                let mut moved = moved(&before, &after);
                // What a packet asks for is not in the table of frames.
                moved.retain(|(counter, _)| !matches!(counter, Moved::Request(_)));
                check(case, Outcome { passed, moved });
                before = after;
            }
        });
    }

    /// Runs the program on all of the frames: which of them passed, and which counters moved in all.
    pub(crate) fn judge_all(&self, frames: &[&Vec<u8>]) -> (Vec<bool>, Vec<(Moved, i128)>) {
        self.namespace.run(|| {
            let guard = self.guard();
            let program = Program::of(&guard);
            let before = guard.counters().unwrap();
            let passed = frames.iter().map(|frame| program.passes(frame, None).unwrap()).collect();
            let after = guard.counters().unwrap();
            // Who was denied is in the source tables, and how many in a figure of its own, which earlier ABIs lack.
            if guard.abi_version() == ABI_VERSION {
                let totals = guard.sums().totals;
                let counted = Denial::ALL.map(|denial| totals.drops[DropReason::Denied(denial).number()]);
                assert_eq!(counted, after.denied, "sources and unattributed packets add up to the reasons");
            }
            (passed, moved(&before, &after))
        })
    }

    /// Returns at the beginning of a second of `CLOCK_BOOTTIME`, which rates count by.
    pub(crate) fn await_second(&self) {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the clock");
        let left = 1_000_000_000 - now.tv_nsec() as u64;
        thread::sleep(Duration::from_nanos(left + 1_000_000));
    }

    /// The longest frame that the guard's program takes.
    pub(crate) fn longest(&self) -> usize {
        let name = self.namespace.run(|| self.guard().program().name.clone());
        if name == names::PROGRAM_FRAGS { usize::MAX } else { ONE_BUFFER }
    }

    /// Whether the kernel runs the program on such a frame.
    pub(crate) fn takes(&self, frame: &[u8]) -> bool {
        self.namespace.run(|| Program::of(&self.guard()).passes(frame, None).is_ok())
    }

    fn guard(&self) -> Guard {
        let pin_root = PinRoot::find().unwrap();
        Guard::by_name(pin_root.as_ref(), "guarded").unwrap()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // The namespace is about to go, and the guard with it; a failed test has its own story to tell.
        let _ = self.portguard().detach_all();
    }
}

/// Makes sure that the kernel can be asked about such frames at all: by its own answer to the first of them.
fn assert_can_ask(program: &Program, frame: &[u8], first_len: Option<u32>) {
    let lacking = match program.passes(frame, first_len) {
        // Linux 5.10 answers EMSGSIZE to a frame that is too long.
        Err(ProgramError::SyscallError(error))
            if matches!(error.io_error.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE)) =>
        {
            let takes_several_buffers = program.info().name_as_str() == Some(names::PROGRAM_FRAGS);
            match first_len {
                Some(_) => {
                    "BPF_PROG_TEST_RUN with a first buffer of a given length (`data_end` in the context)"
                }
                None if frame.len() > ONE_BUFFER && !takes_several_buffers => {
                    "XDP programs for packets in several buffers"
                }
                None => return,
            }
        }
        _ => return,
    };
    panic!("{NOT_SUPPORTED}: {lacking}");
}

/// A `struct xdp_md` whose `data_end` says how long the first buffer is, the rest zero.
fn context(first_len: u32) -> [u8; 24] {
    let mut context = [0; 24];
    context[4..8].copy_from_slice(&first_len.to_ne_bytes());
    context
}

/// The program of a guard.
enum Program {
    Xdp(Xdp),
    Tcx(SchedClassifier),
}

impl Program {
    fn of(guard: &Guard) -> Self {
        let instances = fs::read_dir(guard.pin().parent().unwrap()).unwrap();
        let instance =
            instances.map(Result::unwrap).find(|entry| entry.file_type().unwrap().is_dir()).unwrap();
        let pin = instance.path().join("program");
        match guard.hook() {
            Hook::Xdp(_) => Self::Xdp(Xdp::from_pin(pin, XdpAttachType::Interface).unwrap()),
            Hook::Tcx => Self::Tcx(SchedClassifier::from_pin(pin).unwrap()),
        }
    }

    fn info(&self) -> ProgramInfo {
        match self {
            Self::Xdp(program) => program.info().unwrap(),
            Self::Tcx(program) => program.info().unwrap(),
        }
    }

    /// Whether a frame passes; `first_len` as in [`Kernel::judge`].
    fn passes(&self, frame: &[u8], first_len: Option<u32>) -> Result<bool, ProgramError> {
        let context = first_len.map(context);
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: context.as_ref().map(<[u8; 24]>::as_slice),
            ..TestRunOptions::default()
        };
        // `enum xdp_action`, and `enum tcx_action_base`.
        let (action, [pass, drop]) = match self {
            Self::Xdp(program) => (program.test_run(options)?.return_value, [2, 1]),
            Self::Tcx(program) => (program.test_run(options)?.return_value, [u32::MAX, 2]),
        };
        assert!([pass, drop].contains(&action), "action {action}");
        Ok(action == pass)
    }
}

impl Outcome {
    /// What must come of a frame of which `bytes` would be counted.
    pub(crate) fn expected(expect: Expect, bytes: u64, audit: bool) -> Self {
        let both = |counter: &dyn Fn(Unit) -> Moved| {
            vec![(counter(Unit::Packets), 1), (counter(Unit::Bytes), i128::from(bytes))]
        };
        let denied = |denial: Denial| move |unit| Moved::Denied(denial.key(), unit);
        let of_source = |source| both(&|unit| Moved::Source(source, unit));
        let refused = !matches!(expect, Expect::Pass | Expect::Allowed);
        let mut moved = match expect {
            Expect::Pass => vec![],
            Expect::Allowed => both(&Moved::Allowed),
            Expect::Fault(fault) => both(&|unit| Moved::Fault(fault.key(), unit)),
            Expect::Refused(source, denial) => [both(&denied(denial)), of_source(source)].concat(),
            Expect::Denied(source, protocol) => {
                let mut moved = [both(&denied(Denial::NotAllowed)), of_source(source)].concat();
                if protocol == Protocol::Tcp {
                    moved.push((Moved::SourceTcp(source), 1));
                }
                moved
            }
        };
        if audit && refused {
            moved.extend(both(&Moved::WouldDrop));
        }
        moved.retain(|(_, by)| *by != 0);
        moved.sort_unstable();
        Self { passed: audit || !refused, moved }
    }
}

fn moved(before: &Snapshot, after: &Snapshot) -> Vec<(Moved, i128)> {
    let values = |snapshot: &Snapshot| {
        let mut values = Vec::new();
        let counts = [
            (Moved::Allowed as fn(Unit) -> Moved, snapshot.allowed),
            (Moved::WouldDrop, snapshot.would_drop),
            (Moved::Unattributed, snapshot.unattributed),
        ];
        for (counter, count) in counts {
            values.push((counter(Unit::Packets), i128::from(count.packets)));
            values.push((counter(Unit::Bytes), i128::from(count.bytes)));
        }
        for (denial, count) in Denial::ALL.into_iter().zip(snapshot.denied) {
            values.push((Moved::Denied(denial.key(), Unit::Packets), count.packets.into()));
            values.push((Moved::Denied(denial.key(), Unit::Bytes), count.bytes.into()));
        }
        for (fault, count) in Fault::ALL.into_iter().zip(snapshot.faults) {
            values.push((Moved::Fault(fault.key(), Unit::Packets), count.packets.into()));
            values.push((Moved::Fault(fault.key(), Unit::Bytes), count.bytes.into()));
        }
        values.extend(
            snapshot
                .requests
                .iter()
                .enumerate()
                .map(|(index, count)| (Moved::Request(index), i128::from(*count))),
        );
        for source in &snapshot.sources {
            values.push((Moved::Source(source.address, Unit::Packets), source.count.packets.into()));
            values.push((Moved::Source(source.address, Unit::Bytes), source.count.bytes.into()));
            values.push((Moved::SourceTcp(source.address), source.tcp_packets().into()));
        }
        values
    };
    let mut difference: std::collections::BTreeMap<Moved, i128> = values(after).into_iter().collect();
    for (counter, value) in values(before) {
        *difference.entry(counter).or_default() -= value;
    }
    difference.into_iter().filter(|(_, by)| *by != 0).collect()
}
