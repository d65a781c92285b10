//! The scripts of packages, as far as they can be tried without installing anything. `cargo xtask dist-test` does that.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const SCRIPTS: [&str; 5] = ["install.sh", "uninstall.sh", "deb/postinst", "deb/prerm", "deb/postrm"];

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
}

/// Runs a command that has to succeed; gives what it said.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; cargo xtask setup"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("UTF-8");
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// Every file below a folder, without the folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            files.insert(path.strip_prefix(folder).expect("it is below").to_owned());
        }
    }
    files
}

#[test]
fn shellcheck_finds_nothing_wrong_with_the_scripts() {
    let paths = SCRIPTS.map(|script| workspace().join("packaging").join(script));
    assert_eq!(run(Command::new("shellcheck").args(&paths)), "");
    for path in &paths {
        let mode = fs::metadata(path).expect("a script").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{} cannot be run", path.display());
    }
}

#[test]
fn the_list_that_is_installed_is_valid_and_lets_nobody_in() {
    let said = run(Command::new(env!("CARGO_BIN_EXE_portguard"))
        // Its file belongs to whoever has the working copy, and not to root.
        .args(["check", "-"])
        .stdin(fs::File::open(workspace().join("packaging/allowlist.yaml")).expect("the list")));
    assert!(said.contains("it allows nobody"), "{said}");
}

#[test]
fn units_and_settings_name_the_same_files() {
    let unit = fs::read_to_string(workspace().join("systemd/portguard@.service")).expect("the unit");
    // The later file wins.
    let files: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("EnvironmentFile=")).collect();
    assert_eq!(files, ["-/etc/default/portguard", "-/etc/default/portguard-%i"]);
    let settings = fs::read_to_string(workspace().join("packaging/default")).expect("the settings");
    for line in settings.lines().filter(|line| line.contains('=')) {
        let (name, _) = line.trim_start_matches('#').split_once('=').expect("an assignment");
        assert!(name == "PORTGUARD_ALLOWLIST" || unit.contains(&format!("${name}")), "{name} has no effect");
    }
}

/// What a release has in its folder, with little in it.
fn release() -> TempDir {
    let release = TempDir::new().expect("a temporary folder");
    let packaging = workspace().join("packaging");
    run(Command::new("cp").args(["-r", "--"]).arg(packaging.join(".")).arg(release.path()));
    run(Command::new("cp").args(["-r", "--"]).arg(workspace().join("systemd")).arg(release.path()));
    for file in [
        "portguard",
        "man/portguard.8",
        "man/portguard-allowlist.5",
        "completions/portguard",
        "completions/_portguard",
        "completions/portguard.fish",
    ] {
        let path = release.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("making");
        fs::write(path, file).expect("writing");
    }
    release
}

#[test]
fn what_is_installed_is_removed_and_nothing_else() {
    let release = release();
    let root = TempDir::new().expect("a temporary folder");
    // What is there already stays, even where it is empty.
    for folder in ["usr/local/sbin", "usr/local/share/man", "etc/systemd/system"] {
        fs::create_dir_all(root.path().join(folder)).expect("making");
    }
    fs::create_dir_all(root.path().join("etc/portguard")).expect("making");
    let list = root.path().join("etc/portguard/allowlist.yaml");
    fs::write(&list, "allow: [192.0.2.1]\n").expect("a list of the administrator");
    let before = files(root.path());
    let install = || {
        let mut command = Command::new(release.path().join("install.sh"));
        run(command.arg("--destdir").arg(root.path()))
    };
    assert!(install().contains("systemctl enable --now portguard@INTERFACE"));
    let once = files(root.path());
    install();
    assert_eq!(files(root.path()), once, "an upgrade makes nothing more");
    assert!(once.contains(Path::new("usr/local/share/man/man5/portguard-allowlist.5")), "{once:?}");
    let units = root.path().join("usr/local/lib/systemd/system");
    let unit = |name: &str| fs::read_to_string(units.join(name)).expect("a unit");
    assert!(unit("portguard@.service").contains("ExecStart=/usr/local/sbin/portguard run "));
    for path in files(&units).iter().filter(|path| units.join(path).is_file()) {
        let text = fs::read_to_string(units.join(path)).expect("a unit");
        assert!(!text.contains("/usr/sbin/portguard"), "{}: {text}", path.display());
    }
    assert_eq!(fs::read_to_string(&list).expect("the list"), "allow: [192.0.2.1]\n");

    let uninstall = root.path().join("usr/local/share/portguard/uninstall.sh");
    let again = release.path().join("uninstall.sh");
    run(Command::new(&uninstall).arg("--destdir").arg(root.path()));
    let mut left = before.clone();
    left.extend(["etc/default", "etc/default/portguard"].map(PathBuf::from));
    assert_eq!(files(root.path()), left, "the settings stay");
    assert!(!Command::new(again).output().expect("it runs").status.success(), "nothing is recorded there");

    install();
    run(Command::new(&uninstall).arg("--purge").arg("--destdir").arg(root.path()));
    let mut left = before;
    left.retain(|path| !path.starts_with("etc/portguard"));
    left.insert("etc/default".into());
    assert_eq!(files(root.path()), left, "a purge takes them, too");
}
