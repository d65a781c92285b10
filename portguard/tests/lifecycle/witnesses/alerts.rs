//! The alerts of `deploy/prometheus`, evaluated by promtool as if a page of metrics had been the same for more than a day.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Asserts that exactly these alerts fire, each for one interface.
#[track_caller]
pub(super) fn assert_fire(samples: &BTreeMap<String, f64>, interface: &str, expected: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/portguard.rules.yml");
    let rules = fs::read_to_string(path).expect("the rules");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(expected.iter().all(|alert| alerts.contains(alert)), "{expected:?} of {alerts:?}");

    let mut test = String::from(
        "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n",
    );
    for (series, value) in samples {
        let name = series.split('{').next().unwrap_or(series);
        if rules.contains(name) {
            writeln!(test, "      - {{series: '{series}', values: {value}+0x1500}}").expect("a string");
        }
    }
    test += "    alert_rule_test:\n";
    for alert in alerts {
        let labels = format!("{{exp_labels: {{interface: {interface}}}}}");
        let fires = if expected.contains(&alert) { &*labels } else { "" };
        writeln!(test, "      - {{eval_time: 25h, alertname: {alert}, exp_alerts: [{fires}]}}")
            .expect("a string");
    }
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("rules.yml"), without_texts(&rules)).expect("writing");
    fs::write(folder.path().join("test.yml"), &test).expect("writing");
    let output = Command::new("promtool")
        .args(["test", "rules", "test.yml"])
        .current_dir(folder.path())
        .output()
        .expect("promtool: cargo xtask setup installs it");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{expected:?} are to fire: {said}\n{test}");
}

/// The rules without severities and annotations, which a test would have to repeat.
fn without_texts(rules: &str) -> String {
    let mut kept = String::new();
    let mut keeps = true;
    for line in rules.lines() {
        match line.trim() {
            "labels:" | "annotations:" => keeps = false,
            text if text.starts_with("- alert:") => keeps = true,
            _ => {}
        }
        if keeps {
            kept.extend([line, "\n"]);
        }
    }
    kept
}

/// A guard in audit mode, as ordered.
fn audit() -> BTreeMap<String, f64> {
    let series = [("interface_present", 1.0), ("guard_attached", 1.0), ("guard_enforcing", 0.0)];
    series.map(|(name, value)| (format!("portguard_{name}{{interface=\"eth0\"}}"), value)).into()
}

#[test]
fn an_alert_that_fires_is_expected() {
    assert_fire(&audit(), "eth0", &["PortguardAudit"]);
}

#[test]
#[should_panic(expected = "are to fire")]
fn an_alert_that_is_not_expected_is_noticed() {
    assert_fire(&audit(), "eth0", &[]);
}

#[test]
#[should_panic(expected = "are to fire")]
fn an_alert_that_does_not_fire_is_noticed() {
    assert_fire(&audit(), "eth0", &["PortguardAudit", "PortguardOpen"]);
}
