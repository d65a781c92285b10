//! Compares the orders of the services of this network namespace with the state in force. The caller does not hold the
//! lock during requests to services, because they may wait for it.

mod state;

use std::path::Path;

pub use self::state::{Owner, ServiceState, Unguarded, UnguardedState, line};
use crate::control::client::{self, Service};
use crate::control::{Description, OrderDescription};
use crate::error::{Error, Result};
use crate::guard::{self, Guard, HookChoice, LogLimit, Named, Order, PinRoot};
use crate::interface::Interface;

/// The reason if the link of a guard that was attached by hand is gone, and its pins remain.
const LINK_IS_GONE: &str = "it had a guard, but the link of the guard is gone";

/// The services of this network namespace.
#[derive(Debug, Default)]
pub(crate) struct Services {
    answered: Vec<Description>,
    /// The errors of services that could not be reached.
    pub(crate) silent: Vec<Error>,
}

impl Services {
    /// Sends a request to all services at once. A service that does not reply costs a limited time.
    pub(crate) fn ask() -> Self {
        let mut services = Self::default();
        match guard::network_namespace().and_then(|namespace| Ok((namespace, client::services()?))) {
            Ok((namespace, found)) => {
                for service in found {
                    services.take(namespace, service);
                }
            }
            Err(error) => services.silent.push(error),
        }
        services
    }

    fn take(&mut self, namespace: u64, service: Result<Service>) {
        match service {
            Ok(service) if service.description().namespace == namespace => {
                self.answered.push(service.description().clone());
            }
            Ok(_) => {}
            Err(error) => self.silent.push(error),
        }
    }

    /// The allowlists of the services.
    pub(crate) fn allowlists(&self) -> impl Iterator<Item = &Path> {
        self.answered.iter().map(|service| &*service.order.allowlist)
    }

    /// The service that keeps an interface.
    pub(crate) fn owner_of(&self, interface: &Interface) -> Option<&Description> {
        let names = interface.names();
        self.answered.iter().find(|service| service.keeps(Some(interface.index), &names))
    }

    /// The service that is ordered to guard an interface with this name, even if the interface does not exist.
    pub(crate) fn ordered_to_guard(&self, name: &str) -> Option<&Description> {
        self.answered.iter().find(|service| service.interfaces.iter().any(|kept| kept.name == name))
    }

    /// The service that keeps a guard, and whether the guard is as ordered.
    pub(crate) fn of(&self, guard: &Guard) -> Option<ServiceState> {
        let &Description { pid, ref unit, ref order, .. } = self.owner_of(guard.interface())?;
        // If the order of the guard cannot be read, the guard counts as different from its order.
        let differences =
            guard.order().map_or_else(|error| vec![error.to_string()], |now| differences(order, &now));
        let unit = unit.clone();
        Some(ServiceState { pid, unit, as_ordered: differences.is_empty(), differences })
    }

    /// The interfaces that should have a guard and have none: those of the services, in their order, and those whose guard
    /// was attached by hand and detached by other means than `detach`.
    ///
    /// # Errors
    /// The pins cannot be read.
    pub(crate) fn unguarded(
        &self,
        pin_root: Option<&PinRoot>,
        interfaces: &[Interface],
    ) -> Result<Vec<Unguarded>> {
        let mut unguarded: Vec<Unguarded> = Vec::new();
        for service in &self.answered {
            for kept in &service.interfaces {
                let interface = interfaces.iter().find(|interface| interface.is_called(&kept.name));
                let state = match interface {
                    None => UnguardedState::Waiting,
                    Some(interface) if has_guard(pin_root, interface)? => continue,
                    Some(_) => UnguardedState::Open,
                };
                let why = kept.why.clone().filter(|_| state == UnguardedState::Open);
                let owner = Owner { pid: service.pid, unit: service.unit.clone() };
                unguarded.push(Unguarded { interface: kept.name.clone(), state, service: Some(owner), why });
            }
        }
        for index in pin_root.map_or(Ok(Vec::new()), guard::remains)? {
            let interface = interfaces.iter().find(|interface| interface.index == index);
            let Some(interface) = interface.filter(|interface| self.owner_of(interface).is_none()) else {
                continue;
            };
            if !has_guard(pin_root, interface)? {
                unguarded.push(Unguarded {
                    interface: interface.name.clone(),
                    state: UnguardedState::Open,
                    service: None,
                    why: Some(LINK_IS_GONE.to_owned()),
                });
            }
        }
        Ok(unguarded)
    }
}

fn has_guard(pin_root: Option<&PinRoot>, interface: &Interface) -> Result<bool> {
    pin_root.map_or(Ok(false), |pin_root| guard::is_on(pin_root, interface))
}

/// The parts of an order in force that differ from the order of a service, a line for each part.
fn differences(ordered: &OrderDescription, in_force: &Order) -> Vec<String> {
    let OrderDescription { allowlist, hook, mode, audit, sources, log_rate } = ordered;
    let named = Named {
        // A service of another version may have a hook or a mode that this version does not know.
        hook: HookChoice::of_keys(hook.as_deref(), mode.as_deref())
            .filter(|_| hook.is_some() || mode.is_some()),
        audit: Some(*audit),
        sources: *sources,
        log: Some(log_rate.map_or(LogLimit::Off, LogLimit::PerSecond)),
    };
    in_force.differences_from(allowlist, named)
}

impl From<Order> for OrderDescription {
    fn from(Order { list, hook, audit, sources, log }: Order) -> Self {
        Self {
            allowlist: list,
            hook: Some(hook.key().to_owned()),
            mode: hook.mode().map(|mode| mode.key().to_owned()),
            audit,
            sources: Some(sources),
            log_rate: match log {
                LogLimit::Off => None,
                LogLimit::PerSecond(lines) => Some(lines),
            },
        }
    }
}
