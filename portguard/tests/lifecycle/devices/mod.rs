//! Each kind of device that Linux has: a guard on it lets nobody in who is not on the list and keeps nobody out who is; or it
//! is refused. `docs/attach-points.md` has a row for each.
//!
//! Most of these need a kernel with all of Debian's drivers: `cargo xtask vm-test` boots one.

mod cards;
mod changes;
mod covered;
mod detours;
mod diagnosis;
mod netkit;
mod pair;
mod refused;

use pair::{DEVICE, Pair};
