//! The metrics of the service, in the text formats that Prometheus reads. No label ever holds a source: there is a fixed
//! number of time series for each interface.

use std::fmt;
use std::time::Duration;

use portguard_common::rpc::Request;
use portguard_common::totals::Count;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::allowlist::OnDisk;
use crate::family::Family;
use crate::guard::{Hook, ListInfo, Sums};
use crate::interface::XdpMode;

/// The values of all metrics at one moment.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// The version of portguard.
    pub version: &'static str,
    /// The results of reloads.
    pub reloads: Reloads,
    /// The interfaces to be guarded.
    pub interfaces: Vec<Interface>,
}

/// The results of reloads, since the service started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloads {
    /// The number of lists that were put in force.
    pub ok: u64,
    /// The number of reloads that failed.
    pub failed: u64,
    /// Whether the content of the file at its last check is in force.
    pub last_ok: bool,
}

/// An interface to be guarded.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Its name on the command line of the service.
    pub name: String,
    /// Whether it exists, and its guard.
    pub state: State,
}

/// The state of an interface.
#[derive(Debug, Clone)]
pub enum State {
    /// The interface does not exist.
    Away,
    /// The interface exists, and has no guard.
    Open,
    /// The interface has a guard; `None` if its pins are damaged, or those of an unknown version.
    Guarded(Option<Box<Guard>>),
}

/// A guard that is on its interface.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Where it runs.
    pub hook: Hook,
    /// Whether it drops; false in audit mode.
    pub enforcing: bool,
    /// Whether it is as the service is ordered.
    pub as_ordered: bool,
    /// The list in force, and the current content of its file.
    pub list: Option<(ListInfo, OnDisk)>,
    /// By how much a deadline of an entry is off at most.
    pub deadline_drift: Duration,
    /// The counters.
    pub sums: Sums,
}

impl Metrics {
    /// In the OpenMetrics text format 1.0.0.
    pub fn into_open_metrics(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut page, &registry);
        page
    }
}

/// Converts a page to the text format 0.0.4 of Prometheus, for clients that do not ask for OpenMetrics. In that format,
/// the head of a family has the `_total` of a counter's name, too, and the page has no mark at its end.
pub fn plain(open_metrics: &str) -> String {
    let mut page = String::with_capacity(open_metrics.len() + 1024);
    let mut lines = open_metrics.lines().filter(|line| *line != "# EOF").peekable();
    while let Some(line) = lines.next() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else {
            page.extend([line, "\n"]);
            continue;
        };
        match lines.next_if_eq(&format!("# TYPE {name} counter").as_str()) {
            Some(_) => page += &format!("# HELP {name}_total {help}\n# TYPE {name}_total counter\n"),
            None => page.extend([line, "\n"]),
        }
    }
    page
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.gauge(
            "portguard_build_info",
            "The version of the service.",
            [([("version", self.version)], 1.0)],
        )?;
        page.counter(
            "portguard_reloads",
            "Attempts to put a list in force, by result; a file that has not changed causes no attempt.",
            [([("result", "ok")], self.reloads.ok), ([("result", "failed")], self.reloads.failed)],
        )?;
        page.gauge(
            "portguard_last_reload_successful",
            "Whether the list that the service's file held at its last check is in force.",
            [([], truth(self.reloads.last_ok))],
        )?;
        self.encode_interfaces(&mut page)?;
        self.encode_lists(&mut page)?;
        self.encode_counters(&mut page)
    }
}

