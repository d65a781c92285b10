//! `portguard doctor`: on a host that is well, one thing is made wrong, and it names that and nothing else.

mod remedies;
mod topologies;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use portguard_testkit::net::{End, Namespace, RpcServices, Veth, run};

use crate::support::{IFACE, Machine, Output, PORTGUARD, Portguard, SingleHost};
use portguard_testkit::documents::doctor::{Document, Finding};

/// A host whose two interfaces lead outside. Its list is the default one.
struct Patient {
    host: SingleHost,
    list: String,
    outside: Namespace,
}

impl Patient {
    /// One whose interfaces are guarded.
    fn new() -> Self {
        let patient = Self::unguarded();
        patient.set("ipv4", "all", "rp_filter", 1);
        patient.portguard().ok(&["attach", IFACE, "eth1", "--allowlist", &patient.list]);
        patient
    }

    fn unguarded() -> Self {
        let host = SingleHost::bare(PORTGUARD);
        let outside = Namespace::new("outside").expect("a namespace");
        for (interface, prefix) in [(IFACE, "192.0.2.1/24"), ("eth1", "198.51.100.1/24")] {
            let near = End::new(&host.namespace, interface).address(prefix);
            Veth::new().connect(&near, &End::new(&outside, interface)).expect("a cable");
        }
        Self { list: host.list(), host, outside }
    }

    fn portguard(&self) -> Portguard<'_> {
        self.host.portguard()
    }

    fn examine(&self) -> Document {
        let mut doctor = self.portguard().command(["doctor", "--json"]);
        Document::of(&Output::of(doctor.env("PORTGUARD_ALLOWLIST", &self.list)))
    }

    fn ip(&self, lines: &str) {
        self.host.namespace.ip(lines).expect("ip");
    }

    fn set(&self, family: &str, scope: &str, name: &str, value: u32) {
        let path = format!("/proc/sys/net/{family}/conf/{scope}/{name}");
        self.host
            .namespace
            .run(|| fs::write(&path, value.to_string()))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Detaches a link behind portguard's back.
    fn detach_link(&self, interface: &str) {
        let pin = self.portguard().status_of(interface).pinned;
        let mut bpftool = Command::new("bpftool");
        bpftool.args(["link", "detach", "pinned", &pin]);
        run(self.host.machine.mounts().enter(&mut bpftool)).expect("bpftool");
    }
}

