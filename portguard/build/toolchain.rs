//! Finds the toolchain that compiles the kernel program, and prepares cargo for it.
//!
//! Only `std`: portguard's build script and `cargo xtask` both compile this file, and the latter has to work on a
//! machine where nothing is installed yet.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest Rust that compiles this workspace.
pub(crate) const OLDEST_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// The machine the kernel program is compiled for: BPF of one byte order, on one architecture.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The architecture of the kernel, as rustc names it.
    pub(crate) arch: String,
    /// The byte order of the kernel.
    pub(crate) big_endian: bool,
}

impl Target {
    /// The target triple.
    pub(crate) fn triple(&self) -> &'static str {
        if self.big_endian { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
    }
}

/// What `rustc -vV` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RustcVersion {
    /// The release without its channel, `[1, 96, 0]`.
    release: Vec<u32>,
    /// The major version of its LLVM.
    llvm: u32,
}

impl RustcVersion {
    /// Reads the output of `rustc -vV`.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let release = field("release")?;
        let llvm = field("LLVM version")?.split('.').next()?.parse().ok()?;
        Some(Self { release: numbers(release), llvm })
    }
}

impl fmt::Display for RustcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let release: Vec<_> = self.release.iter().map(ToString::to_string).collect();
        write!(f, "{}, LLVM {}", release.join("."), self.llvm)
    }
}

/// The numbers at the head of a version: `1.97.0-nightly` is `[1, 97, 0]`.
pub(crate) fn numbers(version: &str) -> Vec<u32> {
    let end = version.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].split('.').map_while(|number| number.parse().ok()).collect()
}

/// Where the `core` of the BPF target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Core {
    /// It came with the compiler, as Debian ships it.
    Prebuilt,
    /// Cargo compiles it (`-Z build-std`) from the component `rust-src`.
    Source,
}

/// A rustc that can compile for the BPF target.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    rustc: PathBuf,
    core: Core,
    version: RustcVersion,
}

impl Compiler {
    /// The first that fits: `$PORTGUARD_BPF_RUSTC`, `/usr/bin/rustc` (Debian's), rustc on the `PATH`, rustup's nightly.
    pub(crate) fn find(target: &Target) -> Result<Self, Missing> {
        let mut rejected = Vec::new();
        for (name, rustc) in rustc_candidates() {
            match rustc.ok_or_else(|| "not there".to_owned()).and_then(|rustc| Self::inspect(rustc, target)) {
                Ok(compiler) => return Ok(compiler),
                Err(reason) => rejected.push(format!("{name}: {reason}")),
            }
        }
        Err(Missing::Compiler { target: target.triple(), rejected })
    }

    /// Takes `rustc` if it has, or can build, the `core` of the target; says what is wrong with it otherwise.
    fn inspect(rustc: PathBuf, target: &Target) -> Result<Self, String> {
        let ask = |question: &[&str]| {
            stdout(clean(Command::new(&rustc)).args(question)).ok_or_else(|| "does not run".to_owned())
        };
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim_end());
        let core = if sysroot.join("lib/rustlib").join(target.triple()).is_dir() {
            Core::Prebuilt
        } else if sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
            && beside(&rustc, "cargo").is_some()
        {
            Core::Source
        } else {
            return Err(format!("neither a core for {} nor rust-src", target.triple()));
        };
        let version = RustcVersion::parse(&ask(&["-vV"])?).ok_or("its version cannot be read")?;
        if version.release < numbers(OLDEST_RUST) {
            return Err(format!("older than {OLDEST_RUST}"));
        }
        Ok(Self { rustc, core, version })
    }

    /// The major version of its LLVM, which a linker must share.
    pub(crate) fn llvm(&self) -> u32 {
        self.version.llvm
    }

    /// The path of the compiler.
    pub(crate) fn path(&self) -> &Path {
        &self.rustc
    }

    /// A program that came with this compiler and works only with it, such as `rustdoc`.
    pub(crate) fn companion(&self, program: &str) -> Option<PathBuf> {
        beside(&self.rustc, program)
    }
}

/// A bpf-linker.
#[derive(Debug, Clone)]
pub(crate) struct Linker {
    path: PathBuf,
    llvm: u32,
}

impl Linker {
    /// The first of `$PORTGUARD_BPF_LINKER`, the `PATH`, `$CARGO_HOME/bin` and `~/.cargo/bin` that has this LLVM.
    pub(crate) fn find(llvm: u32) -> Result<Self, Missing> {
        let mut rejected = Vec::new();
        for path in linker_candidates() {
            match Self::inspect(path) {
                Ok(linker) if linker.llvm == llvm => return Ok(linker),
                Ok(Self { path, llvm }) => rejected.push(format!("{} has LLVM {llvm}", path.display())),
                Err(reason) => rejected.push(reason),
            }
        }
        Err(Missing::Linker { llvm, rejected })
    }

