//! Each kind of remedy that doctor prints is followed here, as it is printed; then doctor must not complain about the same
//! thing any more. Those that cannot be followed on this machine are named, with the test that judges them.

use std::env;
use std::net::{SocketAddrV6, UdpSocket};
use std::path::Path;

use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use portguard::doctor::RemedyKind;
use portguard_common::PORT;
use portguard_testkit::documents::doctor::{Document, Finding};
use portguard_testkit::net::RpcServices;

use super::Patient;
use crate::support::{Machine, Output, PORTGUARD, Service, detach_link, pause};

/// Something goes wrong, doctor says so, and its remedy is followed.
struct Case {
    kind: RemedyKind,
    /// The check and its subject.
    about: (&'static str, &'static str),
    /// Scripts for the host: what goes wrong, and what is done about it beside the commands that are printed.
    harm: &'static str,
    /// Commands that are printed, and run as they are.
    printed: &'static [&'static str],
    /// What the words of the remedy say, as a script.
    said: &'static str,
}

const GUARD: &str = "portguard attach eth0 eth1";

const CASES: &[Case] = &[
    Case {
        kind: RemedyKind::Attach,
        about: ("coverage", "eth1"),
        harm: "portguard attach eth0",
        printed: &["portguard attach eth1"],
        said: "",
    },
    Case {
        kind: RemedyKind::WriteList,
        about: ("coverage", "eth1"),
        harm: "rm $PORTGUARD_ALLOWLIST",
        // Its output goes where the remedy says.
        printed: &[],
        said: "portguard suggest > $PORTGUARD_ALLOWLIST; portguard attach eth1",
    },
    Case {
        kind: RemedyKind::Enforce,
        about: ("guard", "eth0"),
        harm: "portguard attach eth0 eth1 --audit",
        printed: &["portguard attach eth0 --enforce"],
        said: "",
    },
    Case {
        kind: RemedyKind::EnforceBelow,
        about: ("coverage", "br0"),
        harm: "ip link add br0 type bridge; ip link set eth1 master br0; ip link set br0 up
               ip addr add 203.0.113.1/24 dev br0; portguard attach eth0; portguard attach eth1 --audit",
        printed: &[],
        said: "portguard attach eth1 --enforce",
    },
    Case {
        kind: RemedyKind::AttachAgain,
        about: ("guard.gone", "eth0"),
        harm: "portguard attach eth0 eth1
               bpftool link detach pinned $(portguard status eth0 --json | sed 's/.*\"pinned\": *\"\\([^\"]*\\)\".*/\\1/;t;d')",
        printed: &["portguard attach eth0 --allowlist "],
        said: "portguard attach eth0 --allowlist $PORTGUARD_ALLOWLIST",
    },
    Case {
        kind: RemedyKind::AttachCreated,
        about: ("guard.gone", ""),
        harm: "portguard attach eth0 eth1; ip link del eth1",
        printed: &["portguard attach NAME --allowlist "],
        said: "ip link add eth1 type veth peer name eth2; ip link set eth1 up; ip link set eth2 up
               portguard attach eth1 --allowlist $PORTGUARD_ALLOWLIST",
    },
    Case {
        kind: RemedyKind::Reload,
        about: ("guard.list", "eth0"),
        harm: "portguard attach eth0 eth1; echo '  - 203.0.113.0/24' >> $PORTGUARD_ALLOWLIST",
        printed: &["portguard reload eth0"],
        said: "",
    },
    Case {
        kind: RemedyKind::CheckList,
        about: ("guard.list", "eth0"),
        harm: "portguard attach eth0 eth1; echo '  - 203.0.113.1/24' >> $PORTGUARD_ALLOWLIST",
        printed: &["portguard check "],
        // What check proposes.
        said: "portguard check $PORTGUARD_ALLOWLIST 2>&1 | grep -q 203.0.113.0/24
               sed -i s,203.0.113.1/24,203.0.113.0/24, $PORTGUARD_ALLOWLIST; portguard reload",
    },
    Case {
        kind: RemedyKind::Remount,
        about: ("bpffs.mount", ""),
        harm: "portguard attach eth0 eth1; mount -o remount,ro /sys/fs/bpf",
        printed: &["mount -o remount,rw /sys/fs/bpf"],
        said: "",
    },
    Case {
        kind: RemedyKind::GuardElsewhere,
        about: ("coverage", "ifb7"),
        harm: "portguard attach eth0; ip link add ifb7 type ifb; ip link set ifb7 up",
        printed: &[],
        said: "portguard attach eth1",
    },
    Case {
        kind: RemedyKind::LookAtFilters,
        about: ("redirect", "eth1"),
        harm: "portguard attach eth0; tc qdisc add dev eth1 clsact
               tc filter add dev eth1 ingress protocol ip u32 match u32 0 0 flowid 1:1",
        printed: &["tc filter show dev eth1 ingress", "bpftool net show dev eth1", "portguard attach eth1"],
        said: "",
    },
    Case {
        kind: RemedyKind::SegmentRoutingOff,
        about: ("segment_routing", "eth0"),
        harm: "portguard attach eth0 eth1; sysctl -qw net/ipv6/conf/all/seg6_enabled=1 net/ipv6/conf/eth0/seg6_enabled=1",
        printed: &["sysctl -w net/ipv6/conf/eth0/seg6_enabled=0"],
        said: "",
    },
    Case {
        kind: RemedyKind::StrictReversePath,
        about: ("rp_filter", "eth0"),
        harm: "portguard attach eth0 eth1; sysctl -qw net/ipv4/conf/all/rp_filter=2 net/ipv4/conf/eth0/rp_filter=2",
        printed: &["sysctl -w net/ipv4/conf/all/rp_filter=1 net/ipv4/conf/eth0/rp_filter=1"],
        said: "",
    },
    Case {
        kind: RemedyKind::PacketInformationOff,
        about: ("packet_information", "tun0"),
        harm: "portguard attach eth0 eth1; ip tuntap add dev tun0 mode tun pi; ip link set tun0 up",
        printed: &[],
        said: "ip link del tun0; ip tuntap add dev tun0 mode tun; ip link set tun0 up",
    },
    Case {
        kind: RemedyKind::MakeNative,
        about: ("native", "few"),
        harm: "ip link add few numtxqueues 2 numrxqueues 1 type veth peer name many; ip link set few up",
        printed: &["numrxqueues "],
        said: "ip link del few
               ip link add few numtxqueues 2 numrxqueues 2 type veth peer name many numtxqueues 2 numrxqueues 2
               ip link set few up",
    },
    Case {
        kind: RemedyKind::AskFromOutside,
        about: ("coverage", "eth0"),
        harm: "rpcbind; xdp-filter load --mode skb --features udp eth0",
        printed: &["portguard probe "],
        // The host itself is enough of an outside to try the command.
        said: "portguard probe 127.0.0.1; ip link set dev eth0 xdpgeneric off; portguard attach eth0",
    },
    Case {
        kind: RemedyKind::SwitchOff,
        about: ("rpcbind.needed", ""),
        harm: "portguard attach eth0 eth1; rpcbind",
        printed: &[],
        // The commands are for the host's own services, which are not those of this namespace.
        said: "stop_rpcbind",
    },
    Case {
        kind: RemedyKind::RemoteCallsOff,
        about: ("rpcbind.remote_calls", ""),
        harm: "portguard attach eth0 eth1; rpcbind -r",
        printed: &[],
        said: "stop_rpcbind; rpcbind",
    },
];

