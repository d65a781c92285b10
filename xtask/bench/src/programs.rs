//! The bench's own kernel programs: built, loaded, and set up for a case.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, Map};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod};

use super::bpf;
use super::lists::List;
use super::results::Family;

#[path = "../ebpf/src/shared.rs"]
mod shared;

use shared::{Block, Course, Forgery};

/// As many sources of IPv6 as there may be in a case.
const MOST_SOURCES: usize = 2 << 20;

// SAFETY: integers without padding.
unsafe impl Pod for Course {}
// SAFETY: integers without padding.
unsafe impl Pod for Forgery {}

/// The order in which the sources of a flood come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Each block of sources is picked at random.
    Random,
    /// The order in which they were given.
    Given,
}

/// The compiled programs.
#[derive(Debug)]
pub struct Object(Vec<u8>);

impl Object {
    /// Those in an object file of this content.
    pub fn new(content: Vec<u8>) -> Self {
        Self(content)
    }
}

/// The loaded programs, with the baseline's list.
#[derive(Debug)]
pub(super) struct Programs {
    ebpf: Ebpf,
}

/// A program to be measured.
#[derive(Debug)]
pub(super) struct Program {
    /// The program.
    pub(super) fd: OwnedFd,
    /// Whether it takes packets in several buffers.
    pub(super) frags: bool,
}

impl Programs {
    /// Loads the programs, and fills the baseline's tries.
    pub(super) fn load(object: &Object, lists: &[List; 2]) -> Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?;
        let [v4, v6] = lists.each_ref().map(|list| list.prefixes().len() as u32 + 1);
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("SOURCES", blocks(MOST_SOURCES, Family::V6) as u32)
            .map_max_entries("COURSES", cpus as u32)
            .map_max_entries("BASELINE_LIST_V4", v4)
            .map_max_entries("BASELINE_LIST_V6", v6)
            .load(&object.0)
            .context("cannot load the kernel programs of the bench")?;
        for (name, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program
                .load()
                .with_context(|| format!("cannot load the program {name} (the bench needs Linux 5.18)"))?;
        }
        let mut programs = Self { ebpf };
        for list in lists {
            programs.fill(list)?;
        }
        Ok(programs)
    }

    fn fill(&mut self, list: &List) -> Result<()> {
        let width = list.family().width();
        match list.family() {
            Family::V4 => {
                let mut trie: LpmTrie<_, [u8; 4], u32> = self.map("BASELINE_LIST_V4")?.try_into()?;
                for prefix in list.prefixes() {
                    let address = (prefix.bits as u32).to_be_bytes();
                    trie.insert(&Key::new(prefix.length.min(width).into(), address), 1, 0)?;
                }
            }
            Family::V6 => {
                let mut trie: LpmTrie<_, [u8; 16], u32> = self.map("BASELINE_LIST_V6")?.try_into()?;
                for prefix in list.prefixes() {
                    trie.insert(&Key::new(prefix.length.into(), prefix.bits.to_be_bytes()), 1, 0)?;
                }
            }
        }
        Ok(())
    }

    /// One of the bench's own programs.
    pub(super) fn program(&self, name: &str) -> Result<Program> {
        let program: &Xdp =
            self.ebpf.program(name).with_context(|| format!("no program {name}"))?.try_into()?;
        let fd = program.fd()?.as_fd().try_clone_to_owned().context("cannot copy a descriptor")?;
        Ok(Program { fd, frags: true })
    }

    /// One of the bench's own programs, to be attached.
    pub(super) fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        Ok(self.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
    }

    /// Gives the forgers these sources, `count` of them: again from the first if there are fewer. The `frame` is the one whose
    /// source they will write over.
    pub(super) fn forge(
        &mut self,
        sources: &[IpAddr],
        count: usize,
        order: Order,
        frame: &[u8],
    ) -> Result<()> {
        let family = if sources.first().is_some_and(IpAddr::is_ipv4) { Family::V4 } else { Family::V6 };
        ensure!(!sources.is_empty() && count <= MOST_SOURCES, "{} sources to forge", sources.len());
        let mut bytes = sources.iter().cycle().flat_map(|source| match source {
            IpAddr::V4(source) => source.octets().to_vec(),
            IpAddr::V6(source) => source.octets().to_vec(),
        });
        let blocks = blocks(count, family);
        let mut array: Array<_, Block> = self.map("SOURCES")?.try_into()?;
        for number in 0..blocks {
            let block: Block = std::array::from_fn(|_| bytes.next().unwrap_or_default());
            array.set(number as u32, block, 0)?;
        }
        let in_order = u32::from(order == Order::Given);
        let forgery = Forgery { block_mask: blocks as u32 - 1, header_sum: header_sum(frame), in_order };
        let mut array: Array<_, Forgery> = self.map("FORGERY")?.try_into()?;
        array.set(0, forgery, 0)?;
        let mut courses: Array<_, Course> = self.map("COURSES")?.try_into()?;
        for cpu in 0..courses.len() {
            // At the end of a block, so that the first packet begins another one.
            let offset = size_of::<Block>() as u32;
            let random = 0x9e37_79b9_7f4a_7c15 ^ u64::from(cpu + 1);
            courses.set(cpu, Course { random, offset, block: 0, next_block: 0, padding: [0; 11] }, 0)?;
        }
        Ok(())
    }

    /// Has the forger of that family hand its packets on to `next`, and returns the forger.
    pub(super) fn forger(&mut self, family: Family, next: &Program) -> Result<Program> {
        let array = if next.frags { "NEXT_FRAGS" } else { "NEXT" };
        let Map::ProgramArray(array) = self.map(array)? else { bail!("{array} is no array of programs") };
        bpf::set_program(array.fd().as_fd(), 0, next.fd.as_fd())
            .context("the kernel does not let a forger call this program")?;
        let forger = match (family, next.frags) {
            (Family::V4, false) => "v4",
            (Family::V6, false) => "v6",
            (Family::V4, true) => "v4_frags",
            (Family::V6, true) => "v6_frags",
        };
        self.program(forger)
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))
    }
}

/// How many blocks so many sources fill: a power of two.
fn blocks(sources: usize, family: Family) -> usize {
    (sources * usize::from(family.width()) / 8).div_ceil(size_of::<Block>()).next_power_of_two()
}

/// The sum over the words of an IPv4 header without options, but for the checksum and the source (RFC 1071).
fn header_sum(frame: &[u8]) -> u32 {
    const HEADER: std::ops::Range<usize> = 14..34;
    const CHECKSUM: usize = 5;
    const SOURCE: [usize; 2] = [6, 7];
    let words = frame.get(HEADER).unwrap_or_default().as_chunks().0.iter().enumerate();
    words
        .filter(|(number, _)| *number != CHECKSUM && !SOURCE.contains(number))
        .map(|(_, word)| u32::from(u16::from_ne_bytes(*word)))
        .sum()
}
