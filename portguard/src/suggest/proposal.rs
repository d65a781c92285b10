//! What was found, put together to a list: sorted, each prefix once, none inside another one. Pure.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Serialize;

use crate::allowlist::oddity;

/// A client, or several, by a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Their addresses.
    pub prefix: IpNet,
    /// Where they were found: the same words for the same place.
    pub origin: String,
    /// What else is known of this one.
    pub detail: Option<String>,
}

/// What was found and is not in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// As it is written there.
    pub what: String,
    /// Where it was found.
    pub origin: String,
    /// Why it is not in the list.
    pub why: String,
}

/// A list, and what it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// In order, of which none covers another one.
    pub entries: Vec<Proposed>,
    /// In the order in which it was found.
    pub left_out: Vec<LeftOut>,
    /// Sources of packets, which may be forged: nothing proves that they are clients. Those of most packets first.
    pub unproven: Vec<Proposed>,
    /// How many more of them there are.
    pub unproven_more: usize,
}

/// A prefix to be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposed {
    /// The prefix.
    pub prefix: IpNet,
    /// Why: at least one reason.
    pub origins: Vec<Origin>,
}

/// A place in which a prefix was found, or prefixes that it covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The place.
    pub origin: String,
    /// What else is known of the prefix.
    pub detail: Option<String>,
    /// The smaller prefixes that were found there; the prefix itself if there are none.
    pub covers: Vec<IpNet>,
}

impl Proposal {
    /// Puts together what was found.
    pub fn of(findings: impl IntoIterator<Item = Finding>, left_out: Vec<LeftOut>) -> Self {
        let mut proposal = Self { left_out, ..Self::default() };
        let mut sorted = BTreeMap::<IpNet, Vec<Finding>>::new();
        for finding in findings {
            // Such as a loopback address, of which no packet comes.
            match oddity(finding.prefix) {
                Some((why, _)) => proposal.left_out.push(LeftOut {
                    what: finding.prefix.to_string(),
                    origin: finding.origin,
                    why,
                }),
                None => sorted.entry(finding.prefix).or_default().push(finding),
            }
        }
        // A prefix comes before all that it covers.
        for (prefix, findings) in sorted {
            match proposal.entries.last_mut() {
                Some(entry) if entry.prefix.contains(&prefix) => entry.add(prefix, findings),
                _ => {
                    let mut entry = Proposed { prefix, origins: Vec::new() };
                    entry.add(prefix, findings);
                    proposal.entries.push(entry);
                }
            }
        }
        proposal
    }
}

impl Proposed {
    fn add(&mut self, prefix: IpNet, findings: Vec<Finding>) {
        for Finding { origin, detail, .. } in findings {
            let own = prefix == self.prefix;
            let known = self.origins.iter_mut().find(|known| known.origin == origin);
            let known = match known {
                Some(known) => known,
                None => {
                    let detail = detail.filter(|_| own);
                    self.origins.push(Origin { origin, detail, covers: Vec::new() });
                    let Some(last) = self.origins.last_mut() else { continue };
                    last
                }
            };
            if !own && known.covers.last() != Some(&prefix) {
                known.covers.push(prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(prefix: &str, origin: &str) -> Finding {
        Finding {
            prefix: prefix.parse().unwrap(),
            origin: origin.into(),
            detail: Some(format!("of {prefix}")),
        }
    }

    #[test]
    fn entries_are_sorted_and_what_is_covered_is_merged_with_its_origins() {
        let findings = [
            finding("2001:db8::/48", "exports"),
            finding("192.0.2.7/32", "peers"),
            finding("192.0.2.0/24", "exports"),
            finding("192.0.2.8/32", "peers"),
            finding("192.0.2.0/24", "eth0"),
            finding("192.0.2.0/24", "exports"),
            finding("10.0.0.1/32", "peers"),
            finding("192.0.3.0/24", "exports"),
        ];
        let proposal = Proposal::of(findings, vec![]);
        let shown: Vec<String> = proposal
            .entries
            .iter()
            .map(|entry| {
                let origins: Vec<String> = entry
                    .origins
                    .iter()
                    .map(|it| format!("{} {:?} {}", it.origin, it.detail.as_deref(), it.covers.len()))
                    .collect();
                format!("{}: {}", entry.prefix, origins.join(", "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "10.0.0.1/32: peers Some(\"of 10.0.0.1/32\") 0",
                "192.0.2.0/24: exports Some(\"of 192.0.2.0/24\") 0, eth0 Some(\"of 192.0.2.0/24\") 0, peers None 2",
                "192.0.3.0/24: exports Some(\"of 192.0.3.0/24\") 0",
                "2001:db8::/48: exports Some(\"of 2001:db8::/48\") 0",
            ]
        );
    }

    #[test]
    fn who_never_comes_is_left_out_and_named() {
        let findings = ["127.0.0.1/32", "0.0.0.0/0", "::1/128", "224.0.0.1/32", "::ffff:192.0.2.7/128"];
        let proposal = Proposal::of(findings.map(|prefix| finding(prefix, "exports")), vec![]);
        assert_eq!(proposal.entries, []);
        assert_eq!(proposal.left_out.len(), findings.len());
    }
}
