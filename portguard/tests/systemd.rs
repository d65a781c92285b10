//! The units in `systemd/`, as systemd itself sees them. `cargo xtask systemd-test` boots a machine with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const UNITS: [&str; 10] = [
    "portguard@.service",
    "portguard-is-on@.service",
    "portguard.target",
    "portguard-check.service",
    "portguard-rpcbind.service",
    "rpcbind.service.d/portguard.conf",
    "rpcbind.socket.d/portguard.conf",
    "rpcbind.service",
    "rpcbind.socket",
    "rpcbind.target",
];
/// Where Debian's rpcbind has its units.
const DEBIAN: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

fn source(unit: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(unit);
    let debian = DEBIAN.iter().map(|folder| Path::new(folder).join(unit));
    [own]
        .into_iter()
        .chain(debian)
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("there is no {unit}"))
}

/// The units in a folder, beside Debian's for rpcbind, with the binary under test where portguard is installed.
fn installed() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for unit in UNITS {
        let text = fs::read_to_string(source(unit)).expect("a unit");
        let text = text.replace("/usr/sbin/portguard", env!("CARGO_BIN_EXE_portguard"));
        let path = folder.path().join(unit);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("writing");
    }
    folder
}

fn analyze(arguments: &[&str], units: &Path) -> Output {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).env("SYSTEMD_UNIT_PATH", format!("{}:", units.display())).env("LC_ALL", "C");
    command.output().expect("systemd-analyze: cargo xtask setup installs it")
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = installed();
    let units = [
        "verify",
        "--man=no",
        "portguard@eth0.service",
        "portguard-is-on@eth0.service",
        "portguard.target",
        "portguard-check.service",
        "portguard-rpcbind.service",
        "rpcbind.service",
        "rpcbind.socket",
    ];
    let output = analyze(&units, folder.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");

    // Nor would it keep quiet about what is wrong.
    let broken = folder.path().join("portguard@.service");
    let text = fs::read_to_string(&broken).expect("the unit").replace("Type=notify", "Type=nonsense");
    fs::write(&broken, text).expect("writing");
    let output = analyze(&["verify", "--man=no", "portguard@eth0.service"], folder.path());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nonsense"), "{output:?}");
}

#[test]
fn a_var_that_comes_over_the_network_makes_no_ordering_cycle() {
    // systemd orders it behind the network by itself; here nothing else brings that up.
    const VAR: &str = "[Unit]\nRequires=network.target\n[Mount]\nWhat=server:/var\nWhere=/var\nType=nfs\n";
    let folder = installed();
    fs::write(folder.path().join("var.mount"), VAR).expect("writing");
    let told = || {
        let units = ["verify", "--man=no", "portguard@eth0.service", "var.mount"];
        String::from_utf8_lossy(&analyze(&units, folder.path()).stderr).into_owned()
    };
    assert_eq!(told(), "");

    // What the unit must not have, and that systemd reports it.
    let unit = folder.path().join("portguard@.service");
    let text = fs::read_to_string(&unit).expect("the unit");
    for waits in ["StateDirectory=portguard", "PrivateTmp=yes"] {
        fs::write(&unit, text.replace("[Service]\n", &format!("[Service]\n{waits}\n"))).expect("writing");
        assert!(told().contains("ordering cycle"), "{waits}: {}", told());
    }
}

#[test]
fn the_exposure_of_the_service_is_the_one_in_the_document() {
    let folder = installed();
    let unit = folder.path().join("portguard@.service");
    let unit = unit.to_str().expect("UTF-8");
    let output =
        analyze(&["security", "--no-pager", "--offline=true", "--threshold=20", unit], folder.path());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "more than 2.0: {said}");
    let (_, level) = said.split_once("Overall exposure level for ").expect("the last line");
    let score = level.split_whitespace().nth(1).expect("a score").to_owned();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/systemd.md");
    let document = fs::read_to_string(document).expect("docs/systemd.md");
    assert!(document.contains(&format!("an exposure of {score} ")), "it is {score}:\n{said}");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_drop_in_for_metrics() {
    let folder = installed();
    let drop_in =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/portguard@.service.d/metrics.conf");
    let text = fs::read_to_string(drop_in).expect("the drop-in");
    let place = folder.path().join("portguard@eth0.service.d");
    fs::create_dir(&place).expect("a folder");
    let verify = |text: &str| {
        fs::write(place.join("metrics.conf"), text).expect("writing");
        let output = analyze(&["verify", "--man=no", "portguard@eth0.service"], folder.path());
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(verify(&text), (true, String::new()));
    let (_, said) = verify(&text.replace("IPAddressAllow=localhost", "IPAddressAllow=nobody.example"));
    assert!(said.contains("metrics.conf") && said.contains("nobody.example"), "it is read: {said}");
}
