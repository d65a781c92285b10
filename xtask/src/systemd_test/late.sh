# The interface is made by a bond, 60 seconds after the boot.
systemctl is-system-running --wait > /dev/null
echo "BEGIN $(systemctl --version | head -1), Linux $(uname -r)"
plug() {
  ip link add port0 type veth peer name eth0 netns outside
  ip link add bond0 type bond mode active-backup
  ip link set port0 master bond0
  ip addr add 192.0.2.1/24 dev bond0
  ip addr add 198.51.100.1/24 dev bond0
  ip link set bond0 up
  ip -n outside addr add 192.0.2.10/24 dev eth0
  ip -n outside addr add 198.51.100.20/24 dev eth0
  ip -n outside link set eth0 up
}
# What a client of the allowed address, and one of the denied address, get.
asks() { ip netns exec outside timeout --kill-after 1 10 "$@"; }
# Mounts what is exported by NFSv3, and reads a file of it; the mount ends with its namespace.
reads() { asks sh -c "mount -t nfs -o vers=3,nolock,ro $1:/srv /mnt && cat /mnt/told" | grep -qx "by the server"; }
failed() { systemctl list-units --failed --no-legend 'portguard*' 'rpcbind*' 'nfs-server*' | grep -q .; }

check "without the interface the service is up" active
check "and waits for it" status_text "waiting for the interface"
check "the boot has come to its end" active multi-user.target
check "rpcbind was refused" not active rpcbind.socket
check "nothing listens" nothing_listens
check "which systemd shows among what has failed" failed
check "a start by hand is refused as well" not systemctl start rpcbind.socket
sleep $((60 - $(cut -d . -f 1 /proc/uptime) < 1 ? 1 : 60 - $(cut -d . -f 1 /proc/uptime)))

plug
check "the interface is guarded when it comes" within 60 guarded
check "rpcbind listens then" within 60 active rpcbind.socket
check "the guard came before" [ "$(date -d "$(sed -n 's/.*since //p' /run/status | head -1)" +%s)" -le "$(date -d "$(show ActiveEnterTimestamp rpcbind.socket)" +%s)" ]
check "an allowed client gets the list of services" within 30 asks rpcinfo -p 192.0.2.1
check "a denied one gets nothing" not asks rpcinfo -p 198.51.100.1
check "the NFS server is up" within 60 active nfs-server.service
check "and is registered" within 60 sh -c "ip netns exec outside timeout 10 rpcinfo -p 192.0.2.1 | grep -q mountd"
check "an allowed client sees what is exported" asks showmount -e 192.0.2.1
check "a denied one does not" not asks showmount -e 198.51.100.1
check "an allowed client mounts by NFSv3 and reads" reads 192.0.2.1
check "a denied one does not mount" not reads 198.51.100.1
check "nothing has failed any more" within 60 not failed
check "nobody waits any more" not active portguard-rpcbind.service
systemctl --no-pager --full status nfs-server portguard-check portguard-rpcbind rpcbind.socket | grep -E "●|○|Active:"

# Administrators have stopped it.
systemctl stop nfs-server nfs-mountd rpc-statd rpcbind.socket rpcbind.service
systemctl restart portguard@bond0
check "the service restarts" within 30 active
check "an rpcbind that was stopped stays so" not active rpcbind.socket
systemctl disable rpcbind.socket rpcbind.service
ip link del bond0; ip link del port0
check "the guard has gone with the interface" within 30 not portguard status --guarded
check "rpcbind is refused again" not systemctl start rpcbind.socket
check "and waited for" within 10 active portguard-rpcbind.service
plug
check "the interface is guarded again" within 60 guarded
check "nobody waits for guards that are on" within 30 not active portguard-rpcbind.service
check "an rpcbind that is disabled stays off" not active rpcbind.socket
check "and its service" not active rpcbind.service
check "it starts when it is started" systemctl start rpcbind.socket

# A second interface, which cannot be guarded: there is no list for it.
systemctl enable rpcbind.socket
ip link add eth5 type veth peer name eth5 netns outside
echo PORTGUARD_ALLOWLIST=/etc/portguard/eth5.yaml > /etc/default/portguard-eth5
systemctl enable portguard@eth5
check "an interface without a list is not guarded" not systemctl start portguard@eth5
check "rpcbind, restarted, is refused, whatever else is guarded" not systemctl restart rpcbind.socket
check "its service as well" not systemctl start rpcbind.service
check "nothing listens" nothing_listens
printf 'allow:\n  - 203.0.113.0/24\n' > /etc/portguard/eth5.yaml
systemctl reset-failed portguard@eth5
check "with a list the second interface is guarded" systemctl start portguard@eth5
check "by the list of its own" sh -c "portguard explain 203.0.113.7 --iface eth5 | grep -q allowed"
check "the first one keeps its list" sh -c "portguard explain 192.0.2.7 --iface bond0 | grep -q allowed"
check "rpcbind starts then" within 30 active rpcbind.socket
complete
