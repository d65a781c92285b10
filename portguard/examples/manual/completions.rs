//! What shells need to complete the command line.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use portguard::cli::Cli;

/// The file for each shell, by the name that the shell looks for.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let shells = [("portguard", Shell::Bash), ("_portguard", Shell::Zsh), ("portguard.fish", Shell::Fish)];
    shells
        .into_iter()
        .map(|(file, shell)| {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut visible(), "portguard", &mut text);
            (file, text)
        })
        .collect()
}

/// The command line without the verbs that are for portguard itself: shells would propose them.
fn visible() -> Command {
    let cli = Cli::command();
    let verbs = cli.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    Command::new("portguard").version(env!("CARGO_PKG_VERSION")).propagate_version(true).subcommands(verbs)
}