#[test]
fn each_remedy_is_followed_and_doctor_is_content() {
    for case in CASES {
        let Case { kind, about: (id, subject), harm, printed, said } = case;
        eprintln!("{}", kind.key());
        let patient = Patient::unguarded();
        patient.run(harm);
        let before = patient.examine();
        let finding =
            find(&before, id, subject).unwrap_or_else(|| panic!("no {id} of {subject:?}: {before:#?}"));
        assert_eq!(finding.remedy_kind.as_deref(), Some(kind.key()), "{finding:?}");
        let remedy = finding.remedy.clone().expect("a remedy");
        for command in *printed {
            assert!(remedy.contains(command), "{command}: {remedy}");
            // Those that end with a blank go on with what the list or the host is called; they are in the script.
            if !command.ends_with(' ') {
                patient.run(command);
            }
        }
        patient.run(said);
        let after = patient.examine();
        // Something else may be left to say of it.
        let same = find(&after, id, subject).filter(|it| it.remedy_kind.as_deref() == Some(kind.key()));
        assert!(same.is_none(), "{}: {remedy}: {after:#?}", kind.key());
        // A remedy never does harm: it makes nothing worse.
        let failures =
            |document: &Document| document.findings.iter().filter(|it| it.status == "failure").count();
        assert!(failures(&after) <= failures(&before), "{remedy}: {after:#?}");
    }
}

