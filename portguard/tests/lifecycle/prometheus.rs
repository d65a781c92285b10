//! Debian's Prometheus, and two guarded hosts: each alert is caused for real, and seen to clear.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use portguard_testkit::net::{Namespace, Process, run, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::flood::flood;
use crate::support::{
    IFACE, Lists, Machine, PATIENCE, PORTGUARD, Portguard, SERVER, Service, Testbed, ask, behind_its_back,
};

/// The address of the second host.
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
/// That of Prometheus.
const WATCHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
/// An interface that leads nowhere.
const SPARE: &str = "eth1";
const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
/// How the hosts are called.
const FIRST_INSTANCE: &str = "192.0.2.1:9111";
const SECOND_INSTANCE: &str = "192.0.2.2:9111";

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

/// A Prometheus that looks once a second, and whose rules do not wait.
struct Prometheus<'a> {
    namespace: &'a Namespace,
    process: Process,
    _folder: TempDir,
}

impl<'a> Prometheus<'a> {
    fn start(namespace: &'a Namespace) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let rules = fs::read_to_string(deploy("prometheus/portguard.rules.yml")).expect("the rules");
        let quick: Vec<String> = rules
            .lines()
            .map(|line| match line.split_once("for: ") {
                Some((indent, _)) => format!("{indent}for: 0s"),
                None => line.replace("[5m]", "[5s]"),
            })
            .collect();
        fs::write(folder.path().join("rules.yml"), quick.join("\n")).expect("writing");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n  - job_name: portguard\n    static_configs:\n      \
             - targets: ['{FIRST_INSTANCE}', '{SECOND_INSTANCE}']\n"
        );
        fs::write(folder.path().join("prometheus.yml"), config).expect("writing");
        let mut command = namespace.command("prometheus");
        command
            .current_dir(folder.path())
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={API}"));
        let process = Process::spawn(&mut command).expect("prometheus: cargo xtask setup installs it");
        let prometheus = Self { namespace, process, _folder: folder };
        prometheus.until("it is ready", || {
            ask(namespace, API, "GET /-/ready", "").is_ok_and(|answer| answer.status == 200)
        });
        prometheus
    }

    #[track_caller]
    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        if let Err(error) = wait_until(what, PATIENCE, || Ok(holds())) {
            panic!("{error:#}; firing: {:?}\n{}", self.firing(), self.process.output());
        }
    }

    fn get(&self, path: &str) -> Value {
        let answer = ask(self.namespace, API, &format!("GET /api/v1/{path}"), "").expect("an answer");
        let document: Value =
            serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {answer:?}"));
        assert_eq!(document["status"], "success", "{path}: {document}");
        document["data"].clone()
    }

    /// What an expression gives.
    fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.get(&format!("query?query={encoded}"));
        data["result"].as_array().expect("a vector").clone()
    }

    /// Each alert that fires, with its host and its interface.
    fn firing(&self) -> BTreeSet<(String, String, String)> {
        let data = self.get("alerts");
        let alerts = data["alerts"].as_array().expect("alerts").iter();
        let word =
            |alert: &Value, label: &str| alert["labels"][label].as_str().unwrap_or_default().to_owned();
        alerts
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| (word(alert, "alertname"), word(alert, "instance"), word(alert, "interface")))
            .collect()
    }

    /// Waits until exactly these fire.
    #[track_caller]
    fn expect(&self, alerts: &[(&str, &str, &str)]) {
        let expected: BTreeSet<_> =
            alerts.iter().map(|&(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).collect();
        self.until(&format!("{expected:?} fire"), || self.firing() == expected);
    }
}

fn start(portguard: Portguard<'_>, list: &str) -> Service {
    let arguments =
        [IFACE, SPARE, "--allowlist", list, "--sources", "256", "--hook", "xdp", "--metrics", "0.0.0.0"];
    Service::start(portguard, &arguments)
}

fn plug_spare(namespace: &Namespace) {
    let lines = format!("link add {SPARE} type veth peer name peer1\nlink set {SPARE} up");
    namespace.ip(&lines).expect("a cable");
}

