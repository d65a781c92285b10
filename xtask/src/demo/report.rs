//! What the demo prints: steps, commands, and the tables. Plain text; colours on a terminal only.

use std::io::IsTerminal as _;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, Color, ContentArrangement, Table};
use portguard_testkit::testbed::Role;

use super::attack::{Attack, REQUESTS};
use super::probe::{Answer, Probe};
use super::testbed::{Family, purpose};

const WIDTH: u16 = 100;

/// What was seen under one policy.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) title: &'static str,
    /// Who should get through, be there a guard or not.
    pub(super) welcome: &'static [Role],
    pub(super) probes: Vec<Probe>,
    pub(super) attacks: Vec<Attack>,
}

/// The factor is that of the payload, as CERTs state it.
pub(super) const LEGEND: &str = "x: bytes that the victim gets for one byte of the attacker, UDP payload";

/// Tells the story, step by step.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    steps: u32,
}

impl Narrator {
    /// The next step, in one line.
    pub(super) fn step(&mut self, text: &str) {
        self.steps += 1;
        let line = format!("{}. {text}", self.steps);
        if std::io::stdout().is_terminal() {
            println!("\n\x1b[1m{line}\x1b[0m");
        } else {
            println!("\n{line}");
        }
    }

    /// A command as a user types it, and where.
    pub(super) fn command(&self, host: &str, line: &str) {
        println!("   {host}# {line}");
    }

    /// A remark on the step.
    pub(super) fn note(&self, text: &str) {
        println!("   {text}");
    }

    /// What a program printed.
    pub(super) fn verbatim(&self, output: &str) {
        for line in output.trim_end().lines() {
            println!("   {line}");
        }
    }
}

/// The cast.
pub(super) fn cast() -> String {
    let mut table = plain();
    for role in Role::ALL {
        let [v4, v6] = Family::BOTH.map(|family| family.address_of(role).to_string());
        table.add_row([role.name(), &v4, &v6, purpose(role)]);
    }
    table.to_string()
}

/// The phases side by side. All have the same questions in the same order.
pub(super) fn comparison(phases: &[&Phase]) -> String {
    let mut table = plain();
    let titles = phases.iter().map(|phase| phase.title);
    table.set_header(["asked", "by"].into_iter().chain(titles));
    let Some(first) = phases.first() else { return table.to_string() };
    for (row, probe) in first.probes.iter().enumerate() {
        let asked = [Cell::new(probe.tool.command_line()), Cell::new(probe.client.name())];
        let answers = phases.iter().map(|phase| answer_cell(&phase.probes[row], phase.welcome));
        table.add_row(asked.into_iter().chain(answers));
    }
    for (row, attack) in first.attacks.iter().enumerate() {
        let asked = [
            Cell::new(format!("{REQUESTS} forged DUMPs over {}", attack.family.name())),
            Cell::new(Role::Attacker.name()),
        ];
        let hits = phases.iter().map(|phase| hit_cell(&phase.attacks[row]));
        table.add_row(asked.into_iter().chain(hits));
    }
    table.to_string()
}

/// Green is what the owner of the server wants.
fn answer_cell(probe: &Probe, welcome: &[Role]) -> Cell {
    let good = match probe.answer {
        Answer::Came(_) => welcome.contains(&probe.client),
        Answer::None => !welcome.contains(&probe.client),
        Answer::Other(_) => false,
    };
    Cell::new(&probe.answer).fg(if good { Color::Green } else { Color::Red })
}

fn hit_cell(attack: &Attack) -> Cell {
    if attack.hit.datagrams == 0 {
        return Cell::new("victim: nothing").fg(Color::Green);
    }
    let Attack { hit, .. } = attack;
    let text =
        format!("victim: {} replies,\n{} bytes, x {:.1}", hit.datagrams, hit.payload, attack.amplification());
    Cell::new(text).fg(Color::Red)
}

fn plain() -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table
}
