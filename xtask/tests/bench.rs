//! `cargo xtask bench` in its short form: it has to measure everything, and to notice when it measures nothing.

use std::env;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portguard_testkit::built;
use portguard_testkit::net::{Process, run};
use serde_json::Value;

/// On a machine that has a lot else to do.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

fn bench(arguments: &[&str], portguard: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["bench", "--quick", "--portguard"]).arg(portguard).args(arguments);
    Process::spawn(&mut command).unwrap()
}

/// portguard as `cargo xtask test` has built it, or built now if another command runs this test.
fn portguard() -> PathBuf {
    env::var_os("PORTGUARD_PROGRAM").map_or_else(|| built::portguard().unwrap(), PathBuf::from)
}

fn assert_nothing_left(pid: u32) {
    let namespaces = run(Command::new("ip").args(["netns", "list"])).unwrap().stdout;
    assert!(!namespaces.contains(&format!("pg-{pid}-")), "{namespaces}");
}

#[test]
fn the_short_form_measures_every_part() {
    let mut bench = bench(&[], &portguard());
    let status = bench.wait(PATIENCE).unwrap().expect("the bench ends");
    let output = bench.output();
    assert!(status.success(), "{output}");
    // The short form has no lists of a million: four goals of cost, five of loading, and one of the index. Its floods are shorter than
    // the two of 16,384 sources.
    let unknown = output.lines().filter(|line| line.contains("not measured")).count();
    assert_eq!(unknown, 12, "{output}");
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/quick.json");
    let results: Value = serde_json::from_str(&std::fs::read_to_string(results).unwrap()).unwrap();
    for part in ["cases", "wire", "loading", "scaling", "trie"] {
        assert!(results[part].as_array().is_some_and(|rows| !rows.is_empty()), "no {part}: {results}");
    }
    assert!(results["reading"]["sources"].as_u64().is_some_and(|sources| sources > 0), "{results}");
    assert_nothing_left(bench.id());
}

#[test]
fn a_guard_that_does_nothing_is_not_measured() {
    let directory = tempfile::tempdir().unwrap();
    let pretender = directory.path().join("portguard");
    std::fs::write(&pretender, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&pretender, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut bench = bench(&["--only", "cpus"], &pretender);
    let status = bench.wait(PATIENCE).unwrap().expect("the bench ends");
    let output = bench.output();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("error: no guard at /sys/fs/bpf/portguard/"), "{output}");
    assert_nothing_left(bench.id());
}
