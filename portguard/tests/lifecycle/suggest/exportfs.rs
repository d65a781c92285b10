//! `/etc/exports` is read as the real exportfs(8) reads it: random tables are given to both.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use fastrand::Rng;
use nix::mount::{MsFlags, mount};
use portguard::suggest::client::Client;
use portguard::suggest::exports;
use portguard_testkit::figures::Figures;
use portguard_testkit::oracle;

use crate::support::{PORTGUARD, SingleHost};

/// How many tables are tried, unless `$PORTGUARD_EXPORTS` says so, which `cargo xtask verify exports` sets.
const TABLES: u64 = 100;
/// What the resolver of the test knows: canonical names, each with an alias.
const HOSTS: &str = "203.0.113.33 nfs1.example.com nfs1\n2001:db8:ffff::33 nfs2.example.com nfs2\n";
/// The directories that are exported. The last one has a blank in its name.
const DIRECTORIES: [&str; 4] = ["/srv/a", "/srv/b", "/srv/c#d", "/srv/e f"];

/// Paths, and clients to whom they are exported.
type Exports = BTreeSet<(String, String)>;

/// A host with a real exportfs, which has nothing of the machine's to read or to write.
struct Exportfs(SingleHost);

impl Exportfs {
    fn new() -> Self {
        let host = SingleHost::bare(PORTGUARD);
        let set_up = || {
            for directory in ["/etc", "/var/lib/nfs", "/srv"] {
                mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
            }
            fs::write("/etc/hosts", HOSTS)?;
            fs::write("/etc/nsswitch.conf", "hosts: files\nnetgroup: files\n")?;
            Ok(DIRECTORIES.iter().try_for_each(fs::create_dir)?)
        };
        host.machine.mounts().run(set_up).unwrap();
        Self(host)
    }

    /// Whom it exports what to: the paths and clients in its table.
    fn exports(&self, table: &str) -> Exports {
        let Self(host) = self;
        host.machine.mounts().run(|| Ok(fs::write("/etc/exports", table)?)).unwrap();
        let mut command = host.machine.command(&host.namespace, "exportfs");
        // It fails if there is a mistake anywhere in the table, and exports the rest.
        let ended = command.arg("-ra").current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).status();
        ended.expect("exportfs starts; cargo xtask setup installs it");
        let etab = host.machine.mounts().run(|| Ok(fs::read("/var/lib/nfs/etab")?)).unwrap();
        let export = |line: &str| {
            let (path, client) = line.split_once('\t').expect("a path and a client");
            let (client, _) = client.split_once('(').expect("options");
            (plain(path), everyone_is_one(client))
        };
        String::from_utf8_lossy(&etab).lines().map(export).collect()
    }
}

/// A path without escapes, which stand for each character that is not a letter or a mark of paths; and as it is resolved.
fn plain(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(3);
        plain.push(u8::from_str_radix(code, 8).expect("octal digits").into());
        plain += rest;
    }
    resolved(&plain)
}

/// A relative path is one from `/`, where the tests of exportfs run.
fn resolved(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

/// Everyone has two names.
fn everyone_is_one(client: &str) -> String {
    if client.is_empty() { "*".to_owned() } else { client.to_lowercase() }
}

/// Whom `suggest` finds in a table: those that it takes, and those of whom it says why it does not.
fn found(table: &str) -> (Exports, Exports) {
    let (mut taken, mut unclear) = (BTreeSet::new(), BTreeSet::new());
    for export in exports::parse(table) {
        let mut client = everyone_is_one(&export.written);
        let is_clear = match &export.client {
            Client::Unclear(_) => false,
            // What the resolver does not know is left out.
            Client::Host(name) => match HOSTS.lines().find_map(|line| canonical(line, name)) {
                Some(canonical) => {
                    client = canonical.to_owned();
                    true
                }
                None => false,
            },
            _ => true,
        };
        if is_clear { &mut taken } else { &mut unclear }.insert((resolved(&export.path), client));
    }
    (taken, unclear)
}

/// The canonical name of a host, if a line of [`HOSTS`] is about it.
fn canonical<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut names = line.split(' ').skip(1);
    let canonical = names.next()?;
    (canonical.eq_ignore_ascii_case(name) || names.any(|alias| alias.eq_ignore_ascii_case(name)))
        .then_some(canonical)
}

