//! `cargo xtask demo`: the main job on real input. A server with the real rpcbind, a client that may ask, one that
//! may not, an attacker and his victim; without the guard, with it, and with another allowlist. It fails when
//! anything is not as promised, and everything that it prints was measured in the run.

mod attack;
mod guard;
mod probe;
mod report;
mod testbed;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::attack::{Attack, REQUESTS, attack};
use self::guard::{Counted, counted};
use self::probe::{Answer, Probe, ask_all};
use self::report::{Narrator, Phase};
use self::testbed::{Family, start_services};
use portguard_testkit::built;
use portguard_testkit::interrupt::{self, Interrupted};
use portguard_testkit::machine::Machine;
use portguard_testkit::net::{self, Capture, Count, Host};
use portguard_testkit::portguard::Portguard;
use portguard_testkit::testbed::{Role, Testbed};

const ALLOWLIST: &str = "allowlist.yaml";
const SAME: &str = "(the commands of step 2)";
/// How far the guard's counters may be behind the wire.
const COUNTERS_LIMIT: Duration = Duration::from_secs(2);

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show this portguard instead of building the one of the working tree
    #[arg(long, value_name = "PATH")]
    portguard: Option<PathBuf>,
}

/// Runs the demo.
pub(crate) fn run(args: &Args) -> Result<()> {
    interrupt::install().context("cannot catch Ctrl-C")?;
    let binary = match &args.portguard {
        Some(path) => fs::canonicalize(path).with_context(|| format!("no {}", path.display()))?,
        None => built::portguard()?,
    };
    let start = Instant::now();
    for leftover in net::stale()? {
        eprintln!("demo: removing {}, which a killed run left behind", leftover.name());
    }
    // Where exactly Ctrl-C came is of no interest.
    let unmet = Machine::set_up(&binary)
        .and_then(|machine| play(machine, &mut Narrator::default()))
        .map_err(|error| error.downcast::<Interrupted>().map_or_else(|error| error, Into::into))?;
    if !unmet.is_empty() {
        bail!("not as promised:\n  - {}", unmet.join("\n  - "));
    }
    println!(
        "\nAll as promised, in {:.1} s; every number above was measured in this run.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Plays the whole demo, and returns the expectations that were not met.
fn play(machine: Machine, narrator: &mut Narrator) -> Result<Vec<String>> {
    let mut unmet = Vec::new();

    narrator.step(
        "Five hosts on one switch, in network namespaces of their own; the server runs the real daemons",
    );
    let testbed = Testbed::with(machine, &[Role::Allowed, Role::Denied, Role::Attacker, Role::Victim])?;
    let _services = start_services(&testbed)?;
    narrator.verbatim(&report::cast());

    narrator.step("No guard: clients and attacker do what they do on the internet");
    announce_questions(narrator);
    let unguarded = perform(&testbed, "without portguard", &[Role::Allowed])?;
    check_phase(&unguarded, &Role::CLIENTS, true, &mut unmet);

    narrator.step("The guard goes on the server's network card; the command returns, the guard stays");
    let list = |roles: &[Role]| testbed.lists.write(ALLOWLIST, roles.iter().flat_map(|role| role.prefixes()));
    let allowlist = list(&[Role::Allowed]);
    let mut wire = Wire::tap(&testbed)?;
    let portguard = testbed.portguard();
    let show = |narrator: &Narrator, arguments: &[&str]| -> Result<()> {
        narrator.command(Role::Server.name(), &format!("portguard {}", arguments.join(" ")));
        let done = net::run(&mut portguard.command_in(testbed.lists.folder(), arguments))
            .with_context(|| format!("portguard {}", arguments.join(" ")))?;
        narrator.verbatim(&(done.stderr + &done.stdout));
        Ok(())
    };
    narrator.command(Role::Server.name(), &format!("cat {ALLOWLIST}"));
    narrator.verbatim(&fs::read_to_string(&allowlist)?);
    show(narrator, &["attach", Host::INTERFACE, "--allowlist", ALLOWLIST])?;

    narrator.step("The same questions and the same attack again");
    narrator.note(SAME);
    let guarded = perform(&testbed, "with portguard", &[Role::Allowed])?;
    check_phase(&guarded, &[Role::Allowed], false, &mut unmet);
    println!("\n{}\n{}", report::comparison(&[&unguarded, &guarded]), report::LEGEND);

    narrator.step("What the guard counted, and what the wire in front of it saw");
    wire.book(&[Role::Allowed])?;
    check_counters(narrator, portguard, &wire.counted, &mut unmet)?;
    show(narrator, &["stats", Host::INTERFACE])?;
    show(narrator, &["status", Host::INTERFACE])?;

    narrator.step("The denied client's networks go on the list, and the list is put in force, live");
    list(&Role::CLIENTS);
    narrator.command(Role::Server.name(), &format!("cat {ALLOWLIST}"));
    narrator.verbatim(&fs::read_to_string(&allowlist)?);
    show(narrator, &["reload"])?;
    narrator.note(SAME);
    let reloaded = perform(&testbed, "after reload", &Role::CLIENTS)?;
    check_phase(&reloaded, &Role::CLIENTS, false, &mut unmet);
    println!("\n{}", report::comparison(&[&guarded, &reloaded]));
    wire.book(&Role::CLIENTS)?;
    check_counters(narrator, portguard, &wire.counted, &mut unmet)?;

    narrator.step("The victim's networks go on the list, too: who forges a source that is on it gets through any list of sources");
    let everyone = || Role::CLIENTS.into_iter().chain([Role::Victim]).flat_map(Role::prefixes);
    testbed.lists.write(ALLOWLIST, everyone());
    show(narrator, &["reload"])?;
    for family in Family::BOTH {
        let attack = attack(&testbed, family)?;
        check_attack(&attack, true, "on the list", &mut unmet);
        narrator.note(&told(&attack));
    }

    narrator.step("One line ends that: over UDP, only calls whose reply is hardly larger than they are");
    let text = fs::read_to_string(&allowlist)?;
    testbed.lists.write_text(ALLOWLIST, &format!("udp: lookups\n{text}"));
    narrator.command(Role::Server.name(), &format!("cat {ALLOWLIST}"));
    narrator.verbatim(&fs::read_to_string(&allowlist)?);
    show(narrator, &["reload"])?;
    narrator.note(SAME);
    let lookups = perform(&testbed, "udp: lookups", &Role::CLIENTS)?;
    check_phase(&lookups, &Role::CLIENTS, false, &mut unmet);
    println!("\n{}", report::comparison(&[&reloaded, &lookups]));
    let victim = Family::V4.address_of(Role::Victim).to_string();
    let explain = ["explain", "--proto", "udp", "--call", "dump", &victim];
    narrator.command(Role::Server.name(), &format!("portguard {}", explain.join(" ")));
    let output = portguard.run(&explain);
    narrator.verbatim(&output.stdout);
    if output.code != 1 || !output.stdout.contains("udp: lookups") {
        unmet.push(format!("explain does not name what drops a DUMP of {victim}: {output:?}"));
    }

    narrator.step("The guard comes off, and the attack is back: it was the guard that stopped it");
    show(narrator, &["detach", Host::INTERFACE])?;
    for family in Family::BOTH {
        let attack = attack(&testbed, family)?;
        check_attack(&attack, true, "after detach", &mut unmet);
        narrator.note(&told(&attack));
    }
    Ok(unmet)
}

/// An attack in one line.
fn told(attack: &Attack) -> String {
    format!(
        "{REQUESTS} forged DUMPs over {}: the victim gets {} replies, {} bytes",
        attack.family.name(),
        attack.hit.datagrams,
        attack.hit.payload
    )
}

fn announce_questions(narrator: &Narrator) {
    for client in Role::CLIENTS {
        for tool in probe::Tool::ALL {
            narrator.command(client.name(), &tool.command_line());
        }
    }
    for family in Family::BOTH {
        narrator.note(&format!(
            "{} sends {REQUESTS} DUMP requests over {} that claim to come from {}",
            Role::Attacker.name(),
            family.name(),
            family.address_of(Role::Victim)
        ));
    }
}

fn perform(testbed: &Testbed, title: &'static str, welcome: &'static [Role]) -> Result<Phase> {
    let probes = ask_all(testbed, &Role::CLIENTS)?;
    let attacks = Family::BOTH.into_iter().map(|family| attack(testbed, family)).collect::<Result<_>>()?;
    Ok(Phase { title, welcome, probes, attacks })
}

fn check_phase(phase: &Phase, answered: &[Role], victim_is_hit: bool, unmet: &mut Vec<String>) {
    for Probe { tool, client, answer } in &phase.probes {
        let as_expected = match answer {
            Answer::Came(_) => answered.contains(client),
            Answer::None => !answered.contains(client),
            Answer::Other(_) => false,
        };
        if !as_expected {
            let expected = if answered.contains(client) { "an answer" } else { "silence" };
            unmet.push(format!(
                "{}: `{}` of the {} client: expected {expected}, got: {answer}",
                phase.title,
                tool.command_line(),
                client.name()
            ));
        }
    }
    for attack in &phase.attacks {
        check_attack(attack, victim_is_hit, phase.title, unmet);
    }
}

fn check_attack(attack: &Attack, victim_is_hit: bool, when: &str, unmet: &mut Vec<String>) {
    let expected = if victim_is_hit { REQUESTS } else { 0 };
    let hit = attack.hit.datagrams;
    if hit != expected {
        unmet.push(format!(
            "{when}: of {REQUESTS} forged DUMPs over {}, {hit} hit the victim, not {expected}",
            attack.family.name()
        ));
    }
    if victim_is_hit && attack.amplification() <= 1.0 {
        unmet.push(format!("{when}: nothing was amplified over {}", attack.family.name()));
    }
}

/// A witness in front of the server's network card: it sees what the guard drops.
struct Wire {
    port: Capture,
    earlier: BTreeMap<IpAddr, Count>,
    counted: Counted,
}

impl Wire {
    fn tap(testbed: &Testbed) -> Result<Self> {
        let port = Capture::start(testbed.switch.namespace(), Role::Server.name())?;
        Ok(Self { port, earlier: BTreeMap::new(), counted: Counted::default() })
    }

    /// Adds all that came since the last time, under the list that held meanwhile.
    fn book(&mut self, allowed: &[Role]) -> Result<()> {
        let requests = self.port.requests()?;
        self.counted.book(&requests, &self.earlier, |source| {
            allowed.iter().any(|role| Family::BOTH.iter().any(|&family| family.address_of(*role) == source))
        });
        self.earlier = requests;
        Ok(())
    }
}

fn check_counters(
    narrator: &Narrator,
    portguard: Portguard<'_>,
    wire: &Counted,
    unmet: &mut Vec<String>,
) -> Result<()> {
    let deadline = Instant::now() + COUNTERS_LIMIT;
    let mut differences = wire.differences(&counted(&portguard.read_stats(Host::INTERFACE)?)?);
    while !differences.is_empty() && Instant::now() < deadline {
        interrupt::check()?;
        differences = wire.differences(&counted(&portguard.read_stats(Host::INTERFACE)?)?);
    }
    if differences.is_empty() {
        narrator.verbatim(&format!(
            "wire and counters agree: {} allowed,\n{} dropped, from {} sources",
            wire.allowed,
            wire.total_dropped(),
            wire.dropped.len()
        ));
    }
    unmet.extend(differences);
    Ok(())
}
