//! What `nft -j list ruleset`, `list table` or `list set` prints (libnftables-json(5)).
//!
//! If there are rules, they say who is meant: the sets that they accept port 111 from. Without rules, all sets are taken.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::nft_element::{self, Part};
use super::{Found, nft_rule};
use crate::suggest::client::Client;

/// The hooks through which packets for this host come.
const INPUT: [&str; 3] = ["input", "prerouting", "ingress"];

/// The family, the table and the name of a set or chain.
pub(super) type Name<'a> = (&'a str, &'a str, &'a str);

/// The objects of a document.
#[derive(Debug, Default)]
pub(super) struct Objects<'a> {
    sets: BTreeMap<Name<'a>, &'a Value>,
    hooks: BTreeMap<Name<'a>, &'a str>,
    rules: Vec<&'a Value>,
}

/// Who is in a document.
pub(super) fn clients(text: &str) -> serde_json::Result<Vec<Found>> {
    let document: Value = serde_json::from_str(text)?;
    let mut objects = Objects::default();
    for object in document["nftables"].as_array().into_iter().flatten() {
        objects.add(object);
    }
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for rule in &objects.rules {
        found.extend(nft_rule::clients(rule, &objects, &mut used));
    }
    for (name, set) in &objects.sets {
        if !objects.rules.is_empty() && !used.contains(name) {
            if nft_element::parts(&set["type"]).contains(&Part::Source) {
                let why = "no rule accepts port 111 from it";
                found.push(Found {
                    client: Client::Unclear(why.into()),
                    written: format!("@{}", name.2),
                    part: Some(place("set", *name)),
                    line: None,
                    detail: None,
                });
            }
        } else if objects.rules.is_empty() {
            found.extend(of_set(*name, set));
        }
    }
    Ok(found)
}

/// The place of an object.
pub(super) fn place(kind: &str, (family, table, name): Name<'_>) -> String {
    format!("{kind} {family} {table} {name}")
}

/// The elements of a set or map.
pub(super) fn of_set(name: Name<'_>, set: &Value) -> Vec<Found> {
    let place = place(if set["map"].is_null() { "set" } else { "map" }, name);
    let parts = nft_element::parts(&set["type"]);
    if !parts.contains(&Part::Source) {
        let why = "it has no addresses";
        return vec![Found {
            client: Client::Unclear(why.into()),
            written: format!("@{}", name.2),
            part: Some(place),
            line: None,
            detail: None,
        }];
    }
    let elements = set["elem"].as_array().into_iter().flatten();
    elements.flat_map(|element| nft_element::clients(element, &parts, &place)).collect()
}

fn name(object: &Value) -> Option<Name<'_>> {
    Some((object["family"].as_str()?, object["table"].as_str()?, object["name"].as_str()?))
}

impl<'a> Objects<'a> {
    fn add(&mut self, object: &'a Value) {
        let Some((kind, object)) = object.as_object().and_then(|object| object.iter().next()) else { return };
        match (&**kind, name(object)) {
            ("set" | "map", Some(name)) => drop(self.sets.insert(name, object)),
            ("chain", Some(name)) => drop(object["hook"].as_str().map(|hook| self.hooks.insert(name, hook))),
            ("rule", _) => self.rules.push(object),
            _ => {}
        }
    }

    /// The set that a rule names.
    pub(super) fn set(&self, name: Name<'a>) -> Option<(Name<'a>, &'a Value)> {
        self.sets.get_key_value(&name).map(|(name, set)| (*name, *set))
    }

    /// Whether packets for this host may come to a chain.
    pub(super) fn is_for_input(&self, chain: Name<'_>) -> bool {
        self.hooks.get(&chain).is_none_or(|hook| INPUT.contains(hook))
    }
}
