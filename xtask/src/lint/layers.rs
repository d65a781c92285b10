//! The direction of imports in portguard: each module imports only from layers below its own.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::vm_test::output;
use crate::workspace;

/// The modules of the crate, from the lowest layer up. Those of a layer do not import each other.
const LAYERS: [&[&str]; 12] = [
    &["error", "family", "netlink", "printable", "state_directory", "time"],
    &["interface", "rpcbind", "sockets"],
    &["allowlist"],
    &["guard"],
    &["control", "history"],
    &["ops"],
    &["explain", "probe", "suggest"],
    &["doctor", "service"],
    // What is below is the library: it knows neither the command line nor standard error.
    &["term"],
    &["top"],
    &["cli"],
    &["main", "lib", "resolver"],
];
/// The lowest layer that may have the words of [`OF_THE_TERMINAL`].
const TERM: usize = 8;
/// What the library does not have.
const OF_THE_TERMINAL: [&str; 7] =
    ["clap", "crossterm", "indicatif", "comfy_table", "eprint", "println", "io::stderr"];

const SOURCES: &str = "portguard/src";

/// Fails, with each place, if a module imports upwards, or the library writes on the terminal.
pub(super) fn check() -> Result<()> {
    let files = output(Command::new("git").args(["ls-files", SOURCES]).current_dir(workspace()))?;
    let mut found = Vec::new();
    let mut modules = 0;
    for file in files.lines().filter(|file| file.ends_with(".rs")) {
        // One that was just removed.
        let Ok(text) = fs::read_to_string(workspace().join(file)) else { continue };
        let module = module(file).with_context(|| format!("{file} is in no module"))?;
        let layer = layer(module).with_context(|| format!("{file}: no layer has the module {module}"))?;
        modules += 1;
        found.extend(upwards(&text, module, layer).map(|(line, what)| format!("{file}:{line}: {what}")));
    }
    ensure!(modules > 100, "there are only {modules} files in {SOURCES}");
    if !found.is_empty() {
        bail!(
            "imports upwards, or writing on the terminal in the library (xtask/src/lint/layers.rs):\n  {}",
            found.join("\n  ")
        );
    }
    Ok(())
}

/// The module of the crate that a file belongs to.
fn module(file: &str) -> Option<&str> {
    let (first, _) = file.strip_prefix(SOURCES)?.strip_prefix('/')?.split_once(['/', '.'])?;
    Some(first)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The lines, counted from 1, that name what the module may not name.
fn upwards<'a>(text: &'a str, module: &'a str, layer: usize) -> impl Iterator<Item = (usize, &'a str)> {
    let is_above = move |named: &&str| *named != module && self::layer(named).is_some_and(|its| its >= layer);
    (1..).zip(text.lines()).flat_map(move |(number, line)| {
        let code = line.split("//").next().unwrap_or_default();
        let imported = code.split("crate::").skip(1).flat_map(names).filter(is_above);
        let is_library = layer < TERM;
        let terminal = OF_THE_TERMINAL.into_iter().find(|word| is_library && code.contains(word));
        imported.chain(terminal).map(move |what| (number, what))
    })
}

/// The first name of a path, or those of a list of paths: `guard::Guard`, `{guard, term::note}`.
fn names(path: &str) -> impl Iterator<Item = &str> {
    let list = path.strip_prefix('{').map_or_else(
        || path.split_once(|character: char| !is_of_a_name(character)).map_or(path, |(name, _)| name),
        |list| list.split_once('}').map_or(list, |(list, _)| list),
    );
    list.split(',').map(|path| path.trim().split(':').next().unwrap_or_default())
}

fn is_of_a_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(text: &'a str, module: &'a str) -> Vec<(usize, &'a str)> {
        upwards(text, module, layer(module).unwrap()).collect()
    }

    #[test]
    fn imports_upwards_and_among_equals_are_found() {
        let text = "use crate::error::Error;\nuse crate::{cli, guard};\nlet it = crate::top::run();\n";
        assert_eq!(found(text, "guard"), [(2, "cli"), (3, "top")]);
        assert_eq!(found("use crate::history;\n", "control"), [(1, "history")]);
        assert_eq!(found("use crate::cli::print;\n// crate::main\n", "cli"), []);
    }

    #[test]
    fn only_what_is_above_the_library_writes_on_the_terminal() {
        let text = "use clap::Parser;\neprintln!();\nstd::io::stderr();\ncommand.stderr(Stdio::null());\n";
        assert_eq!(found(text, "ops"), [(1, "clap"), (2, "eprint"), (3, "io::stderr")]);
        assert_eq!(found(text, "term"), []);
    }

    #[test]
    fn a_file_belongs_to_the_module_of_its_first_folder_or_its_name() {
        assert_eq!(module("portguard/src/cli/stats/mod.rs"), Some("cli"));
        assert_eq!(module("portguard/src/time.rs"), Some("time"));
        assert_eq!(module("portguard/build/main.rs"), None);
    }
}
