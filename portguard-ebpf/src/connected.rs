//! In audit mode: who has asked over a connection of TCP that this host's stack has set up. Whoever has completed the handshake
//! has got replies, so such a source is not forged; a segment alone proves nothing.

use core::ffi::c_void;
use core::mem::size_of;
use core::ptr;

use aya_ebpf::bindings::{BPF_ANY, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release};
use portguard_common::PORT;
use portguard_common::cursor::Cursor;
use portguard_common::transport::Protocol;
use portguard_common::verdict::{self, Datapath, Denial, Denied, HeaderAt, Verdict};

use crate::family::Family;
use crate::hook::{Hook, Part, Step};
use crate::maps::CONNECTED;

/// `BPF_F_CURRENT_NETNS`: the network namespace of the interface.
const CURRENT_NAMESPACE: u64 = u64::MAX;
/// The states of a socket in which the handshake is not complete, or there is none (`include/net/tcp_states.h`): `TCP_SYN_SENT`,
/// `TCP_SYN_RECV`, `TCP_CLOSE`, `TCP_LISTEN`, `TCP_NEW_SYN_RECV`.
const NOT_CONNECTED: [u32; 5] = [2, 3, 7, 10, 12];

/// Remembers the source of the TCP segment in a frame, if it belongs to a connection. `frame` is a cursor at the first byte of a part of it,
/// which must have the headers. The result means nothing.
#[inline(always)]
pub(crate) fn witness(hook: impl Hook, frame: impl Cursor, part: Part) -> u32 {
    verdict::judge(frame, hook.start(), &Witness(hook), &Step { hook, part })
}

/// Looks at each packet for the port.
struct Witness<H>(H);

impl<H: Hook, A: Family> Datapath<A> for Witness<H> {
    type Outcome = u32;
    type Covered = ();

    #[inline(always)]
    fn look_up(&self, _source: A) -> Option<()> {
        None
    }

    #[inline(always)]
    fn refusal(&self, (): (), _protocol: Protocol, _header_at: HeaderAt) -> Option<Denial> {
        None
    }

    #[inline(always)]
    fn finish(&self, verdict: Verdict<A>, _link_header_len: usize) -> u32 {
        if let Verdict::Deny(denied) = verdict
            && is_connected(self.0.context(), Tuple::of(&denied))
        {
            // A full map makes room; without memory, the next segment is as good.
            let _ = CONNECTED.insert(denied.source.mapped(), 0, BPF_ANY.into());
        }
        0
    }
}

/// `bpf_sock_tuple`, as far as a family has it: addresses and ports in network byte order.
#[repr(C)]
struct Tuple<A> {
    source: A,
    destination: A,
    ports: [u16; 2],
}

impl<A: Copy> Tuple<A> {
    /// The length in bytes, without the padding at the end.
    const LEN: u32 = (2 * size_of::<A>() + size_of::<[u16; 2]>()) as u32;

    #[inline(always)]
    fn of(denied: &Denied<A>) -> Self {
        let ports = [u16::from_ne_bytes(denied.source_port_be), PORT.to_be()];
        Self { source: denied.source, destination: denied.destination, ports }
    }
}

/// Whether this host has a connection with these addresses and ports.
#[inline(always)]
fn is_connected<A: Copy>(ctx: *mut c_void, mut tuple: Tuple<A>) -> bool {
    let tuple = (&raw mut tuple).cast::<bpf_sock_tuple>();
    // SAFETY: the tuple has so many bytes, and the kernel reads no more.
    let socket = unsafe { bpf_sk_lookup_tcp(ctx, tuple, Tuple::<A>::LEN, CURRENT_NAMESPACE, 0) };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the socket is held until it is released.
    let state = unsafe { ptr::read_volatile(&raw const (*socket).state) };
    // SAFETY: it is released once.
    unsafe { bpf_sk_release(socket.cast::<c_void>()) };
    !NOT_CONNECTED.contains(&state)
}
