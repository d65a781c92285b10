//! The rules and the dashboard in `deploy/`, as promtool sees them, and in what they take for granted.
//! `lifecycle/prometheus.rs` holds them against a real Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(deploy("prometheus"))
        .output()
        .expect("promtool: cargo xtask setup installs it");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_rules_are_in_order_and_fire_when_they_should() {
    promtool(&["check", "rules", "portguard.rules.yml"]);
    promtool(&["test", "rules", "portguard.rules.test.yml"]);
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("portguard_")).collect()
}

#[test]
fn rules_and_dashboard_use_metrics_that_there_are() {
    let page = include_str!("snapshots/output__metrics_as_plain_text.snap");
    let samples =
        page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next());
    let there: BTreeSet<&str> = samples.filter(|name| name.starts_with("portguard_")).collect();
    for file in ["prometheus/portguard.rules.yml", "grafana/portguard.json"] {
        let text = fs::read_to_string(deploy(file)).expect(file);
        let used = names(&text);
        assert!(used.len() > 5, "{file}: {used:?}");
        let unknown: Vec<_> = used.difference(&there).collect();
        assert!(unknown.is_empty(), "{file} uses {unknown:?}");
    }
}

#[test]
fn every_alert_has_a_test() {
    let rules = fs::read_to_string(deploy("prometheus/portguard.rules.yml")).expect("the rules");
    let tests = fs::read_to_string(deploy("prometheus/portguard.rules.test.yml")).expect("their tests");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n")), "{alert} never fires");
    }
}
