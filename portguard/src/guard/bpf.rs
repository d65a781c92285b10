//! The `bpf(2)` calls that aya does not offer, or offers with a fall-back that portguard must not use: if the kernel
//! refuses a link, aya attaches by netlink, and such an attachment cannot be pinned.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use aya::Pod;
use aya_obj::generated::{
    BPF_F_BEFORE, BPF_F_QUERY_EFFECTIVE, XDP_FLAGS_DRV_MODE, XDP_FLAGS_HW_MODE, XDP_FLAGS_SKB_MODE,
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_type,
};

use crate::guard::hook::Hook;
use crate::interface::XdpMode;

/// The kernel's information about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// The hook that it is at.
    pub kind: LinkKind,
    /// The number of the program that the link runs.
    pub program_id: u32,
    /// The index of the interface; `None` after the interface has gone, and the link was detached with it.
    pub ifindex: Option<u32>,
}

/// The hook of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkKind {
    Xdp,
    Tcx,
}

/// Attaches a program to an interface; closing the last reference to the link detaches it. At tcx, it is the first of all programs.
pub(super) fn link_create(program: BorrowedFd<'_>, ifindex: u32, hook: Hook) -> io::Result<OwnedFd> {
    let mut attr = empty_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    let (kind, flags) = match hook {
        Hook::Xdp(XdpMode::Native) => (bpf_attach_type::BPF_XDP, XDP_FLAGS_DRV_MODE),
        Hook::Xdp(XdpMode::Generic) => (bpf_attach_type::BPF_XDP, XDP_FLAGS_SKB_MODE),
        Hook::Xdp(XdpMode::Offload) => (bpf_attach_type::BPF_XDP, XDP_FLAGS_HW_MODE),
        Hook::Tcx => (bpf_attach_type::BPF_TCX_INGRESS, BPF_F_BEFORE),
    };
    attr.link_create.attach_type = kind as u32;
    attr.link_create.flags = flags;
    let fd = call(bpf_cmd::BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: the call has returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Replaces the program of a link in one step: each packet is judged by the old program or by the new one.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = empty_attr();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    call(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches the link from its interface, even if other references to the link exist.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = empty_attr();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    call(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Reads the program and the interface of a link.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    let mut attr = empty_attr();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = (&raw mut info) as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    const XDP: u32 = bpf_link_type::BPF_LINK_TYPE_XDP as u32;
    const TCX: u32 = bpf_link_type::BPF_LINK_TYPE_TCX as u32;
    let (kind, ifindex) = match info.type_ {
        // SAFETY: for a link of XDP the kernel fills this arm, and any integer is valid there.
        XDP => (LinkKind::Xdp, unsafe { info.__bindgen_anon_1.xdp.ifindex }),
        // SAFETY: the same for a link of tcx.
        TCX => (LinkKind::Tcx, unsafe { info.__bindgen_anon_1.tcx.ifindex }),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is a link, but not one of XDP or tcx",
            ));
        }
    };
    Ok(LinkInfo { kind, program_id: info.prog_id, ifindex: (ifindex != 0).then_some(ifindex) })
}

