//! What a container runtime does with a pod, without one: a root with nothing but the program and the mounts of the
//! manifest, a process namespace, and root's rights cut down to the manifest's.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use caps::Capability;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pivot_root};
use portguard_testkit::net::{MountNamespace, Process, wait_until};
use tempfile::TempDir;

use super::manifest::{self, Pod, Propagation};
use crate::support::{ConfigMap, PATIENCE, PORTGUARD, SERVER, Testbed};

const NOTHING: Option<&Path> = None;

/// A running container of the pod.
#[derive(Debug)]
pub(super) struct Running {
    /// Waits for the container's first process, and ends as that does.
    process: Process,
    first: Pid,
}

impl Running {
    /// Starts the pod on the testbed's server.
    pub(super) fn start(testbed: &Testbed, pod: &Pod, list: &ConfigMap) -> Self {
        let process = spawn(testbed, pod, list);
        let first = only_child(process.id());
        Self { process, first }
    }

    /// Its process, as the host sees it.
    pub(super) fn id(&self) -> Pid {
        self.first
    }

    pub(super) fn said(&self) -> String {
        self.process.output()
    }

    #[track_caller]
    pub(super) fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        if let Err(error) = wait_until(what, PATIENCE, || Ok(condition())) {
            panic!("{error:#}; it has said:\n{}", self.said());
        }
    }

    /// Runs a command of the manifest in it, as the kubelet does for a probe. Returns its exit code, and what it has said.
    pub(super) fn exec(&self, pod: &Pod, command: &[String]) -> (i32, String) {
        let [program, arguments @ ..] = command else { panic!("an empty command") };
        let node = SERVER[0].to_string();
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(pod.container().environment(&node)).current_dir("/");
        let namespace = |name| File::open(format!("/proc/{}/ns/{name}", self.first)).expect("a namespace");
        let namespaces = ["net", "pid", "mnt"].map(namespace);
        let kept = pod.container().security_context.capabilities();
        // SAFETY: as in `spawn`.
        unsafe { command.pre_exec(move || join(&namespaces, &kept)) };
        end_of(Process::spawn(&mut command).expect("starting"))
    }

    /// Ends it. Returns the exit code as a shell would name it, and what it has said.
    pub(super) fn end(self, signal: Signal) -> (i32, String) {
        kill(self.first, signal).expect("a process that is there");
        end_of(self.process)
    }
}

/// Runs a pod that ends by itself. Returns its exit code, and what it has said.
pub(super) fn run(testbed: &Testbed, pod: &Pod, list: &ConfigMap) -> (i32, String) {
    end_of(spawn(testbed, pod, list))
}

fn end_of(mut process: Process) -> (i32, String) {
    let status = process.wait(PATIENCE).expect("waiting").expect("an end");
    (status.code().expect("an exit code"), process.output())
}

fn spawn(testbed: &Testbed, pod: &Pod, list: &ConfigMap) -> Process {
    let container = pod.container();
    let rights = &container.security_context;
    assert!(pod.host_network && rights.run_as_user == 0 && !rights.privileged);
    assert!(rights.read_only_root_filesystem && !rights.allow_privilege_escalation);
    let mut command = Command::new(manifest::entry_point());
    let node = SERVER[0].to_string();
    command.args(container.arguments(&node)).env_clear().envs(container.environment(&node));
    testbed.server.namespace().enter(&mut command);
    root(testbed, pod, list).enter(&mut command);
    let kept = rights.capabilities();
    // SAFETY: the hook runs between fork and exec, in a process with one thread; it makes system calls, and neither
    // allocates nor locks.
    unsafe { command.pre_exec(move || become_first_process(&kept)) };
    Process::spawn(&mut command).expect("starting")
}

