//! The index against a naive search of the list, on the host: random and difficult lists, of both address families.

use fastrand::Rng;
use portguard::allowlist::lookup_builder::{Family, Index};
use portguard_common::address::{Address as _, V4, V6};
use portguard_common::lookup::{Blocks, DirectTable, Indexed, Node, form, hint, search};
use portguard_common::prefilter::{Answer, Found, Storage, find};
use portguard_testkit::oracle::lists::{Bits, Kind, list, probe};
use portguard_testkit::oracle::seed;

/// An address family under test.
trait Width: Family {
    const WIDTH: u32;
    fn from_bits(bits: u128) -> Self;
}

impl Width for V4 {
    const WIDTH: u32 = 32;
    fn from_bits(bits: u128) -> Self {
        Self::from_wire(((bits >> 96) as u32).to_be_bytes())
    }
}

impl Width for V6 {
    const WIDTH: u32 = 128;
    fn from_bits(bits: u128) -> Self {
        Self::from_wire(bits.to_be_bytes())
    }
}

struct Memory<'a, L>(&'a [L]);

impl<A: Indexed> Blocks<A> for Memory<'_, A::Block> {
    fn block(&self, number: u32) -> Option<&A::Block> {
        self.0.get(number as usize)
    }
}

fn build<A: Width>(list: &[Bits]) -> Index<A> {
    Index::of(list.iter().map(|prefix| (A::from_bits(prefix.network), prefix.length as u8)))
}

/// What the index says, the direct table first.
fn ask<A: Width>(index: &Index<A>, address: A) -> Option<bool> {
    match hint(&index.direct_table, address) {
        hint::DENIED => Some(false),
        hint::COVERED => Some(true),
        hint::UNDECIDED => match index.direct_table.form & form::DIRECT {
            0 => search(&index.direct_table, &Memory(&index.blocks), address),
            _ => search(&index.direct_table, &*index.direct_table, address),
        }
        .map(|number| number.is_some()),
        other => panic!("hint {other}"),
    }
}

/// Compares `probes` answers with those of the list; returns how many the index left to the tries.
fn check<A: Width>(rng: &mut Rng, list: &[Bits], probes: usize, context: &str) -> usize {
    let index = build::<A>(list);
    let mut undecided = 0;
    for _ in 0..probes {
        let bits = probe(rng, list, A::WIDTH);
        let expected = list.iter().any(|prefix| prefix.covers(bits));
        let address = A::from_bits(bits);
        match ask(&index, address) {
            Some(found) => assert_eq!(found, expected, "{context}: {address:?} in {list:x?}"),
            None => undecided += 1,
        }
    }
    undecided
}

fn check_all<A: Width>() {
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    for round in 0..40 {
        for kind in Kind::ALL {
            for count in [0, 1, 2, 5, 9, 17, 100, 1000] {
                let list = list(&mut rng, kind, count, A::WIDTH);
                let context = format!("PORTGUARD_SEED={seed}, round {round}, {kind:?}, {count}");
                let undecided = check::<A>(&mut rng, &list, 200, &context);
                assert!(undecided == 0, "{context}: {undecided} of 200 left to the tries");
            }
        }
    }
}

#[test]
fn ipv4_index_and_list_agree() {
    check_all::<V4>();
}

#[test]
fn ipv6_index_and_list_agree() {
    check_all::<V6>();
}

/// Lists too long for the direct table, whose indexes have a prefilter where that is of use.
fn check_long<A: Width>() {
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let mut with_prefilter = 0;
    for kind in Kind::ALL {
        let list = list(&mut rng, kind, 20_000, A::WIDTH);
        with_prefilter += usize::from(build::<A>(&list).direct_table.filter_bits != 0);
        check::<A>(&mut rng, &list, 1000, &format!("PORTGUARD_SEED={seed}, long, {kind:?}"));
    }
    assert!(with_prefilter > 0, "none of the lists has a prefilter");
}

#[test]
fn long_ipv4_lists_and_their_prefilters_agree() {
    check_long::<V4>();
}

#[test]
fn long_ipv6_lists_and_their_prefilters_agree() {
    check_long::<V6>();
}

