//! A shadow of a guard's program: the same program with the same constants, on the same lists, with counters of its own.
//!
//! It is never attached and never pinned. The kernel runs it on test frames (`BPF_PROG_TEST_RUN`), and its verdicts are
//! those of the guard. It cannot change the guard's counters or source table, because it has maps of its own for these.

use std::mem::offset_of;
use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya::programs::{Program, ProgramError, TestRun as _, TestRunOptions, Xdp};
use portguard_common::conditions::Conditions;
use portguard_common::drop_log::Rate;
use portguard_common::frame::LinkType;
use portguard_common::listed;
use portguard_common::names;
use portguard_common::reason::{Denial, DropReason};
use portguard_common::rpc::Procedure;
use portguard_common::totals::{Count, Tick, Totals};
use portguard_common::transport::Protocol;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::guard::conditions;
use crate::guard::constants::{Constants, Task, give_lookup, in_object, in_words};
use crate::guard::hook::HookKind;
use crate::guard::instance::LIST_MAPS;
use crate::guard::loader::{self, OBJECT, cannot_create, new_loader, refused};
use crate::guard::mapped::{Mapped, Memory};
use crate::guard::test_frame;
use crate::guard::{Guard, device};

/// The actions of a hook: that a packet passes, and that it is dropped (`enum xdp_action` and `enum tcx_action_base` of
/// `include/uapi/linux/bpf.h`).
const fn actions(hook: HookKind) -> [u32; 2] {
    match hook {
        HookKind::Xdp => [2, 1],
        // To the next program.
        HookKind::Tcx => [u32::MAX, 2],
    }
}

/// A program with the verdicts of a guard.
#[derive(Debug)]
pub struct Shadow {
    object: Ebpf,
    name: &'static str,
    tag: u64,
    cells: Memory,
    conditions: Mapped<Conditions>,
    /// The conditions that have a rate, as the guard has them, with their places.
    rated: Vec<(u32, Conditions)>,
    hook: HookKind,
    /// What its test frames begin with.
    link: LinkType,
}

listed! {
    /// The decision on a packet for port 111. JSON contains the names of the variants, so they must not change.
    #[derive(Serialize)]
    #[serde(into = "&'static str")]
    pub enum Decision {
        /// It passes, because its source is on the list.
        Allowed = "allowed",
        /// It is dropped, because its source is not, or may not ask for that.
        Dropped = "dropped",
        /// It passes in audit mode, and would be dropped in enforcing mode.
        WouldDrop = "would_drop",
    }
}

/// What becomes of a packet, and why it is not allowed, if it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// What becomes of it.
    pub decision: Decision,
    /// The reason that the program has counted.
    pub reason: Option<Denial>,
}

impl Shadow {
    /// Loads the shadow of a guard. The caller holds the lock, so that no other process removes the guard's pins in the
    /// meantime.
    pub(super) fn of(guard: &Guard, at: Option<u64>) -> Result<Self> {
        let instance = &guard.instance;
        let hook = guard.hook().kind();
        let link = device::link_type(guard.interface(), hook)?;
        let sizes = instance.counters.own.sizes()?.smallest();
        let seed = instance.counters.own.seed();
        let task = Task {
            hook,
            link_type: link,
            audit: instance.is_audit(),
            log_rate: Rate::OFF,
            udp_calls: instance.udp_calls(),
            has_conditions: instance.has_conditions(),
        };
        let constants = Constants::new(task, sizes, seed);
        let in_force = instance.lookup.as_ref().map(in_words).unwrap_or_default();
        let mut loader = new_loader(instance.directory());
        give_lookup(&mut loader, &in_force);
        // Maps without a path here are new, and end with the shadow.
        for name in LIST_MAPS.into_iter().filter(|name| *name != names::CONDITIONS) {
            loader.map_pin_path(in_object(name), instance.directory().join(name));
        }
        constants.give(&mut loader, sizes);
        // A copy of its own: what a test frame takes of a rate, the guard still has.
        let conditions = conditions::copy(instance, at);
        loader.map_max_entries(names::CONDITIONS, conditions.len().max(1) as u32);
        let mut object = loader.load(OBJECT).map_err(|error| cannot_create().caused_by(error))?;
        let name = match (hook, guard.program().name.as_str()) {
            (HookKind::Tcx, _) => names::PROGRAM_TCX,
            (HookKind::Xdp, names::PROGRAM) => names::PROGRAM,
            (HookKind::Xdp, _) => names::PROGRAM_FRAGS,
        };
        let tag = load(&mut object, name).map_err(refused)?;
        // To a program of tcx, the kernel hands test frames as a card with Ethernet does.
        let link = if hook == HookKind::Tcx { LinkType::Ethernet } else { link };
        let memory_of = |name: &str| {
            let map = object.map(name).and_then(data);
            map.ok_or_else(|| broken().because(format!("it has no map {name}")))
        };
        let cells = Memory::new(memory_of(names::CELLS)?).map_err(|error| broken().caused_by(error))?;
        let memory = Mapped::new(memory_of(names::CONDITIONS)?).map_err(|error| broken().caused_by(error))?;
        memory.write(0, &conditions);
        let rated = (0..).zip(conditions).filter(|(_, conditions)| conditions.rate > 0).collect();
        Ok(Self { object, name, tag, cells, conditions: memory, rated, hook, link })
    }

