//! `cargo xtask screenshot`: `portguard top` in a terminal, while the real rpcbind is asked by a client and attacked by a
//! forger, as a drawing for the README. Nothing in it is made up.

mod svg;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use portguard_testkit::net::frame::{Flow, Packet};
use portguard_testkit::net::{
    Forger, Host, MountNamespace, RpcServices, Size, Switch, Terminal, Veth, rpc, run as run_command,
};
use portguard_testkit::{built, interrupt};

use crate::{setup, workspace};

/// The drawing, below the root of the workspace.
const DRAWING: &str = "docs/top.svg";
const SIZE: Size = Size { columns: 100, rows: 26 };
/// How long the attack goes on before the picture is taken.
const PLAY: Duration = Duration::from_secs(56);
/// How often packets are sent that are due.
const TICK: Duration = Duration::from_millis(4);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(30);

const SERVER: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(192, 0, 2, 1), v6(0, 1));
const CLIENT: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(192, 0, 2, 10), v6(0, 0x10));
const ATTACKER: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(198, 18, 0, 66), v6(0x666, 0x66));
const ALLOWLIST: &str = "allow:\n  - 192.0.2.0/24\n  - 2001:db8::/48\n";

const fn v6(network: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host)
}

/// Plays, and draws.
pub(crate) fn run() -> Result<()> {
    setup::run(&setup::Args::default())?;
    interrupt::install().context("cannot catch Ctrl-C")?;
    let binary = built::portguard()?;
    let screen = play(&binary)?;
    let path = workspace().join(DRAWING);
    fs::write(&path, svg::draw(&screen)).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("written to {DRAWING}");
    Ok(())
}

fn play(binary: &Path) -> Result<vt100::Screen> {
    let switch = Switch::new(Veth::new())?;
    let host = |label: &str, (v4, v6): (Ipv4Addr, Ipv6Addr)| {
        switch.host(label, &[IpAddr::from(v4), IpAddr::from(v6)])
    };
    let (server, client, attacker) =
        (host("server", SERVER)?, host("client", CLIENT)?, host("attacker", ATTACKER)?);
    let _services = RpcServices::start(server.namespace())?;
    // The guard is pinned in a file system of its own, and gone with it.
    let mounts = MountNamespace::new()?;
    mounts.run(|| {
        let bpffs = "/sys/fs/bpf";
        mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .context("cannot mount bpffs")
    })?;
    let folder = tempfile::tempdir().context("cannot create a directory for the allowlist")?;
    let list = folder.path().join("allowlist.yaml");
    fs::write(&list, ALLOWLIST)?;
    let portguard = |arguments: &[&str]| {
        let mut command = server.command(binary);
        mounts.enter(command.args(arguments).env_remove("NO_COLOR"));
        command
    };
    let list = list.to_str().context("a temporary folder with a UTF-8 name")?;
    run_command(&mut portguard(&["attach", Host::INTERFACE, "--allowlist", list]))?;

    let mut terminal = Terminal::spawn(&mut portguard(&["top"]), SIZE)?;
    terminal.until("a first screen", PATIENCE, |text| text.contains("enforcing"))?;
    attack(&server, &client, &attacker)?;
    // What was sent last is on the screen after the next look, and the flood is still the first.
    let screen = terminal.screen();
    terminal.type_in("q")?;
    terminal.ended(PATIENCE)?;
    Ok(screen)
}

/// Somebody who sends so many packets a second, which may change with the time.
struct Sender {
    packet: Packet,
    rate: fn(f64) -> f64,
    due: f64,
}

/// A reflection attack in waves, in the name of two victims; some who look for open ports; and one who may ask.
fn attack(server: &Host, client: &Host, attacker: &Host) -> Result<()> {
    let forger = Forger::new(attacker, server)?;
    let dump = |source| Packet::udp(flow(source), &rpc::dump_call());
    let sender = |packet, rate| Sender { packet, rate, due: 0.0 };
    let mut senders = vec![
        sender(dump(Ipv4Addr::new(203, 0, 113, 9).into()), |time| wave(time, 19.0) * 1400.0),
        sender(dump(v6(0x113, 9).into()), |time| wave(time + 6.0, 31.0) * 900.0),
        sender(dump(Ipv4Addr::new(203, 0, 113, 77).into()), |time| if time > 20.0 { 45.0 } else { 0.0 }),
    ];
    for (host, late) in [(4, 1.0), (17, 3.0), (30, 0.2), (81, 0.5), (200, 0.1)] {
        let packet = Packet::tcp_syn(flow(Ipv4Addr::new(198, 51, 100, host).into()));
        senders.push(Sender { packet, rate: |_| 1.0, due: -late });
    }
    let asking = client.run(|| UdpSocket::bind((CLIENT.0, 0)))?;
    asking.connect(SocketAddr::new(SERVER.0.into(), rpc::PORT))?;
    let (start, mut before, mut asked) = (Instant::now(), 0.0, 0.0);
    while start.elapsed() < PLAY {
        interrupt::check()?;
        std::thread::sleep(TICK);
        let now = start.elapsed().as_secs_f64();
        for sender in &mut senders {
            sender.due += (sender.rate)(now) * (now - before);
            while sender.due >= 1.0 {
                forger.send(&sender.packet)?;
                sender.due -= 1.0;
            }
        }
        asked += (4.0 + 8.0 * wave(now, 13.0)) * (now - before);
        while asked >= 1.0 {
            asking.send(&rpc::dump_call())?;
            asked -= 1.0;
        }
        before = now;
    }
    Ok(())
}

/// Between 0 and 1, up and down once in a period of seconds.
fn wave(time: f64, period: f64) -> f64 {
    0.5 - 0.5 * (time / period * std::f64::consts::TAU).cos()
}

/// To port 111 of the server, in the name of `source`.
fn flow(source: IpAddr) -> Flow {
    const SOURCE_PORT: u16 = 40_000;
    match source {
        IpAddr::V4(source) => {
            Flow::V4(SocketAddrV4::new(source, SOURCE_PORT), SocketAddrV4::new(SERVER.0, rpc::PORT))
        }
        IpAddr::V6(source) => Flow::V6(
            SocketAddrV6::new(source, SOURCE_PORT, 0, 0),
            SocketAddrV6::new(SERVER.1, rpc::PORT, 0, 0),
        ),
    }
}
