//! Attaches a program in a mode, and says why the kernel would not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::util::KernelVersion;
use aya_obj::generated::{XDP_FLAGS_DRV_MODE, XDP_FLAGS_HW_MODE, XDP_FLAGS_SKB_MODE};
use portguard_common::frame::LinkType;
use portguard_common::names;

use crate::cli::ModeChoice;
use crate::error::{Error, Kind, Result};
use crate::guard::bpf;
use crate::guard::instance::Identity;
use crate::interface::{Interface, XdpMode};

/// The largest MTU that every driver with native XDP takes for packets in one buffer: a page of 4096 bytes, less 256
/// of headroom, 320 of `skb_shared_info`, and 22 of Ethernet header, VLAN tag and checksum.
const MTU_OF_ONE_BUFFER: u32 = 3498;

/// `ARPHRD_*`, `include/uapi/linux/if_arp.h`.
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_NONE: u16 = 0xfffe;

/// Kinds of devices that look like Ethernet and take an XDP program, but run it on none of their packets, or not on
/// all: a VRF, and what `ifb` gets by redirection (`skb_is_redirected` in `net/core/dev.c`).
const ELSEWHERE: [&str; 2] = ["vrf", "ifb"];

/// What the frames of an interface begin with; an error where the guard could not read them, and would so be open.
pub(super) fn link_type(interface: &Interface) -> Result<LinkType> {
    let Interface { name, hardware_type, kind, .. } = interface;
    if interface.loopback {
        return Err(Error::failed(format!("{name}: the loopback interface is not guarded"))
            .because("local clients of rpcbind go over it, and no packet from outside does")
            .remedy("Attach to the interfaces that face the network."));
    }
    match (*hardware_type, kind.as_deref()) {
        (ARPHRD_ETHER, Some(kind)) if ELSEWHERE.contains(&kind) => {
            Err(Error::failed(format!("{name}: a device of kind {kind} cannot be guarded"))
                .because(
                    "the kernel does not show its packets to XDP; the guard would let everything through",
                )
                .remedy("Guard the interfaces that its packets come in on."))
        }
        (ARPHRD_ETHER, _) => Ok(LinkType::Ethernet),
        (ARPHRD_NONE, Some("tun" | "wireguard")) => Ok(LinkType::RawIp),
        (other, kind) => {
            let kind = kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
            Err(Error::failed(format!("{name}: link type {other}{kind} is not known to portguard"))
                .because("it could not tell where a packet begins, and would let everything through")
                .remedy("Guard port 111 on this interface by other means (nft)."))
        }
    }
}

/// What in the setup of an interface keeps its driver from running a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Its packets need several buffers, and there is no support for that.
    OneBuffer {
        /// Of the interface, in bytes.
        mtu: u32,
        /// Where.
        lacking: Lacking,
    },
    /// The driver puts received packets together.
    LargeReceiveOffload,
    /// The driver wants a transmit queue of its own for XDP on each CPU or channel.
    Channels,
    /// A cable has fewer receive queues than its other end has transmit queues.
    Queues,
}

/// Who does not support packets in several buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// The kernel, before 5.18.
    Kernel,
    /// The driver.
    Driver,
}

impl Obstacle {
    /// That of an MTU where packets in several buffers are not supported.
    pub fn of_mtu(mtu: u32, lacking: Lacking) -> Option<Self> {
        (mtu > MTU_OF_ONE_BUFFER).then_some(Self::OneBuffer { mtu, lacking })
    }

    /// Why the driver refuses.
    pub fn why(self) -> String {
        match self {
            Self::OneBuffer { mtu, lacking } => {
                let who = match lacking {
                    Lacking::Kernel => format!("this kernel ({})", kernel_version()),
                    Lacking::Driver => "its driver".to_owned(),
                };
                format!("MTU {mtu} needs multi-buffer support, which {who} lacks")
            }
            Self::LargeReceiveOffload => {
                "the driver has none, or has it switched off while large receive offload is on".to_owned()
            }
            Self::Channels => "the driver wants more transmit queues than there are".to_owned(),
            Self::Queues => "it has fewer receive queues than its peer has transmit queues".to_owned(),
        }
    }

    /// What to do about it, other than to use generic mode.
    pub fn remedy(self, name: &str) -> String {
        match self {
            Self::OneBuffer { .. } => format!("Lower the MTU to {MTU_OF_ONE_BUFFER}"),
            Self::LargeReceiveOffload => format!("Try: ethtool -K {name} lro off"),
            Self::Channels => format!("Try fewer channels: ethtool -L {name} combined N"),
            Self::Queues => "Make the pair with as many of both (ip link add ... numrxqueues N)".to_owned(),
        }
    }
}

/// A program that has just been attached.
#[derive(Debug)]
pub(super) struct Attachment {
    /// Closing it before it is pinned detaches the program.
    pub link: OwnedFd,
    /// Where the program runs.
    pub mode: XdpMode,
    /// Why it does not run in a better mode, if none was asked for.
    pub fallback: Option<Error>,
}

/// Fails for a mode that portguard has on no interface.
pub(super) fn require_possible(interface: &Interface, choice: ModeChoice) -> Result<()> {
    match choice {
        ModeChoice::Offload => Err(no_offload(interface)),
        ModeChoice::Auto | ModeChoice::Native | ModeChoice::Generic => Ok(()),
    }
}

