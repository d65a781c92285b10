//! Which guard is where: for the eye.

use std::fmt::Write as _;

use portguard_common::calls::UdpCalls;

use super::document::{Allowlist, Confirmation, Document, File, Guard, Program};
use crate::allowlist::Origin;
use crate::guard::Waits;
use crate::ops::{services, state};

/// A deadline that is off by so many seconds is shown.
const WORTH_A_WARNING: u64 = 2;

/// The document for the eye.
pub fn text(document: &Document) -> String {
    let mut text = String::new();
    for guard in &document.interfaces {
        // Writing to a string does not fail.
        let _ = write(&mut text, guard);
    }
    for unguarded in &document.unguarded {
        text += &services::line(unguarded);
        text.push('\n');
    }
    text
}

fn write(text: &mut String, guard: &Guard) -> std::fmt::Result {
    let Guard { interface, hook, generation, attached_at, allowlist, program, service, .. } = guard;
    let state = state(guard.enforcing);
    writeln!(text, "{interface}: {state}, {hook}, since {attached_at}")?;
    let path = allowlist.path.display();
    match &allowlist.file {
        File::Unchanged => writeln!(text, "  allowlist  {path}, unchanged on disk")?,
        File::Changed => {
            writeln!(text, "  allowlist  {path}, CHANGED on disk since (portguard reload {interface})")?;
        }
        File::Broken { problem } => {
            writeln!(text, "  allowlist  {path}, BROKEN on disk (portguard check {path})")?;
            writeln!(text, "             {problem}; the list that it held before is in force")?;
        }
    }
    if allowlist.origin == Origin::LastGood {
        writeln!(
            text,
            "             from the copy of the last good list: the file was broken when it was loaded"
        )?;
    }
    let Allowlist { prefixes_v4, prefixes_v6, udp, conditional, deadlines_off_by, loaded_at, sha256, .. } =
        allowlist;
    let udp = if *udp == UdpCalls::All.key() { String::new() } else { format!(" udp {udp},") };
    let conditions = match conditional {
        0 => String::new(),
        some => format!(" {some} with conditions,"),
    };
    writeln!(
        text,
        "             generation {generation}, {prefixes_v4} IPv4 and {prefixes_v6} IPv6 prefixes,{conditions}{udp} \
         loaded {loaded_at}"
    )?;
    writeln!(text, "             sha256 {sha256}")?;
    if *deadlines_off_by >= WORTH_A_WARNING {
        writeln!(
            text,
            "  deadlines  OFF BY {deadlines_off_by} s: the clock was set (portguard reload {interface})"
        )?;
    }
    if let Some(Confirmation { state, deadline }) = &guard.confirmation {
        match state {
            Waits::Pending => writeln!(
                text,
                "  change     waits for its confirmation until {deadline} (portguard confirm {interface})"
            )?,
            Waits::Overdue => writeln!(
                text,
                "  change     CONFIRMATION OVERDUE since {deadline}: the next portguard that changes guards restores \
                 the previous state"
            )?,
            Waits::Rejected => writeln!(
                text,
                "  change     rejected: not confirmed until {deadline}; the previous state is in force"
            )?,
        }
    }
    let Program { id, name, tag, abi_version } = program;
    writeln!(text, "  program    {name}, id {id}, tag {tag}, ABI {abi_version}")?;
    writeln!(text, "  link       {}", guard.pinned.display())?;
    match service {
        Some(service) => writeln!(text, "  service    {}, {}", service.name(), service.verdict()),
        None => Ok(()),
    }
}
