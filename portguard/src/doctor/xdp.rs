//! What drivers can do with an XDP program, as the kernel tells: the family `netdev` of generic netlink
//! (`Documentation/netlink/specs/netdev.yaml`), in Linux 6.3 and later.

use std::collections::BTreeMap;

use nix::sys::socket::SockProtocol;

use crate::netlink::{self, Attributes, Failure, malformed, u16_at, u32_at};

/// The family that lists the others, `GENL_ID_CTRL`; its messages are of this type.
const CONTROL: u16 = 16;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID`.
const FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_NAME: u16 = 2;
/// `struct genlmsghdr`.
const HEADER_LEN: usize = 4;
/// The version of the messages of both families.
const VERSION: u8 = 1;
/// The family of this module, with its NUL.
const FAMILY: &[u8] = b"netdev\0";
/// `NETDEV_CMD_DEV_GET`.
const GET: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX`.
const INDEX: u16 = 1;
/// `NETDEV_A_DEV_XDP_FEATURES`.
const FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_BASIC`.
const BASIC: u64 = 1 << 0;
/// `NETDEV_XDP_ACT_RX_SG`.
const RECEIVES_SEVERAL_BUFFERS: u64 = 1 << 5;

/// What a driver can do with a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Features {
    /// Run it.
    pub native: bool,
    /// Show it packets that are in several buffers.
    pub several_buffers: bool,
}

impl From<u64> for Features {
    fn from(bits: u64) -> Self {
        Self { native: bits & BASIC != 0, several_buffers: bits & RECEIVES_SEVERAL_BUFFERS != 0 }
    }
}

/// The features of the interfaces of this network namespace, by index; of those that the kernel does not tell of, nothing.
pub(super) fn features() -> Result<BTreeMap<u32, Features>, Failure> {
    // Before Linux 6.3 there is no such family.
    let Some(family) = family()? else { return Ok(BTreeMap::new()) };
    let devices = dump(family, GET)?;
    let devices: Vec<Option<(u32, Features)>> =
        devices.iter().map(|message| device(message)).collect::<Result<_, _>>()?;
    Ok(devices.into_iter().flatten().collect())
}

/// The number of the family.
fn family() -> Result<Option<u16>, Failure> {
    for message in dump(CONTROL, GET_FAMILY)? {
        let (mut number, mut is_wanted) = (None, false);
        for attribute in attributes(&message)? {
            match attribute? {
                (FAMILY_ID, value) => number = u16_at(value, 0),
                (FAMILY_NAME, value) => is_wanted = value == FAMILY,
                _ => {}
            }
        }
        if is_wanted {
            return number.map(Some).ok_or_else(|| malformed("the family netdev has no number"));
        }
    }
    Ok(None)
}

fn dump(family: u16, command: u8) -> Result<Vec<Vec<u8>>, Failure> {
    netlink::dump(SockProtocol::NetlinkGeneric, family, &[command, VERSION, 0, 0], family)
}

/// The attributes behind the header of generic netlink.
fn attributes(message: &[u8]) -> Result<Attributes<'_>, Failure> {
    let attributes = message.get(HEADER_LEN..).ok_or_else(|| malformed("a message is cut off"))?;
    Ok(Attributes::new(attributes))
}

/// The index of a device, and what it can do, if it says so.
fn device(message: &[u8]) -> Result<Option<(u32, Features)>, Failure> {
    let (mut index, mut features) = (None, None);
    for attribute in attributes(message)? {
        match attribute? {
            (INDEX, value) => index = u32_at(value, 0),
            (FEATURES, value) => features = value.first_chunk().map(|bits| u64::from_ne_bytes(*bits)),
            _ => {}
        }
    }
    let index = index.ok_or_else(|| malformed("a device has no index"))?;
    Ok(features.map(|features| (index, Features::from(features))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute;

    #[test]
    fn a_device_is_decoded_or_a_failure() {
        let index = attribute(INDEX, &7_u32.to_ne_bytes());
        let features = attribute(FEATURES, &(BASIC | RECEIVES_SEVERAL_BUFFERS).to_ne_bytes());
        let message = |attributes: &[&[u8]]| [&[GET, VERSION, 0, 0], &*attributes.concat()].concat();
        let whole = message(&[&index, &attribute(99, b"\xff"), &features]);
        assert_eq!(device(&whole).unwrap(), Some((7, Features { native: true, several_buffers: true })));
        assert_eq!(device(&message(&[&index])).unwrap(), None);
        assert!(device(&message(&[&features])).is_err());
        for length in 0..whole.len() {
            // It never panics, and never names another device.
            if let Ok(Some((index, _))) = device(&whole[..length]) {
                panic!("cut to {length}: {index}");
            }
        }
    }
}
