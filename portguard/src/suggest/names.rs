//! Names of hosts -> their addresses, by the resolver of the system, which is given a bounded time.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long all names together may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How many are asked for at a time.
const AT_ONCE: usize = 16;

/// The addresses of each name, or why there are none.
pub type Addresses = BTreeMap<String, Result<Vec<IpAddr>, String>>;

/// Looks up names.
pub fn look_up(names: impl IntoIterator<Item = String>) -> Addresses {
    let mut addresses: Addresses = names
        .into_iter()
        .map(|name| (name, Err(format!("the resolver has not replied within {} seconds", LIMIT.as_secs()))))
        .collect();
    let queue: Vec<String> = addresses.keys().rev().cloned().collect();
    let threads = queue.len().min(AT_ONCE);
    let queue = Arc::new(Mutex::new(queue));
    let (sender, answers) = mpsc::channel();
    for _ in 0..threads {
        let (queue, sender) = (Arc::clone(&queue), sender.clone());
        // One that hangs ends with the process.
        thread::spawn(move || {
            while let Some(name) = queue.lock().ok().and_then(|mut queue| queue.pop()) {
                let answer = resolve(&name);
                if sender.send((name, answer)).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let deadline = Instant::now() + LIMIT;
    while let Ok((name, answer)) = answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        addresses.insert(name, answer);
    }
    addresses
}

fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 0).to_socket_addrs().map_err(|error| format!("it cannot be looked up: {error}"))?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip().to_canonical()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that anybody would be asked about: what leaves this host is for the tests in network namespaces.
    #[test]
    fn names_are_looked_up_or_it_is_said_why_not() {
        let addresses = look_up(["192.0.2.7", "2001:db8::7", "a\0b"].map(str::to_owned));
        assert_eq!(addresses["192.0.2.7"], Ok(vec![[192, 0, 2, 7].into()]));
        assert_eq!(addresses["2001:db8::7"], Ok(vec!["2001:db8::7".parse().unwrap()]));
        assert!(addresses["a\0b"].is_err(), "{addresses:?}");
        assert_eq!(look_up([]), Addresses::new());
    }
}
