//! Runs tools of the system that list what doctor judges: rules of firewalls, units, packages.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a tool may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The most text that is taken from one, in bytes.
const MAX_SIZE: u64 = 256 << 20;
/// Where the tools are, whatever the user's `PATH` is.
const SYSTEM_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// Why there is no list.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such tool.
    Missing,
    /// It says so.
    Failed(String),
}

/// What a tool prints.
pub(super) fn output(tool: &str, arguments: &[&str]) -> Result<String, Failure> {
    let mut path = OsString::from(SYSTEM_PATH);
    if let Some(own) = env::var_os("PATH") {
        path.push(":");
        path.push(own);
    }
    let mut command = Command::new(tool);
    command.args(arguments).env("PATH", path).env("LC_ALL", "C").stdin(Stdio::null());
    let mut child = match command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::Missing),
        Err(error) => return Err(Failure::Failed(format!("{tool}: {error}"))),
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(MAX_SIZE).read_to_end(&mut text));
        // Nobody waits any more if it took too long.
        let _ = sender.send(read.map(|_| text));
    });
    let read = receiver.recv_timeout(LIMIT);
    if read.is_err() {
        // It has ended if this fails.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| Failure::Failed(format!("{tool}: {error}")))?;
    let text = match read {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(Failure::Failed(format!("{tool}: {error}"))),
        Err(_) => return Err(Failure::Failed(format!("{tool} did not end within {} s", LIMIT.as_secs()))),
    };
    if !status.success() {
        let mut why = String::new();
        // What it says helps, but is not needed.
        let _ = stderr.map(|stderr| stderr.take(4096).read_to_string(&mut why));
        let why =
            why.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing").trim().to_owned();
        return Err(Failure::Failed(format!("{tool}: {why}")));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
