//! Part 1: what a program costs, measured by running it on one frame again and again (`BPF_PROG_TEST_RUN`).
//!
//! Everybody in a case takes his turn in each round, and is compared with the bare program of that round: the clock of
//! a machine changes.

use std::cell::Cell;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::interrupt;

use super::Effort;
use super::bpf;
use super::cpu;
use super::frames::{Question, frame};
use super::lists::{List, yaml, yaml_with_conditions};
use super::peers::{Guard, XdpFilter, place};
use super::programs::{Object, Order, Program, Programs};
use super::results::{Accounts, Case, Family, Measured, Sources, TestProgram};
use super::spread::Spread;

const XDP_DROP: u32 = 1;
pub(super) const XDP_PASS: u32 = 2;

/// The list of the cases that are not about lists.
pub(super) const LIST: usize = 1000;
/// From how many sources packets come, beside floods.
const SOURCE_COUNTS: [usize; 8] = [1, 16, 256, 1024, 4096, 16 * 1024, 64 * 1024, 128 * 1024];

/// How often a measurement may be repeated when the clocks do not agree.
const ATTEMPTS: u32 = 5;

/// A round is in a slow phase of the host if its bare program takes this much longer than in a fast round. A phase slows the bare
/// program by a fifth, and what others do more, so ratios of such rounds do not compare with those of others.
const SLOW: f64 = 1.1;
/// The fewest rounds that are judged.
const FEWEST_ROUNDS: usize = 3;

/// So many times the sources of a flood come before their table is as full of known sources as it becomes.
const UNTIL_ESTABLISHED: u32 = 32;

/// What the clocks said of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) nanoseconds: f64,
    disturbed: u32,
}

/// Measures all cases. Returns what portguard has counted meanwhile, too.
pub(super) fn run(effort: &Effort, portguard: &Path, object: &Object) -> Result<(Vec<Measured>, Accounts)> {
    let [guarded, audited, logged] = [place("guard")?, place("audit")?, place("log")?];
    let [filtered, filtered_udp] = [place("filter")?, place("filter-udp")?];
    let places = [place("fresh")?, place("established")?];
    let [permitting_lookups, conditional] = [place("lookups")?, place("conditions")?];
    let filters = [
        (TestProgram::XdpFilter, XdpFilter::load(&filtered, &["--mode", "native"])?),
        (
            TestProgram::XdpFilterUdp,
            XdpFilter::load(&filtered_udp, &["--mode", "native", "--features", "udp"])?,
        ),
    ];
    let mut guard: Option<Guard<'_>> = None;
    let mut measured = Vec::new();
    let mut denied = 0;
    for &size in &effort.lists {
        eprintln!("bench: lists of {size} prefixes");
        let lists = Family::ALL.map(|family| List::generate(family, size));
        let guard = match &mut guard {
            Some(guard) => {
                guard.reload(&lists)?;
                guard
            }
            None => guard.insert(Guard::attach(portguard, &guarded, &lists, &[])?),
        };
        let mut programs = Programs::load(object, &lists)?;
        let mut all = vec![
            Tested::new(TestProgram::Portguard, guard.program()?),
            Tested::new(TestProgram::Lpm, programs.program("lpm")?),
            Tested::new(TestProgram::LpmLru, programs.program("lpm_lru")?),
        ];
        let cases = cases(effort, size);
        // They stay for as long as this list is measured.
        let (audit, log);
        let text = format!("udp: lookups\n{}", yaml(&lists.each_ref()));
        let lookups = Guard::attach_with_text(portguard, &permitting_lookups, &lists, &text)?;
        all.push(Tested::new(TestProgram::PortguardLookups, lookups.program()?));
        let text = yaml_with_conditions(&lists.each_ref());
        let conditions = Guard::attach_with_text(portguard, &conditional, &lists, &text)?;
        all.push(Tested::new(TestProgram::PortguardConditions, conditions.program()?));
        let mut own_tables = Vec::new();
        if size == LIST {
            audit = Guard::attach(portguard, &audited, &lists, &["--audit"])?;
            all.push(Tested::new(TestProgram::PortguardAudit, audit.program()?));
            log = Guard::serve(portguard, &logged, &lists, &["--log-drops"])?;
            all.push(Tested::new(TestProgram::PortguardLog, log.program()?));
            for (which, filter) in &filters {
                all.push(Tested::new(*which, filter.program()?));
            }
            for (place, sources) in places.iter().zip([Sources::Fresh, Sources::FreshOverEstablished]) {
                let guard = Guard::attach(portguard, place, &lists, &[])?;
                all.push(Tested::with_own_table(sources, guard.program()?));
                own_tables.push((sources, guard));
            }
        }
        let mut bench = Bench { effort, programs: &mut programs, all: &all };
        for case in cases {
            interrupt::check()?;
            let rows = bench.case(case, &lists)?;
            report(case, &rows);
            measured.extend(rows);
        }
        denied += all[0].denied.get();
        for (sources, guard) in &own_tables {
            let one = all.iter().find(|one| one.only == Some(*sources));
            accounted(guard, one.context("no such program")?.denied.get())?;
        }
    }
    let accounts = accounted(guard.as_ref().context("no lists")?, denied)?;
    Ok((measured, accounts))
}

