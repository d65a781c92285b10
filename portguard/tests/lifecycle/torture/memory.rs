//! A kernel that has nothing to give: each of a loader's `bpf(2)` calls fails, once with each of the errors that tell of
//! want; a loader that may open no more than so many files; and one whose memory, and that of its maps, is limited.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use portguard_testkit::figures::Figures;
use portguard_testkit::net::{Outcome, run_within};

use super::{account, assert_guarded, testbed};
use crate::support::{IFACE, Output, Testbed, Traffic, is_long};

/// Runs a command under another one, on the server.
fn under(testbed: &Testbed, wrapper: &[&str], arguments: &[&str]) -> Output {
    Output::of(&mut wrapped(testbed, wrapper, arguments))
}

fn wrapped(testbed: &Testbed, wrapper: &[&str], arguments: &[&str]) -> Command {
    let inner = testbed.portguard().command(arguments);
    let (program, more) = wrapper.split_first().expect("a wrapper");
    let mut command = Command::new(program);
    command.args(more).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    testbed.server.namespace().enter(&mut command);
    testbed.machine.mounts().enter(&mut command);
    command
}

/// A control group whose processes, and the maps that they make, may take so much memory and no more. It goes away with
/// the value.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one, by either version of control groups.
    fn new(bytes: u64) -> Self {
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (root, limit) = match unified {
            true => ("/sys/fs/cgroup", "memory.max"),
            false => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        };
        if unified {
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").expect("the memory controller");
        }
        let folder = Path::new(root).join(format!("pg-{}-{bytes}", std::process::id()));
        fs::create_dir(&folder)
            .expect("a control group: the kernel needs CONFIG_MEMCG, and the controller mounted");
        fs::write(folder.join(limit), bytes.to_string()).expect("a limit");
        Self(folder)
    }

    fn processes(&self) -> String {
        self.0.join("cgroup.procs").display().to_string()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What is left of it would only be in the way of nobody.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Asserts that the guard has its list, and that the tries have the entries of no other one.
#[track_caller]
fn assert_only_the_list_in_force(testbed: &Testbed, after: &str) {
    let status = assert_guarded(testbed, after);
    assert_eq!((status.allowlist.prefixes_v4, status.allowlist.prefixes_v6), (1, 1), "{after}");
    assert_eq!(testbed.machine.entries_of(&status), [1, 1], "{after}: what failed lets go of its memory");
}

/// Fails each call of a command in turn, until it makes no more of them. Returns how many failures there were, and how
/// many of them the command could do without.
fn fail_everywhere(testbed: &Testbed, arguments: &[&str], error: &str, stride: u64) -> (u64, u64) {
    let (mut failures, mut done_without) = (0, 0);
    let mut call = 1;
    loop {
        let inject = format!("inject=bpf:error={error}:when={call}");
        let log = testbed.lists.path("strace");
        let log = log.to_str().expect("UTF-8");
        let wrapper = ["strace", "--quiet=all", "-o", log, "-e", "trace=bpf", "-e", &inject, "--"];
        let output = under(testbed, &wrapper, arguments);
        let injected = fs::read_to_string(log).expect("the log").contains("(INJECTED)");
        assert_only_the_list_in_force(testbed, &format!("{error} at call {call}: {output:?}"));
        if !injected {
            assert_eq!(output.code, 0, "{output:?}");
            return (failures, done_without);
        }
        failures += 1;
        match output.code {
            0 => done_without += 1,
            1 | 5 => assert!(output.stderr.contains("error: "), "{output:?}"),
            _ => panic!("{error} at call {call}: {output:?}"),
        }
        call += stride;
    }
}

/// The list was filled then, and takes memory until somebody lets go of it.
#[test]
fn a_renewal_whose_program_is_refused_lets_go_of_its_list() {
    let testbed = testbed();
    testbed.attach();
    let list = testbed.list();
    let attach = ["attach", IFACE, "--allowlist", &list];
    let log = testbed.lists.path("strace").display().to_string();
    let trace = ["strace", "--quiet=all", "-o", &log, "-e", "trace=bpf"];
    let output = under(&testbed, &[&trace[..], &["--"]].concat(), &attach);
    assert_eq!(output.code, 0, "{output:?}");
    let calls = fs::read_to_string(&log).expect("the log");
    let update =
        calls.lines().position(|call| call.contains("BPF_LINK_UPDATE")).expect("it changes the program") + 1;
    // What it finds differs by a few calls from time to time.
    let mut refused = false;
    for call in update - 3..=update + 3 {
        let inject = format!("inject=bpf:error=EPERM:when={call}");
        let output = under(&testbed, &[&trace[..], &["-e", &inject, "--"]].concat(), &attach);
        let calls = fs::read_to_string(&log).expect("the log");
        refused |= calls.lines().any(|call| call.contains("BPF_LINK_UPDATE") && call.contains("(INJECTED)"));
        assert_only_the_list_in_force(&testbed, &format!("call {call}: {output:?}"));
    }
    assert!(refused, "the program was refused once: {calls}");
}

#[test]
fn want_of_memory_at_any_call_leaves_the_guard_as_it_is() {
    let stride = if is_long() { 1 } else { 5 };
    let testbed = testbed();
    testbed.attach();
    let portguard = testbed.portguard();
    let list = testbed.list();
    let attach = ["attach", IFACE, "--allowlist", &list];
    let (mut failures, mut done_without) = (0, 0);
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for arguments in [&attach[..], &["reload"]] {
            for error in ["ENOMEM", "E2BIG", "EPERM"] {
                let (failed, without) = fail_everywhere(&testbed, arguments, error, stride);
                failures += failed;
                done_without += without;
                portguard.ok(arguments);
                testbed.machine.assert_tidy(1);
            }
        }
        traffic.end()
    });
    let figures = Figures::of("memory")
        .with("bpf calls that failed", failures)
        .with("of them done without", done_without);
    println!("{}", account(&testbed, &exchanged, figures));
}

