//! The real rpcbind, rpc.statd and rpc.mountd, each as a child of this process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::rpc::{self, Registration};
use super::{MountNamespace, Namespace, Process, mounts, process};

/// How long a daemon may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// The transports that a daemon registers for, in its order; the last one tells that it is through.
const LAST_NETID: &str = "tcp6";
const STATE: &str = "/var/lib/nfs";

/// The RPC daemons of one host. rpcbind's socket `/run/rpcbind.sock` is a file, and so the same for all network
/// namespaces: each host has a /run of its own, and a /var/lib/nfs and /etc/exports for the other two.
#[derive(Debug)]
pub struct RpcServices<'a> {
    namespace: &'a Namespace,
    mounts: MountNamespace,
    // In the order in which they end: the registered ones before rpcbind.
    mountd: Option<Process>,
    statd: Option<Process>,
    _rpcbind: Process,
}

impl<'a> RpcServices<'a> {
    /// The directory that rpc.mountd offers.
    pub const EXPORT: &'static str = "/srv/share";

    /// Starts rpcbind and waits until it answers.
    pub fn start(namespace: &'a Namespace) -> Result<Self> {
        Self::start_with(namespace, &[])
    }

    /// The same, with options of rpcbind(8).
    pub fn start_with(namespace: &'a Namespace, options: &[&str]) -> Result<Self> {
        let mounts = MountNamespace::new()?;
        mounts.run(|| {
            mounts::cover("/run")?;
            fs::create_dir("/run/rpcbind").context("cannot create rpcbind's directory")?;
            cover_state()
        })?;
        let mut rpcbind = Process::spawn(mounts.enter(namespace.command("rpcbind").arg("-f").args(options)))?;
        rpcbind.ready("rpcbind answers on UDP port 111", PATIENCE, || {
            Ok(!registrations(namespace).is_empty())
        })?;
        Ok(Self { namespace, mounts, mountd: None, statd: None, _rpcbind: rpcbind })
    }

    /// Starts rpc.statd and waits until it is registered.
    pub fn start_statd(&mut self) -> Result<()> {
        self.statd = Some(self.start_registered(&["rpc.statd", "-F", "--no-notify"], rpc::STATUS, 1)?);
        Ok(())
    }

    /// Starts rpc.mountd, which offers [`Self::EXPORT`] to `clients`, and waits until it is registered.
    /// It lists its exports without the kernel's NFS server; mounting them would take one.
    pub fn start_mountd(&mut self, clients: &str) -> Result<()> {
        self.mounts.run(|| {
            mounts::cover("/srv")?;
            fs::create_dir(Self::EXPORT).with_context(|| format!("cannot create {}", Self::EXPORT))?;
            let exports = "/run/exports";
            fs::write(exports, format!("{} {clients}(ro,fsid=1,no_subtree_check)\n", Self::EXPORT))?;
            mounts::replace("/etc/exports", exports)
        })?;
        process::run(self.mounts.enter(self.namespace.command("exportfs").arg("-ra")))?;
        self.mountd = Some(self.start_registered(&["rpc.mountd", "-F"], rpc::MOUNT, 3)?);
        Ok(())
    }

    /// Everything that is registered.
    pub fn registrations(&self) -> Vec<Registration> {
        registrations(self.namespace)
    }

    fn start_registered(&self, command: &[&str], program: u32, last_version: u32) -> Result<Process> {
        let mut daemon = self.namespace.command(command[0]);
        let mut daemon = Process::spawn(self.mounts.enter(daemon.args(&command[1..])))?;
        daemon.ready("it is registered at rpcbind", PATIENCE, || {
            Ok(registrations(self.namespace).iter().any(|entry| {
                (entry.program, entry.version, entry.netid.as_str()) == (program, last_version, LAST_NETID)
            }))
        })?;
        Ok(daemon)
    }
}

/// What rpcbind tells its own host; nothing while it does not answer.
fn registrations(namespace: &Namespace) -> Vec<Registration> {
    let server = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), rpc::PORT);
    // An error is a port where nobody listens yet. If that is for good, the wait's deadline reports it.
    namespace.run(|| rpc::dump(server, Duration::from_millis(200))).ok().flatten().unwrap_or_default()
}

/// Gives the NFS daemons an empty state directory. rpc.statd becomes the owner of `sm`, so the owners stay.
fn cover_state() -> Result<()> {
    let owned = ["sm", "sm.bak", "state"].map(|name| format!("{STATE}/{name}"));
    let owners = owned.each_ref().map(fs::metadata);
    mounts::cover(STATE)?;
    for (path, real) in owned.iter().zip(owners) {
        let real =
            real.with_context(|| format!("no {path}: is nfs-common installed? Run: cargo xtask setup"))?;
        if real.is_dir() {
            fs::create_dir(path)?;
        } else {
            fs::write(path, "")?;
        }
        chown(path, Some(real.uid()), Some(real.gid()))?;
    }
    ["etab", "rmtab"].iter().try_for_each(|list| fs::write(format!("{STATE}/{list}"), "")).map_err(Into::into)
}