/// What a guard has counted, which must be the packets that it was given to deny.
fn accounted(guard: &Guard<'_>, denied: u64) -> Result<Accounts> {
    let accounts = guard.accounts()?;
    ensure!(
        accounts.denied == denied && accounts.attributed + accounts.unattributed == denied,
        "portguard was given {denied} packets to deny, and has counted {accounts:?}"
    );
    Ok(accounts)
}

/// What is measured with lists of that size.
fn cases(effort: &Effort, list: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |family, tagged, sources, source_count| {
        cases.push(Case { family, tagged, sources, source_count, list });
    };
    for family in Family::ALL {
        add(family, false, Sources::AllowedSame, 1);
        add(family, false, Sources::Allowed, effort.members);
        add(family, false, Sources::Denied, effort.flood);
        add(family, false, Sources::Neighbours, effort.flood);
    }
    if list == LIST {
        for (family, tagged) in [(Family::V4, false), (Family::V6, false), (Family::V4, true)] {
            add(family, tagged, Sources::OtherPort, 1);
            add(family, tagged, Sources::DeniedSame, 1);
        }
        add(Family::V4, true, Sources::AllowedSame, 1);
        for family in Family::ALL {
            add(family, false, Sources::Fresh, effort.fresh);
            add(family, false, Sources::FreshOverEstablished, effort.fresh);
            for count in SOURCE_COUNTS.into_iter().filter(|count| *count < effort.flood) {
                add(family, false, Sources::Denied, count);
            }
        }
    }
    cases
}

/// A program, and the cases that it is for.
struct Tested {
    which: TestProgram,
    program: Program,
    /// The only case that it is for, because its table must have seen nothing else.
    only: Option<Sources>,
    /// How many packets it was given to deny.
    denied: Cell<u64>,
}

impl Tested {
    fn new(which: TestProgram, program: Program) -> Self {
        Self { which, program, only: None, denied: Cell::new(0) }
    }

    /// portguard, for one case only.
    fn with_own_table(sources: Sources, program: Program) -> Self {
        Self { only: Some(sources), ..Self::new(TestProgram::Portguard, program) }
    }

    fn add_denied(&self, packets: u32, runs: u32) {
        self.denied.set(self.denied.get() + u64::from(packets) * u64::from(runs));
    }

    fn takes_part(&self, case: Case, flood: usize) -> bool {
        let own = case.sources.need_own_table().then_some(case.sources);
        match self.which {
            TestProgram::Bare | TestProgram::LpmLru => true,
            TestProgram::Portguard => self.only == own,
            // It has no table of sources.
            TestProgram::Lpm => own.is_none() && case.sources != Sources::OtherPort,
            // A flood, and one source, tell all.
            TestProgram::PortguardAudit | TestProgram::PortguardLog => match case.sources {
                Sources::DeniedSame => true,
                sources => sources == Sources::Denied && case.source_count == flood,
            },
            // Their listed sources are of interest, and that others cost what they cost without conditions.
            TestProgram::PortguardLookups | TestProgram::PortguardConditions => match case.sources {
                Sources::AllowedSame | Sources::Allowed | Sources::DeniedSame => true,
                sources => sources == Sources::Denied && case.source_count == flood && case.list == LIST,
            },
            // They know no lists, and do not remember sources: the first of such cases tells all.
            TestProgram::XdpFilter | TestProgram::XdpFilterUdp => match case.sources {
                Sources::OtherPort | Sources::DeniedSame => true,
                sources => sources == Sources::Denied && case.source_count == flood,
            },
        }
    }
}

