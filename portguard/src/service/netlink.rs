//! Events of interfaces: one has appeared, disappeared, or changed.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::descriptor::register;
use crate::netlink::link_events;

/// The pause before the next attempt to open a socket.
const PAUSE: Duration = Duration::from_secs(1);

/// Notifies after each event of an interface of this network namespace (`RTM_NEWLINK`, `RTM_DELLINK`). Several events
/// may cause one notification.
///
/// The messages are not decoded: the receiver lists the interfaces after each notification, because they may have
/// changed again. A message of any content is a notification, and a message that the kernel had no room for is one,
/// too.
pub(super) fn watch() -> io::Result<Arc<Notify>> {
    let happened = Arc::new(Notify::new());
    let mut socket = open()?;
    let notify = Arc::clone(&happened);
    tokio::spawn(async move {
        loop {
            while receive(&socket).await.is_ok() {
                notify.notify_one();
            }
            // The socket cannot be used any more. Events are lost until a new one is open, so a notification follows
            // then.
            socket = loop {
                sleep(PAUSE).await;
                if let Ok(socket) = open() {
                    break socket;
                }
            };
            notify.notify_one();
        }
    });
    Ok(happened)
}

fn open() -> io::Result<AsyncFd<OwnedFd>> {
    register(link_events()?, Interest::READABLE)
}

/// Waits for a message, and discards it.
async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<()> {
    socket.async_io(Interest::READABLE, drop_message).await
}

fn drop_message(socket: &OwnedFd) -> io::Result<()> {
    // The kernel discards the rest of a message that does not fit.
    let mut beginning = [0; 16];
    event(recv(socket.as_raw_fd(), &mut beginning, MsgFlags::empty()))
}

fn event(received: nix::Result<usize>) -> io::Result<()> {
    match received {
        // ENOBUFS: there was no room for a message.
        Ok(_) | Err(Errno::ENOBUFS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, send, socketpair};
    use tokio::time::timeout;

    use super::*;

    /// A socket that stands for the kernel's, and the receiving end.
    fn pair() -> (OwnedFd, AsyncFd<OwnedFd>) {
        let (kernel, ours) =
            socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_NONBLOCK).unwrap();
        (kernel, register(ours, Interest::READABLE).unwrap())
    }

    #[tokio::test]
    async fn any_message_is_an_event_whatever_is_in_it() {
        let (kernel, ours) = pair();
        for message in [&[0xff; 9000][..], b"", b"\0", &[0; 16]] {
            send(kernel.as_raw_fd(), message, MsgFlags::empty()).unwrap();
            timeout(PAUSE, receive(&ours)).await.expect("an event").unwrap();
        }
        assert!(timeout(PAUSE / 10, receive(&ours)).await.is_err(), "there are no more");
    }

    #[test]
    fn a_message_that_had_no_room_is_an_event_and_a_broken_socket_is_none() {
        assert!(event(Err(Errno::ENOBUFS)).is_ok());
        assert_eq!(event(Err(Errno::EBADF)).unwrap_err().raw_os_error(), Some(Errno::EBADF as i32));
    }
}
