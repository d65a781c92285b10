//! The capabilities that a process needs.

use caps::{CapSet, Capability};

use crate::error::{Error, Kind, Result};

/// `CAP_BPF` to load and read maps, `CAP_NET_ADMIN` to attach, `CAP_PERFMON` because without it the verifier refuses
/// the program (5.10, 6.1) or makes it slow (later kernels).
const NEEDED: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];

/// Fails, and names the missing capabilities, unless the process may load and attach XDP programs.
pub fn require() -> Result<()> {
    let effective = caps::read(None, CapSet::Effective)
        .map_err(|error| Error::failed("cannot read the capabilities of this process").caused_by(error))?;
    let missing: Vec<String> =
        NEEDED.iter().filter(|cap| !effective.contains(cap)).map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::NotPermitted, format!("not permitted: {} missing", missing.join(", ")))
        .remedy("Run portguard as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON."))
}
