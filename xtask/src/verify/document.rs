//! `docs/verification.md`: what was proved, by whom, and with which figures.

use anyhow::Result;

use portguard_testkit::document::Document;
pub(crate) use portguard_testkit::document::Section;

/// Layer 1.
pub(crate) const TABLE: Section = Section {
    key: "table",
    title: "A table of frames",
    words: "\
`portguard/tests/program/frames.rs` is the product's verdict table, row by row and edge by edge. Each case is run through \
the host build of the parser and through the loaded program (`BPF_PROG_TEST_RUN`), on Ethernet and on raw IP, enforcing and \
in audit mode, with the packet in one buffer and split over several. The action must be right, and so must every counter.",
    command: "cargo xtask verify table",
};

/// Layer 2.
pub(crate) const PARSERS: Section = Section {
    key: "parsers",
    title: "Two parsers, one truth",
    words: "\
Random frames (VLAN stacks, options, extension header chains, fragments, TCP, UDP and others, from sources on both sides of \
every edge of the list; half of them damaged) are judged three times: by an oracle that reads each header with etherparse and \
shares no code with the guard, by the host build, and by the loaded program. Verdicts must agree frame by frame; the program's \
counters must move by exactly what the host build expects, per reason and per source, in packets and in bytes. Where etherparse \
can take the whole frame apart on its own, the port that it finds must fit the verdict, too; the oracle itself judges every \
frame.",
    command: "cargo xtask verify parsers",
};

/// Layer 3.
pub(crate) const LINUX: Section = Section {
    key: "linux",
    title: "Linux itself as the oracle",
    words: "\
Two hosts with equal addresses, one of them guarded in native mode, get the same random frames over a veth. UDP sockets, \
listening TCP sockets (their SYN-ACKs and resets on the wire) and echo replies show what Linux has delivered, reassembled \
fragments included. From denied sources nothing may ever arrive on port 111 of the guarded host; everything else that arrives \
at the other one must arrive there. Beyond the header limits (4 tags, 16 extension headers) only the first is asked.",
    command: "cargo xtask verify linux",
};

/// Layer 4.
pub(crate) const FUZZING: Section = Section {
    key: "fuzzing",
    title: "Fuzzing",
    words: "\
libFuzzer looks for inputs that reach new code: `frame` holds the host parser against the oracle of layer 2, `rpc` the \
reading of RPC calls against one of etherparse and onc-rpc, `allowlist` \
asks that reading a list never panics, takes bounded time, and that an accepted list means the same when it is written down \
again. The committed seeds run in `cargo xtask test`.",
    command: "cargo xtask fuzz",
};

/// Whether the layers would notice.
pub(crate) const MUTANTS: Section = Section {
    key: "mutants",
    title: "Deliberate bugs",
    words: "\
Each patch in `xtask/mutants/` plants one bug into a copy of the sources; the short forms of layers 1 to 3 run against it. \
A layer catches the bug if its tests fail. The command fails unless each bug is caught by at least two layers.",
    command: "cargo xtask verify mutants",
};

const SECTIONS: [Section; 5] = [TABLE, PARSERS, LINUX, FUZZING, MUTANTS];

const HEAD: &str = "\
# Verification

The property: **no packet that Linux could deliver to UDP or TCP port 111 passes unless its source is on the list; no packet
that Linux would deliver anywhere else is dropped**, the header limits aside. It is held up by independent layers. The
figures below are written by the commands that make them.
";

const DOCUMENT: Document = Document { path: "docs/verification.md", head: HEAD, sections: &SECTIONS };

/// Writes down new figures of a section, with the date and the kernel.
pub(crate) fn write(section: Section, figures: &str) -> Result<()> {
    DOCUMENT.write(section, figures)
}

/// The figures of a section as they stand in the document.
pub(crate) fn read(section: Section) -> Option<String> {
    DOCUMENT.read(section)
}
