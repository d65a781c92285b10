//! Whatever is in the files, what `suggest` makes of it is a valid list, leaves nobody out without a word, and does not
//! let everyone in.

mod layouts;
mod suggest {
    mod from;
    mod merge;
}

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use portguard::allowlist::Allowlist;
use portguard::cli::suggest::document::Document;
use portguard::cli::suggest::text::yaml;
use portguard::interface::Network;
use portguard::suggest::client::Client;
use portguard::suggest::exports;
use portguard::suggest::files::Files;
use portguard::suggest::names::Addresses;
use portguard::suggest::nfsd;
use portguard::suggest::proposal::Proposal;
use portguard::suggest::sources::{self, Peer};
use proptest::prelude::*;

/// What the list holds, as `check` reads it.
#[track_caller]
fn checked(document: &Document) -> Vec<ipnet::IpNet> {
    let text = yaml(document);
    let checked = Allowlist::parse(Path::new("suggested.yaml"), text.as_bytes())
        .unwrap_or_else(|invalid| panic!("{text}\n{}", invalid.render(portguard::allowlist::Style::Plain)));
    let expected = if document.proposal.entries.is_empty() { 1 } else { 0 };
    assert_eq!(checked.warnings.total(), expected, "{text}");
    checked.allowlist.entries().iter().map(portguard::allowlist::Entry::prefix).collect()
}

/// Words of exports(5), well-formed or not.
fn word() -> impl Strategy<Value = String> {
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into()).to_string()),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()).to_string()),
        // Written with a colon at the end.
        any::<u64>().prop_map(|bits| IpAddr::V6((u128::from(bits) << 64).into()).to_string()),
        any::<u32>().prop_map(|bits| format!("::ffff:{}", Ipv4Addr::from(bits))),
        Just("127.0.0.1".to_owned()),
        Just("0.0.0.0".to_owned()),
        Just("::".to_owned()),
    ];
    let mask = prop_oneof![
        (0..140_u8).prop_map(|length| format!("/{length}")),
        any::<u32>().prop_map(|mask| format!("/{}", Ipv4Addr::from(mask))),
        (0..=32_u32).prop_map(|length| {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            format!("/{}", Ipv4Addr::from(mask))
        }),
        Just(String::new()),
    ];
    prop_oneof![
        4 => (address, mask, "(\\(rw\\)|\\(|)?").prop_map(|(address, mask, options)| address + &mask + &options),
        2 => "[a-z*?@\\[\\]./-]{0,12}(\\(rw,sync\\))?",
        1 => "[\\\\\"#\n\t \r()/,0-9'-]{0,6}",
        1 => "\\PC{0,8}",
        1 => any::<String>(),
    ]
}

/// The source of a packet.
fn source() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ]
}

fn table() -> impl Strategy<Value = String> {
    let separator =
        prop_oneof![4 => Just(" "), 2 => Just("\n/srv "), 1 => Just("\\\n"), 1 => Just("\t"), 1 => Just("")];
    prop::collection::vec((word(), separator), 0..30)
        .prop_map(|words| words.into_iter().map(|(word, separator)| word + separator).collect())
}

#[test]
fn an_address_with_a_colon_at_its_end_is_still_a_prefix() {
    let mut files = Files::default();
    files.exports.push(("/etc/exports".into(), exports::parse("/srv 2001:db8:: 2001:db8:1::/48")));
    let document = Document::new(sources::proposal(&files, &[], &[], &[], &Addresses::default()));
    let prefixes: Vec<String> = checked(&document).iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["2001:db8::/128", "2001:db8:1::/48"]);
}