#[test]
fn every_alert_fires_when_it_is_caused_and_clears_when_that_is_over() {
    let testbed = Testbed::new(PORTGUARD);
    let first = testbed.portguard();
    let host = testbed.switch.host("second", &[SECOND]).expect("a host");
    let second_namespace = host.namespace();
    let machine = Machine::new(PORTGUARD);
    let lists = Lists::new();
    let second = machine.portguard(second_namespace);
    for namespace in [testbed.server.namespace(), second_namespace] {
        plug_spare(namespace);
    }
    let list_of_second = lists.write("allowlist.yaml", ["192.0.2.0/24"]);
    let first_service = start(first, &testbed.list());
    let second_service = start(second, &list_of_second);
    let watcher = testbed.switch.host("prometheus", &[WATCHER]).expect("a host");
    let prometheus = Prometheus::start(watcher.namespace());
    prometheus.until("both hosts are seen", || prometheus.query("portguard_guard_attached == 1").len() == 4);
    prometheus.expect(&[]);

    // More packets than may be, from more sources than can be remembered.
    assert_eq!(SERVER[0].to_string() + ":9111", FIRST_INSTANCE);
    let (full, many) = ("PortguardSourceTableFull", "PortguardFlood");
    let flooded = BTreeSet::from(
        [full, many].map(|alert| (alert.to_owned(), FIRST_INSTANCE.to_owned(), IFACE.to_owned())),
    );
    prometheus.until("the flood is seen", || {
        flood(&testbed, 0, 20_000);
        prometheus.firing() == flooded
    });
    every_panel_shows_something(&prometheus);
    prometheus.expect(&[]);

    // A broken list, here; there, one that has lost its address family, which takes `reload --allow-empty`.
    testbed.lists.write_text("allowlist.yaml", "allow:\n  - 192.0.2.0/33\n");
    lists.write("allowlist.yaml", ["2001:db8::/48"]);
    prometheus.expect(&[
        ("PortguardAllowlistBroken", FIRST_INSTANCE, IFACE),
        ("PortguardAllowlistBroken", FIRST_INSTANCE, SPARE),
        ("PortguardReloadFailing", FIRST_INSTANCE, ""),
        ("PortguardReloadFailing", SECOND_INSTANCE, ""),
        ("PortguardAllowlistStale", SECOND_INSTANCE, IFACE),
        ("PortguardAllowlistStale", SECOND_INSTANCE, SPARE),
    ]);
    testbed.list();
    lists.write("allowlist.yaml", ["192.0.2.0/24"]);
    prometheus.expect(&[]);

    // Behind the service's back, a guard gets another list and audit mode; then the service may restore it.
    let all = testbed.lists.write("all.yaml", ["0.0.0.0/0", "::/0"]);
    let behind = ["--audit", "--allowlist", &all];
    let held = behind_its_back(&testbed.machine, first, &first_service, &behind);
    prometheus.expect(&[
        ("PortguardAudit", FIRST_INSTANCE, IFACE),
        ("PortguardNotAsOrdered", FIRST_INSTANCE, IFACE),
    ]);
    drop(held);
    prometheus.expect(&[]);

    // An interface is gone; then it is there, and cannot be guarded.
    second_namespace.ip(&format!("link del {SPARE}")).expect("unplugging");
    prometheus.expect(&[("PortguardInterfaceMissing", SECOND_INSTANCE, SPARE)]);
    second_namespace.ip("link add other0 type veth peer name peer1\nlink set other0 up").expect("a cable");
    let mut foreign: Command = machine.command(second_namespace, "xdp-filter");
    run(foreign.args(["load", "--mode", "skb", "--features", "udp", "other0"])).expect("xdp-filter");
    second_namespace.ip(&format!("link set other0 name {SPARE}")).expect("renaming");
    prometheus.expect(&[("PortguardOpen", SECOND_INSTANCE, SPARE)]);
    second_namespace.ip(&format!("link set {SPARE} xdpgeneric off")).expect("the foreign program goes");
    prometheus.expect(&[]);

    // The service ends; the guards stay.
    drop(second_service);
    prometheus.expect(&[("PortguardServiceDown", SECOND_INSTANCE, "")]);
    assert_eq!(second.all_status().len(), 2);
    let _second_service = start(second, &list_of_second);
    prometheus.expect(&[]);
}

/// Asks what each panel of the dashboard asks.
fn every_panel_shows_something(prometheus: &Prometheus<'_>) {
    let text = fs::read_to_string(deploy("grafana/portguard.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            let filled = expression
                .replace("$__rate_interval", "5s")
                .replace("$instance", ".*")
                .replace("$interface", ".*");
            assert!(!filled.contains('$'), "{filled}");
            let title = &panel["title"];
            prometheus.until(&format!("{title} shows something: {filled}"), || {
                !prometheus.query(&filled).is_empty()
            });
            asked += 1;
        }
    }
    assert!(asked > 10, "{asked} expressions");
}
