//! The commands that documents tell a user to type, taken from the documents, so that a test types what is written.

use std::fs;

use anyhow::{Context as _, Result};

use crate::workspace;

/// What everybody reads first, below the root of the workspace.
pub(crate) const README: &str = "README.md";

/// The first command of README.md that begins like this.
pub(crate) fn command(beginning: &str) -> Result<String> {
    let text = fs::read_to_string(workspace().join(README)).context("cannot read README.md")?;
    find(&text, beginning).with_context(|| format!("{README} tells no command that begins with {beginning}"))
}

/// The first command in the blocks of a text for the shell that begins like this, without its comment.
fn find(text: &str, beginning: &str) -> Option<String> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let line = blocks.flat_map(str::lines).find(|line| line.starts_with(beginning))?;
    Some(line.split(" #").next().unwrap_or(line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn a_command_is_what_stands_in_a_block_for_the_shell() {
        let text = "make it\n```text\nmake text\n```\n```sh\nmake it so   # now\nmake more\n```\n";
        assert_eq!(find(text, "make").as_deref(), Some("make it so"));
        assert_eq!(find(text, "make m").as_deref(), Some("make more"));
        assert_eq!(find(text, "make text"), None);
    }
}
