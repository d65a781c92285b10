//! How long it takes to build the indexes of an allowlist, in milliseconds: for `cargo xtask bench`, which cannot tell it
//! from what `attach` does beside. `cargo run --release --example index -- ALLOWLIST`.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use ipnet::IpNet;
use portguard::allowlist::Allowlist;
use portguard::allowlist::lookup_builder::Index;
use portguard_common::address::{Address as _, V4, V6};

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).context("which allowlist?")?;
    let list = Allowlist::load(Path::new(&path)).map_err(|_| anyhow!("the allowlist is invalid"))?.allowlist;
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for entry in list.entries() {
        match entry.prefix() {
            IpNet::V4(prefix) => v4.push((prefix.addr().octets(), prefix.prefix_len())),
            IpNet::V6(prefix) => v6.push((prefix.addr().octets(), prefix.prefix_len())),
        }
    }
    v4.sort_unstable();
    v6.sort_unstable();
    let start = Instant::now();
    let v4 = Index::of(v4.into_iter().map(|(wire, length)| (V4::from_wire(wire), length)));
    let v6 = Index::of(v6.into_iter().map(|(wire, length)| (V6::from_wire(wire), length)));
    let took = start.elapsed();
    println!("{:.3}", took.as_secs_f64() * 1e3);
    eprintln!("{} and {} blocks", v4.blocks.len(), v6.blocks.len());
    Ok(())
}
