//! Programs of others at tcx, and at a qdisc: a few instructions each.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use aya::util::KernelVersion;
use nix::libc;
use portguard_testkit::net::Namespace;

/// A program for what comes in behind XDP.
pub(crate) struct Foreign(OwnedFd);

/// `struct bpf_insn`: code, destination register, offset, immediate.
fn instruction(code: u8, register: u8, immediate: i32) -> Vec<u8> {
    let mut bytes = vec![code, register, 0, 0];
    bytes.extend(immediate.to_ne_bytes());
    bytes
}

const MOVE: u8 = 0xb7;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `TCX_NEXT`.
const NEXT: i32 = -1;

impl Foreign {
    /// It hands everything on.
    pub(crate) fn passing() -> Self {
        Self::load(&[instruction(MOVE, 0, NEXT)])
    }

    /// It redirects everything into the other end of a cable: `bpf_redirect_peer(ifindex, 0)`.
    pub(crate) fn redirecting_to_peer(ifindex: u32) -> Self {
        const REDIRECT_PEER: i32 = 155;
        Self::load(&[
            instruction(MOVE, 1, ifindex.cast_signed()),
            instruction(MOVE, 2, 0),
            instruction(CALL, 0, REDIRECT_PEER),
        ])
    }

    fn load(instructions: &[Vec<u8>]) -> Self {
        const PROG_LOAD: libc::c_long = 5;
        const SCHED_CLS: u32 = 3;
        let program = [&instructions.concat()[..], &instruction(EXIT, 0, 0)].concat();
        let (count, licence) = (program.len() as u64 / 8, c"GPL");
        let head = u64::from(SCHED_CLS) | count << 32;
        let attributes = [head, program.as_ptr() as u64, licence.as_ptr() as u64, 0, 0, 0];
        Self(created(PROG_LOAD, &attributes).expect("a program"))
    }

    /// Lets it run in front of all programs at tcx of an interface, until the link is dropped.
    pub(crate) fn attach_first(&self, namespace: &Namespace, ifindex: u32) -> OwnedFd {
        const LINK_CREATE: libc::c_long = 28;
        const TCX_INGRESS: u64 = 46;
        const BEFORE: u64 = 1 << 3;
        let program = self.0.as_raw_fd().cast_unsigned();
        let attributes = [u64::from(program) | u64::from(ifindex) << 32, TCX_INGRESS | BEFORE << 32, 0, 0];
        namespace.run(|| created(LINK_CREATE, &attributes)).expect("tcx (Linux 6.6)")
    }
}

/// The numbers of the programs at tcx of an interface, in their order.
pub(crate) fn programs_at_tcx(namespace: &Namespace, ifindex: u32) -> Vec<u32> {
    const PROG_QUERY: libc::c_long = 16;
    const TCX_INGRESS: u64 = 46;
    let mut programs = [0_u32; 64];
    let mut attributes = [
        u64::from(ifindex) | TCX_INGRESS << 32,
        0,
        programs.as_mut_ptr() as u64,
        programs.len() as u64,
        0,
        0,
        0,
        0,
    ];
    match namespace.run(|| bpf(PROG_QUERY, &mut attributes)) {
        Ok(_) => programs[..attributes[3] as u32 as usize].to_vec(),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
            Vec::new()
        }
    }
}

/// `bpf(2)`, with attributes as the command has them.
fn bpf(command: libc::c_long, attributes: &mut [u64]) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are as long as the kernel is told, and what they point to is alive.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same, for a command that makes something.
fn created(command: libc::c_long, attributes: &[u64]) -> io::Result<OwnedFd> {
    let descriptor = bpf(command, &mut attributes.to_vec())?;
    // SAFETY: the command has returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(descriptor).expect("a descriptor")) })
}

/// Whether this kernel has tcx: since Linux 6.6.
pub(crate) fn has_tcx() -> bool {
    KernelVersion::current().expect("a version") >= KernelVersion::new(6, 6, 0)
}
