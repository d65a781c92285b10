//! What drivers can do with an XDP program, as the kernel tells: the family `netdev` of generic netlink
//! (`Documentation/netlink/specs/netdev.yaml`), in Linux 6.3 and later.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use rtnetlink::packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NlasIterator, ParseableParametrized,
};
use rtnetlink::proto;
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_GENERIC;

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

/// The features of interfaces of this network namespace, by index; of those that the kernel does not tell of, nothing.
pub(super) fn features(of: impl IntoIterator<Item = u32>) -> BTreeMap<u32, Features> {
    let told = ask(of.into_iter().collect()).unwrap_or_default();
    told.into_iter().filter_map(|device| Some((device.index, Features::from(device.features?)))).collect()
}

/// What is told of an interface, and to be told of by its index.
#[derive(Debug, Clone, Copy, Default)]
struct Device {
    index: u32,
    features: Option<u64>,
}

impl Device {
    fn request(self) -> DefaultNla {
        DefaultNla::new(INDEX, self.index.to_ne_bytes().to_vec())
    }
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        self.request().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.request().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(attributes: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut device = Self::default();
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            match (attribute.kind(), attribute.value()) {
                (INDEX, value) => device.index = value.try_into().map(u32::from_ne_bytes).unwrap_or_default(),
                (FEATURES, value) => device.features = value.try_into().ok().map(u64::from_ne_bytes),
                _ => {}
            }
        }
        Ok(device)
    }
}

type Failure = Box<dyn std::error::Error>;

/// Asks one by one: the messages of all at once do not say that more follow, which ends the answer after the first.
#[tokio::main(flavor = "current_thread")]
async fn ask(indices: Vec<u32>) -> Result<Vec<Device>, Failure> {
    let families = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![] };
    let families = request(GenlMessage::from_payload(families), NLM_F_DUMP).await?;
    let number = families.into_iter().find_map(|family| number(&family.nlas, Device::family_name()));
    let Some(number) = number else { return Ok(vec![]) };
    let mut told = Vec::new();
    for index in indices {
        let mut message = GenlMessage::from_payload(Device { index, features: None });
        message.set_resolved_family_id(number);
        // One that is gone meanwhile is left out.
        told.extend(request(message, 0).await.unwrap_or_default());
    }
    Ok(told)
}

/// The number of a family, if this is what is told of it.
fn number(attributes: &[GenlCtrlAttrs], wanted: &str) -> Option<u16> {
    let is_name =
        |attribute: &GenlCtrlAttrs| matches!(attribute, GenlCtrlAttrs::FamilyName(name) if name == wanted);
    let number = attributes.iter().find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(number) => Some(*number),
        _ => None,
    });
    number.filter(|_| attributes.iter().any(is_name))
}

/// The answer to a request.
async fn request<F>(request: GenlMessage<F>, flags: u16) -> Result<Vec<F>, Failure>
where
    F: GenlFamily
        + Emitable
        + ParseableParametrized<[u8], GenlHeader>
        + std::fmt::Debug
        + Send
        + Unpin
        + 'static,
{
    let (connection, handle, _) = proto::new_connection(NETLINK_GENERIC)?;
    tokio::spawn(connection);
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let message = NetlinkMessage::new(header, request.into());
    let mut answers = handle.request(message, SocketAddr::new(0, 0))?;
    let mut told = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(message) => told.push(message.into_parts().1),
            NetlinkPayload::Error(error) => return Err(error.to_io().into()),
            _ => {}
        }
    }
    Ok(told)
}
