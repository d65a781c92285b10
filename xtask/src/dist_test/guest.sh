# Runs in the machine, at each of its boots; what comes next is in /test/stage.
OLD=/test/old.deb
NEW=/test/new.deb
# Every file of the machine, but for what is made as it runs.
files() {
  find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /test -o -path /var/log -o -path /var/tmp \
    -o -path /var/lib/systemd -o -path /var/lib/dpkg/status-old -o -path /var/cache -o -path /var/lib/nfs -o -path /root \) \
    -prune -o -print | LC_ALL=C sort
}
installed() { dpkg-query -W -f '${Version}' portguard 2> /dev/null; }
unguarded() { ! ip link show "${1:-eth0}" | grep -q xdp; }
program() { sed -n 's/.*program .* id \([0-9]*\),.*/\1/p' /run/status; }
# no_trace HOW: nothing is left, neither on the disk nor in the kernel nor in systemd.
no_trace() {
  files > /test/after
  check "$1 leaves the files as they were" diff /test/before /test/after
  check "$1 leaves no pins" [ ! -e /sys/fs/bpf/portguard ]
  check "$1 leaves no units" [ -z "$(systemctl list-units --no-legend 'portguard*')" ]
}

# A first boot: nothing of portguard is there.
fresh() {
  echo "BEGIN $(systemctl --version | head -1), Linux $(uname -r)"
  files > /test/before
  check "rpcbind listens" active rpcbind.socket
  check "the package is installed" dpkg -i $OLD
  check "the installation guards nothing by itself" unguarded
  check "and leaves rpcbind alone" active rpcbind.socket
  check "rpcbind starts as long as nothing is to be guarded" systemctl restart rpcbind.socket rpcbind.service
  check "the list that came with it lets nobody in" sh -c 'portguard check 2>&1 | grep -q "it allows nobody"'
  good
  check "an interface is enabled" systemctl enable portguard@eth0.service
  check "which guards nothing yet" unguarded
  echo rebooted > /test/stage
  sync
  systemctl reboot
}

rebooted() {
  echo finished > /test/stage
  check "after the reboot, the guard is on" guarded
  check "it was up before rpcbind listened" earlier ActiveEnterTimestampMonotonic portguard@eth0.service ActiveEnterTimestampMonotonic rpcbind.socket
  check "it was up before the network" earlier ActiveEnterTimestampMonotonic portguard@eth0.service ActiveEnterTimestampMonotonic network-pre.target
  systemctl start rpcbind.service
  RPCBIND=$(show MainPID rpcbind.service)
  check "rpcbind runs" active rpcbind.service
  check "an allowed source reaches it" open_to 192.0.2.1
  check "a denied one does not" not open_to 198.51.100.1
  # A guard that no service keeps.
  ip link add eth1 type veth peer name eth1 netns outside
  check "another interface is guarded by hand" portguard attach eth1

  flows_begin
  guarded; SINCE=$(attached); PROGRAM=$(program); BEFORE=$(pid)
  check "the next version is installed" dpkg -i $NEW
  check "it is the next version" [ "$(installed)" != "$(dpkg-deb -f $OLD Version)" ]
  check "the service was started again" [ "$(pid)" != "$BEFORE" ]
  check "and runs" active
  check "the guard is on" guarded
  check "and is the same" [ "$(attached)" = "$SINCE" ]
  check "with a program of the next version" [ "$(program)" != "$PROGRAM" ]
  check "the other guard is on" not unguarded eth1
  check "the list of the administrator is in force" sh -c 'portguard explain 192.0.2.7 --iface eth0 | grep -q allowed'
  check "rpcbind has noticed nothing" [ "$(show MainPID rpcbind.service)" = "$RPCBIND" ]
  check "a failed upgrade leaves the guard on" sh -c "/var/lib/dpkg/info/portguard.prerm upgrade 9 && portguard status eth0 | grep -q enforcing"
  flows_end

  dpkg -r portguard > /run/dpkg 2>&1
  check "the package is removed" [ "$(dpkg-query -W -f '${Status}' portguard)" = "deinstall ok config-files" ]
  check "which warns that the guard is taken off" grep -q "WARNING: from now on, everyone can reach port 111" /run/dpkg
  check "the guard is off" unguarded
  check "that of the other interface, too" unguarded eth1
  check "no pins are left" [ ! -e /sys/fs/bpf/portguard ]
  check "rpcbind goes on" [ "$(show MainPID rpcbind.service)" = "$RPCBIND" ]
  check "and is open to all" open_to 198.51.100.1
  check "rpcbind starts without portguard" systemctl restart rpcbind.socket rpcbind.service
  check "the list stays" grep -q 192.0.2.0/24 $LIST

  check "the package is installed again" dpkg -i $NEW
  check "the interface that is still enabled is guarded again" guarded
  check "by its service" active
  check "with its list" sh -c 'portguard explain 192.0.2.7 --iface eth0 | grep -q allowed'
  check "rpcbind has gone on" active rpcbind.socket
  # As dpkg does when something else stops the removal.
  check "a removal begins" sh -c "/var/lib/dpkg/info/portguard.prerm remove 2> /dev/null"
  check "which has taken the guard off" unguarded
  check "and is aborted" /var/lib/dpkg/info/portguard.postinst abort-remove
  check "the guard is on after that" guarded
  check "the package is purged" dpkg -P portguard
  check "the guard is off after the purge" unguarded
  no_trace "the purge"

  # The archive.
  mkdir /test/archive
  tar -xzf /test/portguard.tar.gz -C /test/archive --strip-components=1
  check "the archive is installed" /test/archive/install.sh
  # The shell remembers the other one.
  hash -r
  check "it guards nothing by itself" unguarded
  good
  check "its unit starts" systemctl enable --now portguard@eth0.service
  check "and guards" guarded
  check "by the program that was installed" sh -c "readlink /proc/$(pid)/exe | grep -qx /usr/local/sbin/portguard"
  check "rpcbind starts with its guard" systemctl restart rpcbind.socket rpcbind.service
  BEFORE=$(pid); SINCE=$(attached)
  check "the archive is installed once more" /test/archive/install.sh
  check "the service has started again" [ "$(pid)" != "$BEFORE" ]
  guarded
  check "over the same guard" [ "$(attached)" = "$SINCE" ]
  check "the archive is uninstalled, its settings stay" /usr/local/share/portguard/uninstall.sh
  check "the guard is off" unguarded
  check "the archive is installed again" /test/archive/install.sh
  check "the interface that is still enabled is guarded again, as before" guarded
  RPCBIND=$(show MainPID rpcbind.service)
  check "the archive is uninstalled" /usr/local/share/portguard/uninstall.sh --purge
  check "the guard is off after that" unguarded
  check "rpcbind has gone on" [ "$(show MainPID rpcbind.service)" = "$RPCBIND" ]
  no_trace "the archive"
  complete
}

systemctl is-system-running --wait > /dev/null
case $(cat /test/stage) in
fresh) fresh ;;
rebooted) rebooted ;;
*) fail "the machine has booted more often than it was told to"; systemctl poweroff --force --force ;;
esac
