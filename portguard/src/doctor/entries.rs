//! What the entries of a guard's list permit, and whether those that end do so in time.

use std::time::Duration;

use portguard_common::calls::UdpCalls;
use portguard_common::conditions::Conditions;

use super::Finding;
use super::remedy::RemedyKind;
use crate::guard::{Guard, ListInfo, unix_now};
use crate::printable::{counted, quoted};

/// A deadline that is off by so much is worth a warning. The kernel's clocks may differ by less.
const WORTH_A_WARNING: Duration = Duration::from_secs(2);

/// The entries of the list in force, and what they come to on one interface now.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Those that allow something, by [`UdpCalls`].
    permitting: [u64; UdpCalls::ALL.len()],
    /// Those that have ended.
    ended: u64,
    /// Those that are for other interfaces.
    elsewhere: u64,
    /// By how much a deadline is off.
    drift: Duration,
}

impl Entries {
    pub(super) fn gather(guard: &Guard, list: Option<&ListInfo>) -> Self {
        let mut entries = Self { drift: guard.deadline_drift(), ..Self::default() };
        let Some(list) = list else { return entries };
        let conditions = guard.conditions();
        let all = u64::from(list.prefixes_v4) + u64::from(list.prefixes_v6);
        entries.permitting[list.udp_calls as usize] = all.saturating_sub(conditions.len() as u64);
        let now = unix_now();
        conditions.iter().for_each(|conditions| entries.add(conditions, now));
        entries
    }

    /// Adds an entry with conditions; `now` is in nanoseconds of Unix time.
    fn add(&mut self, conditions: &Conditions, now: u64) {
        let of_kind = if conditions.is_elsewhere != 0 {
            &mut self.elsewhere
        } else if conditions.until <= now {
            &mut self.ended
        } else {
            let calls = UdpCalls::from_number(conditions.udp_calls).unwrap_or(UdpCalls::None);
            &mut self.permitting[calls as usize]
        };
        *of_kind += 1;
    }

    /// `list` is the file of the list, and `udp_calls` what it permits where an entry does not say it.
    pub(super) fn judge(&self, interface: &str, list: &str, udp_calls: UdpCalls) -> Vec<Finding> {
        let findings = [
            Some(self.judge_udp_calls(list, udp_calls)),
            self.judge_whether_any_allows(interface, list),
            self.judge_deadlines(interface),
        ];
        findings.into_iter().flatten().collect()
    }

    /// What a forger can do with the addresses of the list.
    fn judge_udp_calls(&self, list: &str, udp_calls: UdpCalls) -> Finding {
        const ID: &str = "guard.udp";
        let permitting =
            || UdpCalls::ALL.into_iter().zip(self.permitting).filter(|(_, entries)| *entries > 0);
        let unless = "unless clients broadcast (NIS, rpcinfo -b)";
        let found = match permitting().map(|(calls, _)| calls).collect::<Vec<_>>()[..] {
            [_, _, ..] => {
                let each = permitting().map(|(calls, entries)| {
                    let permit = if entries == 1 { "permits" } else { "permit" };
                    let what = match calls {
                        UdpCalls::All => "all calls",
                        UdpCalls::Lookups => "only lookups",
                        UdpCalls::None => "no calls",
                    };
                    format!("{} {permit} {what}", counted(entries, "entry"))
                });
                let each = each.collect::<Vec<_>>().join(", ");
                let advice = match (self.permitting[UdpCalls::All as usize], udp_calls) {
                    (0, _) => String::new(),
                    (_, UdpCalls::All) => format!(
                        "; `udp: lookups` in {list} keeps others from forging the sources of those with all calls, {unless}"
                    ),
                    // The entries have it themselves.
                    _ => format!(
                        "; others can forge the sources of the entries that have `udp: all` in {list}: take that out, {unless}"
                    ),
                };
                format!("over UDP, {each}{advice}")
            }
            ref of_one_kind => match of_one_kind.first().unwrap_or(&udp_calls) {
                UdpCalls::All if udp_calls != UdpCalls::All => format!(
                    "listed sources may make all calls over UDP, because the entries have `udp: all` in {list}: others can forge \
                     them; take that out, {unless}"
                ),
                UdpCalls::All => format!(
                    "listed sources may make all calls over UDP; `udp: lookups` in {list} keeps others from forging them, {unless}"
                ),
                UdpCalls::Lookups => "listed sources may only make lookups over UDP".to_owned(),
                UdpCalls::None => "listed sources may make no calls over UDP".to_owned(),
            },
        };
        Finding::ok(ID, found)
    }