/// The remedies that other tests follow, or that this machine has no case of, with the test that judges them.
const ELSEWHERE: &[(RemedyKind, &str)] = &[
    (RemedyKind::BecomeRoot, "below, and in this module's mod.rs: doctor without rights"),
    (RemedyKind::Mount, "lifecycle/bpffs.rs: attach mounts it"),
    (RemedyKind::MountOfHost, "lifecycle/pod: the manifest hands it in"),
    (RemedyKind::OfError, "mod.rs: where no guard could stay"),
    (RemedyKind::ReadAbove, "mod.rs: doctor without rights"),
    (RemedyKind::OrderEnforcing, "lifecycle/witnesses/remedies.rs"),
    (RemedyKind::OrderMode, "lifecycle/witnesses/remedies.rs"),
    (RemedyKind::AwaitPoll, "lifecycle/witnesses, orders: what differs is restored at the next poll"),
    (RemedyKind::RemoveCause, "below"),
    (RemedyKind::RenameOrdered, "below"),
    (RemedyKind::RestartService, "below"),
    (RemedyKind::GuardEvery, "below"),
    (RemedyKind::BlockPorts, "below"),
    (RemedyKind::Probe, "below"),
    (RemedyKind::GuardOtherEnd, "lifecycle/devices/detours.rs: what is redirected into a cable"),
    // Kernels, drivers and hosts that are not here.
    (RemedyKind::NewerKernel, "doctor/kernel.rs"),
    (RemedyKind::OtherKernel, "doctor/kernel.rs"),
    (RemedyKind::TryAttach, "doctor/kernel.rs"),
    (RemedyKind::EnableJit, "doctor/kernel.rs: the setting is the whole machine's"),
    (RemedyKind::LookAtJit, "doctor/kernel.rs"),
    (RemedyKind::PermitNetlink, "a process without netlink"),
    (RemedyKind::Again, "a kernel that fails to list what it has"),
    (RemedyKind::LookAtRoutes, "doctor/detours.rs: this kernel has no seg6local"),
    (RemedyKind::MplsOff, "doctor/detours.rs: this kernel has no MPLS"),
    (RemedyKind::Isolate, "doctor/coverage.rs: this kernel has no ipvlan"),
    (RemedyKind::AllowLinkLocal, "below"),
    (RemedyKind::ToTheFront, "lifecycle/tcx.rs"),
    (RemedyKind::RemoveProgram, "a kernel before 6.6, without tcx"),
    (RemedyKind::AllowServer, "xtask nfs-test: this kernel has no NFS"),
    (RemedyKind::EnableUnit, "xtask systemd-test: there is no systemd here"),
    (RemedyKind::MakeDropIn, "xtask systemd-test: there is no systemd here"),
    (RemedyKind::SocketAddresses, "doctor/rpcbind.rs: there is no systemd here"),
    (RemedyKind::Update, "doctor/rpcinfo.rs: the archive has nothing newer"),
];

#[test]
fn no_kind_of_remedy_is_forgotten() {
    for kind in RemedyKind::ALL {
        let followed = CASES.iter().any(|case| case.kind == kind);
        let elsewhere = ELSEWHERE.iter().any(|(other, _)| *other == kind);
        assert!(followed != elsewhere, "{}: followed {followed}, elsewhere {elsewhere}", kind.key());
    }
}

#[test]
fn without_rights_doctor_asks_for_them_and_sees_more_with_them() {
    let patient = Patient::unguarded();
    patient.run(GUARD);
    let mut command = patient.host.machine.command(&patient.host.namespace, "setpriv");
    command.args(["--bounding-set=-perfmon", "--", PORTGUARD, "doctor", "--json"]);
    let document = Document::of(&Output::of(&mut command));
    assert_remedy(&document, "capabilities", "", RemedyKind::BecomeRoot);
    assert!(find(&patient.examine(), "capabilities", "").is_none());
}