/// A problem: its check, its subject, how bad it is, and words that must be in what is found or in the remedy.
type Problem = (&'static str, &'static str, &'static str, &'static [&'static str]);

#[track_caller]
fn assert_new(before: &Document, after: &Document, expected: &[Problem]) {
    let known = before.problems();
    let new: Vec<Finding> = after.problems().into_iter().filter(|problem| !known.contains(problem)).collect();
    let names: Vec<(&str, &str, &str)> =
        new.iter().map(|it| (&*it.id, it.subject.as_deref().unwrap_or_default(), &*it.status)).collect();
    let wanted: Vec<(&str, &str, &str)> =
        expected.iter().map(|(id, of, status, _)| (*id, *of, *status)).collect();
    assert_eq!(names, wanted, "{new:#?}");
    for (finding, (.., words)) in new.iter().zip(expected) {
        let told = format!("{} {}", finding.found, finding.remedy.as_deref().unwrap_or_default());
        for word in *words {
            assert!(told.contains(word), "{word}: {told}");
        }
    }
}

/// One thing goes wrong.
type Harm = fn(&Patient);

const HARMS: &[(&str, Harm, &[Problem])] = &[
    (
        "the link of a guard is detached",
        |patient| patient.detach_link(IFACE),
        &[
            ("guard.gone", IFACE, "failure", &["it was detached", "portguard attach eth0"]),
            (
                "coverage",
                IFACE,
                "warning",
                &["not guarded", "no process listens on port 111 now", " --allowlist "],
            ),
        ],
    ),
    (
        "an interface goes, and its guard with it",
        |patient| patient.ip("link del eth1"),
        &[("guard.gone", "", "warning", &["had a guard, and is gone", "portguard run"])],
    ),
    (
        "a guard is taken off",
        |patient| drop(patient.portguard().ok(&["detach", "eth1"])),
        &[("coverage", "eth1", "warning", &["not guarded", "portguard attach eth1"])],
    ),
    (
        "somebody else's program is in the guard's place",
        |patient| {
            patient.portguard().ok(&["detach", "eth1"]);
            let SingleHost { machine, namespace, .. } = &patient.host;
            let mut load = machine.command(namespace, "xdp-filter");
            run(load.args(["load", "--mode", "skb", "--features", "udp", "eth1"])).expect("xdp-filter");
        },
        &[(
            "coverage",
            "eth1",
            "warning",
            // By tcx, beside that program.
            &["not guarded", "portguard attach eth1"],
        )],
    ),
    (
        "a guard only looks on",
        |patient| drop(patient.portguard().ok(&["attach", IFACE, "--audit", "--allowlist", &patient.list])),
        &[
            ("guard", IFACE, "warning", &["audit only", "portguard attach eth0 --enforce"]),
            ("coverage", IFACE, "warning", &["audit mode drops nothing", "portguard attach eth0 --enforce"]),
        ],
    ),
    (
        "the list is changed",
        |patient| drop(patient.host.lists.write("allowlist.yaml", ["192.0.2.0/24", "198.51.100.0/24"])),
        &[
            ("guard.list", IFACE, "warning", &["has changed since", "portguard reload eth0"]),
            ("guard.list", "eth1", "warning", &["has changed since", "portguard reload eth1"]),
        ],
    ),
    (
        "the only entry of the list has ended",
        |patient| {
            let ended = "allow:\n  - prefix: 192.0.2.0/24\n    until: 2026-01-01\n";
            patient.host.lists.write_text("allowlist.yaml", ended);
            patient.portguard().ok(&["reload"]);
        },
        &[
            ("guard.entries", IFACE, "warning", &["allows anybody now: 1 has ended", "portguard check "]),
            ("guard.entries", "eth1", "warning", &["allows anybody now: 1 has ended", "portguard check "]),
        ],
    ),
    (
        "the list is broken",
        |patient| drop(patient.host.lists.write("allowlist.yaml", ["192.0.2.1/24"])),
        &[
            ("guard.list", IFACE, "failure", &["host bits set", "portguard check "]),
            ("guard.list", "eth1", "failure", &["host bits set", "portguard check "]),
        ],
    ),
    (
        "sources are filtered loosely",
        |patient| patient.set("ipv4", "all", "rp_filter", 2),
        &[
            ("rp_filter", IFACE, "warning", &["2: a packet with a forged source", "eth0/rp_filter=1"]),
            ("rp_filter", "eth1", "warning", &["2: a packet with a forged source", "eth1/rp_filter=1"]),
        ],
    ),
    (
        "segment routing is on",
        |patient| {
            // One alone has no effect.
            patient.set("ipv6", "all", "seg6_enabled", 1);
            patient.set("ipv6", IFACE, "seg6_enabled", 1);
        },
        &[(
            "segment_routing",
            IFACE,
            "failure",
            &["seg6_enabled", "sysctl -w net/ipv6/conf/eth0/seg6_enabled=0"],
        )],
    ),
    (
        "a tun device has packet information",
        |patient| {
            patient.ip("tuntap add dev tun0 mode tun pi\nlink set tun0 up");
        },
        &[
            ("coverage", "tun0", "warning", &["it has no address", "portguard attach tun0"]),
            ("packet_information", "tun0", "warning", &["IFF_NO_PI"]),
        ],
    ),
    (
        "an interface is up without an address",
        |patient| {
            patient.ip("link add eth7 type veth peer name peer7");
            for name in ["eth7", "peer7"] {
                // Not even one of the link.
                patient.ip(&format!("link set {name} addrgenmode none\nlink set {name} up"));
            }
        },
        &[
            ("coverage", "peer7", "warning", &["takes packets for the addresses of other interfaces"]),
            ("coverage", "eth7", "warning", &["takes packets for the addresses of other interfaces"]),
        ],
    ),
    (
        "nothing can be kept any more",
        |patient| {
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let remount = || Ok(mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), read_only, None::<&str>)?);
            patient.host.machine.mounts().run(remount).expect("remounting");
        },
        &[
            ("bpffs.mount", "", "failure", &["read-only", "remount,rw"]),
            ("guards", "", "warning", &["cannot be read", "/sys/fs/bpf/portguard/"]),
            ("coverage", IFACE, "warning", &["cannot see whether"]),
            ("coverage", "eth1", "warning", &["cannot see whether"]),
        ],
    ),
];