#[test]
fn the_state_of_exportfs_adds_only_what_no_table_says() {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        (
            "etc/exports",
            "/srv/a 192.0.2.7(rw) nfs1(ro)\n/srv/b *(ro) *.example.com(rw)\n\"/srv/c d\" 198.51.100.0/24\n",
        ),
        ("etc/exports.d/more.exports", "/srv/e @trusted\n"),
        // As exportfs(8) writes it, with two that came from its command line.
        (
            "var/lib/nfs/etab",
            "/srv/a\t192.0.2.7(rw,sync,of_the_future)\n/srv/a\tnfs1(ro)\n/srv/b\t*(ro)\n/srv/b\t*.example.com(rw)\n\
             /srv/c\\040d\t198.51.100.0/255.255.255.0(ro)\n/srv/e\t@trusted(ro)\n\
             /srv/a\t203.0.113.9(rw)\n/srv/e\t*.example.com(rw)\n",
        ),
    ] {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let files = Files::read(root.path());
    let found: Vec<(&str, Vec<(&str, &str)>)> = files
        .exports
        .iter()
        .map(|(path, exports)| {
            let exports = exports.iter().map(|it| (it.path.as_str(), it.written.as_str())).collect();
            (path.strip_prefix(root.path()).unwrap().to_str().unwrap(), exports)
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                "etc/exports",
                vec![
                    ("/srv/a", "192.0.2.7"),
                    ("/srv/a", "nfs1"),
                    ("/srv/b", "*"),
                    ("/srv/b", "*.example.com"),
                    ("/srv/c d", "198.51.100.0/24"),
                ]
            ),
            ("etc/exports.d/more.exports", vec![("/srv/e", "@trusted")]),
            ("var/lib/nfs/etab", vec![("/srv/a", "203.0.113.9"), ("/srv/e", "*.example.com")]),
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_table_makes_a_valid_list_and_nobody_is_left_out_silently(
        table in table(),
        file_name in "[^/]{0,20}",
        peers in prop::collection::vec(source(), 0..8),
        networks in prop::collection::vec((any::<u32>(), 0..=32_u8), 0..4),
        resolved in prop::collection::vec(prop::option::of(any::<u128>()), 1..4),
    ) {
        let mut files = Files::default();
        files.exports.push((format!("/etc/{file_name}").into(), exports::parse(&table)));
        files.statd.push(format!("/var/lib/nfs/sm/{file_name}").into());
        let names = sources::names(&files);
        let addresses: Addresses = names.iter().zip(resolved.iter().cycle()).map(|(name, address)| {
            let address = address.map(|bits| vec![IpAddr::V6(bits.into()).to_canonical()]);
            (name.clone(), address.ok_or_else(|| format!("no: {name}")))
        }).collect();
        let networks: Vec<Network> = networks.iter().map(|&(bits, length)| Network {
            interface: file_name.clone(),
            network: ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc().into(),
        }).collect();
        let peers: Vec<Peer> = peers.iter().map(|&address| Peer {
            address,
            interface: file_name.clone(),
            tcp_packets: 1,
            connected: false,
        }).collect();

        let without_peers = sources::proposal(&files, &networks, &[], &[], &addresses);
        let proposal = sources::proposal(&files, &networks, &[], &peers, &addresses);
        // A packet proposes nobody; a connection does.
        prop_assert_eq!(&proposal.entries, &without_peers.entries);
        let connected: Vec<Peer> = peers.iter().map(|peer| Peer { connected: true, ..peer.clone() }).collect();
        let proven = sources::proposal(&files, &networks, &[], &connected, &addresses);
        prop_assert!(proven.unproven.is_empty());
        for Peer { address, .. } in &connected {
            let prefix = ipnet::IpNet::from(*address);
            let is_proposed = proven.entries.iter().any(|entry| entry.prefix.contains(&prefix));
            prop_assert!(is_proposed || proven.left_out.iter().any(|it| it.what == prefix.to_string()), "{address}");
        }
        let document = Document::new(proposal);
        let prefixes = checked(&document);
        let Proposal { entries, left_out, unproven, .. } = &document.proposal;
        prop_assert_eq!(prefixes, entries.iter().map(|entry| entry.prefix).collect::<Vec<_>>());
        prop_assert!(entries.iter().all(|entry| entry.prefix.prefix_len() > 0));
        prop_assert!(entries.is_sorted_by_key(|entry| entry.prefix));

        let is_in = |prefix: ipnet::IpNet| {
            entries.iter().any(|entry| entry.prefix.contains(&prefix))
                || left_out.iter().any(|it| it.what == prefix.to_string())
        };
        // Nobody who has sent one is left out silently, unless nobody has that address.
        for Peer { address, .. } in &peers {
            let prefix = ipnet::IpNet::from(*address);
            let is_named = unproven.iter().any(|it| it.prefix == prefix);
            let is_proposed = entries.iter().any(|entry| entry.prefix.contains(&prefix));
            prop_assert!(!(is_named && is_proposed), "{address}");
            let is_nobodys = address.is_loopback() || address.is_multicast() || address.is_unspecified()
                || *address == IpAddr::V4(Ipv4Addr::BROADCAST) || address.to_canonical() != *address;
            prop_assert!(is_named || is_proposed || is_nobodys, "{address}");
        }
        for (_, exports) in &files.exports {
            for export in exports {
                match &export.client {
                    Client::Network(prefix) => prop_assert!(is_in(*prefix), "{:?}", export),
                    Client::Host(name) => match &addresses[name] {
                        Ok(addresses) => prop_assert!(addresses.iter().all(|address| is_in((*address).into()))),
                        Err(_) => prop_assert!(left_out.iter().any(|it| it.what == export.written)),
                    },
                    _ => prop_assert!(left_out.iter().any(|it| it.what == export.written || it.what == "everyone")),
                }
            }
        }
    }

    #[test]
    fn any_text_is_read_as_the_info_of_a_client(info in prop_oneof![
        any::<String>(),
        "address: \"[\\[\\]0-9a-f:.%]{0,30}\"",
    ]) {
        let _ = nfsd::address(&info);
    }
}