fn no_offload(interface: &Interface) -> Error {
    Error::failed(format!("{}: offload XDP refused", interface.name))
        .because(
            "portguard cannot load its program onto a card: it would have to be loaded for that card alone",
        )
        .remedy("Use --mode native or auto.")
}

/// Attaches a program to an interface that has none.
pub(super) fn attach(
    interface: &Interface,
    program: impl AsFd,
    identity: &Identity,
    choice: ModeChoice,
) -> Result<Attachment> {
    let try_mode = |mode: XdpMode| {
        bpf::link_create(program.as_fd(), interface.index, flags(mode))
            .map_err(|error| refusal(interface, mode, identity, &error))
    };
    let attached = |mode| move |link| Attachment { link, mode, fallback: None };
    match choice {
        ModeChoice::Native => try_mode(XdpMode::Native).map(attached(XdpMode::Native)),
        ModeChoice::Generic => try_mode(XdpMode::Generic).map(attached(XdpMode::Generic)),
        ModeChoice::Offload => Err(no_offload(interface)),
        ModeChoice::Auto => match try_mode(XdpMode::Native) {
            Ok(link) => Ok(Attachment { link, mode: XdpMode::Native, fallback: None }),
            Err(refusal) if refusal.kind() == Kind::NotPermitted => Err(refusal),
            Err(refusal) => {
                let link = try_mode(XdpMode::Generic)?;
                Ok(Attachment { link, mode: XdpMode::Generic, fallback: Some(refusal) })
            }
        },
    }
}

fn flags(mode: XdpMode) -> u32 {
    match mode {
        XdpMode::Native => XDP_FLAGS_DRV_MODE,
        XdpMode::Generic => XDP_FLAGS_SKB_MODE,
        XdpMode::Offload => XDP_FLAGS_HW_MODE,
    }
}

/// The kernel gives a number; this is the cause and the remedy, as far as the number and the interface tell.
fn refusal(interface: &Interface, mode: XdpMode, identity: &Identity, error: &io::Error) -> Error {
    let Interface { name, mtu, kind, .. } = interface;
    let refused = Error::failed(format!("{name}: {} XDP refused", mode.word()));
    let generic = "use --mode generic";
    let one_buffer = identity.name != names::PROGRAM_FRAGS;
    match (mode, error.raw_os_error()) {
        (_, Some(libc::EBUSY | libc::EEXIST)) => refused
            .because("another XDP program has come in between")
            .remedy("See what it is with: ip -details link show"),
        (_, Some(libc::EPERM)) => Error::new(Kind::NotPermitted, format!("{name}: not permitted to attach"))
            .because("CAP_NET_ADMIN is missing in the network namespace of the interface"),
        (_, Some(libc::ENODEV)) => Error::new(Kind::NotThere, format!("{name}: the interface has just gone")),
        (XdpMode::Native, _) if one_buffer && *mtu > MTU_OF_ONE_BUFFER => {
            let obstacle = Obstacle::OneBuffer { mtu: *mtu, lacking: Lacking::Kernel };
            refused.because(obstacle.why()).remedy(format!("{} or {generic}.", obstacle.remedy(name)))
        }
        (XdpMode::Native, Some(libc::EOPNOTSUPP)) if kind.is_some() => {
            refused.because("devices of this kind have none").remedy(format!("{}.", sentence(generic)))
        }
        (XdpMode::Native, Some(libc::EOPNOTSUPP)) => {
            let obstacle = Obstacle::LargeReceiveOffload;
            refused.because(obstacle.why()).remedy(format!("{}. Or {generic}.", obstacle.remedy(name)))
        }
        (XdpMode::Native, Some(libc::EINVAL | libc::ERANGE)) => refused
            .because(format!("the driver does not take it as the interface is set up (MTU {mtu})"))
            .remedy(format!(
                "The kernel log (dmesg) may say more. Lower the MTU to {MTU_OF_ONE_BUFFER} or {generic}."
            )),
        (XdpMode::Native, Some(libc::ENOSPC)) if kind.as_deref() == Some("veth") => {
            let obstacle = Obstacle::Queues;
            refused.because(obstacle.why()).remedy(format!("{}, or {generic}.", obstacle.remedy(name)))
        }
        (XdpMode::Native, Some(libc::ENOMEM | libc::ENOSPC)) => {
            let obstacle = Obstacle::Channels;
            refused.because(obstacle.why()).remedy(format!("{}. Or {generic}.", obstacle.remedy(name)))
        }
        _ => refused.because(error).remedy("The kernel log (dmesg) may say more."),
    }
}

/// Fails, saying why, where an interface would be guarded and open.
pub fn require_guardable(interface: &Interface) -> Result<()> {
    link_type(interface).map(drop)
}

/// With a capital letter.
fn sentence(words: &str) -> String {
    let mut characters = words.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

fn kernel_version() -> String {
    KernelVersion::current().map_or_else(
        |_| "of unknown version".to_owned(),
        |version| {
            // `KernelVersion` shows itself as code only.
            let code = version.code();
            format!("{}.{}", code >> 16, code >> 8 & 0xff)
        },
    )
}
