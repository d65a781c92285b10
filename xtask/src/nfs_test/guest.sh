# The kernel's NFS server in this machine, and the kernel's client in a network namespace, with an rpcbind and an rpc.statd of its own.
systemctl is-system-running --wait > /dev/null
echo "BEGIN $(systemctl --version | head -1), Linux $(uname -r)"

# The client: what runs in its namespaces, for at most LIMIT seconds.
ip netns exec outside unshare --mount sleep infinity &
HOST=$!
client() { nsenter --target $HOST --net --mount -- timeout --kill-after 1 "${LIMIT:-60}" "$@"; }
within 20 client true
mkdir -p /run/client /mnt/denied
cp -a /var/lib/nfs /run/client/nfs
client mount --bind /run/client/nfs /var/lib/nfs
client mount -t tmpfs tmpfs /run
client mkdir -p /run/rpcbind
LIMIT=infinity client rpcbind -f &
within 30 client rpcinfo -p 127.0.0.1 > /dev/null
LIMIT=infinity client rpc.statd -F -d --no-notify > /run/client/statd 2>&1 &
within 30 sh -c "nsenter --target $HOST --net --mount rpcinfo -p 127.0.0.1 | grep -q status"

# mounts SERVER OPTIONS: mounts by NFSv3, writes 4 MiB, mounts anew, and compares what it reads with what the server has.
mounts() {
  client mount -t nfs -o "vers=3,$2" "$1:/srv" /mnt || return
  client dd if=/dev/urandom of=/mnt/file bs=64k count=64 status=none
  client umount /mnt || return
  client mount -t nfs -o "vers=3,$2" "$1:/srv" /mnt || return
  [ "$(client sha256sum /mnt/file | cut -d ' ' -f 1)" = "$(sha256sum /srv/file | cut -d ' ' -f 1)" ]
  local same=$?
  rm /srv/file
  client umount /mnt && return $same
}
# The whole of what an allowed client does.
works() {
  check "$1: a mount by TCP, written, and read back" mounts 192.0.2.1 proto=tcp,mountproto=tcp
  check "$1: a mount whose MOUNT call is over UDP" mounts 192.0.2.1 proto=tcp,mountproto=udp
  check "$1: IPv6, by TCP" mounts "[2001:db8:1::1]" proto=tcp6,mountproto=tcp6
  check "$1: IPv6, whose MOUNT call is over UDP" mounts "[2001:db8:1::1]" proto=tcp6,mountproto=udp6
  check "$1: showmount" client showmount -e 192.0.2.1
  check "$1: rpcinfo -p" client rpcinfo -p 192.0.2.1
  check "$1: rpcinfo -T udp" client rpcinfo -T udp 192.0.2.1 mountd 3
}
# Waits for a lock of POSIX on a file, tells when it came, and holds it for so many seconds.
cat > /run/client/lock.pl << 'PERL'
open(F, "+<", $ARGV[0]) or die "$ARGV[0]: $!";
# struct flock on x86-64, with F_WRLCK; the command is F_SETLKW.
my $lock = pack("s s x4 q q i x4", 1, 0, 0, 0, 0);
fcntl(F, 7, $lock) or die "no lock: $!";
print `date +%s.%N`;
close(STDOUT);
select(undef, undef, undef, $ARGV[1]);
PERL
# How long after its release a lock of the server's own reaches the client, in tenths of a second: in GRANTED.
grants() {
  touch /srv/locked
  client mount -t nfs -o vers=3,proto=tcp,mountproto=tcp 192.0.2.1:/srv /mnt || return
  perl /run/client/lock.pl /srv/locked 8 > /run/held &
  local holder=$!
  within 10 test -s /run/held
  local got; got=$(LIMIT=90 nsenter --target $HOST --net --mount -- perl - /mnt/locked 0 < /run/client/lock.pl)
  wait $holder
  client umount /mnt
  GRANTED=$(perl -e "printf '%d', (${got:-0} - $(cat /run/held) - 8) * 10")
  [ -n "$got" ]
}
# The guard of the client, with the entries of its list.
guard_client() {
  nsenter --net=/run/netns/outside portguard detach eth0 > /dev/null 2>&1
  { echo "allow:"; for entry in "$@"; do echo "  - $entry"; done; } > /etc/portguard/client.yaml
  nsenter --net=/run/netns/outside portguard attach eth0 --allowlist /etc/portguard/client.yaml
}