impl Metrics {
    fn encode_interfaces(&self, page: &mut Page<'_>) -> fmt::Result {
        let each = |value: fn(&State) -> bool| {
            self.interfaces.iter().map(move |it| ([("interface", &*it.name)], truth(value(&it.state))))
        };
        page.gauge(
            "portguard_interface_present",
            "Whether the interface exists.",
            each(|state| !matches!(state, State::Away)),
        )?;
        page.gauge(
            "portguard_guard_attached",
            "Whether a guard is on the interface.",
            each(|state| matches!(state, State::Guarded(_))),
        )?;
        page.gauge(
            "portguard_guard_enforcing",
            "Whether the guard drops (1), or only counts (0, audit mode).",
            self.guards().map(|(name, guard)| ([("interface", name)], truth(guard.enforcing))),
        )?;
        page.gauge(
            "portguard_guard_as_ordered",
            "Whether the guard does what the service is ordered to do: list, mode, audit, sources, log rate.",
            // A guard that cannot be read counts as different from its order.
            self.interfaces.iter().filter_map(|it| match &it.state {
                State::Guarded(guard) => {
                    let as_ordered = guard.as_ref().is_some_and(|guard| guard.as_ordered);
                    Some(([("interface", &*it.name)], truth(as_ordered)))
                }
                State::Open | State::Away => None,
            }),
        )?;
        page.gauge(
            "portguard_guard_info",
            "Where the guard runs: its hook, and the mode of XDP.",
            self.guards().map(|(name, guard)| {
                let mode = guard.hook.mode().map_or("", XdpMode::key);
                ([("interface", name), ("hook", guard.hook.key()), ("mode", mode)], 1.0)
            }),
        )
    }

    fn encode_lists(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "portguard_allowlist_generation",
            "The generation of the list in force: 1 for the list at attach, plus 1 for each later list.",
            self.lists().map(|(name, list, _)| ([("interface", name)], list.generation as f64)),
        )?;
        page.gauge(
            "portguard_allowlist_prefixes",
            "Prefixes of the list in force.",
            self.lists().flat_map(|(name, list, _)| {
                Family::ALL.map(|family| {
                    ([("interface", name), ("family", family.key())], f64::from(list.prefixes(family)))
                })
            }),
        )?;
        page.gauge(
            "portguard_allowlist_conditional_prefixes",
            "Prefixes of the list in force that have conditions.",
            self.lists().map(|(name, list, _)| ([("interface", name)], f64::from(list.conditional))),
        )?;
        page.gauge(
            "portguard_allowlist_deadline_drift_seconds",
            "How far the end of a prefix of the list in force is off at most, because the clock was set.",
            self.guards()
                .filter(|(_, guard)| guard.list.is_some())
                .map(|(name, guard)| ([("interface", name)], guard.deadline_drift.as_secs_f64())),
        )?;
        page.gauge(
            "portguard_allowlist_loaded_timestamp_seconds",
            "When the list in force was loaded, in seconds of Unix time.",
            self.lists().map(|(name, list, _)| ([("interface", name)], list.loaded_at as f64 / 1e9)),
        )?;
        page.gauge(
            "portguard_allowlist_changed_on_disk",
            "Whether the file of the list in force has other content now, valid or not.",
            self.lists().map(|(name, _, file)| ([("interface", name)], truth(*file != OnDisk::Unchanged))),
        )?;
        page.gauge(
            "portguard_allowlist_broken_on_disk",
            "Whether the file of the list in force holds no valid list now.",
            self.lists()
                .map(|(name, _, file)| ([("interface", name)], truth(matches!(file, OnDisk::Broken { .. })))),
        )?;
        let info: Vec<_> = self
            .lists()
            .map(|(name, list, _)| {
                (name, list.path.to_string_lossy().into_owned(), list.sha256.to_string(), list.origin.key())
            })
            .collect();
        page.gauge(
            "portguard_allowlist_info",
            "The list in force: its file, its SHA-256, and whether it was read from there or from the last good copy.",
            info.iter().map(|(name, path, sha256, origin)| {
                ([("interface", *name), ("path", path), ("sha256", sha256), ("origin", origin)], 1.0)
            }),
        )
    }

    fn encode_counters(&self, page: &mut Page<'_>) -> fmt::Result {
        page.packets_and_bytes(
            "portguard_allowed",
            "for port 111 from sources on the list.",
            self.guards().map(|(name, guard)| ([("interface", name)], guard.sums.totals.allowed)),
        )?;
        page.packets_and_bytes(
            "portguard_denied",
            "dropped, or let through in audit mode (would_drop), by reason.",
            self.guards().flat_map(|(name, Guard { sums, .. })| {
                let by_reason = sums.by_reason().each();
                by_reason.map(move |(reason, count)| ([("interface", name), ("reason", reason.key())], count))
            }),
        )?;
        page.packets_and_bytes(
            "portguard_would_drop",
            "that are counted as denied, and passed because the guard was in audit mode.",
            self.guards().map(|(name, guard)| ([("interface", name)], guard.sums.totals.would_drop)),
        )?;
        page.packets_and_bytes(
            "portguard_unattributed",
            "that were denied, from sources that other sources have replaced in the source table.",
            self.guards().map(|(name, guard)| ([("interface", name)], guard.sums.unattributed)),
        )?;
        page.counter(
            "portguard_requests",
            "Denied packets, by the requested procedure of rpcbind (over TCP, as far as one segment \
             shows it).",
            self.guards().flat_map(|(name, guard)| {
                Request::all().map(move |request| {
                    let (protocol, procedure) = (request.protocol().key(), request.procedure().key());
                    let labels = [("interface", name), ("protocol", protocol), ("procedure", procedure)];
                    (labels, guard.sums.totals.requests[request.index()])
                })
            }),
        )?;
        page.counter(
            "portguard_not_logged_packets",
            "Denied packets that are missing from the log, because it had no room.",
            self.guards().map(|(name, guard)| ([("interface", name)], guard.sums.totals.not_logged)),
        )?;
        let tables = || {
            self.guards().flat_map(|(name, Guard { sums, .. })| {
                Family::ALL.map(|family| ([("interface", name), ("family", family.key())], sums.fill(family)))
            })
        };
        page.gauge(
            "portguard_source_table_taken",
            "Places of the source table that are taken; a source takes one on each CPU that has seen it.",
            tables().map(|(labels, fill)| (labels, fill.taken as f64)),
        )?;
        page.gauge(
            "portguard_source_table_places",
            "Places of the source table, on all CPUs.",
            tables().map(|(labels, fill)| (labels, fill.places as f64)),
        )
    }

    /// The guards that could be read, by interface.
    fn guards(&self) -> impl Iterator<Item = (&str, &Guard)> {
        self.interfaces.iter().filter_map(|interface| match &interface.state {
            State::Guarded(Some(guard)) => Some((&*interface.name, &**guard)),
            State::Guarded(None) | State::Open | State::Away => None,
        })
    }

    /// The lists in force, by interface.
    fn lists(&self) -> impl Iterator<Item = (&str, &ListInfo, &OnDisk)> {
        self.guards().filter_map(|(name, guard)| guard.list.as_ref().map(|(list, file)| (name, list, file)))
    }
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// The page that is being written.
struct Page<'e>(DescriptorEncoder<'e>);