    /// Asks the linker for its LLVM. It has no option for that, but hands `--llvm-args` on to LLVM, which answers
    /// `--version` before it looks at the (empty) input.
    fn inspect(path: PathBuf) -> Result<Self, String> {
        let mut question = Command::new(&path);
        question.args(["--llvm-args=--version", "--output", "/dev/null", "/dev/null"]);
        match stdout(&mut question).as_deref().and_then(llvm_of_version) {
            Some(llvm) => Ok(Self { path, llvm }),
            None => Err(format!("{} does not tell its LLVM version", path.display())),
        }
    }

    /// The path of the linker.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The major version in LLVM's `--version`, such as `Debian LLVM version 22.1.8`.
fn llvm_of_version(text: &str) -> Option<u32> {
    numbers(text.split_once("LLVM version ")?.1).first().copied()
}

/// A compiler and a linker that fit together.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) compiler: Compiler,
    /// The linker.
    pub(crate) linker: Linker,
    target: Target,
}

impl Toolchain {
    /// Finds a compiler and the linker that fits it.
    pub(crate) fn find(target: Target) -> Result<Self, Missing> {
        let compiler = Compiler::find(&target)?;
        let linker = Linker::find(compiler.llvm())?;
        Ok(Self { compiler, linker, target })
    }

    /// `cargo SUBCOMMAND` for a package of kernel programs of the workspace at `workspace`, building below `target_dir`.
    ///
    /// The command inherits nothing that was meant for the cargo or the rustc that runs us (clippy's wrapper, another
    /// target's flags): the object depends on the sources and on this toolchain alone.
    pub(crate) fn cargo(
        &self,
        subcommand: &str,
        package: &str,
        workspace: &Path,
        target_dir: &Path,
    ) -> Command {
        let Self { compiler, linker: _, target } = self;
        let cargo = match compiler.core {
            Core::Prebuilt => env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from),
            // An unstable option wants the cargo of the same nightly.
            Core::Source => compiler.companion("cargo").unwrap_or_else(|| "cargo".into()),
        };
        let mut command = clean(Command::new(&cargo));
        command
            .current_dir(workspace)
            .env("CARGO", &cargo)
            .env("RUSTC", compiler.path())
            // aya-ebpf uses `feature(asm_experimental_arch)`: there is no BPF without it.
            .env("RUSTC_BOOTSTRAP", "1")
            // BTF is made from debug information. In the workspace's Cargo.toml these two would be a warning of every
            // `cargo install`, which leaves the kernel program's package out.
            .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags().join(OsStr::new("\x1f")))
            .args([subcommand, "--locked", "--package", package, "--release", "--target", target.triple()])
            .arg("--target-dir")
            .arg(target_dir);
        if let Some(rustdoc) = compiler.companion("rustdoc") {
            command.env("RUSTDOC", rustdoc);
        }
        if compiler.core == Core::Source {
            command.args(["-Z", "build-std=core"]);
        }
        command
    }

    /// The flags of rustc; it hands the target CPU and its features on to the linker.
    fn flags(&self) -> Vec<OsString> {
        let mut linker = OsString::from("-Clinker=");
        linker.push(self.linker.path());
        let mut flags = vec![
            linker,
            format!("--cfg=bpf_target_arch=\"{}\"", self.target.arch).into(),
            "-Clink-arg=--btf".into(),
            "-Ctarget-cpu=v3".into(),
        ];
        // Without it packet fields are loaded byte by byte. LLVM has it from 22 on.
        if self.compiler.llvm() >= 22 {
            flags.push("-Ctarget-feature=+allows-misaligned-mem-access".into());
        }
        flags
    }
}

/// Says all that the object depends on beside its sources.
impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compiler, linker, target } = self;
        let (rustc, bpf_linker) = (compiler.rustc.display(), linker.path.display());
        let Target { arch, .. } = target;
        write!(f, "{rustc} ({}), {bpf_linker}, {} on {arch}", compiler.version, target.triple())
    }
}

/// What stands in the way of compiling the kernel program.
#[derive(Debug)]
pub(crate) enum Missing {
    /// No rustc can compile for the target.
    Compiler {
        /// The target.
        target: &'static str,
        /// Where it was looked for, and why each does not do.
        rejected: Vec<String>,
    },
    /// No bpf-linker has the LLVM of the compiler.
    Linker {
        /// The major version of LLVM that it must have.
        llvm: u32,
        /// What was found instead.
        rejected: Vec<String>,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rejected = match self {
            Self::Compiler { target, rejected } => {
                write!(f, "no rustc that compiles for {target}")?;
                rejected
            }
            Self::Linker { llvm, rejected } => {
                write!(f, "no bpf-linker with LLVM {llvm}, the one of rustc")?;
                rejected
            }
        };
        if rejected.is_empty() { Ok(()) } else { write!(f, " ({})", rejected.join("; ")) }
    }
}