#[test]
fn what_a_service_cannot_guard_is_guarded_once_the_cause_is_removed() {
    let patient = Patient::unguarded();
    let service =
        Service::start(patient.portguard(), &["eth0", "eth1", "--hook", "xdp", "--allowlist", &patient.list]);
    // Somebody else is faster than the service.
    pause(&patient.host.machine, &service);
    detach_link(&patient.host.machine, patient.portguard(), "eth1");
    patient.run("xdp-filter load --mode skb --features udp eth1");
    service.signal(Signal::SIGCONT);
    service.wait_until("the service has tried", || find(&patient.examine(), "guard.open", "eth1").is_some());
    assert_remedy(&patient.examine(), "guard.open", "eth1", RemedyKind::RemoveCause);
    patient.run("ip link set dev eth1 xdpgeneric off");
    let is_content = |document: &Document| {
        find(document, "guard.open", "eth1").is_none() && find(document, "coverage", "eth1").is_none()
    };
    service.wait_until("doctor is content", || is_content(&patient.examine()));
}

#[test]
fn an_interface_that_a_service_waits_for_is_guarded_once_it_is_there() {
    let patient = Patient::unguarded();
    let service = Service::spawn(patient.portguard(), &["eth0", "eth7", "--allowlist", &patient.list]);
    service.wait_until("eth0 is guarded", || find(&patient.examine(), "coverage", "eth0").is_none());
    let remedy = assert_remedy(&patient.examine(), "guard.waiting", "eth7", RemedyKind::RenameOrdered);
    assert!(remedy.contains("command line of process"), "{remedy}");
    patient.run("ip link add eth7 type veth peer name eth8; ip link set eth7 up; ip link set eth8 up");
    let is_content = |document: &Document| {
        find(document, "guard.waiting", "eth7").is_none() && find(document, "coverage", "eth7").is_none()
    };
    service.wait_until("doctor is content", || is_content(&patient.examine()));
}

#[test]
fn hosts_of_the_link_that_broadcast_over_ipv6_are_named_until_the_list_has_them() {
    let patient = Patient::unguarded();
    patient.run(GUARD);
    patient.outside.ip("addr add fe80::9/64 dev eth0 nodad").expect("ip");
    assert!(find(&patient.examine(), "guard.link_local", "eth0").is_none(), "nobody has asked yet");
    patient.outside.run(|| {
        let index = if_nametoindex("eth0").expect("an interface");
        let socket =
            UdpSocket::bind(SocketAddrV6::new("fe80::9".parse().unwrap(), 0, 0, index)).expect("a socket");
        // All hosts of the link.
        let everyone = SocketAddrV6::new("ff02::1".parse().unwrap(), PORT, 0, index);
        socket.send_to(&[0; 40], everyone).expect("it is sent");
    });
    let remedy = assert_remedy(&patient.examine(), "guard.link_local", "eth0", RemedyKind::AllowLinkLocal);
    assert!(remedy.contains("fe80::9") && remedy.contains("portguard reload eth0"), "{remedy}");
    patient.run("cp $PORTGUARD_ALLOWLIST $PORTGUARD_ALLOWLIST.before");
    for entry in ["fe80::/10", "fe80::9"] {
        patient
            .run("cp $PORTGUARD_ALLOWLIST.before $PORTGUARD_ALLOWLIST; portguard reload eth0 --allow-empty");
        assert!(find(&patient.examine(), "guard.link_local", "eth0").is_some(), "it has asked");
        patient.run(&format!("echo '  - {entry}' >> $PORTGUARD_ALLOWLIST; portguard reload eth0"));
        assert!(find(&patient.examine(), "guard.link_local", "eth0").is_none(), "{entry} covers it");
    }
}

#[test]
fn a_service_that_does_not_reply_is_restarted_and_its_guards_remain() {
    let patient = Patient::unguarded();
    let arguments = ["eth0", "eth1", "--allowlist", &patient.list];
    let mut service = Service::start(patient.portguard(), &arguments);
    pause(&patient.host.machine, &service);
    assert_remedy(&patient.examine(), "guard.service", "", RemedyKind::RestartService);
    service.signal(Signal::SIGKILL);
    service.ended();
    assert!(find(&patient.examine(), "coverage", "eth0").is_none(), "the guards remain");
    let _service = Service::start(patient.portguard(), &arguments);
    assert!(find(&patient.examine(), "guard.service", "").is_none());
}