impl Page<'_> {
    fn gauge<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, f64)>,
    ) -> fmt::Result {
        let samples = samples.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, samples)
    }

    /// Writes a counter. The name is passed without `_total`, which the encoder appends.
    fn counter<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
    ) -> fmt::Result {
        let samples = samples.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, samples)
    }

    /// Writes two counters. `help` continues a text that begins with "Packets" or "Bytes of packets".
    fn packets_and_bytes<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, Count)>,
    ) -> fmt::Result {
        let samples: Vec<_> = samples.into_iter().collect();
        let packets = samples.iter().map(|(labels, count)| (*labels, count.packets));
        self.counter(&format!("{name}_packets"), &format!("Packets {help}"), packets)?;
        let bytes = samples.iter().map(|(labels, count)| (*labels, count.bytes));
        self.counter(
            &format!("{name}_bytes"),
            &format!("Bytes, from the IP header on, of packets {help}"),
            bytes,
        )
    }

    fn family<'a, const N: usize, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = (Labels<'a, N>, M)>,
    ) -> fmt::Result {
        let mut samples = samples.peekable();
        let Some((_, first)) = samples.peek() else { return Ok(()) };
        let mut family = self.0.encode_descriptor(name, help, None, first.metric_type())?;
        for (labels, metric) in samples {
            // A family without labels has no braces, and one sample.
            if N == 0 {
                return metric.encode(family);
            }
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