/// What the two say differently of a table.
fn disagreement(exportfs: &Exportfs, table: &str) -> Option<String> {
    let exported = exportfs.exports(table);
    let (taken, unclear) = found(table);
    let missing: Vec<_> = exported.iter().filter(|it| !taken.contains(it) && !unclear.contains(it)).collect();
    let too_many: Vec<_> = taken.difference(&exported).collect();
    (!missing.is_empty() || !too_many.is_empty())
        .then(|| format!("{table:?}\n  exportfs alone: {missing:?}\n  suggest alone: {too_many:?}"))
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

/// A table; most of it as people write it, some of it as they should not.
fn table(rng: &mut Rng) -> String {
    let lines = rng.usize(1..6);
    let mut table: String = (0..lines).map(|_| line(rng)).collect();
    if rng.u8(..6) == 0 {
        table.pop();
    }
    table
}

fn line(rng: &mut Rng) -> String {
    if rng.u8(..8) == 0 {
        return pick(rng, &["\n", "# /srv/a *(rw)\n", "  \t\n", "   # x\n", "\\\n", "#\\\n"]).to_owned();
    }
    let mut line = pick(rng, &["", "", "", "", " ", "\t"]).to_owned() + path(rng);
    for _ in 0..rng.usize(..5) {
        line += separator(rng);
        line += &client(rng);
    }
    line += pick(rng, &["", "", "", " ", "\t", " # 192.0.2.200(rw)", "#x", " \\", "\\", "\r"]);
    line + "\n"
}

fn path(rng: &mut Rng) -> &'static str {
    match rng.u8(..40) {
        0 => pick(rng, &["srv/a", "/srv/none", "\"/srv/a", "/srv/a\"", "/srv/a/", "\\057srv/a", "-ro"]),
        1..4 => pick(rng, &["\"/srv/a\"", "/srv/\\141", "\"/srv/e\\040f\"", "\"/srv/c#d\"", "/srv/\"b\""]),
        4..10 => pick(rng, &["/srv/e\\040f", "\"/srv/e f\"", "/srv/c#d", "/srv/c\\043d"]),
        _ => pick(rng, &["/srv/a", "/srv/b"]),
    }
}

fn separator(rng: &mut Rng) -> &'static str {
    match rng.u8(..20) {
        0 => pick(rng, &["\u{b}", "\u{c}", "\r", " #", "#", "\\ ", ""]),
        1..4 => pick(rng, &[" \\\n", "\\\n", " \\\n\t  ", "\\\n  ", " \\\n\\\n "]),
        4..8 => pick(rng, &["\t", "  ", " \t "]),
        _ => " ",
    }
}

fn client(rng: &mut Rng) -> String {
    let name = match rng.u8(..24) {
        0..3 => String::new(),
        3..7 => format!("192.0.2.{}", rng.u8(..)),
        7..10 => format!("10.{}.0.0{}", rng.u8(..9), mask(rng)),
        10 => format!("10.1.2.3{}", mask(rng)),
        11..13 => format!(
            "2001:db8:{:x}::{}",
            rng.u8(..9),
            pick(rng, &["/48", "/32", "7", "7/128", "/129", "/0", ""])
        ),
        13 => "*".to_owned(),
        14 => pick(rng, &["*.example.com", "nfs?", "buildhost[0-9].example.com", "192.0.2.*"]).to_owned(),
        15 => pick(rng, &["@trusted", "@", "gss/krb5i", "gss/", "@a/b"]).to_owned(),
        16..18 => pick(rng, &["nfs1", "nfs2", "nfs1.example.com", "NFS1", "no-such-host"]).to_owned(),
        18 => pick(
            rng,
            &[
                "\"192.0.2.1\"",
                "\\061\\060.0.0.2",
                "\"192.0.2.1",
                "192.0.2.1\\",
                "\"\"",
                "\\000",
                "192.0.2.7\\",
            ],
        )
        .to_owned(),
        19 => odd_address(rng),
        20 => return default_options(rng).to_owned(),
        _ => format!("198.51.100.{}", rng.u8(..)),
    };
    name + options(rng)
}

