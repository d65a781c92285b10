//! The real rpcbind, rpc.statd, rpc.mountd, sm-notify and NFS-Ganesha, each as a child of this process.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::rpc::{self, Registration};
use super::{MountNamespace, Namespace, Outcome, Process, mounts, process};

/// How long a daemon may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// The transports that a daemon registers for, in its order; the last one tells that it is through.
const LAST_NETID: &str = "tcp6";
const STATE: &str = "/var/lib/nfs";
/// Where sm-notify tells lockd of the host's state. The kernel has one such number for all namespaces.
const KERNEL_STATE: &str = "/proc/sys/fs/nfs";

/// The RPC daemons of one host. rpcbind's socket `/run/rpcbind.sock` is a file, and so the same for all network
/// namespaces: each host has a /run of its own, which also hides D-Bus from Ganesha, and a /var/lib/nfs and /etc/exports
/// for the others.
#[derive(Debug)]
pub struct RpcServices<'a> {
    namespace: &'a Namespace,
    mounts: MountNamespace,
    // In the order in which they end: the registered ones before rpcbind.
    ganesha: Option<Process>,
    mountd: Option<Process>,
    statd: Option<Process>,
    _rpcbind: Process,
}

impl<'a> RpcServices<'a> {
    /// The directory that rpc.mountd or Ganesha offers.
    pub const EXPORT: &'static str = "/srv/share";
    /// The ports of Ganesha's NFS and of its mountd, which a firewall would name.
    pub const NFS_PORT: u16 = 2049;
    /// See [`Self::NFS_PORT`].
    pub const MOUNTD_PORT: u16 = 20_048;

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
            if Path::new(KERNEL_STATE).exists() {
                mounts::cover(KERNEL_STATE)?;
            }
            cover_state()
        })?;
        let mut rpcbind = Process::spawn(mounts.enter(namespace.command("rpcbind").arg("-f").args(options)))?;
        rpcbind.ready("rpcbind answers on UDP port 111", PATIENCE, || {
            Ok(!registrations(namespace).is_empty())
        })?;
        Ok(Self { namespace, mounts, ganesha: None, mountd: None, statd: None, _rpcbind: rpcbind })
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
            cover_export()?;
            let exports = "/run/exports";
            fs::write(exports, format!("{} {clients}(ro,fsid=1,no_subtree_check)\n", Self::EXPORT))?;
            mounts::replace("/etc/exports", exports)
        })?;
        process::run(self.mounts.enter(self.namespace.command("exportfs").arg("-ra")))?;
        self.mountd = Some(self.start_registered(&["rpc.mountd", "-F"], rpc::MOUNT, 3)?);
        Ok(())
    }

    /// Starts NFS-Ganesha, which offers [`Self::EXPORT`] to everybody, to read and to write, over NFSv3 and NFSv4, and waits
    /// until it is registered. It has its own mountd, nlockmgr and rquotad.
    pub fn start_ganesha(&mut self) -> Result<()> {
        const FOLDER: &str = "/run/ganesha";
        let configuration = format!("{FOLDER}/ganesha.conf");
        self.mounts.run(|| {
            cover_export()?;
            // Whoever the client says that he is: what is tried are packets, not rights.
            fs::set_permissions(Self::EXPORT, Permissions::from_mode(0o777))?;
            fs::create_dir(FOLDER).with_context(|| format!("cannot create {FOLDER}"))?;
            Ok(fs::write(&configuration, ganesha_configuration(FOLDER))?)
        })?;
        let pid = format!("{FOLDER}/ganesha.pid");
        let command = ["ganesha.nfsd", "-F", "-L", "STDERR", "-f", &configuration, "-p", &pid];
        // The last of its programs that it registers.
        self.ganesha = Some(self.start_registered(&command, rpc::RQUOTA, 2)?);
        Ok(())
    }

    /// Tells the rpc.statd of `peer` that this host has restarted, as sm-notify(8) does at boot. The port of that rpc.statd
    /// it asks of port 111 of `peer`; it goes on until there is an answer, or until `limit` is over.
    pub fn notify(&self, peer: IpAddr, limit: Duration) -> Result<Outcome> {
        // What rpc.statd has written when `peer` asked to be told: from whom (this host's lockd), the program, version and
        // procedure to call then, 16 bytes for that, and the names of both.
        let monitored = format!(
            "0100007f 000186b5 00000003 00000010 {} {peer} {}\n",
            "00".repeat(16),
            self.namespace.name()
        );
        self.mounts.run(|| Ok(fs::write(format!("{STATE}/sm/{peer}"), monitored)?))?;
        let mut command = self.namespace.command("sm-notify");
        // In the foreground, even if it has run since the boot of this machine.
        process::run_within(limit, self.mounts.enter(command.args(["-d", "-f"])))
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

/// Gives the NFS daemons an empty directory to offer. It is in memory, so it has the file handles that Ganesha needs,
/// whatever the machine's root file system is.
fn cover_export() -> Result<()> {
    mounts::cover("/srv")?;
    fs::create_dir(RpcServices::EXPORT).with_context(|| format!("cannot create {}", RpcServices::EXPORT))
}

/// What Ganesha is to do; what it remembers of its clients is in a folder of this host.
fn ganesha_configuration(folder: &str) -> String {
    format!(
        "NFS_CORE_PARAM {{ Protocols = 3, 4; NFS_Port = {nfs}; MNT_Port = {mountd}; }}\n\
         NFSv4 {{ Graceless = true; RecoveryRoot = \"{folder}/recovery\"; }}\n\
         NFS_KRB5 {{ Active_krb5 = false; }}\n\
         EXPORT {{\n\
         Export_Id = 1; Path = \"{export}\"; Pseudo = \"{export}\"; Access_Type = RW; Squash = No_Root_Squash;\n\
         SecType = sys; FSAL {{ Name = VFS; }}\n\
         }}\n",
        nfs = RpcServices::NFS_PORT,
        mountd = RpcServices::MOUNTD_PORT,
        export = RpcServices::EXPORT,
    )
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
