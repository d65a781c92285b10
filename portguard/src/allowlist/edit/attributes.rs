//! The extended attributes that decide who may use a file: a file that takes the place of another one gets the same.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;

/// The label of SELinux, and the access control list.
const NAMES: [&CStr; 2] = [c"security.selinux", c"system.posix_acl_access"];

/// The most bytes of a value (`XATTR_SIZE_MAX`).
const MAX_VALUE: usize = 65_536;

/// Gives `to` the attributes of `from`. The access control list is set last of all that decides about access, because it changes
/// the bits of the mode.
pub(super) fn copy(from: &File, to: &File) -> io::Result<()> {
    for name in NAMES {
        let value = read(from, name)?;
        if value != read(to, name)? {
            match value {
                Some(value) => write(to, name, &value)?,
                // The directory has given it one.
                None => remove(to, name)?,
            }
        }
    }
    Ok(())
}

/// The value of an attribute; `None` if the file has none, or its file system knows no such attributes.
fn read(file: &File, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; MAX_VALUE];
    // SAFETY: the name ends with a NUL, and the kernel writes at most the length of the buffer.
    let length =
        unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match Errno::result(length) {
        Ok(length) => {
            value.truncate(usize::try_from(length).unwrap_or_default());
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::ENOTSUP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn write(file: &File, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the name ends with a NUL, and the kernel reads the value for its length.
    let set =
        unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Ok(Errno::result(set).map(drop)?)
}

fn remove(file: &File, name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with a NUL.
    let removed = unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) };
    Ok(Errno::result(removed).map(drop)?)
}
