//! Whether this process may do what a guard takes.

use super::Finding;
use super::remedy::RemedyKind;
use crate::guard;

const ID: &str = "capabilities";

pub(super) fn examine() -> Finding {
    match guard::require_privileges() {
        Ok(()) => Finding::ok(ID, "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"),
        Err(error) => Finding::failure(
            ID,
            error.what(),
            RemedyKind::BecomeRoot
                .text("Run portguard as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON."),
        ),
    }
}