fn mask(rng: &mut Rng) -> &'static str {
    match rng.u8(..4) {
        0 => pick(
            rng,
            &[
                "/255.255.0.0",
                "/255.255.255.255",
                "/255.0.255.0",
                "/0.0.0.0",
                "/0.0.255.255",
                "/255.255",
                "/256.0.0.0",
            ],
        ),
        1 => pick(rng, &["/33", "/", "/0", "/-1", "/x", "/8x", "/ 8", "/+8", "/08", "/16/8", "/99999999999"]),
        _ => pick(rng, &["/8", "/16", "/24", "/32"]),
    }
}

fn odd_address(rng: &mut Rng) -> String {
    pick(
        rng,
        &[
            "10.1",
            "10",
            "010.0.0.1",
            "0x0a000009",
            "192.0.2.256",
            "::ffff:192.0.2.9",
            "[2001:db8::9]",
            "fe80::1%lo",
            "::1",
            "127.0.0.1",
            "0.0.0.0",
            "::",
            "192.0.2.1,192.0.2.2",
            "192.0.2.1/24/",
            "10.1/16",
            "::ffff:10.0.0.0/104",
            "2001:db8::/255.0.0.0",
            "2001:DB8::9",
            "fe80::/10%lo",
            "192.0.2.7:/srv",
        ],
    )
    .to_owned()
}

fn default_options(rng: &mut Rng) -> &'static str {
    pick(rng, &["-ro", "-rw", "-rw", "-sync,rw", "-", "-nonsense", "-rw,", "-ro(rw)", "-sec=sys", "--ro"])
}

fn options(rng: &mut Rng) -> &'static str {
    match rng.u8(..24) {
        0 => pick(
            rng,
            &[
                "(rw",
                "(rw)x",
                "()",
                "(nonsense)",
                "(rw,,ro)",
                "(rw)(ro)",
                "( rw)",
                "(rw )",
                "rw)",
                "(fsid=x)",
                "(rw#)",
                "(rw\\\n)",
            ],
        ),
        1..4 => pick(
            rng,
            &[
                "(rw,anonuid=150,anongid=100)",
                "(sec=krb5:sys,rw)",
                "(fsid=0)",
                "(crossmnt,fsid=root)",
                "(anonuid=-2)",
            ],
        ),
        4..12 => "(rw)",
        12..14 => " (rw)",
        14..18 => "(ro,sync,no_subtree_check)",
        _ => "",
    }
}

#[test]
fn random_tables_are_read_as_exportfs_reads_them() {
    let tables =
        std::env::var("PORTGUARD_EXPORTS").map_or(TABLES, |tables| tables.parse().expect("a number"));
    let seed = oracle::seed();
    let mut rng = Rng::with_seed(seed);
    let exportfs = Exportfs::new();
    let (mut clients, mut wrong) = (0, Vec::new());
    for _ in 0..tables {
        let table = table(&mut rng);
        wrong.extend(disagreement(&exportfs, &table));
        clients += found(&table).0.len() as u64;
    }
    assert!(
        wrong.is_empty(),
        "PORTGUARD_SEED={seed}: {} disagreements, the first of them:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    let figures =
        Figures::of("exports").with("tables", tables).with("clients", clients).with("disagreements", 0);
    println!("\n{figures}");
    assert!(clients > tables, "{figures}");
}
