//! What to do about a guard. It depends on who keeps the guard: a command would be refused, or undone, where a service does;
//! and where there is none, a command must name what the guard was ordered to do, or it would get another list.

use std::borrow::Cow;

use super::guards::Owner;
use crate::allowlist::Allowlist;
use crate::guard::{LastOrder, default_sources};
use crate::ops::default_allowlist;

/// For an interface that never had a guard. A new guard gets the default list: a guard with an empty one would keep every
/// client out.
pub(super) fn of_unguarded(interface: &str) -> String {
    let attach = format!("portguard attach {}", quoted(interface));
    let path = default_allowlist();
    match Allowlist::load(&path) {
        Ok(checked) if !checked.allowlist.entries().is_empty() => attach,
        _ => format!(
            "Write the sources that may reach port 111 into {} (portguard suggest proposes a list); then: {attach}",
            path.display()
        ),
    }
}

/// For an interface whose guard was attached by hand, and lost its link. No name: the interface is gone as well.
pub(super) fn of_gone(interface: Option<&str>, order: Option<&LastOrder>) -> String {
    let options = order.map_or_else(|| " --allowlist FILE".to_owned(), options);
    match interface {
        Some(name) => format!("portguard attach {}{options}", quoted(name)),
        None => format!(
            "If the interface was created again: portguard attach NAME{options}. `portguard run` does that by itself."
        ),
    }
}

/// The arguments of `attach` that give a guard this order.
fn options(order: &LastOrder) -> String {
    let LastOrder { list, audit, sources } = order;
    let mut options = format!(" --allowlist {}", quoted(&list.to_string_lossy()));
    if *audit {
        options += " --audit";
    }
    if default_sources() != Some(*sources) {
        options += &format!(" --sources {sources}");
    }
    options
}

/// For a guard that lets everything through because its service is ordered so.
pub(super) fn of_ordered_audit(owner: &Owner) -> String {
    format!("Remove --audit from the order of {}, and restart that service.", owner.place)
}

/// For a guard that does otherwise than its service is ordered.
pub(super) fn of_difference(interface: &str, owner: &Owner, differences: &[String]) -> String {
    let log = &owner.log;
    if differences.iter().any(|difference| difference.starts_with("mode ")) {
        let (interface, place) = (quoted(interface), &owner.place);
        return format!(
            "A guard keeps its mode. Order the mode that it has: {place}. Or stop the service, run portguard detach \
             {interface}, and start the service; in between the port is open."
        );
    }
    format!("The service restores the guard at its next poll. If it does not, see the reason: {log}")
}

/// For an interface that its service could not guard.
pub(super) fn of_open(owner: &Owner) -> String {
    format!(
        "Remove the cause, and the service guards the interface at its next poll. See the cause: {}",
        owner.log
    )
}

/// For an interface that its service waits for.
pub(super) fn of_waiting(owner: &Owner) -> String {
    format!(
        "If the interface will be created, the service guards it then. If its name is wrong, change the name there, \
         and restart the service: {}",
        owner.place
    )
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''")).into()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_takes_a_quoted_word_for_what_it_was() {
        for word in ["eth0", "/etc/a b.yaml", "it's", "", "$(id)", "*", "a\\b", "'"] {
            let script = format!("printf %s {}", quoted(word));
            let output = Command::new("sh").args(["-c", &script]).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }

    #[test]
    fn a_guard_that_is_gone_comes_back_with_the_order_that_it_had() {
        let order = LastOrder { list: "/etc/portguard/of eth0.yaml".into(), audit: true, sources: 512 };
        let expected =
            "portguard attach eth0 --allowlist '/etc/portguard/of eth0.yaml' --audit --sources 512";
        assert_eq!(of_gone(Some("eth0"), Some(&order)), expected);
    }
}
