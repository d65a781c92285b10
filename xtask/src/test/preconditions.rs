//! What the kernel and this user's rights must allow, tried out rather than looked up.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::Command;

/// Everything that stands in the way of the tests, each with its remedy.
pub(super) fn missing() -> Vec<String> {
    if !nix::unistd::geteuid().is_root() {
        return vec!["root: the tests load BPF programs and make network namespaces; run as root".to_owned()];
    }
    let checks: [(&str, Result<(), String>, &str); 5] = [
        ("BPF maps", create_map(), "the kernel needs CONFIG_BPF_SYSCALL, and we CAP_BPF"),
        ("BPF programs", load_program(), "loading needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"),
        (
            "bpffs",
            in_namespace("--mount", &["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"]),
            "mounting needs CAP_SYS_ADMIN and /sys/fs/bpf",
        ),
        (
            "network namespaces with veth",
            in_namespace(
                "--net",
                &["ip", "link", "add", "name", "one", "type", "veth", "peer", "name", "two"],
            ),
            "they need CAP_SYS_ADMIN and the kernel module veth",
        ),
        (
            "files by their handles",
            open_by_handle(),
            "the NFS server of the tests needs CAP_DAC_READ_SEARCH and CONFIG_FHANDLE",
        ),
    ];
    let failed = checks.into_iter().filter_map(|(what, result, remedy)| Some((what, result.err()?, remedy)));
    failed.map(|(what, error, remedy)| format!("{what}: {error}; {remedy}")).collect()
}

/// Runs the command in a namespace of its own, which goes away with it, and all that it made.
fn in_namespace(kind: &str, command: &[&str]) -> Result<(), String> {
    let output = Command::new("unshare").arg(kind).arg("--").args(command).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("cannot run unshare: {error}")),
    }
}

/// Asks for a file by a handle that is none, which the kernel says to whoever may ask.
fn open_by_handle() -> Result<(), String> {
    let root = File::open("/").map_err(|error| format!("cannot open /: {error}"))?;
    let mut handle = libc::file_handle { handle_bytes: 0, handle_type: 0, f_handle: [] };
    // SAFETY: `handle` says that no bytes follow it, and it outlives the call, which makes no descriptor of it.
    let result = unsafe { libc::open_by_handle_at(root.as_raw_fd(), &raw mut handle, libc::O_RDONLY) };
    match io::Error::last_os_error() {
        error if result < 0 && error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        error => Err(error.to_string()),
    }
}

/// The head of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// Makes the kind of map that the allowlist lives in.
fn create_map() -> Result<(), String> {
    const BPF_MAP_CREATE: libc::c_int = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    let attr = MapCreate { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 8, max_entries: 1 };
    // SAFETY: `attr` is a prefix of `union bpf_attr` for this command, without pointers.
    unsafe { bpf(BPF_MAP_CREATE, &attr) }
}

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

/// Loads the smallest XDP program: `r0 = XDP_PASS; exit`.
fn load_program() -> Result<(), String> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const MOV64_IMM: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    const XDP_PASS: u8 = 2;
    // The immediate is an i32 in the byte order of the machine.
    let [a, b, c, d] = i32::from(XDP_PASS).to_ne_bytes();
    let instructions: [[u8; 8]; 2] = [[MOV64_IMM, 0, 0, 0, a, b, c, d], [EXIT, 0, 0, 0, 0, 0, 0, 0]];
    let license = c"GPL";
    let attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: 2,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
    };
    // SAFETY: `attr` is a prefix of `union bpf_attr` for this command; its pointers outlive the call.
    unsafe { bpf(BPF_PROG_LOAD, &attr) }
}

/// Calls bpf(2) for a command that makes a descriptor, and closes that.
///
/// # Safety
///
/// `attr` must be a prefix of `union bpf_attr` that is valid for the command.
unsafe fn bpf<T>(command: libc::c_int, attr: &T) -> Result<(), String> {
    // SAFETY: the caller vouches for `attr`, of which the kernel reads `size_of::<T>()` bytes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    match libc::c_int::try_from(result) {
        Ok(descriptor) if descriptor >= 0 => {
            // SAFETY: the kernel has just made this descriptor for us.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            Ok(())
        }
        _ => Err(io::Error::last_os_error().to_string()),
    }
}