/// A list whose ranges a prefilter stores in all ways: alone in their regions, crowded into a few, longer than a site or a region,
/// at the first and the last address, and more in one site than a leaf has room for.
fn stored_in_all_ways<A: Width>(rng: &mut Rng) -> Vec<Bits> {
    let below = |rng: &mut Rng, network: u128, length: u32| network | rng.u128(..) >> length;
    let mut list = vec![Bits::of(0, A::WIDTH), Bits::of(u128::MAX, A::WIDTH)];
    for _ in 0..10_000 {
        let site = rng.u128(..);
        list.push(Bits::of(site, A::WIDTH - rng.u32(0..4)));
    }
    for _ in 0..200 {
        let region = rng.u128(..) >> (128 - A::REGION_BITS) << (128 - A::REGION_BITS);
        for _ in 0..rng.u32(1..60) {
            let length = rng.u32(A::REGION_BITS + 1..=A::WIDTH);
            list.push(Bits::of(below(rng, region, A::REGION_BITS), length));
        }
        let site = below(rng, region, A::REGION_BITS) >> (128 - A::SITE_BITS) << (128 - A::SITE_BITS);
        for _ in 0..rng.usize(0..4 * A::RANGES) {
            list.push(Bits::of(below(rng, site, A::SITE_BITS), A::WIDTH));
        }
        list.push(Bits::of(rng.u128(..), rng.u32(A::REGION_BITS - 8..=A::REGION_BITS)));
    }
    // Ranges that cover all addresses with some hints, and begin and end within those with another hint.
    for _ in 0..20 {
        let network = rng.u128(..) >> 116 << 116;
        list.push(Bits::of(network, 12));
        list.push(Bits::of(network.wrapping_add(1 << 116), 18));
        list.push(Bits::of(network.wrapping_sub(1 << 110), 18));
    }
    list.sort_unstable();
    list.dedup();
    list
}

/// The first and the last address of a family, and then addresses near entries.
fn probes<'a, A: Width>(rng: &'a mut Rng, list: &'a [Bits], count: usize) -> impl Iterator<Item = u128> + 'a {
    let ends = [0, u128::MAX >> (128 - A::WIDTH) << (128 - A::WIDTH)];
    let near = std::iter::repeat_with(|| probe(rng, list, A::WIDTH));
    ends.into_iter().chain(near).take(count)
}

/// What the prefilter finds of addresses, by the way in which their ranges are stored, is what the list says.
fn check_storage<A: Width>() {
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let list = stored_in_all_ways::<A>(&mut rng);
    let index = build::<A>(&list);
    let (direct_table, blocks) = (&*index.direct_table, Memory(&index.blocks));
    let mut found = [0; 3];
    for bits in probes::<A>(&mut rng, &list, 40_000) {
        let address = A::from_bits(bits);
        let expected = list.iter().any(|prefix| prefix.covers(bits));
        let context = format!("PORTGUARD_SEED={seed}: {address:?}");
        assert_eq!(ask(&index, address), Some(expected), "{context}");
        if hint(direct_table, address) != hint::UNDECIDED {
            continue;
        }
        let answer = Answer::of(direct_table, &blocks, address).expect("a filter");
        let has = [Storage::Region, Storage::Site, Storage::Tables].map(|storage| answer.names(storage));
        let there = find(direct_table, &blocks, address).expect("leaves");
        assert!(!expected || !answer.is_none(), "{context}: stopped by the filter");
        assert_eq!(there == Found::InTables, there != Found::Covered(0) && has[2], "{context}");
        assert!(there != Found::Covered(0) || expected, "{context}: the leaves cover what the list does not");
        match there {
            Found::Covered(0) if has[0] && !has[1] => found[0] += 1,
            Found::Covered(0) if has[1] && !has[0] => found[1] += 1,
            Found::InTables if expected => found[2] += 1,
            _ => {}
        }
    }
    let needed = if A::SITE_BITS > A::REGION_BITS { [true; 3] } else { [true, false, true] };
    assert_eq!(found.map(|number| number > 50), needed, "{found:?} found by region, site and tables");
}

#[test]
fn an_ipv4_prefilter_finds_ranges_however_they_are_stored() {
    check_storage::<V4>();
}

#[test]
fn an_ipv6_prefilter_finds_ranges_however_they_are_stored() {
    check_storage::<V6>();
}

