//! Part 1: what a program costs, measured by running it on one frame again and again (`BPF_PROG_TEST_RUN`).
//!
//! Everybody in a case takes his turn in each round, and is compared with the bare program of that round: the clock of
//! a machine has moods.

use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::interrupt;

use super::Effort;
use super::bpf;
use super::cpu;
use super::frames::{Question, frame};
use super::lists::List;
use super::peers::{Guard, XdpFilter, place};
use super::programs::{Object, Program, Programs};
use super::results::{Accounts, Case, Family, Measured, Sources, TestProgram};
use super::spread::Spread;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// The list of the cases that are not about lists.
pub(super) const LIST: usize = 1000;
/// From how many sources packets come, beside floods.
const SOURCE_COUNTS: [usize; 8] = [1, 16, 256, 1024, 4096, 16 * 1024, 64 * 1024, 128 * 1024];

/// How often a measurement may be repeated when the clocks do not agree.
const ATTEMPTS: u32 = 5;

/// What the clocks said of one run.
#[derive(Debug, Clone, Copy)]
struct Sample {
    nanoseconds: f64,
    disturbed: u32,
}

/// Measures all cases. Returns what portguard has counted meanwhile, too.
pub(super) fn run(effort: &Effort, portguard: &Path, object: &Object) -> Result<(Vec<Measured>, Accounts)> {
    let [guarded, audited, logged] = [place("guard")?, place("audit")?, place("log")?];
    let [filtered, filtered_udp] = [place("filter")?, place("filter-udp")?];
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
        let mut tested = vec![
            (TestProgram::Portguard, guard.program()?),
            (TestProgram::LpmLru, programs.program("lpm_lru")?),
        ];
        let cases = cases(effort, size);
        // They stay for as long as this list is measured.
        let (audit, log);
        if size == LIST {
            audit = Guard::attach(portguard, &audited, &lists, &["--audit"])?;
            tested.push((TestProgram::PortguardAudit, audit.program()?));
            log = Guard::serve(portguard, &logged, &lists, &["--log-drops"])?;
            tested.push((TestProgram::PortguardLog, log.program()?));
            for (which, filter) in &filters {
                tested.push((*which, filter.program()?));
            }
        }
        let mut bench = Bench { effort, programs: &mut programs, tested: &tested, denied: 0 };
        for case in cases {
            interrupt::check()?;
            let rows = bench.case(case, &lists)?;
            report(case, &rows);
            measured.extend(rows);
        }
        denied += bench.denied;
    }
    let accounts = guard.context("no lists")?.accounts()?;
    ensure!(
        accounts.denied == denied,
        "portguard was given {denied} packets to deny, and has counted {}",
        accounts.denied
    );
    Ok((measured, accounts))
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
            for count in SOURCE_COUNTS.into_iter().filter(|count| *count < effort.flood) {
                add(family, false, Sources::Denied, count);
            }
        }
    }
    cases
}

/// The programs for one list.
struct Bench<'a> {
    effort: &'a Effort,
    programs: &'a mut Programs,
    tested: &'a [(TestProgram, Program)],
    /// How many packets portguard was given to deny.
    denied: u64,
}

impl Bench<'_> {
    /// All programs in a case, the bare program first.
    fn case(&mut self, case: Case, lists: &[List; 2]) -> Result<Vec<Measured>> {
        let list = &lists[usize::from(case.family == Family::V6)];
        let sources = match case.sources {
            Sources::OtherPort | Sources::AllowedSame | Sources::Allowed => list.members(case.source_count),
            Sources::DeniedSame | Sources::Denied => list.strangers(case.source_count),
            Sources::Neighbours => list.neighbours(case.source_count),
        };
        let source = *sources.first().context("a list without sources")?;
        let question = if case.sources == Sources::OtherPort { Question::Https } else { Question::Dump };
        let frame = frame(source, question, case.tagged);
        if !case.sources.are_one() {
            self.programs.forge(&sources, case.source_count, &frame)?;
        }
        let denied = case.sources.are_denied();
        let bare = self.programs.program(if denied { "bare_drop" } else { "bare_pass" })?;

        let takes_part = |tested: TestProgram| match tested {
            TestProgram::Bare | TestProgram::Portguard | TestProgram::LpmLru => true,
            // A flood, and one source, tell all.
            TestProgram::PortguardAudit | TestProgram::PortguardLog => match case.sources {
                Sources::DeniedSame => true,
                Sources::Denied => case.source_count == self.effort.flood,
                Sources::OtherPort | Sources::AllowedSame | Sources::Allowed | Sources::Neighbours => false,
            },
            // They know no lists, and do not remember sources: the first of such cases tells all.
            TestProgram::XdpFilter | TestProgram::XdpFilterUdp => match case.sources {
                Sources::OtherPort | Sources::DeniedSame => true,
                Sources::Denied => case.source_count == self.effort.flood,
                Sources::AllowedSame | Sources::Allowed | Sources::Neighbours => false,
            },
        };
        let field: Vec<(TestProgram, &Program)> = [(TestProgram::Bare, &bare)]
            .into_iter()
            .chain(self.tested.iter().map(|(tested, program)| (*tested, program)))
            .filter(|(tested, _)| takes_part(*tested))
            .collect();

        let mut repeats = Vec::new();
        for (tested, program) in &field {
            // Warm, and with as many sources as there will be.
            let warm_up = self.effort.warm_up;
            let sample = self.turn(case, *tested, program, &frame, warm_up)?;
            let fitting = self.effort.round.as_nanos() as f64 / sample.nanoseconds.max(1.0);
            repeats.push((fitting as u32).max(self.effort.fewest));
        }
        let mut samples = vec![Vec::new(); field.len()];
        for round in 0..self.effort.rounds {
            // Another one begins each round.
            for index in (0..field.len()).map(|index| (index + round) % field.len()) {
                let (tested, program) = field[index];
                samples[index].push(self.turn(case, tested, program, &frame, repeats[index])?);
            }
        }
        let row = |(index, (tested, _)): (usize, &(TestProgram, &Program))| Measured {
            case,
            tested: *tested,
            nanoseconds: Spread::of(samples[index].iter().map(|sample| sample.nanoseconds)),
            ratio: Spread::of(
                samples[index]
                    .iter()
                    .zip(&samples[0])
                    .map(|(sample, bare)| sample.nanoseconds / bare.nanoseconds),
            ),
            repeats: repeats[index],
            disturbed: samples[index].iter().map(|sample| sample.disturbed).sum(),
        };
        Ok(field.iter().enumerate().map(row).collect())
    }

    /// One program's turn in a round.
    fn turn(
        &mut self,
        case: Case,
        tested: TestProgram,
        program: &Program,
        frame: &[u8],
        repeats: u32,
    ) -> Result<Sample> {
        let drops = case.sources.are_denied() && tested != TestProgram::PortguardAudit;
        let expected = if drops { XDP_DROP } else { XDP_PASS };
        let forger =
            if case.sources.are_one() { None } else { Some(self.programs.forger(case.family, program)?) };
        let program = forger.as_ref().unwrap_or(program);
        let (sample, runs) = cpu::on(self.effort.cpu, || measure(program, frame, repeats, expected))
            .with_context(|| format!("{tested}, {}, {}", case.family, case.sources))?;
        if tested == TestProgram::Portguard && case.sources.are_denied() {
            self.denied += u64::from(repeats) * u64::from(runs);
        }
        Ok(sample)
    }
}

/// Runs a program on a frame, and how often it took until the clocks agreed.
fn measure(program: &Program, frame: &[u8], repeats: u32, expected: u32) -> Result<(Sample, u32)> {
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
