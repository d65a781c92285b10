//! Compiles the kernel program and leaves it at `$OUT_DIR/portguard.bpf.o`, from where the loader embeds it.
//!
//! The object is removed first and written last: when anything fails, nothing is there to be embedded.

mod toolchain;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toolchain::{Target, Toolchain};

/// The object, below `$OUT_DIR`.
const OBJECT: &str = "portguard.bpf.o";

/// A prebuilt object, for packagers.
const PREBUILT: &str = "PORTGUARD_EBPF_OBJECT";

fn main() {
    if let Err(error) = build() {
        // Cargo prints it and fails the build, without the noise of a failed process.
        println!("cargo::error={}", error.replace('\n', " "));
    }
}

/// Makes the object, or says in one line why it cannot.
fn build() -> Result<(), String> {
    for variable in [PREBUILT, "PORTGUARD_BPF_RUSTC", "PORTGUARD_BPF_LINKER"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let target = Target {
        arch: variable("CARGO_CFG_TARGET_ARCH")?,
        big_endian: variable("CARGO_CFG_TARGET_ENDIAN")? == "big",
    };
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let object = out_dir.join(OBJECT);
    remove(&object)?;

    let built = match env::var_os(PREBUILT) {
        Some(prebuilt) => {
            rerun_if_changed(Path::new(&prebuilt));
            PathBuf::from(prebuilt)
        }
        None => compile(&target, &out_dir)?,
    };
    let bytes = fs::read(&built).map_err(|error| format!("cannot read {}: {error}", built.display()))?;
    validate(&bytes, &target).map_err(|why| format!("{} is no object for {why}", built.display()))?;
    fs::write(&object, bytes).map_err(|error| format!("cannot write {}: {error}", object.display()))
}

/// Runs cargo on the kernel program, in a target folder of its own (the outer cargo has locked its own).
fn compile(target: &Target, out_dir: &Path) -> Result<PathBuf, String> {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = package.parent().ok_or("portguard is not in its workspace")?;
    for source in [
        "portguard-ebpf/src",
        "portguard-ebpf/Cargo.toml",
        "portguard-common/src",
        "portguard-common/Cargo.toml",
        "portguard/build",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        rerun_if_changed(&workspace.join(source));
    }

    let toolchain = Toolchain::find(target.clone()).map_err(|missing| {
        format!(
            "the kernel program cannot be compiled: {missing}. Run `cargo xtask setup`, which installs what is \
             missing, or set {PREBUILT} to an object that is built already."
        )
    })?;
    rerun_if_changed(toolchain.compiler.path());
    rerun_if_changed(toolchain.linker.path());

    let target_dir = out_dir.join("ebpf");
    discard_if_stale(&target_dir, &toolchain)?;
    let output = toolchain
        .cargo("build", "portguard-ebpf", workspace, &target_dir)
        .output()
        .map_err(|error| format!("cannot start cargo for the kernel program: {error}"))?;
    if !output.status.success() {
        // The compiler's own words, as they are; cargo shows them because the process fails.
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        println!("cargo::error=the kernel program (portguard-ebpf) does not compile; its errors are below.");
        std::process::exit(1);
    }
    Ok(target_dir.join(target.triple()).join("release/portguard-ebpf"))
}

/// Empties the target folder after a change of the toolchain: cargo does not see that a linker was exchanged.
fn discard_if_stale(target_dir: &Path, toolchain: &Toolchain) -> Result<(), String> {
    let linker = fs::metadata(toolchain.linker.path()).and_then(|metadata| metadata.modified());
    let now = format!("{toolchain} {linker:?}");
    let stamp = target_dir.join("toolchain");
    if fs::read_to_string(&stamp).is_ok_and(|then| then == now) {
        return Ok(());
    }
    match fs::remove_dir_all(target_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(target_dir).and_then(|()| fs::write(&stamp, now)),
    }
    .map_err(|error| format!("cannot renew {}: {error}", target_dir.display()))
}

/// Accepts a relocatable 64-bit ELF object for BPF in the byte order of the target (gABI, chapter 4: e_ident, e_type,
/// e_machine); says what was wanted otherwise.
fn validate(bytes: &[u8], target: &Target) -> Result<(), String> {
    const CLASS_64: u8 = 2;
    const REL: u16 = 1;
    const MACHINE_BPF: u16 = 247;
    let (data, type_and_machine) = if target.big_endian {
        (2, [REL.to_be_bytes(), MACHINE_BPF.to_be_bytes()])
    } else {
        (1, [REL.to_le_bytes(), MACHINE_BPF.to_le_bytes()])
    };
    let ident = [0x7f, b'E', b'L', b'F', CLASS_64, data];
    if bytes.starts_with(&ident) && bytes.get(16..20) == Some(type_and_machine.as_flattened()) {
        Ok(())
    } else {
        Err(format!("{} (a relocatable 64-bit ELF file for BPF)", target.triple()))
    }
}

/// A variable that cargo sets for build scripts.
fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("cargo does not set {name}: {error}"))
}

/// Removes the file, if it is there.
fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Has cargo run this script again when the file, or one below the folder, changes.
fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
