//! `allow`, `revoke` and `edit`: what they make of the file of a list, whatever its layout is and whatever becomes of the process.

mod edit {
    mod conditions;
    mod editor;
    mod file;
    mod text;
}
mod layouts;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use portguard_testkit::lists::Lists;

/// A folder with lists, and portguard, which nobody asks anything.
#[derive(Default)]
struct Host(Lists);

/// What a command has said, and its exit code.
struct Told {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Host {
    /// Writes the list that commands are about.
    fn list(&self, text: &str) -> PathBuf {
        self.0.write_text("list.yaml", text).into()
    }

    fn path(&self) -> PathBuf {
        self.0.path("list.yaml")
    }

    #[track_caller]
    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("the list")
    }

    /// A command about the list.
    fn command(&self, arguments: &[&str]) -> Command {
        command(arguments, &self.path())
    }

    fn run(&self, arguments: &[&str]) -> Told {
        told(&self.command(arguments).output().expect("portguard"))
    }

    /// Runs a command that has to succeed.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> Told {
        let told = self.run(arguments);
        assert_eq!(told.code, 0, "{arguments:?}: {}", told.stderr);
        told
    }

    /// Runs a command that has to fail, and to change nothing.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let before = fs::read(self.path()).ok();
        let told = self.run(arguments);
        assert_eq!((told.code, &*told.stdout), (code, ""), "{arguments:?}: {}", told.stderr);
        assert_eq!(fs::read(self.path()).ok(), before, "{arguments:?}");
        self.assert_tidy();
        told.stderr
    }

    /// Nothing lies beside the list that is not a list.
    #[track_caller]
    fn assert_tidy(&self) {
        let hidden = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
        let left: Vec<_> =
            fs::read_dir(self.0.folder()).expect("the folder").flatten().filter(hidden).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn command(arguments: &[&str], list: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portguard"));
    command.args(arguments).arg("--allowlist").arg(list).stdin(Stdio::null());
    for variable in ["PORTGUARD_ALLOWLIST", "VISUAL", "EDITOR"] {
        command.env_remove(variable);
    }
    command
}

fn told(output: &Output) -> Told {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Told {
        code: output.status.code().expect("it was not killed"),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}