/// The file system of a container, in a mount namespace of its own.
fn root(testbed: &Testbed, pod: &Pod, list: &ConfigMap) -> MountNamespace {
    // It begins as a copy of the machine's, whose BPF file system is the testbed's.
    let mounts = testbed.machine.mounts().run(MountNamespace::new).expect("a mount namespace");
    let folder = TempDir::new().expect("a temporary folder");
    let fill = || {
        let root = folder.path();
        mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
        for file in libraries() {
            bind(&file, &inside(root, &file), MsFlags::MS_RDONLY)?;
        }
        bind(Path::new(PORTGUARD), &inside(root, &manifest::entry_point()), MsFlags::MS_RDONLY)?;
        // What every runtime mounts. /proc has to wait for the process namespace.
        for directory in ["proc", "sys"] {
            fs::create_dir(root.join(directory))?;
        }
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("sysfs"), &root.join("sys"), Some("sysfs"), flags, NOTHING)?;
        for wanted in &pod.container().volume_mounts {
            let volume = pod.volume(&wanted.name);
            let target = inside(root, &wanted.mount_path);
            let source = match (&volume.host_path, &volume.config_map, &volume.empty_dir) {
                (Some(host), None, None) => on_the_host(testbed, &host.path),
                (None, Some(_), None) => list.folder().to_owned(),
                (None, None, Some(empty)) => {
                    assert_eq!(empty.medium, "Memory", "{}", volume.name);
                    fs::create_dir_all(&target)?;
                    mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), Some("mode=0777"))?;
                    continue;
                }
                _ => panic!("{} is a volume of no kind", volume.name),
            };
            let flags = if wanted.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
            bind(&source, &target, flags)?;
            let propagation = match wanted.mount_propagation {
                Propagation::None => MsFlags::MS_PRIVATE,
                Propagation::HostToContainer => MsFlags::MS_SLAVE,
            };
            mount(NOTHING, &target, NOTHING, propagation | MsFlags::MS_REC, NOTHING)?;
        }
        std::env::set_current_dir(root)?;
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        Ok(mount(NOTHING, "/", NOTHING, read_only, NOTHING)?)
    };
    // In the server's network namespace, whose interfaces its /sys shows.
    testbed.server.run(|| mounts.run(fill)).expect("a root");
    mounts
}

/// Where a path of the host is on this testbed.
fn on_the_host(testbed: &Testbed, path: &Path) -> PathBuf {
    match path.to_str() {
        Some("/sys/fs/bpf") => path.to_owned(),
        Some("/var/lib/portguard") => testbed.machine.state().to_owned(),
        _ => panic!("the testbed has no {}", path.display()),
    }
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").expect("an absolute path"))
}

/// Mounts a file or a directory at a place that is made if it is not there.
fn bind(source: &Path, target: &Path, flags: MsFlags) -> anyhow::Result<()> {
    if source.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        fs::create_dir_all(target.parent().expect("a file is in a directory"))?;
        File::create(target)?;
    }
    mount(Some(source), target, NOTHING, MsFlags::MS_BIND, NOTHING)?;
    if !flags.is_empty() {
        let flags = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        mount(NOTHING, target, NOTHING, flags, NOTHING)?;
    }
    Ok(())
}

/// The libraries of the binary under test, which is linked dynamically; that of the image needs none.
fn libraries() -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(PORTGUARD).output().expect("ldd");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(PathBuf::from).collect()
}

/// Goes on as the first process of a process namespace, with these capabilities at most.
fn become_first_process(kept: &[Capability]) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    go_on_in_a_child()?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NOTHING)?;
    keep_only(kept)
}

/// Goes on in the namespaces of a container, with these capabilities at most.
fn join(namespaces: &[File], kept: &[Capability]) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    for namespace in namespaces {
        setns(namespace, CloneFlags::empty())?;
    }
    go_on_in_a_child()?;
    keep_only(kept)
}

/// Returns in a child, while this process waits for its end, and ends as it does.
fn go_on_in_a_child() -> io::Result<()> {
    // SAFETY: there is one thread.
    if let ForkResult::Parent { child } = unsafe { fork() }? {
        // Whoever starts commands waits for the end of a pipe that exec closes.
        // SAFETY: nothing here uses descriptors any more.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
        let code = loop {
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => break code,
                Ok(WaitStatus::Signaled(_, signal, _)) => break 128 + signal as i32,
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => break 255,
            }
        };
        // SAFETY: no preconditions.
        unsafe { libc::_exit(code) };
    }
    Ok(set_pdeathsig(Signal::SIGKILL)?)
}

fn keep_only(kept: &[Capability]) -> io::Result<()> {
    for number in 0..64_u8 {
        // The kernel knows fewer, and refuses the rest.
        if !kept.iter().any(|capability| capability.index() == number) {
            // SAFETY: this option has a number as its argument.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number)) };
        }
    }
    Ok(set_no_new_privs()?)
}

/// The one child of a process.
fn only_child(parent: u32) -> Pid {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let mut child = None;
    let found = wait_until("the container's first process", PATIENCE, || {
        child = fs::read_to_string(&path)?.trim().parse().ok();
        Ok(child.is_some())
    });
    found.unwrap_or_else(|error| panic!("{error:#}"));
    Pid::from_raw(child.expect("it was found"))
}