/// The programs for one list.
struct Bench<'a> {
    effort: &'a Effort,
    programs: &'a mut Programs,
    all: &'a [Tested],
}

impl Bench<'_> {
    /// All programs in a case, the bare program first.
    fn case(&mut self, case: Case, lists: &[List; 2]) -> Result<Vec<Measured>> {
        let list = &lists[usize::from(case.family == Family::V6)];
        let sources = match case.sources {
            Sources::OtherPort | Sources::AllowedSame | Sources::Allowed => list.members(case.source_count),
            Sources::DeniedSame | Sources::Denied | Sources::Fresh | Sources::FreshOverEstablished => {
                list.strangers(case.source_count)
            }
            Sources::Neighbours => list.neighbours(case.source_count),
        };
        let source = *sources.first().context("a list without sources")?;
        let question = if case.sources == Sources::OtherPort { Question::Https } else { Question::Dump };
        let frame = frame(source, question, case.tagged);
        if case.sources == Sources::FreshOverEstablished {
            self.establish(case, list, &frame)?;
        }
        if !case.sources.are_one() {
            let order = if case.sources.need_own_table() { Order::Given } else { Order::Random };
            self.programs.forge(&sources, case.source_count, order, &frame)?;
        }
        let denied = case.sources.are_denied();
        let bare = self.programs.program(if denied { "bare_drop" } else { "bare_pass" })?;

        let bare = Tested::new(TestProgram::Bare, bare);
        let all = self.all;
        let takes_part = |one: &&Tested| one.takes_part(case, self.effort.flood);
        let field: Vec<&Tested> = std::iter::once(&bare).chain(all.iter().filter(takes_part)).collect();

        let mut repeats = Vec::new();
        for one in &field {
            // Warm, and with as many sources as there will be.
            let sample = self.turn(case, one, &frame, self.effort.warm_up)?;
            let fitting = self.effort.round.as_nanos() as f64 / sample.nanoseconds.max(1.0);
            repeats.push((fitting as u32).max(self.effort.fewest));
        }
        let mut samples = vec![Vec::new(); field.len()];
        for round in 0..self.effort.rounds {
            // Another one begins each round.
            for index in (0..field.len()).map(|index| (index + round) % field.len()) {
                samples[index].push(self.turn(case, field[index], &frame, repeats[index])?);
            }
        }
        let judged = judged(&samples[0]);
        let row = |(index, one): (usize, &&Tested)| {
            let of = |figure: fn(&Sample, &Sample) -> f64| {
                Spread::of(judged.iter().map(|&round| figure(&samples[index][round], &samples[0][round])))
            };
            Measured {
                case,
                tested: one.which,
                nanoseconds: of(|sample, _| sample.nanoseconds),
                ratio: of(|sample, bare| sample.nanoseconds / bare.nanoseconds),
                repeats: repeats[index],
                disturbed: samples[index].iter().map(|sample| sample.disturbed).sum(),
                over: of(|sample, bare| sample.nanoseconds - bare.nanoseconds),
                rounds: self.effort.rounds as u32,
                left_out: (self.effort.rounds - judged.len()) as u32,
            }
        };
        Ok(field.iter().enumerate().map(row).collect())
    }

    /// Fills the table of the guard for such cases with sources that come several times.
    fn establish(&mut self, case: Case, list: &List, frame: &[u8]) -> Result<()> {
        let flood = self.effort.flood;
        self.programs.forge(&list.strangers(flood), flood, Order::Random, frame)?;
        let all = self.all;
        for one in all.iter().filter(|one| one.only == Some(case.sources)) {
            let forger = self.programs.forger(case.family, &one.program)?;
            let packets = UNTIL_ESTABLISHED * flood as u32;
            let (_, runs) = cpu::on(self.effort.cpu, || measure(&forger, frame, packets, XDP_DROP))?;
            one.add_denied(packets, runs);
        }
        Ok(())
    }

    /// One program's turn in a round.
    fn turn(&mut self, case: Case, one: &Tested, frame: &[u8], repeats: u32) -> Result<Sample> {
        let Tested { which, program, .. } = one;
        let drops = match which {
            TestProgram::PortguardAudit => false,
            TestProgram::PortguardLookups | TestProgram::PortguardConditions => {
                case.sources != Sources::OtherPort
            }
            _ => case.sources.are_denied(),
        };
        let expected = if drops { XDP_DROP } else { XDP_PASS };
        let forger =
            if case.sources.are_one() { None } else { Some(self.programs.forger(case.family, program)?) };
        let program = forger.as_ref().unwrap_or(program);
        let (sample, runs) = cpu::on(self.effort.cpu, || measure(program, frame, repeats, expected))
            .with_context(|| format!("{which}, {}, {}", case.family, case.sources))?;
        if case.sources.are_denied() {
            one.add_denied(repeats, runs);
        }
        Ok(sample)
    }
}