/// The places a rustc for BPF may be at, each with the name to tell the user.
fn rustc_candidates() -> impl Iterator<Item = (&'static str, Option<PathBuf>)> {
    let chosen = env::var_os("PORTGUARD_BPF_RUSTC").map(|path| ("$PORTGUARD_BPF_RUSTC", Some(path.into())));
    let debian = Path::new("/usr/bin/rustc");
    chosen
        .into_iter()
        .chain([("/usr/bin/rustc", debian.exists().then(|| debian.to_owned()))])
        // Lazily: rustup takes its time.
        .chain(iter::once_with(|| ("rustc on the PATH", on_path("rustc").next())))
        .chain(iter::once_with(|| ("rustup's nightly", rustup_nightly())))
}

/// The rustc of rustup's nightly toolchain.
fn rustup_nightly() -> Option<PathBuf> {
    let answer = stdout(clean(Command::new("rustup")).args(["which", "--toolchain", "nightly", "rustc"]))?;
    Some(PathBuf::from(answer.trim_end()))
}

/// The places a bpf-linker may be at.
fn linker_candidates() -> impl Iterator<Item = PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::home_dir().map(|home| home.join(".cargo"));
    let mut seen = Vec::new();
    env::var_os("PORTGUARD_BPF_LINKER")
        .map(PathBuf::from)
        .into_iter()
        .chain(on_path("bpf-linker"))
        .chain(cargo_home.into_iter().chain(home).map(|home| home.join("bin/bpf-linker")))
        .filter(move |path| {
            let new = path.is_file() && !seen.contains(path);
            seen.push(path.clone());
            new
        })
}

/// The programs of that name on the `PATH`.
fn on_path(program: &'static str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates: Vec<_> = env::split_paths(&path).map(|folder| folder.join(program)).collect();
    candidates.into_iter().filter(|candidate| candidate.is_file())
}

/// A program in the folder of another one.
fn beside(program: &Path, other: &str) -> Option<PathBuf> {
    Some(program.with_file_name(other)).filter(|path| path.is_file())
}

/// The command without what cargo, rustup, clippy and rustdoc set for the build that runs us.
fn clean(mut command: Command) -> Command {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_TERM_"];
    const DROPPED: [&str; 7] =
        ["CARGO", "CLIPPY_", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "AYA_BPF_TARGET_ARCH"];
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        if starts(&DROPPED) && !starts(&KEPT) {
            command.env_remove(&name);
        }
    }
    command
}

/// What the command prints, if it succeeds.
fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustc_tells_its_release_and_its_llvm() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
                    host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(RustcVersion::parse(text), Some(RustcVersion { release: vec![1, 96, 0], llvm: 22 }));
        let nightly = "release: 1.99.0-nightly\nLLVM version: 23.0.0";
        assert_eq!(RustcVersion::parse(nightly), Some(RustcVersion { release: vec![1, 99, 0], llvm: 23 }));
        assert_eq!(RustcVersion::parse("release: 1.96.0"), None, "a rustc without LLVM");
    }

    #[test]
    fn releases_compare_as_numbers() {
        assert!(numbers("1.100.0") > numbers("1.89"));
        assert!(numbers("1.89.0-beta.3") >= numbers("1.89"));
        assert!(numbers("1.88.1") < numbers("1.89"));
    }

    #[test]
    fn llvm_tells_its_major_version() {
        assert_eq!(llvm_of_version("Debian LLVM version 22.1.8\n  Optimized build.\n"), Some(22));
        assert_eq!(llvm_of_version("LLVM (http://llvm.org/):\n  LLVM version 23.0.0git\n"), Some(23));
        assert_eq!(llvm_of_version("bpf-linker 0.13.0"), None);
    }

    #[test]
    fn misaligned_loads_are_asked_for_from_llvm_22_on() {
        let toolchain = |llvm| Toolchain {
            compiler: Compiler {
                rustc: "/usr/bin/rustc".into(),
                core: Core::Prebuilt,
                version: RustcVersion { release: vec![1, 96, 0], llvm },
            },
            linker: Linker { path: "/opt/bpf-linker".into(), llvm },
            target: Target { arch: "aarch64".into(), big_endian: false },
        };
        let misaligned = OsString::from("-Ctarget-feature=+allows-misaligned-mem-access");
        assert!(!toolchain(21).flags().contains(&misaligned));
        assert!(toolchain(22).flags().contains(&misaligned));
        assert!(toolchain(22).flags().contains(&"--cfg=bpf_target_arch=\"aarch64\"".into()));
        assert!(toolchain(22).flags().contains(&"-Clinker=/opt/bpf-linker".into()));
    }

    #[test]
    fn what_is_missing_says_why_each_candidate_does_not_do() {
        let missing = Missing::Linker { llvm: 22, rejected: vec!["/bin/bpf-linker has LLVM 21".into()] };
        assert_eq!(
            missing.to_string(),
            "no bpf-linker with LLVM 22, the one of rustc (/bin/bpf-linker has LLVM 21)"
        );
    }
}
