//! How the statically linked program looks names up.
//!
//! glibc reads from `/etc/nsswitch.conf` where names are to be looked up, and loads a library for every place but
//! `/etc/hosts` and DNS, which are built in. Such a library wants the very glibc that the program was built with, and a
//! program for every Linux cannot count on that. So the static program asks only where it needs no library.

/// Has names looked up without libraries, if this program is linked statically; to be called before any look-up.
pub(crate) fn confine() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    glibc::confine();
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod glibc {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        /// `<nss.h>`: sets where a database is looked up, instead of `/etc/nsswitch.conf`.
        fn __nss_configure_lookup(database: *const c_char, places: *const c_char) -> c_int;
    }

    pub(super) fn confine() {
        // SAFETY: both are strings that live as long as the program, which has one thread yet. It fails only for want of
        // memory, or for a database that there is not; then names are looked up as `/etc/nsswitch.conf` says.
        unsafe {
            __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr());
        }
    }
}
