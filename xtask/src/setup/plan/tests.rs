use super::*;
use crate::setup::requirement::{CARGO_TOOLS, TOOLS};

/// The output of `apt-cache policy` for one package, which is not installed.
fn offered(name: &str, version: &str, suite: &str) -> String {
    format!(
        "{name}:\n  Installed: (none)\n  Candidate: {version}\n  Version table:\n     {version} 500\n        \
         500 http://mirror.example/debian {suite}/main amd64 Packages\n"
    )
}

fn installed(name: &str, version: &str) -> String {
    offered(name, version, "bookworm").replace("(none)", version)
}

fn bookworm() -> String {
    let web = "1.96.0+dfsg1-1~deb12u2";
    let security = "bookworm-security";
    [
        offered("rustc", "1.63.0+dfsg1-2", "bookworm"),
        offered("rustc-web", web, security),
        offered("libstd-rust-web-dev-bpf", web, security),
        offered("rust-web-clippy", web, security),
        offered("llvm-22-dev", "1:22.1.8-1~deb12u1", security),
        offered("rpcbind", "1.2.6-6+b1", "bookworm"),
    ]
    .concat()
}

fn machine(policy: &str) -> Machine {
    Machine { root: true, packages: Some(Packages::parse(policy)), ..Machine::default() }
}

fn package_names(plan: &Plan) -> Vec<&str> {
    plan.apt.packages.iter().map(|(name, _)| name.as_str()).collect()
}

fn rpcbind() -> Need {
    Need::Tool(TOOLS.iter().find(|tool| tool.package == "rpcbind").expect("the tests need rpcbind"))
}

const NOTHING_YET: [Need; 3] = [Need::Compiler, Need::Linker(None), Need::KernelClippy];

#[test]
fn bookworm_brings_the_compiler_of_its_browsers() {
    let plan = make(&NOTHING_YET, &machine(&bookworm())).expect("everything is offered");
    assert_eq!(package_names(&plan), ["rustc-web", "libstd-rust-web-dev-bpf", "rust-web-clippy"]);
    assert_eq!(plan.apt.suite, None);
    assert_eq!(plan.runs, [], "the linker has to wait for the compiler's LLVM");
}

#[test]
fn a_compiler_that_was_built_once_more_fits_its_core() {
    // The core is for all architectures, so that it is not built again with the compiler.
    let policy = [
        installed("rustc-web", "1.96.0+dfsg1-1~deb13u1+b1"),
        offered("libstd-rust-web-dev-bpf", "1.96.0+dfsg1-1~deb13u1", "trixie"),
        offered("rust-web-clippy", "1.96.0+dfsg1-1~deb13u1+b1", "trixie"),
    ];
    let plan = make(&NOTHING_YET, &machine(&policy.concat())).expect("everything is offered");
    assert_eq!(package_names(&plan), ["rustc-web", "libstd-rust-web-dev-bpf", "rust-web-clippy"]);
    assert_eq!(plan.apt.suite, None);
}

#[test]
fn backports_are_named_to_apt() {
    let backport = "1.96.0+dfsg1-1~bpo13+1";
    let rustc = format!(
        "rustc:\n  Installed: (none)\n  Candidate: 1.85.0+dfsg3-1\n  Version table:\n     {backport} 100\n        \
         100 http://mirror.example/debian trixie-backports/main amd64 Packages\n     1.85.0+dfsg3-1 500\n        \
         500 http://mirror.example/debian trixie/main amd64 Packages\n"
    );
    let core = offered("libstd-rust-dev-bpf", backport, "trixie-backports");
    let plan = make(&[Need::Compiler], &machine(&(rustc + &core))).expect("backports have it");
    assert_eq!(package_names(&plan), ["rustc", "libstd-rust-dev-bpf", "rust-clippy"]);
    assert_eq!(plan.apt.suite.as_deref(), Some("trixie-backports"));
}

#[test]
fn the_users_own_rust_is_never_replaced() {
    for package in ["rustc", "rustup"] {
        let policy = bookworm().replace(&offered("rustc", "1.63.0+dfsg1-2", "bookworm"), "");
        let policy = policy + &installed(package, "1.63.0+dfsg1-2");
        let mut machine = machine(&policy);
        make(&[Need::Compiler], &machine).expect_err("there is no other way");
        machine.rustup = true;
        let plan = make(&[Need::Compiler], &machine).expect("rustup can help");
        assert_eq!(package_names(&plan), [""; 0]);
        assert_eq!(plan.runs[0].program, "rustup");
    }
}

