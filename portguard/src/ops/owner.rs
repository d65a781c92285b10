//! The service that keeps an interface. It owns the order of the guard, so commands hand requests to it, or name the
//! place where its order is changed. The caller does not hold the lock during requests to services, because they may
//! wait for it.

use crate::control::client::{self, Service};
use crate::error::{Error, Result};
use crate::interface::{self, Interface};
use crate::ops::Messages;

/// The service that keeps an interface, or waits for it. A note reports a service that does not reply.
pub(crate) fn owner_of(interface: &Interface, messages: &mut Messages) -> Option<Service> {
    asked(client::owner_of(Some(interface.index), &interface.names()), messages)
}

/// The service that keeps the interface with a name, or waits for it. The interface need not exist.
pub(crate) fn owner_of_name(name: &str, messages: &mut Messages) -> Option<Service> {
    match interface::by_name(name) {
        Ok(interface) => owner_of(&interface, messages),
        Err(_) => asked(client::owner_of(None, &[name]), messages),
    }
}

/// Whether the service could not guard the interface with this name.
pub(crate) fn is_open(service: &Service, name: &str) -> bool {
    service.description().interfaces.iter().any(|kept| kept.name == name && kept.open)
}

fn asked(found: Result<Option<Service>>, messages: &mut Messages) -> Option<Service> {
    found.unwrap_or_else(|error| {
        messages.note(error.to_string());
        None
    })
}

/// The error that a service keeps the interface, with the place where its order is changed.
pub(crate) fn owned(name: &str, what: &str, service: &Service) -> Error {
    let description = service.description();
    let (place, pid) = (description.place(), description.pid);
    let waits = description.interfaces.iter().any(|kept| kept.name == name && kept.ifindex.is_none());
    let does = if waits { "waits for the interface" } else { "keeps the guard" };
    Error::failed(format!("{name}: {what}"))
        .because(format!("a service (process {pid}) {does}, and owns the order of the guard"))
        .remedy(format!("Change the order there, and restart the service: {place}."))
}

/// The error that a service keeps the interface, if that service cannot be reached.
pub(crate) fn owned_by_somebody(name: &str, what: &str) -> Error {
    Error::failed(format!("{name}: {what}"))
        .because("a service that cannot be reached from here keeps the guard, and owns the order of the guard")
        .remedy(format!(
            "Change the order there, and restart the service: see systemctl status portguard@{name}, or find the \
             process of `portguard run`. On SIGHUP, the service reads its list again."
        ))
}