#[test]
fn each_harm_is_named_and_nothing_else() {
    for (what, harm, expected) in HARMS {
        eprintln!("{what}");
        let patient = Patient::new();
        let before = patient.examine();
        harm(&patient);
        assert_new(&before, &patient.examine(), expected);
    }
}

#[test]
fn what_is_said_of_native_mode_is_what_attach_finds() {
    let host = SingleHost::bare(PORTGUARD);
    let list = host.list();
    host.namespace
        .ip("link add cable type veth peer name other
             link add few numtxqueues 2 numrxqueues 1 type veth peer name many
             link add bridge type bridge
             link add link cable name macvlan type macvlan
             tuntap add dev tap mode tap
             link set tap mtu 9000
             tuntap add dev tun mode tun
             link add vxlan type vxlan id 5 dstport 4789 local 192.0.2.1")
        .expect("ip");
    let mut interfaces = vec!["cable", "many", "bridge", "macvlan", "tap", "tun", "vxlan"];
    // Of queues the kernel tells from 6.3 on.
    let kernel = nix::sys::utsname::uname().expect("uname");
    let release = kernel.release().to_str().expect("UTF-8");
    let numbers: Vec<u32> =
        release.split(['.', '-']).take(2).map(|part| part.parse().expect("a number")).collect();
    interfaces.extend((numbers >= vec![6, 3]).then_some("few"));
    for &interface in &interfaces {
        host.namespace.ip(&format!("link set {interface} up")).expect("ip");
    }
    let document = Document::of(&host.portguard().run(&["doctor", "--json"]));
    let mut ways = [0; 2];
    for &interface in &interfaces {
        let found = &document.finding("native", Some(interface)).found;
        let says_no = found.contains("generic mode is used") || found.contains("will be refused");
        let arguments = ["attach", interface, "--mode", "native", "--allowlist", &list];
        let attached = host.portguard().run(&arguments);
        assert_eq!(says_no, attached.code != 0, "{interface}: {found}: {attached:?}");
        ways[usize::from(says_no)] += 1;
    }
    assert!(ways.iter().all(|ways| *ways > 1), "{ways:?}");
    if interfaces.contains(&"few") {
        let found = &document.finding("native", Some("few")).found;
        assert!(found.contains("fewer receive queues"), "{found}");
    }
}

#[test]
fn a_host_that_is_well_is_told_so() {
    let patient = Patient::new();
    let document = patient.examine();
    // What kernel and which rpcinfo the tests run with is not theirs to choose, nor whether its configuration is to be seen;
    // and the file system that they keep their guards in is not that of the machine.
    let problems: Vec<Finding> = document
        .problems()
        .into_iter()
        .filter(|it| !it.id.starts_with("kernel.") && !["bpffs.lasts", "rpcinfo"].contains(&&*it.id))
        .collect();
    let names: Vec<(&str, Option<&str>)> =
        problems.iter().map(|it| (&*it.id, it.subject.as_deref())).collect();
    // They are cables, into which others can redirect packets.
    assert_eq!(names, [("redirect", Some(IFACE)), ("redirect", Some("eth1"))], "{problems:?}");
    assert!(document.findings.iter().all(|finding| finding.status != "failure"), "{document:?}");
    let found = |id, subject| &*document.finding(id, Some(subject)).found;
    for interface in [IFACE, "eth1"] {
        assert_eq!(found("guard", interface), "enforcing, native mode");
        assert_eq!(found("coverage", interface), "guarded");
        assert_eq!(found("native", interface), "the guard runs in the driver (driver veth)");
        assert_eq!(found("ipv6", interface), "IPv6 is on");
    }
    assert_eq!(document.finding("rpcbind.running", None).found, "no process listens on port 111");

    // It works the same, and is no evil.
    let before = patient.examine();
    patient.set("ipv6", IFACE, "disable_ipv6", 1);
    let after = patient.examine();
    assert_new(&before, &after, &[]);
    assert!(after.finding("ipv6", Some(IFACE)).found.contains("off"));
}

#[test]
fn an_rpcbind_without_a_guard_is_a_failure_and_one_that_nobody_needs_is_to_go() {
    let patient = Patient::new();
    let before = patient.examine();
    let _rpcbind = RpcServices::start(&patient.host.namespace).expect("rpcbind");
    let unneeded: Problem =
        ("rpcbind.needed", "", "warning", &["no service is registered", "Switch it off: "]);
    let guarded = patient.examine();
    assert_new(&before, &guarded, &[unneeded]);
    let running = &guarded.finding("rpcbind.running", None).found;
    for socket in ["rpcbind (process ", "UDP 0.0.0.0:111", "UDP [::]:111", "TCP 0.0.0.0:111", "TCP [::]:111"]
    {
        assert!(running.contains(socket), "{running}");
    }
    patient.portguard().ok(&["detach", "eth1"]);
    let open: Problem =
        ("coverage", "eth1", "failure", &["port 111 is open to every host", "portguard attach eth1"]);
    let after = patient.examine();
    assert_new(&before, &after, &[open, unneeded]);
    // Without rights, the same is seen, as far as it can be.
    let binary = patient.host.lists.path("portguard");
    fs::copy(PORTGUARD, &binary).expect("a copy that others can reach");
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).expect("chmod");
    let mut command = patient.host.machine.command(&patient.host.namespace, "setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&binary);
    let blind = Document::of(&Output::of(command.args(["doctor", "--json"])));
    assert!(
        blind.finding("capabilities", None).found.contains("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON missing")
    );
    let status = |id, subject| &*blind.finding(id, subject).status;
    assert_eq!(status("guards", None), "warning");
    assert_eq!(status("coverage", Some(IFACE)), "warning", "it has a program, and whose is not seen");
    // Nor are the rules of a firewall to be seen.
    assert_eq!(status("coverage", Some("eth1")), "warning");
    assert!(blind.finding("coverage", Some("eth1")).found.contains("cannot tell"));
    assert_eq!(status("rpcbind.needed", None), "warning");
    assert!(blind.finding("rpcbind.running", None).found.contains("portguard cannot see which one"));
}

#[test]
fn services_that_stay_open_beside_port_111_are_named_and_so_is_r() {
    let patient = Patient::new();
    let before = patient.examine();
    let mut services = RpcServices::start_with(&patient.host.namespace, &["-r"]).expect("rpcbind");
    services.start_statd().expect("rpc.statd");
    services.start_mountd("192.0.2.0/24").expect("rpc.mountd");
    let after = patient.examine();
    let open: &[&str] = &["remains open beside port 111", "UDP ", "TCP ", "/etc/nfs.conf"];
    assert_new(
        &before,
        &after,
        &[
            ("rpcbind.remote_calls", "", "warning", &["-r", "has UDP ", "/etc/default/rpcbind"]),
            ("service", "mountd (100005)", "warning", open),
            ("service", "status (100024)", "warning", open),
        ],
    );
    assert_eq!(after.finding("rpcbind.needed", None).found, "registered: mountd (100005), status (100024)");
    // The very ports that rpcbind tells of.
    let ports = services.registrations().into_iter().filter(|it| it.program == 100_005).filter_map(|it| {
        let mut bytes = it.address.rsplit('.').map(|byte| byte.parse::<u16>().unwrap());
        let port = bytes.next()? + 256 * bytes.next()?;
        Some(format!("{} {port}", it.netid.trim_end_matches('6').to_uppercase()))
    });
    let found = &after.finding("service", Some("mountd (100005)")).found;
    for port in ports {
        assert!(found.contains(&port), "{port}: {found}");
    }
}

#[test]
fn a_bpf_file_system_that_may_go_with_a_container_is_told() {
    let patient = Patient::new();
    let run = |mount: &str| {
        let mut command = patient.host.machine.command(&patient.host.namespace, "unshare");
        let script = format!("{mount} exec {PORTGUARD} doctor --json");
        command.args(["--pid", "--fork", "--mount-proc", "--mount", "sh", "-c", &script]);
        Document::of(&Output::of(&mut command))
    };
    for (mount, coverage) in [("", "ok"), ("mount -t bpf bpf /sys/fs/bpf &&", "warning")] {
        let document = run(mount);
        let lasts = document.finding("bpffs.lasts", None);
        assert_eq!(lasts.status, "warning");
        assert!(lasts.found.contains("this is a container"), "{lasts:?}");
        // In a file system of its own the guard is not to be seen.
        assert_eq!(document.finding("coverage", Some(IFACE)).status, coverage, "{mount}");
    }
}

#[test]
fn where_no_guard_could_stay_or_be_put_on_is_told() {
    let host = SingleHost { machine: Machine::without_bpffs(PORTGUARD), ..SingleHost::bare(PORTGUARD) };
    // As `ip netns exec` does it.
    let document = Document::of(&host.portguard().run(&["doctor", "--json"]));
    let bpffs = document.finding("bpffs.mount", None);
    assert_eq!(bpffs.status, "failure");
    assert!(
        bpffs.found.contains("ip netns exec") && bpffs.remedy.as_ref().unwrap().contains("nsenter --net=")
    );
    // As a container does.
    let mut command = host.machine.command(&host.namespace, "unshare");
    let doctor = command.args(["--pid", "--fork", PORTGUARD, "doctor", "--json"]);
    let document = Document::of(&Output::of(doctor));
    let bpffs = document.finding("bpffs.mount", None);
    assert_eq!(bpffs.status, "failure");
    assert!(bpffs.remedy.as_ref().unwrap().contains("mount -t bpf bpf /sys/fs/bpf"));
    assert_eq!(document.finding("coverage", None).status, "ok", "there is lo only");

    let host = SingleHost::bare(PORTGUARD);
    let mut command = host.machine.command(&host.namespace, "setpriv");
    command.args(["--bounding-set=-perfmon", "--", PORTGUARD, "doctor", "--json"]);
    let document = Document::of(&Output::of(&mut command));
    let capabilities = document.finding("capabilities", None);
    assert_eq!(
        (&*capabilities.status, &*capabilities.found),
        ("failure", "not permitted: CAP_PERFMON missing")
    );
}

#[test]
fn the_eye_sees_what_programs_see() {
    let patient = Patient::new();
    patient.detach_link(IFACE);
    let output = patient.portguard().run(&["doctor"]);
    assert_eq!((output.code, &*output.stderr), (1, ""), "{output:?}");
    for finding in patient.examine().findings {
        assert!(output.stdout.contains(&finding.found), "{finding:?}: {output:?}");
        assert!(finding.remedy.is_none_or(|remedy| output.stdout.contains(&remedy)), "{output:?}");
    }
    assert!(output.stdout.ends_with(", 1 failure\n"), "{output:?}");
}