#[test]
fn a_compiler_that_is_too_old_is_not_installed() {
    let policy = bookworm().replace("1.96.0", "1.85.0");
    let error = make(&[Need::Compiler], &machine(&policy)).expect_err("1.85 cannot compile this workspace");
    assert!(error.to_string().contains("rustup"), "{error}");
}

#[test]
fn the_linker_is_built_against_the_compilers_llvm() {
    let mut machine = machine(&bookworm());
    let plan = make(&[Need::Linker(Some(22))], &machine).expect("LLVM 22 is offered");
    assert_eq!(package_names(&plan), ["llvm-22-dev"]);
    assert_eq!(plan.runs[0].environment, [("LLVM_PREFIX", PathBuf::from("/usr/lib/llvm-22"))]);
    assert!(plan.runs[0].arguments.contains(&"llvm-22".to_owned()));

    machine.llvm_prefix = Some("/opt/llvm".into());
    let plan = make(&[Need::Linker(Some(22))], &machine).expect("LLVM 22 is there");
    assert_eq!(plan.apt, AptInstall::default());
    assert_eq!(plan.runs[0].environment, [("LLVM_PREFIX", PathBuf::from("/opt/llvm"))]);
}

#[test]
fn an_llvm_that_the_linker_does_not_know_is_said() {
    let error = make(&[Need::Linker(Some(19))], &machine(&bookworm())).expect_err("too old");
    assert!(error.to_string().contains("LLVM 19"), "{error}");
}

#[test]
fn services_are_installed_asleep() {
    let plan = make(&[rpcbind()], &machine(&bookworm())).expect("rpcbind is offered");
    assert_eq!(package_names(&plan), ["rpcbind"]);
    assert_eq!(plan.apt.units, ["rpcbind.service", "rpcbind.socket"]);
}

#[test]
fn without_root_the_command_to_type_puts_services_to_sleep_too() {
    let machine = Machine { root: false, ..machine(&bookworm()) };
    let error = make(&[rpcbind()], &machine).expect_err("only root may install").to_string();
    assert!(error.contains("systemctl mask rpcbind.service rpcbind.socket && apt-get update"), "{error}");
    assert!(error.contains("--no-remove rpcbind"), "{error}");
}

#[test]
fn without_root_the_linker_alone_is_no_obstacle() {
    let machine = Machine { root: false, llvm_prefix: Some("/opt/llvm".into()), ..Machine::default() };
    make(&[Need::Linker(Some(22))], &machine).expect("cargo install needs no root");
}

#[test]
fn commands_of_cargo_come_from_crates_io_in_the_version_that_was_tried() {
    let plan = make(&[Need::CargoTool(&CARGO_TOOLS[0])], &Machine::default()).expect("it takes no root");
    let [run] = &plan.runs[..] else { panic!("{plan:?}") };
    assert_eq!((run.program, &*run.arguments[0], &*run.arguments[1]), ("cargo", "install", "cargo-deb"));
    assert!(run.arguments.contains(&CARGO_TOOLS[0].version.to_owned()));
}

#[test]
fn every_obstacle_is_named_at_once() {
    let error = make(&[rpcbind(), Need::Compiler], &Machine::default()).expect_err("no apt, no rustup");
    let error = error.to_string();
    assert!(error.contains("rpcbind: install what Debian calls rpcbind"), "{error}");
    assert!(error.contains("a rustc for BPF: install rustup"), "{error}");
}

#[test]
fn components_come_from_where_the_toolchain_came_from() {
    let need = [Need::Component(Component::Clippy)];
    let by_rustup = Machine { toolchain: Some("stable".to_owned()), ..Machine::default() };
    let plan = make(&need, &by_rustup).expect("rustup has it");
    assert_eq!(plan.runs[0].arguments, ["component", "add", "--toolchain", "stable", "clippy"]);

    let policy = bookworm().replace(
        &offered("rustc-web", "1.96.0+dfsg1-1~deb12u2", "bookworm-security"),
        &installed("rustc-web", "1.96.0+dfsg1-1~deb12u2"),
    );
    let plan = make(&need, &machine(&policy)).expect("Debian has it");
    assert_eq!(package_names(&plan), ["rust-web-clippy"]);
}
