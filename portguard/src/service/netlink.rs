//! News of interfaces: that one came, went, or changed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::Notify;
use tokio::time::sleep;

/// How long to wait before the kernel is asked again to tell.
const PAUSE: Duration = Duration::from_secs(1);

/// Notifies whenever something has happened to an interface of this network namespace (`RTM_NEWLINK`, `RTM_DELLINK`).
/// Several events may be one notification; if the kernel had to leave some out, that is one, too.
pub(super) fn watch() -> io::Result<Arc<Notify>> {
    let news = Arc::new(Notify::new());
    let (mut connection, _, mut messages) = new_multicast_connection(&[MulticastGroup::Link])?;
    let told = Arc::clone(&news);
    tokio::spawn(async move {
        loop {
            let listening = tokio::spawn(connection);
            // What has happened is asked for, not believed: by now it may be otherwise again.
            while messages.next().await.is_some() {
                told.notify_one();
            }
            // The kernel has closed the socket. What came meanwhile is not known.
            listening.abort();
            (connection, messages) = loop {
                sleep(PAUSE).await;
                if let Ok((connection, _, messages)) = new_multicast_connection(&[MulticastGroup::Link]) {
                    break (connection, messages);
                }
            };
            told.notify_one();
        }
    });
    Ok(news)
}
