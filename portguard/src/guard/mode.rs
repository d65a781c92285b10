//! Attaches a program in a mode, and explains why the kernel refuses.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::util::KernelVersion;
use portguard_common::names;

use crate::error::{Error, Kind, Result};
use crate::guard::bpf;
use crate::guard::hook::{Hook, HookChoice};
use crate::guard::instance::Identity;
use crate::interface::{self, BondMode, Details, Driver, HV_NETVSC, Interface, XdpMode};

/// The largest MTU that every driver with native XDP accepts for packets in one buffer: a page of 4096 bytes, less 256
/// bytes of headroom, 320 of `skb_shared_info`, and 22 of Ethernet header, VLAN tag and checksum.
const MTU_OF_ONE_BUFFER: u32 = 3498;

/// The mode that a user chooses for a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeChoice {
    /// Native; generic if the driver refuses native mode, or if native mode would restrict or miss later changes of the
    /// interface.
    Auto,
    /// In the driver, before the kernel allocates anything.
    Native,
    /// In the network stack.
    Generic,
    /// On the network card: portguard refuses it.
    Offload,
}

impl ModeChoice {
    /// All of them, in the order that users see.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Native, Self::Generic, Self::Offload];

    /// Its name on the command line and in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => XdpMode::Native.key(),
            Self::Generic => XdpMode::Generic.key(),
            Self::Offload => XdpMode::Offload.key(),
        }
    }

    /// The choice with this key.
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.key() == key)
    }
}

/// A setting of an interface with which its driver refuses a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Its packets need several buffers, and the kernel or the driver does not support that.
    OneBuffer {
        /// The MTU of the interface, in bytes.
        mtu: u32,
        /// The part that lacks the support.
        lacking: Lacking,
    },
    /// The driver merges received packets.
    LargeReceiveOffload,
    /// The driver requires a separate transmit queue for XDP on each CPU or channel.
    Channels,
    /// A veth has fewer receive queues than its peer has transmit queues.
    Queues,
}

/// The part that does not support packets in several buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// The kernel, before 5.18.
    Kernel,
    /// The driver.
    Driver,
}

impl Obstacle {
    /// The obstacle of this MTU, if it needs packets in several buffers.
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

    /// The advice for an error message, other than generic mode.
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
    /// The link. If it is closed before it is pinned, the program is detached.
    pub link: OwnedFd,
    /// Where the program runs.
    pub hook: Hook,
    /// Why it does not run in a better mode; `None` if a mode was named, or the best one is in use.
    pub fallback: Option<Error>,
}

/// Fails for a mode that portguard supports on no interface.
pub(super) fn require_possible(interface: &Interface, choice: HookChoice) -> Result<()> {
    match choice {
        HookChoice::Xdp(ModeChoice::Offload) => Err(no_offload(interface)),
        _ => Ok(()),
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
        bpf::link_create(program.as_fd(), interface.index, Hook::Xdp(mode))
            .map_err(|error| refusal(interface, mode, identity, error))
    };
    let attached = |mode| move |link| Attachment { link, hook: Hook::Xdp(mode), fallback: None };
    match choice {
        ModeChoice::Native => try_mode(XdpMode::Native).map(attached(XdpMode::Native)),
        ModeChoice::Generic => try_mode(XdpMode::Generic).map(attached(XdpMode::Generic)),
        ModeChoice::Offload => Err(no_offload(interface)),
        ModeChoice::Auto => match why_not_native(interface).map_or_else(|| try_mode(XdpMode::Native), Err) {
            Ok(link) => Ok(attached(XdpMode::Native)(link)),
            Err(refusal) if refusal.kind() == Kind::NotPermitted => Err(refusal),
            Err(refusal) => {
                let link = try_mode(XdpMode::Generic)?;
                Ok(Attachment { fallback: Some(refusal), ..attached(XdpMode::Generic)(link) })
            }
        },
    }
}

/// Why `auto` does not choose native mode: it would restrict later changes of the interface, or miss packets after them.
fn why_not_native(interface: &Interface) -> Option<Error> {
    let not_chosen = Error::failed(format!("{}: native XDP not chosen", interface.name));
    // With a native program on a bond, `bond_enslave` refuses ports whose drivers have no native mode, and the bond
    // refuses modes without native XDP.
    if matches!(interface.details, Details::Bond { .. }) {
        let why = "then no port without native XDP could join the bond";
        return Some(not_chosen.because(why).remedy("Use --mode native if all its ports will have it."));
    }
    // `netvsc_vf_setxdp` ignores the error if the driver of the virtual function refuses the program.
    let is_netvsc =
        interface.kind.is_none() && Driver::of(&interface.name).name.as_deref() == Some(HV_NETVSC);
    is_netvsc.then(|| {
        not_chosen
            .because(
                "packets that arrive over a virtual function whose driver has none would bypass the guard",
            )
            .remedy("Use --mode native if there is no virtual function, or if its driver has native XDP.")
    })
}