/// The index of a list with conditions says of each address which conditions the longest entry has that covers it.
fn check_conditions<A: Width>() {
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let mut lists: Vec<_> = Kind::ALL.map(|kind| list(&mut rng, kind, 300, A::WIDTH)).into();
    lists.extend(Kind::ALL.map(|kind| list(&mut rng, kind, 20_000, A::WIDTH)));
    lists.push(stored_in_all_ways::<A>(&mut rng));
    let (mut decided, mut covered, mut filtered, mut asked, mut unconditional) = (0, 0, 0, 0, 0);
    for list in lists {
        // Some entries have no conditions: 0.
        let entries: Vec<_> = list.iter().zip(7..).map(|(prefix, n)| (prefix, n * rng.u32(..2))).collect();
        let index = Index::with_conditions(
            entries.iter().map(|(prefix, n)| (A::from_bits(prefix.network), prefix.length as u8, *n)),
        );
        assert_eq!(index.direct_table.form & form::CONDITIONS, form::CONDITIONS);
        filtered += usize::from(index.direct_table.filter_bits != 0);
        for bits in probes::<A>(&mut rng, &list, 1000) {
            asked += 1;
            let address = A::from_bits(bits);
            let covering = entries.iter().filter(|(prefix, _)| prefix.covers(bits));
            let expected = covering.max_by_key(|(prefix, _)| prefix.length).map(|(_, number)| *number);
            let found = match hint(&index.direct_table, address) {
                hint::DENIED => Some(None),
                hint::COVERED => Some(Some(0)),
                _ if index.direct_table.form & form::DIRECT != 0 => {
                    search(&index.direct_table, &*index.direct_table, address)
                }
                _ => search(&index.direct_table, &Memory(&index.blocks), address),
            };
            if let Some(found) = found {
                assert_eq!(found, expected, "PORTGUARD_SEED={seed}: {address:?}, {} entries", list.len());
                decided += 1;
                covered += usize::from(found.is_some());
                unconditional += usize::from(found == Some(0));
            }
        }
    }
    assert!(filtered > 0, "none of the lists has a prefilter");
    assert!(covered > 1000 && decided - covered > 1000, "{covered} of {decided} covered");
    assert!(
        unconditional > 500 && covered - unconditional > 500,
        "{unconditional} of {covered} without conditions"
    );
    assert!(decided > asked * 4 / 5, "{decided} of {asked} decided");
}

#[test]
fn an_ipv4_index_with_conditions_finds_those_of_the_longest_entry() {
    check_conditions::<V4>();
}

#[test]
fn an_ipv6_index_with_conditions_finds_those_of_the_longest_entry() {
    check_conditions::<V6>();
}

#[test]
fn the_whole_of_ipv4_agrees_with_a_list_of_many_lengths() {
    let mut rng = Rng::with_seed(7);
    let list = list(&mut rng, Kind::Sparse, 300, 32);
    let index = build::<V4>(&list);
    // Every 257th address: each value of the lowest byte, many times over.
    for address in (0..=u32::MAX).step_by(257) {
        let bits = u128::from(address) << 96;
        let expected = list.iter().any(|prefix| prefix.covers(bits));
        assert_eq!(ask(&index, V4::from_bits(bits)), Some(expected), "{address:x}");
    }
}

#[test]
fn lists_of_everybody_and_nobody_need_no_more_than_the_front() {
    for (list, expected) in [(vec![], false), (vec![Bits::of(0, 0)], true)] {
        let (v4, v6) = (build::<V4>(&list), build::<V6>(&list));
        assert_eq!((v4.blocks.len(), v6.blocks.len()), (0, 0));
        for address in [0, 1 << 127, u128::MAX] {
            assert_eq!(ask(&v4, V4::from_bits(address)), Some(expected));
            assert_eq!(ask(&v6, V6::from_bits(address)), Some(expected));
        }
    }
}

/// Each /17 has 128 regions: a filter for all of them would stop few sources.
#[test]
fn a_list_of_many_long_ranges_has_no_prefilter() {
    let list: Vec<Bits> = (0..1_u128 << 16).map(|network| Bits::of(network << 112, 17)).collect();
    let index = build::<V4>(&list);
    assert_eq!(index.direct_table.filter_bits, 0);
    let mut rng = Rng::with_seed(5);
    for _ in 0..1000 {
        let bits = rng.u128(..) >> 96 << 96;
        let expected = bits >> 111 & 1 == 0;
        assert_eq!(ask(&index, V4::from_bits(bits)), Some(expected), "{bits:x}");
    }
}

