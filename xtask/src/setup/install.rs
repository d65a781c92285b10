//! Carries out a plan: says each step and why, then does it.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt;
use super::plan::{AptInstall, Plan, Run};
use super::progress;
use super::services::Asleep;

/// Carries out the plan.
pub(super) fn carry_out(plan: &Plan) -> Result<()> {
    eprintln!("setup: installing:");
    for (package, why) in &plan.apt.packages {
        eprintln!("  {package} (apt): {why}");
    }
    for run in &plan.runs {
        eprintln!("  {}: {}", command_line(run), run.why);
    }
    if !plan.apt.packages.is_empty() {
        packages(&plan.apt)?;
    }
    plan.runs.iter().try_for_each(program)
}

/// Installs the packages, their services asleep.
fn packages(install: &AptInstall) -> Result<()> {
    let _asleep = Asleep::new(&install.units)?;
    let arguments = install.arguments();
    let label = format!("apt-get, {} packages and what they depend on", install.packages.len());
    progress::run(&label, apt::apt_get(&arguments)).with_context(|| {
        let in_the_way = apt::in_the_way(&arguments).join(" ");
        if !in_the_way.is_empty() {
            return format!(
                "cannot install packages: {in_the_way} would have to go, and setup removes nothing. If you can do without: \
                 apt-get remove {in_the_way}"
            );
        }
        format!(
            "cannot install packages. Check the network and what apt says, then run `cargo xtask setup` again; by \
             hand: apt-get {}",
            arguments.join(" ")
        )
    })
}

/// Runs one program.
fn program(run: &Run) -> Result<()> {
    let mut command = match run.program {
        "cargo" => crate::cargo(),
        program => Command::new(program),
    };
    command.args(&run.arguments).envs(run.environment.iter().map(|(name, value)| (name, value)));
    let label = format!("{} {}", run.program, run.arguments[..run.arguments.len().min(2)].join(" "));
    progress::run(&label, command).with_context(|| {
        format!("cannot install what {}. Check the network; by hand: {}", run.why, command_line(run))
    })
}

/// The run as one would type it.
fn command_line(run: &Run) -> String {
    let environment = run.environment.iter().map(|(name, value)| format!("{name}={} ", value.display()));
    format!("{}{} {}", environment.collect::<String>(), run.program, run.arguments.join(" "))
}