/// The error for a refusal of the kernel. The kernel returns only a number; the cause and the advice are derived from
/// that number and from the interface.
fn refusal(interface: &Interface, mode: XdpMode, identity: &Identity, error: io::Error) -> Error {
    let Interface { name, mtu, kind, .. } = interface;
    let refused = Error::new(Kind::HookRefused, format!("{name}: {} XDP refused", mode.key()));
    let generic = "use --mode generic";
    let one_buffer = identity.name != names::PROGRAM_FRAGS;
    match (mode, error.raw_os_error()) {
        // `dev_xdp_attach` of `net/core/dev.c`. A check before has shown that the interface itself has no program.
        (_, Some(libc::EEXIST)) => refuse_below(interface, refused),
        (_, Some(libc::EBUSY)) => refused
            .because("another XDP program was attached in the meantime")
            .remedy("See the program with: ip -details link show"),
        (_, Some(libc::EPERM)) => Error::new(Kind::NotPermitted, format!("{name}: not permitted to attach"))
            .because("CAP_NET_ADMIN is missing in the network namespace of the interface"),
        (_, Some(libc::ENODEV)) => {
            Error::new(Kind::NotThere, format!("{name}: the interface was removed meanwhile"))
        }
        (XdpMode::Native, _) if one_buffer && *mtu > MTU_OF_ONE_BUFFER => {
            let obstacle = Obstacle::OneBuffer { mtu: *mtu, lacking: Lacking::Kernel };
            refused.because(obstacle.why()).remedy(format!("{} or {generic}.", obstacle.remedy(name)))
        }
        (XdpMode::Native, Some(libc::EOPNOTSUPP)) if kind.is_some() => {
            let why = match interface.details {
                Details::Bond { mode, vlan_srcmac } => why_no_native_bond(interface, mode, vlan_srcmac),
                _ => "devices of this kind have none".to_owned(),
            };
            refused.because(why).remedy(format!("{}.", sentence(generic)))
        }
        (XdpMode::Native, Some(libc::EOPNOTSUPP)) => {
            let obstacle = Obstacle::LargeReceiveOffload;
            refused.because(obstacle.why()).remedy(format!("{}. Or {generic}.", obstacle.remedy(name)))
        }
        (XdpMode::Native, Some(libc::EINVAL | libc::ERANGE)) => refused
            .because(format!("the driver does not accept it with the settings of the interface (MTU {mtu})"))
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
        _ => refused.caused_by(error).remedy("The kernel log (dmesg) may say more."),
    }
}

/// The error if a device on top of the interface has a program: the kernel attaches no program below another one.
fn refuse_below(interface: &Interface, refused: Error) -> Error {
    let name = &interface.name;
    let all = interface::all().unwrap_or_default();
    let fresh = all.iter().find(|fresh| fresh.index == interface.index).unwrap_or(interface);
    let above = all.iter().find(|other| other.is_above(fresh) && !other.xdp.is_empty());
    let Some(above) = above else {
        return refused
            .because("a device on top of it has an XDP program already; no such device is seen in this network namespace")
            .remedy(format!(
                "Find macvlans and VLANs of {name} in other network namespaces. Attach to {name} first, and then there."
            ));
    };
    let above = &above.name;
    refused
        .because(format!(
            "{above}, which is on top of it, has an XDP program already, and the kernel attaches none below that"
        ))
        .remedy(format!("Attach to {name} first, and that program to {above} afterwards."))
}

/// Why a bond has no native mode (`bond_xdp_set` of `drivers/net/bonding/bond_main.c`).
fn why_no_native_bond(bond: &Interface, mode: BondMode, vlan_srcmac: bool) -> String {
    if KernelVersion::current().is_ok_and(|kernel| kernel < KernelVersion::new(5, 15, 0)) {
        return format!("a bond has none before Linux 5.15, and this is {}", kernel_version());
    }
    if !mode.has_native() {
        return format!("a bond in mode {} has none", mode.key());
    }
    if vlan_srcmac && !mode.ignores_policy() {
        return format!("a bond in mode {} that chooses ports by vlan+srcmac has none", mode.key());
    }
    let all = interface::all().unwrap_or_default();
    let ports: Vec<&Interface> = all.iter().filter(|it| it.controller == Some(bond.index)).collect();
    if let Some(port) = ports.iter().find(|port| !port.xdp.is_empty()) {
        return format!("its port {} has an XDP program of its own", port.name);
    }
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    format!("not each of its ports has it ({})", names.join(", "))
}

/// Makes the first letter a capital.
fn sentence(words: &str) -> String {
    let mut characters = words.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

pub(super) fn kernel_version() -> String {
    KernelVersion::current().map_or_else(
        |_| "of unknown version".to_owned(),
        |version| {
            // `KernelVersion` gives its parts as one number only.
            let code = version.code();
            format!("{}.{}", code >> 16, code >> 8 & 0xff)
        },
    )
}