/// Each /30 has parts in four regions: their leaves would take all of the memory that an index may have.
#[test]
fn leaves_that_would_take_too_much_memory_are_not_made() {
    let list: Vec<Bits> = (0..1_u128 << 20).map(|network| Bits::of(network << 99 | 1 << 125, 30)).collect();
    let index = build::<V6>(&list);
    assert_eq!((index.direct_table.filter_bits, index.direct_table.leaf_count), (0, 0));
    assert!(size_of_val(index.blocks.as_slice()) <= 256 << 20);
}

/// Many hosts in few networks: leaves that no host would be in are not made.
#[test]
fn a_crowded_list_has_no_more_leaves_than_it_can_use() {
    let hosts = (0..4000_u128).flat_map(|network| (0..128).map(move |host| network << 13 << 91 | host << 97));
    let list: Vec<Bits> = hosts.map(|network| Bits::of(network, 32)).collect();
    let index = build::<V4>(&list);
    assert!(index.direct_table.leaf_count <= 2 * 4000, "{} leaves", index.direct_table.leaf_count);
    let mut rng = Rng::with_seed(6);
    for _ in 0..1000 {
        let bits = probe(&mut rng, &list, 32);
        let expected = list.binary_search_by_key(&bits, |host| host.network).is_ok();
        assert_eq!(ask(&index, V4::from_bits(bits)), Some(expected), "{bits:x}");
    }
}

#[test]
fn what_would_take_too_many_steps_is_left_to_the_tries() {
    // Each table finds a cluster at its end that is alike in all but ever more of its last bits.
    let list: Vec<Bits> = {
        let mut list: Vec<Bits> =
            (0..128).flat_map(|bit| (0..6).map(move |n| Bits::of(1_u128 << 127 >> bit | n, 128))).collect();
        list.sort_unstable();
        list.dedup();
        list
    };
    let mut rng = Rng::with_seed(1);
    check::<V6>(&mut rng, &list, 20_000, "a list of many steps");
}

#[test]
fn a_front_of_zeroes_decides_nothing() {
    let direct_table = DirectTable::<V4>::new(Node::UNDECIDED, [0; 1 << 14]);
    let address = V4::from_wire([192, 0, 2, 1]);
    assert_eq!(hint(&direct_table, address), hint::UNDECIDED);
    assert_eq!(search::<V4>(&direct_table, &Memory(&[]), address), None);
}

/// A million prefixes are what a list may have: they fit, and the index decides.
#[test]
fn a_million_prefixes_fit() {
    let mut rng = Rng::with_seed(3);
    for width in [32, 128] {
        let mut list: Vec<Bits> = (0..1 << 20)
            .map(|_| {
                let address = if width == 32 { rng.u128(..) } else { rng.u128(..) >> 3 | 1 << 125 };
                Bits::of(address, width - rng.u32(0..=width / 4))
            })
            .collect();
        list.sort_unstable();
        list.dedup();
        let spread: Vec<Bits> = (0..2000).map(|_| list[rng.usize(0..list.len())]).collect();
        let expected = |bits: u128| {
            let at = list.partition_point(|prefix| prefix.network <= bits);
            // An outer prefix may begin well before: naive, but for its start.
            list[..at].iter().rev().any(|prefix| prefix.covers(bits))
        };
        let check_with = |ask: &dyn Fn(u128) -> Option<bool>, rng: &mut Rng| {
            for _ in 0..60 {
                let bits = probe(rng, &spread, width);
                assert_eq!(ask(bits), Some(expected(bits)), "{bits:x}");
            }
        };
        if width == 32 {
            let index = build::<V4>(&list);
            println!("IPv4: {} bytes", size_of_val(index.blocks.as_slice()));
            check_with(&|bits| ask(&index, V4::from_bits(bits)), &mut rng);
        } else {
            let index = build::<V6>(&list);
            println!("IPv6: {} bytes", size_of_val(index.blocks.as_slice()));
            check_with(&|bits| ask(&index, V6::from_bits(bits)), &mut rng);
        }
    }
}
