//! What shells need to complete the command line.

use clap::CommandFactory as _;
use clap_complete::Shell;
use portguard::cli::Cli;

/// The file for each shell, by the name that the shell looks for.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let shells = [("portguard", Shell::Bash), ("_portguard", Shell::Zsh), ("portguard.fish", Shell::Fish)];
    shells
        .into_iter()
        .map(|(file, shell)| {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "portguard", &mut text);
            (file, text)
        })
        .collect()
}
