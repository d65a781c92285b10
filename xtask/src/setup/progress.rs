//! Runs an installer and shows that it lives: its last line on a terminal, all its lines elsewhere.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// How many of the last lines tell why an installer failed.
const CONTEXT: usize = 15;

/// How much of a line fits beside the label.
const WIDTH: usize = 60;

/// Runs the command to its end; the error holds the last lines that it printed.
pub(super) fn run(label: &str, mut command: Command) -> Result<()> {
    let started = Instant::now();
    let (output, input) = io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(input.try_clone().context("cannot share a pipe")?).stderr(input);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    // The command holds the writing ends; the pipe ends when only the child did.
    drop(command);

    let mut screen = io::stderr();
    let terminal = screen.is_terminal();
    if !terminal {
        writeln!(screen, "setup: {label}")?;
    }
    let mut last = VecDeque::with_capacity(CONTEXT);
    for line in BufReader::new(output).split(b'\n') {
        let line = line.with_context(|| format!("cannot read what {program} prints"))?;
        let line = String::from_utf8_lossy(&line);
        let line = line.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if terminal {
            let shown: String = line.chars().filter(|c| !c.is_control()).take(WIDTH).collect();
            write!(screen, "\r\x1b[Ksetup: {label}: {shown}")?;
            screen.flush()?;
        } else {
            writeln!(screen, "  | {line}")?;
        }
        if last.len() == CONTEXT {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }
    let status = child.wait().with_context(|| format!("cannot wait for {program}"))?;
    let seconds = started.elapsed().as_secs();
    if terminal {
        write!(screen, "\r\x1b[K")?;
    }
    if !status.success() {
        let said = last.into_iter().collect::<Vec<_>>().join("\n  | ");
        bail!("{program} failed ({status}). Its last lines:\n  | {said}");
    }
    writeln!(screen, "setup: {label}: done in {seconds} s")?;
    Ok(())
}