printf 'allow:\n  - 192.0.2.0/24\n  - 2001:db8:1::/64\n' > $LIST
check "the server is guarded" guarded
check "the list has both families" systemctl reload portguard@eth0
check "the NFS server is up" within 60 active nfs-server.service
check "and is registered" within 60 sh -c "rpcinfo -p 127.0.0.1 | grep -q mountd"
works "guard on the server, native"
check "a lock that the server holds is granted" grants
check "and at once" [ "$GRANTED" -lt 30 ]
echo "LOCK guard on the server | $GRANTED"

# Denied: each command for itself, all at once. The allowed flow is that of the test alone: a client's own calls would be counted.
flows_begin
hangs() {
  local name=$1 begin; shift; begin=$(date +%s)
  LIMIT=300 client "$@" > /dev/null 2>&1 && echo "FAIL $name of a denied client succeeds"
  echo "HANG $name | $(($(date +%s) - begin))"
}
hangs "\`mount -t nfs -o vers=3\`" mount -t nfs -o vers=3,nolock 198.51.100.1:/srv /mnt/denied & HANGS=$!
hangs "\`rpcinfo -p\`" rpcinfo -p 198.51.100.1 & HANGS+=" $!"
hangs "\`rpcinfo -T udp\`" rpcinfo -T udp 198.51.100.1 mountd 3 & HANGS+=" $!"
hangs "\`showmount -e\`" showmount -e 198.51.100.1 & HANGS+=" $!"
wait $HANGS

# A denied client that names the ports needs no rpcbind.
PORT=$(rpcinfo -p 127.0.0.1 | awk '$5 == "mountd" && $3 == "tcp" { print $4; exit }')
asked() { tcpdump -r /run/client/named.pcap -n dst port 111 2> /dev/null | grep -c "198.51.100.20"; }
tcpdump -U -ni eth0 -Q in -w /run/client/named.pcap host 198.51.100.20 and tcp 2> /dev/null &
NAMED=$!
sleep 2
check "a denied client that names the ports mounts and reads" mounts 198.51.100.1 "nolock,proto=tcp,port=2049,mountport=$PORT,mountproto=tcp,mountvers=3"
kill $NAMED; wait $NAMED
check "without a packet to port 111" [ "$(asked)" = 0 ]
nfs4() { client mount -t nfs -o vers=4.2 198.51.100.1:/srv /mnt/denied && client umount /mnt/denied; }
check "a denied client mounts by NFSv4" nfs4
check "stats names the denied client" sh -c "portguard stats eth0 | grep -q '198.51.100.20'"
check "explain says that no entry covers it" sh -c "portguard explain 198.51.100.20 | grep -q 'no entry'"
flows_end

# A guard on the client as well.
check "the client is guarded, its server not on its list" guard_client 203.0.113.0/24
works "guard on both, the server not on the client's list"
check "a lock that the server holds comes" grants
check "but late, because its notice is dropped" [ "$GRANTED" -gt 50 ]
echo "LOCK guard on the client, whose list lacks the server | $GRANTED"
client mount -t nfs -o vers=3,proto=tcp 192.0.2.1:/srv /mnt
nsenter --target $HOST --net --mount -- perl - /mnt/locked 0 < /run/client/lock.pl > /dev/null
> /run/client/statd
sm-notify -f
check "the notice of a server that has restarted does not arrive" not within 20 grep -qi sm_notify /run/client/statd
check "the server comes onto the client's list" guard_client 192.0.2.1
nsenter --target $HOST --net --mount -- perl - /mnt/locked 0 < /run/client/lock.pl > /dev/null
sm-notify -f
check "then it arrives" within 60 grep -qi sm_notify /run/client/statd
client umount /mnt
works "guard on both, the server on the client's list"
check "a lock that the server holds is granted" grants
check "and at once" [ "$GRANTED" -lt 30 ]
echo "LOCK guard on the client, whose list has the server | $GRANTED"

# Generic mode.
systemctl stop portguard@eth0
portguard detach eth0
echo 'PORTGUARD_OPTIONS=--mode generic' > /etc/default/portguard-eth0
check "the guard starts in generic mode" systemctl start portguard@eth0
check "and is on" within 30 guarded
check "in that mode" grep -q generic /run/status
works "guard on the server, generic"
check "a lock that the server holds is granted" grants
complete
