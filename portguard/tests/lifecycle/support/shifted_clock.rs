//! A wall clock that is off for one program: a library that is loaded before all others (`LD_PRELOAD`) shifts it. The clock of the
//! test machine stays as it is.

use std::env;
use std::process::Command;

use portguard_testkit::net::run;
use tempfile::TempDir;

use super::Portguard;

/// Names the shift to the library.
const VARIABLE: &str = "PORTGUARD_TEST_SHIFT";

/// Shifts the wall clock of a program that asks for the time by the C library.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, clock, time);
    const char *shift = getenv("PORTGUARD_TEST_SHIFT");
    if (result == 0 && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += atol(shift);
    return result;
}
"#;

/// The library, built.
pub(crate) struct ShiftedClock {
    folder: TempDir,
}

impl ShiftedClock {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let source = folder.path().join("clock.c");
        std::fs::write(&source, LIBRARY).expect("writing");
        let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
        cc.args(["-shared", "-fPIC", "-o"]).arg(folder.path().join("clock.so")).arg(source);
        run(&mut cc).expect("the linker of Rust is a C compiler");
        Self { folder }
    }

    /// A command whose clock is off by so many seconds.
    pub(crate) fn command(&self, portguard: Portguard<'_>, arguments: &[&str], seconds: i64) -> Command {
        let mut command = portguard.command(arguments);
        command.env("LD_PRELOAD", self.folder.path().join("clock.so")).env(VARIABLE, seconds.to_string());
        command
    }
}
