//! Which services a host says that it has.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use portguard_common::rpc::Procedure;

use super::{Answer, Finding};
use crate::rpcbind::{Registration, registrations};

/// The list in an answer to `DUMP`, or why what it holds is none. `None`: nobody has asked for a list, or none came.
pub fn list((question, reply): &Answer) -> Option<Result<Vec<Registration>, String>> {
    let results = reply.as_ref().ok()?.results.as_ref().ok()?;
    (question.procedure() == Procedure::Dump).then(|| registrations(question.version(), results))
}

/// All that is in any of the lists, in the order of these, each once.
///
/// Version 2 tells less: what a later version tells in full is not told again.
pub fn services(finding: &Finding) -> Vec<Registration> {
    let answers = finding.udp.iter().chain(&finding.tcp);
    let mut lists: Vec<(u32, Vec<Registration>)> =
        answers.filter_map(|answer| Some((answer.0.version(), list(answer)?.ok()?))).collect();
    // The latest version first; those of UDP stay in front of those of TCP.
    lists.sort_by_key(|(version, _)| Reverse(*version));
    let (mut services, mut seen, mut known) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for service in lists.into_iter().flat_map(|(_, list)| list) {
        let short = Registration { more: None, ..service.clone() };
        let told = service.more.is_none() && known.contains(&short);
        if !told && seen.insert(service.clone()) {
            known.insert(short);
            services.push(service);
        }
    }
    services
}