#[test]
fn a_loader_with_too_few_descriptors_leaves_the_guard_as_it_is() {
    let testbed = testbed();
    testbed.attach();
    let portguard = testbed.portguard();
    let list = testbed.list();
    let attach = ["attach", IFACE, "--allowlist", &list];
    let mut failures = 0;
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for arguments in [&attach[..], &["reload"]] {
            let stride = if is_long() { 1 } else { 5 };
            // The program itself cannot be started with fewer.
            for limit in (4..64).step_by(stride) {
                let limit = format!("--nofile={limit}:{limit}");
                let output = under(&testbed, &["prlimit", &limit], arguments);
                assert_guarded(&testbed, &format!("{limit}: {output:?}"));
                failures += u64::from(output.code != 0);
            }
            portguard.ok(arguments);
            testbed.machine.assert_tidy(1);
        }
        traffic.end()
    });
    assert!(failures > 0, "it never had too few");
    let figures = Figures::of("descriptors").with("loaders without a descriptor to spare", failures);
    println!("{}", account(&testbed, &exchanged, figures));
}

#[test]
fn a_loader_whose_memory_is_limited_leaves_the_guard_as_it_is() {
    const LIMIT: Duration = Duration::from_secs(120);
    let testbed = testbed();
    testbed.attach();
    let portguard = testbed.portguard();
    let own = ["192.0.2.0/24", "2001:db8::/48"].map(str::to_owned);
    let more = (0..50_000_u32)
        .map(|number| format!("10.{}.{}.{}/30", number >> 14, number >> 6 & 255, (number & 63) << 2));
    let large = testbed.lists.write("large.yaml", own.into_iter().chain(more));
    let small = testbed.list();
    let (mut refused, mut killed, mut done) = (0, 0, 0);
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for mebibytes in (2..64).step_by(if is_long() { 1 } else { 12 }) {
            let cgroup = Cgroup::new(mebibytes << 20);
            let enter = format!("echo $$ > {} && exec \"$@\"", cgroup.processes());
            for arguments in
                [&["reload", "--allowlist", &*large][..], &["attach", IFACE, "--allowlist", &large]]
            {
                let mut command = wrapped(&testbed, &["sh", "-c", &enter, "sh"], arguments);
                let outcome = run_within(LIMIT, &mut command).unwrap_or_else(|error| panic!("{error:#}"));
                let Outcome::Completed(ended) = outcome else { panic!("{mebibytes} MiB: it hangs") };
                match ended.status.code() {
                    Some(0) => done += 1,
                    Some(_) => {
                        assert!(ended.stderr.contains("error: "), "{ended:?}");
                        refused += 1;
                    }
                    // By the kernel, for want of memory.
                    None => killed += 1,
                }
                let status = assert_guarded(&testbed, &format!("{mebibytes} MiB: {ended:?}"));
                let entries = status.allowlist.prefixes_v4 + status.allowlist.prefixes_v6;
                // Killed, it may have switched before.
                let whole = entries == 50_002 || (entries == 2 && !ended.status.success());
                assert!(whole, "{entries}: {ended:?}");
                portguard.ok(&["attach", IFACE, "--allowlist", &small]);
                testbed.machine.assert_tidy(1);
            }
        }
        traffic.end()
    });
    assert!(refused + killed > 0 && done > 0, "{refused} refused, {killed} killed, {done} done");
    let figures = Figures::of("limits")
        .with("loaders that the kernel refused memory", refused)
        .with("loaders that it killed for it", killed)
        .with("loaders that had enough", done);
    println!("{}", account(&testbed, &exchanged, figures));
}