/// The rounds in which the host was not in a slow phase; all if there are too few of them.
fn judged(bare: &[Sample]) -> Vec<usize> {
    let mut times: Vec<f64> = bare.iter().map(|sample| sample.nanoseconds).collect();
    times.sort_unstable_by(f64::total_cmp);
    // Not the fastest round, which may be a mistake of a clock.
    let fast = times.get(times.len() / 8).copied().unwrap_or_default();
    let judged: Vec<usize> =
        (0..bare.len()).filter(|&round| bare[round].nanoseconds <= fast * SLOW).collect();
    if judged.len() < FEWEST_ROUNDS { (0..bare.len()).collect() } else { judged }
}

/// Runs a program on a frame, and how often it took until the clocks agreed.
pub(super) fn measure(program: &Program, frame: &[u8], repeats: u32, expected: u32) -> Result<(Sample, u32)> {
    let mut runs = 0;
    loop {
        let before = cpu::thread_time()?;
        let ran = bpf::test_run(program.fd.as_fd(), frame, repeats).context("cannot run the program")?;
        let nanoseconds = (cpu::thread_time()? - before).as_nanos() as f64 / f64::from(repeats);
        runs += 1;
        ensure!(
            ran.action == expected,
            "the program's verdict is {}, not {expected}: it is not what is to be measured",
            ran.action
        );
        // The kernel's is in whole nanoseconds, and without the call's own cost.
        let difference = (nanoseconds - ran.duration.as_nanos() as f64).abs();
        if difference <= 2.0 + nanoseconds / 10.0 || runs == ATTEMPTS {
            return Ok((Sample { nanoseconds, disturbed: runs - 1 }, runs));
        }
    }
}

fn report(case: Case, rows: &[Measured]) {
    let Case { family, tagged, sources, source_count, list: _ } = case;
    let tagged = if tagged { ", VLAN" } else { "" };
    let rows: Vec<_> = rows
        .iter()
        .map(|row| format!("{} {:.1} ns {:.2}x", row.tested, row.nanoseconds.median, row.ratio.median))
        .collect();
    eprintln!("  {family}{tagged}, {sources}, {source_count}: {}", rows.join(" | "));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(nanoseconds: &[f64]) -> Vec<usize> {
        let samples: Vec<_> =
            nanoseconds.iter().map(|&nanoseconds| Sample { nanoseconds, disturbed: 0 }).collect();
        judged(&samples)
    }

    #[test]
    fn a_round_that_is_too_fast_is_no_measure() {
        let mut nanoseconds = [22.0; 15];
        nanoseconds[3] = 15.0;
        nanoseconds[7] = 27.0;
        assert_eq!(rounds(&nanoseconds), [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14]);
    }

    #[test]
    fn rounds_of_a_slow_phase_are_not_judged_unless_few_are_left() {
        assert_eq!(rounds(&[22.0, 26.9, 22.3, 27.1, 23.0]), [0, 2, 4]);
        assert_eq!(rounds(&[22.0, 26.9, 26.8, 27.1, 23.0]), [0, 1, 2, 3, 4]);
    }
}