/// Makes an array of maps with one slot, for maps like `inner`.
pub(super) fn create_array_of_maps(inner: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = empty_attr();
    attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS as u32;
    attr.__bindgen_anon_1.key_size = size_of::<u32>() as u32;
    attr.__bindgen_anon_1.value_size = size_of::<u32>() as u32;
    attr.__bindgen_anon_1.max_entries = 1;
    attr.__bindgen_anon_1.inner_map_fd = inner.as_raw_fd() as u32;
    let fd = call(bpf_cmd::BPF_MAP_CREATE, &mut attr)?;
    // SAFETY: the call has returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a map into a slot of an array of maps. Returns when no running program uses the previous map any more
/// (`maybe_wait_bpf_programs` in `kernel/bpf/syscall.c`).
pub(super) fn set_inner_map(outer: BorrowedFd<'_>, index: u32, inner: BorrowedFd<'_>) -> io::Result<()> {
    let value = inner.as_raw_fd();
    let mut attr = empty_attr();
    attr.__bindgen_anon_2.map_fd = outer.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = (&raw const index) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = (&raw const value) as u64;
    call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Puts many elements into a map: a value for each key. After an error, some of them may be in the map. Their number is
/// unknown, because a kernel without this call does not report it.
pub(super) fn update_batch<K: Pod, V: Pod>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> io::Result<()> {
    assert_eq!(keys.len(), values.len(), "a value for each key");
    let mut attr = empty_attr();
    attr.batch.map_fd = map.as_raw_fd() as u32;
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.values = values.as_ptr() as u64;
    attr.batch.count = keys.len() as u32;
    call(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
}

/// Removes many elements from a map, all of which it has. After an error, some of them may be in the map.
pub(super) fn delete_batch<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<()> {
    let mut attr = empty_attr();
    attr.batch.map_fd = map.as_raw_fd() as u32;
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.count = keys.len() as u32;
    call(bpf_cmd::BPF_MAP_DELETE_BATCH, &mut attr).map(drop)
}

/// Reads a map into `keys` and `values`, `batch` elements at a time. Both must have room for as many elements as the map
/// can hold. Returns the number of elements.
pub(super) fn lookup_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &mut [K],
    values: &mut [V],
    batch: usize,
) -> io::Result<usize> {
    assert_eq!(keys.len(), values.len(), "a value for each key");
    // The kernel's position in the map: the last key of the batch before.
    let mut cursor: Option<K> = None;
    let mut found = 0;
    loop {
        let (keys_left, values_left) = (&mut keys[found..], &mut values[found..]);
        let mut next = keys_left.first().copied();
        let mut attr = empty_attr();
        attr.batch.map_fd = map.as_raw_fd() as u32;
        attr.batch.in_batch = cursor.as_ref().map_or(0, |key| ptr::from_ref(key) as u64);
        attr.batch.out_batch = next.as_mut().map_or(0, |key| ptr::from_mut(key) as u64);
        attr.batch.keys = keys_left.as_mut_ptr() as u64;
        attr.batch.values = values_left.as_mut_ptr() as u64;
        attr.batch.count = keys_left.len().min(batch) as u32;
        let result = call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        // SAFETY: the kernel has stored the number of keys that it wrote in this field.
        let count = unsafe { attr.batch.count } as usize;
        match result {
            Ok(_) => found += count,
            // This batch was the last one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found + count),
            Err(error) => return Err(error),
        }
        cursor = next;
        if found == keys.len() {
            return Ok(found);
        }
    }
}

/// Pins a program, map or link at a path in the BPF file system.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = empty_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    call(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens the object that is pinned at a path.
pub(super) fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = empty_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let fd = call(bpf_cmd::BPF_OBJ_GET, &mut attr)?;
    // SAFETY: the call has returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The numbers of the programs that the kernel runs on received packets of an interface after XDP (tcx), in their order; `None` if the
/// kernel has no tcx (before Linux 6.6).
pub(super) fn programs_on_tcx(ifindex: u32) -> io::Result<Option<Vec<u32>>> {
    let mut programs = [0_u32; MOST_ON_TCX];
    let mut attr = empty_attr();
    attr.query.__bindgen_anon_1.target_ifindex = ifindex;
    attr.query.attach_type = bpf_attach_type::BPF_TCX_INGRESS as u32;
    attr.query.prog_ids = programs.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.prog_cnt = MOST_ON_TCX as u32;
    match call(bpf_cmd::BPF_PROG_QUERY, &mut attr) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
        // Nothing was ever attached there.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Some(Vec::new())),
        Err(error) => return Err(error),
    }
    // SAFETY: the kernel has filled in the number, and any integer is valid there.
    let count = unsafe { attr.query.__bindgen_anon_2.prog_cnt } as usize;
    Ok(Some(programs[..count.min(MOST_ON_TCX)].to_vec()))
}

/// The most programs at one hook (`BPF_MPROG_MAX` in `include/linux/bpf_mprog.h`).
const MOST_ON_TCX: usize = 64;

/// The number of programs that the kernel runs on packets for the sockets of a control group: its own, and those of the groups
/// that it is in.
pub(super) fn count_on_group(group: BorrowedFd<'_>) -> io::Result<u32> {
    count(group.as_raw_fd() as u32, bpf_attach_type::BPF_CGROUP_INET_INGRESS, BPF_F_QUERY_EFFECTIVE)
}

/// The number of programs of a kind at a place.
fn count(target: u32, kind: bpf_attach_type, flags: u32) -> io::Result<u32> {
    let mut attr = empty_attr();
    attr.query.__bindgen_anon_1.target_ifindex = target;
    attr.query.attach_type = kind as u32;
    attr.query.query_flags = flags;
    call(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: the kernel has filled in the number, and any integer is valid there.
    Ok(unsafe { attr.query.__bindgen_anon_2.prog_cnt })
}

fn empty_attr() -> bpf_attr {
    // SAFETY: all zeroes is a valid value of this plain C union.
    unsafe { mem::zeroed() }
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the attributes are fully initialised, have the size that the call passes, and point to live memory.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