    /// The hash of its instructions. It is that of the guard's program, unless another build of portguard attached the
    /// guard.
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// The decision on a request from `source`: over UDP a call, over TCP the first segment of a connection.
    ///
    /// # Errors
    /// The kernel does not run the program, or its action does not agree with its counters.
    pub fn judge(&self, source: IpAddr, protocol: Protocol, call: Procedure) -> Result<Ruling> {
        let frame = test_frame::frame(self.link, source, protocol, call);
        // What a test frame takes of a rate, the next one still has.
        for (place, conditions) in &self.rated {
            self.conditions.write(*place, std::slice::from_ref(conditions));
        }
        // The program keeps the time for a tick, and the caller compares with the clock of now.
        for cpu in 0..self.cells.len() {
            let tick = self.cells.part::<Tick>(cpu, offset_of!(Totals, tick));
            // SAFETY: the part is mapped, and the program does not run.
            unsafe { tick.write_volatile(Tick::default()) };
        }
        let before = self.counted();
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
        let run = match self.object.program(self.name) {
            Some(Program::Xdp(program)) => program.test_run(options),
            Some(Program::SchedClassifier(program)) => program.test_run(options),
            _ => return Err(broken().because("it has no program")),
        };
        let action = run.map_err(|error| broken().caused_by(error))?.return_value;
        let after = self.counted();
        let packets = |after: Count, before: Count| after.packets.wrapping_sub(before.packets);
        let mut faults = before.faults();
        for (fault, after) in faults.iter_mut().zip(after.faults()) {
            fault.packets = packets(after, *fault);
        }
        let faults = faults.map(|fault| fault.packets);
        let counted = (
            packets(after.allowed, before.allowed),
            packets(after.would_drop, before.would_drop),
            faults.iter().all(|packets| *packets == 0),
        );
        let denials = Denial::ALL.into_iter().filter(|denial| {
            let number = DropReason::Denied(*denial).number();
            packets(after.drops[number], before.drops[number]) == 1
        });
        let denials: Vec<Denial> = denials.collect();
        let [passes, drops] = actions(self.hook).map(|it| it == action);
        match ((passes, drops), counted, &denials[..]) {
            ((true, _), (1, 0, true), []) => Ok(Ruling { decision: Decision::Allowed, reason: None }),
            ((_, true), (0, 0, true), [reason]) => {
                Ok(Ruling { decision: Decision::Dropped, reason: Some(*reason) })
            }
            ((true, _), (0, 1, true), [reason]) => {
                Ok(Ruling { decision: Decision::WouldDrop, reason: Some(*reason) })
            }
            (_, (allowed, would_drop, faults), denials) => Err(broken().because(format!(
                "it contradicts itself: for {} from {source} it returns {action}, and counts {allowed} allowed, \
                 {would_drop} that would be dropped, {denials:?} denied, and faults: {}",
                protocol.name(),
                !faults,
            ))),
        }
    }

    /// The sum of its totals over all CPUs.
    fn counted(&self) -> Totals {
        let mut totals = Totals::default();
        for cpu in 0..self.cells.len() {
            totals.add(&self.cells.read(cpu, 0));
        }
        totals
    }
}

/// Loads a program of the object; returns its tag.
fn load(object: &mut Ebpf, name: &str) -> Result<u64, ProgramError> {
    let info = match loader::program(object, name)? {
        Program::SchedClassifier(program) => program.load().and_then(|()| program.info()),
        program => {
            let program: &mut Xdp = program.try_into()?;
            program.load().and_then(|()| program.info())
        }
    };
    Ok(info?.tag())
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) => Some(data),
        _ => None,
    }
}

fn broken() -> Error {
    Error::failed("cannot run the guard's program for its verdict")
}