    /// Whether the list allows anything on this interface, if it has entries.
    fn judge_whether_any_allows(&self, interface: &str, list: &str) -> Option<Finding> {
        if self.permitting.iter().sum::<u64>() > 0 || self.ended + self.elsewhere == 0 {
            return None;
        }
        let kinds = [(self.ended, "ended"), (self.elsewhere, "for other interfaces")];
        let kinds = kinds.into_iter().filter(|(entries, _)| *entries > 0);
        let kinds: Vec<String> = kinds
            .map(|(entries, how)| match (entries, how) {
                (1, "ended") => "1 has ended".to_owned(),
                (_, "ended") => format!("{entries} have ended"),
                (1, _) => format!("1 is {how}"),
                _ => format!("{entries} are {how}"),
            })
            .collect();
        let found = format!("no entry of its list allows anybody now: {}", kinds.join(", "));
        let remedy = RemedyKind::CheckList.text(format!(
            "`portguard check {}` shows them. Change them, then run: portguard reload {}",
            quoted(list),
            quoted(interface)
        ));
        Some(Finding::warning("guard.entries", found, remedy))
    }

    /// Whether the clock was set, and nothing has told the kernel since.
    fn judge_deadlines(&self, interface: &str) -> Option<Finding> {
        let seconds = self.drift.as_secs();
        (self.drift >= WORTH_A_WARNING).then(|| {
            Finding::warning(
                "guard.deadlines",
                format!("the clock was set, so the end of entries is off by {seconds} s"),
                RemedyKind::Reload.text(format!("portguard reload {}", quoted(interface))),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use portguard_common::conditions::NEVER;

    use super::*;
    use crate::doctor::Status;

    const NOW: u64 = 1_000;

    /// What entries are said to permit; each of these is one.
    fn found(conditions: &[Conditions], udp_calls: UdpCalls) -> Vec<(Status, String)> {
        let mut entries = Entries::default();
        conditions.iter().for_each(|conditions| entries.add(conditions, NOW));
        let findings = entries.judge("eth0", "LIST", udp_calls);
        findings.into_iter().map(|finding| (finding.status, finding.found)).collect()
    }

    #[test]
    fn entries_with_calls_of_their_own_count_for_what_they_permit() {
        let [all, lookups, none] = UdpCalls::ALL.map(Conditions::none);
        for (entries, udp_calls, expected) in [
            (&[][..], UdpCalls::Lookups, "listed sources may only make lookups over UDP"),
            (&[lookups, lookups], UdpCalls::All, "listed sources may only make lookups over UDP"),
            (&[none], UdpCalls::All, "listed sources may make no calls over UDP"),
            (
                &[none, lookups, lookups],
                UdpCalls::All,
                "over UDP, 2 entries permit only lookups, 1 entry permits no calls",
            ),
        ] {
            assert_eq!(found(entries, udp_calls), [(Status::Ok, expected.to_owned())]);
        }
        let told = &found(&[lookups, all], UdpCalls::Lookups)[0].1;
        assert!(
            told.starts_with(
                "over UDP, 1 entry permits all calls, 1 entry permits only lookups; others can forge the sources"
            ),
            "{told}"
        );
        let told = &found(&[lookups, all], UdpCalls::All)[0].1;
        assert!(
            told.contains("; `udp: lookups` in LIST keeps others from forging the sources of those"),
            "{told}"
        );
        let told = &found(&[all], UdpCalls::All)[0].1;
        assert!(
            told.starts_with("listed sources may make all calls over UDP; `udp: lookups` in LIST"),
            "{told}"
        );
        let told = &found(&[all], UdpCalls::Lookups)[0].1;
        assert!(
            told.contains("because the entries have `udp: all` in LIST") && told.contains("take that out"),
            "{told}"
        );
    }

    #[test]
    fn a_list_of_which_no_entry_allows_anybody_is_worth_a_warning() {
        let ends_at = |until| Conditions { until, ..Conditions::none(UdpCalls::All) };
        let elsewhere = Conditions { is_elsewhere: 1, ..ends_at(NEVER) };
        for (entries, expected) in [
            (&[][..], None),
            (&[ends_at(NOW + 1), ends_at(NOW)], None),
            (&[ends_at(NOW)], Some("no entry of its list allows anybody now: 1 has ended")),
            (
                &[ends_at(NOW), ends_at(NOW - 1), elsewhere],
                Some("no entry of its list allows anybody now: 2 have ended, 1 is for other interfaces"),
            ),
        ] {
            let expected = expected.map(|found| (Status::Warning, found.to_owned()));
            assert_eq!(found(entries, UdpCalls::All).get(1), expected.as_ref());
        }
    }

    #[test]
    fn a_deadline_is_off_from_two_seconds_on() {
        for (drift, expected) in [(1_999, 1), (2_000, 2)] {
            let entries = Entries { drift: Duration::from_millis(drift), ..Entries::default() };
            let findings = entries.judge("eth0", "LIST", UdpCalls::All);
            assert_eq!(findings.len(), expected, "{findings:?}");
        }
    }
}
