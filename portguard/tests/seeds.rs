//! The seeds of the fuzz targets, and the crashes of the past, without a fuzzer.

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public in the crate whose file it is")]
mod targets;

use std::fs;
use std::path::Path;

/// Runs each seed of a target; a failed one is named in the output.
fn run(target: &str, assert: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for seed in fs::read_dir(&seeds).unwrap() {
        let path = seed.unwrap().path();
        println!("{}", path.display());
        assert(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 20, "{count} seeds in {}", seeds.display());
}

#[test]
fn frames() {
    run("frame", targets::frame);
}

#[test]
fn rpc_headers() {
    run("rpc", targets::rpc);
}

#[test]
fn allowlists() {
    run("allowlist", targets::allowlist);
}
