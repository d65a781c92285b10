//! `cargo xtask screenshot`: `portguard top` in a terminal, while the real rpcbind is asked by a client and attacked by a
//! forger, as a drawing for the README. Nothing in it is made up.

mod svg;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use portguard_testkit::machine::Machine;
use portguard_testkit::net::frame::{Flow, Packet};
use portguard_testkit::net::{Forger, RpcServices, Size, Terminal, rpc};
use portguard_testkit::portguard::PATIENCE;
use portguard_testkit::testbed::{ALLOWED, IFACE, OTHER, Role, SERVER, Testbed, flow};
use portguard_testkit::{built, interrupt};

use crate::{setup, workspace};

/// The drawing, below the root of the workspace.
const DRAWING: &str = "docs/top.svg";
const SIZE: Size = Size { columns: 100, rows: 26 };
/// How long the attack goes on before the picture is taken.
const PLAY: Duration = Duration::from_secs(56);
/// How often packets are sent that are due.
const TICK: Duration = Duration::from_millis(4);

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
    let testbed = Testbed::with(Machine::set_up(binary)?, &[Role::Allowed, Role::Attacker])?;
    let _services = RpcServices::start(testbed.server.namespace())?;
    let portguard = testbed.portguard();
    portguard.complete(&["attach", IFACE, "--allowlist", &testbed.list()])?;

    let mut terminal = Terminal::spawn(portguard.command(["top"]).env_remove("NO_COLOR"), SIZE)?;
    terminal.until("a first screen", PATIENCE, |text| text.contains("enforcing"))?;
    attack(&testbed)?;
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
fn attack(testbed: &Testbed) -> Result<()> {
    let forger = Forger::new(testbed.host(Role::Attacker), &testbed.server)?;
    let dump = |source| Packet::udp(to_port_111(source), &rpc::dump_call());
    let sender = |packet, rate| Sender { packet, rate, due: 0.0 };
    let mut senders = vec![
        sender(dump(OTHER[0]), |time| wave(time, 19.0) * 1400.0),
        sender(dump(OTHER[1]), |time| wave(time + 6.0, 31.0) * 900.0),
        sender(dump(Ipv4Addr::new(203, 0, 113, 77).into()), |time| if time > 20.0 { 45.0 } else { 0.0 }),
    ];
    for (host, late) in [(4, 1.0), (17, 3.0), (30, 0.2), (81, 0.5), (200, 0.1)] {
        let packet = Packet::tcp_syn(to_port_111(Ipv4Addr::new(198, 51, 100, host).into()));
        senders.push(Sender { packet, rate: |_| 1.0, due: -late });
    }
    let asking = testbed.host(Role::Allowed).run(|| UdpSocket::bind((ALLOWED[0], 0)))?;
    asking.connect(SocketAddr::new(SERVER[0], rpc::PORT))?;
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
fn to_port_111(source: IpAddr) -> Flow {
    flow(source, SERVER[usize::from(source.is_ipv6())], rpc::PORT)
}