#[test]
fn rpcbind_with_addresses_of_its_own_is_still_to_be_guarded_everywhere() {
    let patient = Patient::unguarded();
    patient.run("portguard attach eth0");
    let _rpcbind = RpcServices::start_with(&patient.host.namespace, &["-h", "192.0.2.1"]).expect("rpcbind");
    let document = patient.examine();
    assert_remedy(&document, "rpcbind.addresses", "", RemedyKind::GuardEvery);
    let open = find(&document, "coverage", "eth1").expect("an open interface").found;
    assert!(open.contains("port 111 is open"), "{open}");
    patient.run("portguard attach eth1");
    assert!(find(&patient.examine(), "coverage", "eth1").is_none());
}

#[test]
fn ports_beside_111_are_no_problem_once_nft_blocks_them() {
    let patient = Patient::unguarded();
    patient.run(GUARD);
    let mut services = RpcServices::start(&patient.host.namespace).expect("rpcbind");
    services.start_statd().expect("rpc.statd");
    assert_remedy(&patient.examine(), "service", "status (100024)", RemedyKind::BlockPorts);
    patient.run(
        "nft add table inet f; nft 'add chain inet f input { type filter hook input priority 0; policy drop; }'
         nft add rule inet f input iif lo accept; nft add rule inet f input tcp dport 22 accept",
    );
    assert!(find(&patient.examine(), "service", "status (100024)").is_none());
}

#[test]
fn an_rpcbind_that_does_not_reply_to_this_host_is_asked_by_probe() {
    let patient = Patient::unguarded();
    patient.run(GUARD);
    let _rpcbind = RpcServices::start(&patient.host.namespace).expect("rpcbind");
    patient.run(
        "nft add table inet f; nft 'add chain inet f input { type filter hook input priority 0; }'
         nft add rule inet f input meta l4proto '{ tcp, udp }' th dport 111 reject",
    );
    let remedy = assert_remedy(&patient.examine(), "rpcbind.needed", "", RemedyKind::Probe);
    assert!(remedy.ends_with("portguard probe"), "{remedy}");
    patient.run("portguard probe");
}

/// A finding that is not ok.
fn find(document: &Document, id: &str, subject: &str) -> Option<Finding> {
    let is = |it: &Finding| it.id == id && it.subject.as_deref().unwrap_or_default() == subject;
    document.problems().into_iter().find(is)
}

#[track_caller]
fn assert_remedy(document: &Document, id: &str, subject: &str, kind: RemedyKind) -> String {
    let finding =
        find(document, id, subject).unwrap_or_else(|| panic!("no {id} of {subject:?}: {document:#?}"));
    assert_eq!(finding.remedy_kind.as_deref(), Some(kind.key()), "{finding:?}");
    finding.remedy.expect("a remedy")
}

impl Patient {
    /// Runs a script as an administrator types it, who finds portguard: the first command that fails is a failure.
    #[track_caller]
    fn run(&self, script: &str) {
        let machine = &self.host.machine;
        let folder = Path::new(PORTGUARD).parent().expect("a folder");
        let path = env::var("PATH").expect("PATH");
        let mut shell = machine.command(&self.host.namespace, "sh");
        shell
            .args(["-ec", &format!("{FUNCTIONS}{}", Machine::script(script))])
            .env("PATH", format!("{}:{path}", folder.display()))
            .env("PORTGUARD_ALLOWLIST", &self.list)
            .env("STATE_DIRECTORY", machine.state())
            .env("RUNTIME_DIRECTORY", machine.runtime());
        let output = Output::of(&mut shell);
        assert_eq!(output.code, 0, "{script}: {output:?}");
    }
}

/// rpcbind, with a /run of its own, in the background; it ends with the network namespace.
const FUNCTIONS: &str = "
rpcbind() {
    setsid unshare --mount sh -c 'mount -t tmpfs run /run; mkdir /run/rpcbind; exec rpcbind -f \"$@\"' sh \"$@\" \\
        > /dev/null 2>&1 & echo $! > $RUNTIME_DIRECTORY/rpcbind.pid
    until ss -Hltu 'sport = :111' | grep -q tcp; do sleep 0.1; done
}
stop_rpcbind() {
    kill $(cat $RUNTIME_DIRECTORY/rpcbind.pid)
    while kill -0 $(cat $RUNTIME_DIRECTORY/rpcbind.pid) 2> /dev/null; do sleep 0.1; done
}
";
