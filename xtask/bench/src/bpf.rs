//! The `bpf(2)` calls that aya does not offer for programs that somebody else has loaded.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use aya_obj::generated::{BPF_F_TEST_XDP_LIVE_FRAMES, bpf_attr, bpf_cmd};

/// Opens what has a name in the BPF file system.
pub(super) fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = empty_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    open(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// Opens the program with that number.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = empty_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    open(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr)
}

/// Puts a program into a slot of an array of programs.
pub(super) fn set_program(array: BorrowedFd<'_>, slot: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    let value = program.as_raw_fd();
    let mut attr = empty_attr();
    attr.__bindgen_anon_2.map_fd = array.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = (&raw const slot) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = (&raw const value) as u64;
    call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// What came of running a program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ran {
    /// What the program returned the last time.
    pub(super) action: u32,
    /// By the kernel's own clock, for one packet, in whole nanoseconds.
    pub(super) duration: Duration,
}

/// Runs a program on the same frame again and again (`BPF_PROG_TEST_RUN`); what it writes into the frame stays there.
pub(super) fn test_run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> io::Result<Ran> {
    let mut attr = empty_attr();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = frame.len() as u32;
    attr.test.repeat = repeat;
    call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    // SAFETY: the kernel has filled this arm, and any integers are valid there.
    let (action, nanoseconds) = unsafe { (attr.test.retval, attr.test.duration) };
    Ok(Ran { action, duration: Duration::from_nanos(nanoseconds.into()) })
}

/// Runs a program on real frames that have come in by an interface of this thread's network namespace, and does with
/// each what the program says.
pub(super) fn run_live(program: BorrowedFd<'_>, frame: &[u8], ifindex: u32, frames: u32) -> io::Result<()> {
    // A `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context: [u32; 6] = [0, frame.len() as u32, 0, ifindex, 0, 0];
    let mut attr = empty_attr();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = frame.len() as u32;
    attr.test.ctx_in = context.as_ptr() as u64;
    attr.test.ctx_size_in = size_of_val(&context) as u32;
    attr.test.repeat = frames;
    attr.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

fn empty_attr() -> bpf_attr {
    // SAFETY: all zeroes is a valid value of this plain C union.
    unsafe { mem::zeroed() }
}

fn open(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the call has returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the attributes are fully initialised, as long as the kernel is told, and point to live memory.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
