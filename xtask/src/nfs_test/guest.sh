# The kernel's NFS server in this machine, and the kernel's client in a network namespace, with an rpcbind and an rpc.statd of its own.
systemctl is-system-running --wait > /dev/null
echo "BEGIN $(systemctl --version | head -1), Linux $(uname -r)"

# The client: what runs in its namespaces, for at most LIMIT seconds, which is long for a machine that is busy.
# Unlike `ip netns exec`, this leaves the BPF file system at its place.
nsenter --net=/run/netns/outside unshare --mount sleep infinity &
HOST=$!
client() { nsenter --target $HOST --net --mount -- timeout --kill-after 1 "${LIMIT:-180}" "$@"; }
# In a process that becomes the program, so that $! is the program.
client_runs() { exec nsenter --target $HOST --net --mount -- "$@"; }
within 20 client true
mkdir -p /run/client /mnt/denied
cp -a /var/lib/nfs /run/client/nfs
client mount --bind /run/client/nfs /var/lib/nfs
# It exports nothing.
touch /run/client/exports
client mount --bind /run/client/exports /etc/exports
client mount -t tmpfs tmpfs /run
client mkdir -p /run/rpcbind /run/sendsigs.omit.d
client_runs rpcbind -f &
within 30 client rpcinfo -p 127.0.0.1 > /dev/null
client_runs rpc.statd -F -d --no-notify > /run/client/statd 2>&1 &
within 30 sh -c "nsenter --target $HOST --net --mount rpcinfo -p 127.0.0.1 | grep -q status"

# A file of which docs/nfs.md shows the text: its block of code begins with its name.
from_document() { awk -v name="# $1" '/^```/ { inside = 0 } $0 == name { inside = 1 } inside' /test/nfs.md; }
# The options of the mount that docs/nfs.md shows, which names all ports.
named_ports() { sed -n 's/^mount -t nfs -o vers=3,\(.*\) server:\/srv \/mnt$/\1/p' /test/nfs.md; }

# mounts SERVER OPTIONS: mounts by NFSv3, writes 4 MiB, mounts anew, and compares what it reads with what the server has.
mounts() {
  client mount -t nfs -o "vers=3,$2" "$1:/srv" /mnt || return
  client dd if=/dev/urandom of=/mnt/file bs=64k count=64 status=none || return
  client umount /mnt || return
  [ "$(stat -c %s /srv/file)" = 4194304 ] || return
  client mount -t nfs -o "vers=3,$2" "$1:/srv" /mnt || return
  local read written same
  read=$(client sha256sum /mnt/file | cut -d ' ' -f 1); written=$(sha256sum /srv/file | cut -d ' ' -f 1)
  [ "$read" = "$written" ] || echo "read $read, written $written"
  [ "$read" = "$written" ]; same=$?
  rm /srv/file
  client umount /mnt && return $same
}
# A file below an automount, which is then taken down: the next one asks for ports again.
automounts() { LIMIT=60 client grep -q marker "$1/marker" && client umount "$1"; }
# says WORDS COMMAND: what the client's command prints has the words.
says() { local words=$1; shift; client "$@" > /run/said 2>&1 && grep -q "$words" /run/said; }
# The whole of what an allowed client does.
works() {
  check "$1: a mount by TCP, written, and read back" mounts 192.0.2.1 proto=tcp,mountproto=tcp
  check "$1: a mount whose MOUNT call is over UDP" mounts 192.0.2.1 proto=tcp,mountproto=udp
  check "$1: IPv6, by TCP" mounts "[2001:db8:1::1]" proto=tcp6,mountproto=tcp6
  check "$1: IPv6, whose MOUNT call is over UDP" mounts "[2001:db8:1::1]" proto=tcp6,mountproto=udp6
  check "$1: showmount" says "^/srv " showmount -e 192.0.2.1
  check "$1: rpcinfo -p" says mountd rpcinfo -p 192.0.2.1
  check "$1: rpcinfo -T udp" says "ready and waiting" rpcinfo -T udp 192.0.2.1 mountd 3
  check "$1: the service of quotas answers" says "ready and waiting" rpcinfo -T udp 192.0.2.1 rquotad 2
  check "$1: an automount of a map" automounts /auto/allowed
  check "$1: an automount of what the server exports" automounts /net/192.0.2.1/srv
  check "$1: NIS by the name of the server" binds
}
# binds: asks the NIS server for a user through a ypbind that is started for it.
binds() {
  local binder found=1
  client_runs ypbind -foreground & binder=$!
  # A ypbind that finds no server lets ypwhich wait.
  for _ in $(seq 12); do
    sleep 1
    LIMIT=10 client ypwhich -d test > /run/ypwhich 2>&1 && { found=0; break; }
  done
  [ $found = 0 ] && { LIMIT=20 client ypmatch -d test mallory passwd.byname; found=$?; }
  kill $binder
  wait $binder
  return $found
}
# One that must succeed in one of three tries.
tried_again() { "$@" || "$@" || "$@" || { portguard stats eth0; client rpcinfo -b 100004 2; return 1; }; }
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
# on_client PERL WORDS: runs a script on the client, where the mounts are.
on_client() { LIMIT=${LIMIT:-200} client perl - "${@:2}" < "$1"; }
# grants SERVER PROTOCOL: how long after its release by another owner a lock reaches the client, in tenths of a second: in GRANTED. The
# other owner has a mount of its own.
grants() {
  local options="vers=3,proto=$2,mountproto=$2" held=8 got
  GRANTED=none
  touch /srv/locked
  mkdir -p /mnt2
  client mount -t nfs -o "$options" "$1:/srv" /mnt || return
  client mount -t nfs -o "$options,nosharecache" "$1:/srv" /mnt2 || return
  # It is there before the other one, which empties it, has begun.
  rm -f /run/held
  on_client /run/client/lock.pl /mnt2/locked $held > /run/held &
  local holder=$!
  # A server that has just started grants none for the time in which clients reclaim theirs.
  within 150 test -s /run/held || return
  got=$(LIMIT=90 on_client /run/client/lock.pl /mnt/locked 0)
  wait $holder
  client umount /mnt
  client umount /mnt2
  [ -n "$got" ] || return
  GRANTED=$(perl -e "printf '%d', ($got - $(cat /run/held) - $held) * 10")
  # A lock that came earlier was not held by the other owner.
  [ "$GRANTED" -ge 0 ]
}
# lock NAME [EXPECTED]: a lock over IPv4, which is to come `soon` (unless another word is given) where this kernel sends notices.
lock() {
  check "$1: a lock that another mount holds is granted" grants 192.0.2.1 tcp
  if [ $NOTICES = yes ] && [ "${2:-soon}" = soon ]; then
    check "$1: as soon as it is free" [ "$GRANTED" -lt 30 ]
  else
    check "$1: and later than that, when the client asks again" [ "$GRANTED" -gt 50 -a "$GRANTED" -le 320 ]
  fi
  echo "LOCK $1 | $GRANTED"
}
# The guard of the client, with the entries of its list.
guard_client() {
  nsenter --net=/run/netns/outside portguard detach eth0 > /dev/null 2>&1
  { printf "udp: lookups\nallow:\n"; for entry in "$@"; do echo "  - $entry"; done; } > /etc/portguard/client.yaml
  nsenter --net=/run/netns/outside portguard attach eth0 --allowlist /etc/portguard/client.yaml &&
    nsenter --net=/run/netns/outside portguard status eth0 | grep -q "native mode"
}
# The packets that the guard of the client has dropped of its server.
dropped_of_server() {
  nsenter --net=/run/netns/outside portguard stats eth0 > /run/client/stats || echo "no counters"
  awk '$1 == "192.0.2.1" { print $2 }' /run/client/stats
}

# client_says COMMAND WORDS: what portguard prints on the client, with each list in one line.
client_says() { client portguard "$1" > /run/said 2>&1; tr '\n' ' ' < /run/said | grep -q "$2" || { cat /run/said; false; }; }
# doctor_is_silent_of WORDS: its last line, of how many findings there are, shows that it has run.
doctor_is_silent_of() { client_says doctor "failure\|No problem found" && not grep -q "$1" /run/said; }

printf 'udp: lookups\nallow:\n  - 192.0.2.0/24\n  - 2001:db8:1::/64\n' > $LIST
check "the server is guarded" guarded
check "in native mode" grep -q "native mode" /run/status
check "the list has both families" systemctl reload portguard@eth0
check "the NFS server is up" within 60 active nfs-server.service
check "and is registered" within 60 sh -c "rpcinfo -p 127.0.0.1 | grep -q mountd"
check "the package is apt's" sh -c "dpkg-query -W -f '\${Status}' portguard | grep -q 'ok installed' && dpkg -S /usr/sbin/portguard"

# The ports of the document, which are fixed by its files.
mkdir -p /etc/nfs.conf.d
from_document /etc/nfs.conf.d/ports.conf > /etc/nfs.conf.d/ports.conf
from_document /etc/sysctl.d/lockd.conf > /etc/sysctl.d/lockd.conf
from_document /etc/default/quota > /etc/default/quota
from_document /etc/default/nis > /etc/default/nis
sysctl --load=/etc/sysctl.d/lockd.conf > /dev/null
systemctl restart rpc-statd nfs-server
registered_at() { rpcinfo -p 127.0.0.1 | awk '{ print $1, $3, $4 }' | sort -u > /run/registered; for it; do grep -qx "$it" /run/registered || return 1; done; }
check "the files of the document fix all ports" within 60 registered_at "100005 tcp 20048" "100005 udp 20048" \
  "100021 tcp 32803" "100021 udp 32769" "100024 tcp 32765" "100024 udp 32765" "100003 tcp 2049"
# The other file that nfs.conf(5) names for it: rpc.statd writes it there when it starts.
sysctl -q fs.nfs.nlm_tcpport=0 fs.nfs.nlm_udpport=0
printf '[lockd]\nport=32900\nudp-port=32901\n' > /etc/nfs.conf.d/lockd.conf
systemctl restart rpc-statd nfs-server
check "[lockd] in nfs.conf fixes them as well" within 60 registered_at "100021 tcp 32900" "100021 udp 32901"
rm /etc/nfs.conf.d/lockd.conf
sysctl --load=/etc/sysctl.d/lockd.conf > /dev/null
systemctl restart rpc-statd nfs-server
check "and the files of the document again" within 60 registered_at "100021 tcp 32803" "100021 udp 32769"
# When the module is loaded, as at a boot, udev reads the file.
check "a rule of Debian's has udev read the file of lockd" sh -c "grep -A1 'KERNEL==\"lockd\"' /usr/lib/udev/rules.d/60-nfs.rules | grep -q sysctl"
# Its unit waits for file systems with quotas.
echo "none /none none noauto,usrquota 0 0" >> /etc/fstab
systemctl restart quotarpc
check "the service of quotas is up, at the port of the document" within 30 registered_at "100011 udp 32875"
# A NIS server, with one map of one user.
echo "0.0.0.0 0.0.0.0" > /etc/ypserv.securenets
echo test > /etc/defaultdomain
domainname test
mkdir -p /var/yp/test
echo "mallory x:1000:1000::/home/mallory:/bin/sh" | /usr/lib/yp/makedbm - /var/yp/test/passwd.byname
check "the NIS server starts" systemctl restart ypserv
check "and is registered, at the port of the document" within 30 registered_at "100004 udp 32876"
echo "domain test server 192.0.2.1" > /etc/yp.conf
printf '/auto /etc/auto.test\n/net -hosts -vers=3\n' > /etc/auto.master
printf 'allowed -fstype=nfs,vers=3 192.0.2.1:/srv\ndenied -fstype=nfs,vers=3 198.51.100.1:/srv\n' > /etc/auto.test
echo marker > /srv/marker
client_runs automount --foreground &

# Without a guard: whether this kernel sends a notice of a lock that is free (Linux 6.7 to 6.12 sends none).
systemctl stop portguard@eth0
check "the guard is taken off" portguard detach eth0
# What hangs further below when it is denied, works from the same addresses.
check "without a guard, rpcinfo -p works" says mountd rpcinfo -p 198.51.100.1
check "without a guard, rpcinfo -T udp works" says "ready and waiting" rpcinfo -T udp 198.51.100.1 mountd 3
check "without a guard, rpcinfo -T tcp works" says "ready and waiting" rpcinfo -T tcp 198.51.100.1 mountd 3
check "without a guard, showmount works" says "^/srv " showmount -e 198.51.100.1
check "without a guard, showmount over IPv6 works" says "^/srv " showmount -e "2001:db8:2::1"
check "without a guard, the automount works" automounts /auto/denied
check "without a guard, a mount over IPv6 works" mounts "[2001:db8:2::1]" proto=tcp6,mountproto=tcp6
check "without a guard, a lock that another mount holds is granted" grants 192.0.2.1 tcp
echo "LOCK no guard | $GRANTED"
case $(uname -r) in
  6.[789].* | 6.1[012].*) NOTICES=no; check "this kernel sends no notice of a free lock" [ "$GRANTED" -gt 50 ] ;;
  *) NOTICES=yes; check "this kernel sends notices of free locks" [ "$GRANTED" -lt 30 ] ;;
esac

# A guard on the client alone. Its lockd gets other ports at each mount, as those of most clients do; or the server would know
# them from before, and would not ask.
sysctl -q fs.nfs.nlm_tcpport=0 fs.nfs.nlm_udpport=0
check "the client is guarded, its list has the server" guard_client 192.0.2.1
works "guard on the client, whose list has the server"
lock "guard on the client, whose list has the server"
check "nothing of the server was dropped" [ -z "$(dropped_of_server)" ]
check "the client is guarded, its server not on its list" guard_client 203.0.113.0/24
works "guard on the client, whose list lacks the server"
lock "guard on the client, whose list lacks the server" late
if [ $NOTICES = yes ]; then
  check "its guard has dropped the notice" [ "$(dropped_of_server)" -gt 0 ]
else
  check "this kernel has sent none to be dropped" [ -z "$(dropped_of_server)" ]
fi
# After a notice that was dropped, lockd asks for the client's ports again a minute later (NLM_HOST_REBIND, include/linux/lockd/lockd.h).
sleep 60
nsenter --net=/run/netns/outside portguard detach eth0
from_document /etc/sysctl.d/lockd.conf | sysctl --load=- > /dev/null

systemctl start portguard@eth0
check "the server is guarded again" within 30 guarded

check "in native mode again" grep -q "native mode" /run/status
works "guard on the server, native"
lock "guard on the server"
check "a lock over IPv6 is granted" grants "[2001:db8:1::1]" tcp6
[ $NOTICES = no ] || check "and as soon as it is free" [ "$GRANTED" -lt 30 ]

from_document /etc/nftables.conf > /run/nftables.conf
check "the rules of the document for the other ports" nft --file /run/nftables.conf
LIMIT=10 check "keep that client off" not mounts 198.51.100.1 "$(named_ports)"
check "and let allowed ones in" mounts 192.0.2.1 proto=tcp,mountproto=udp
check "over IPv6, too" mounts "[2001:db8:1::1]" proto=tcp6,mountproto=udp6
# Which of the ports a denied client reaches, of both families and transports; all are tried at once.
open_ports() {
  local tries=() address port program
  for address in 198.51.100.1 2001:db8:2::1; do
    for port in 2049 20048 32765 32803; do
      { LIMIT=15 client bash -c "exec 3<> /dev/tcp/$address/$port" 2> /dev/null && echo "tcp $address $port"; } & tries+=($!)
    done
    # The programs that answer there, and a version of each.
    for program in "20048 mountd 3" "32765 status 1" "32769 nlockmgr 4" "32875 rquotad 2" "32876 ypserv 2"; do
      set -- $program
      local transport=udp; [ $address = 198.51.100.1 ] || transport=udp6
      { LIMIT=15 client rpcinfo -a "$address.$(($1 / 256)).$(($1 % 256))" -T $transport $2 $3 > /dev/null 2>&1 && echo "udp $address $1"; } & tries+=($!)
    done
  done
  wait "${tries[@]}"
}
open_ports | sort > /run/open-filtered
check "they close all of its ports" not test -s /run/open-filtered
sed 's|192.0.2.0/24|203.0.113.0/24|' /run/nftables.conf | nft --file -
nft list set inet nfs clients4 > /run/set
check "loaded again, the changed list takes the place of the other" sh -c "grep -q 203.0.113.0 /run/set && ! grep -q 192.0.2.0 /run/set"
grep -v '^delete table\|^table inet nfs$' /run/nftables.conf | nft --file -
nft list set inet nfs clients4 > /run/set
check "without the first two lines, it adds to it" sh -c "grep -q 203.0.113.0 /run/set && grep -q 192.0.2.0 /run/set"
nft flush ruleset
open_ports | sort > /run/open
cat /run/open
# ypserv is for IPv4.
check "without them, each is open" [ "$(grep -c '^tcp' /run/open) $(grep -c '^udp 198' /run/open) $(grep -c '^udp 2001' /run/open)" = "8 5 4" ]

# NIS asks over UDP.
cp $LIST /run/list
sed -i 's/^udp: .*/udp: none/' $LIST
check "a list that permits nothing over UDP" systemctl reload portguard@eth0
check "with udp: none, the client finds no NIS server" not binds
cp /run/list $LIST
check "the list of before" systemctl reload portguard@eth0
check "the client finds the NIS server again" binds

# What helps a mount that waits: an entry.
{ client mount -t nfs -o vers=3,nolock 198.51.100.1:/srv /mnt/denied && date +%s > /run/mounted; } &
WAITING=$!
# Late in its time: between its tries it waits the longest.
sleep 75
check "a denied mount waits" not test -e /run/mounted
check "its client comes onto the list" portguard allow 198.51.100.20
entered=$(date +%s)
wait $WAITING
check "and goes on when the list has its client" test -s /run/mounted
check "within a minute" [ $(($(cat /run/mounted || echo 1000000000000) - entered)) -le 60 ]
echo "domain test server 198.51.100.1" > /etc/yp.conf
check "the same client finds the NIS server" binds
# Off the list again: what is mounted stays, and its end asks for ports.
check "the client leaves the list" portguard revoke 198.51.100.20
check "what is mounted is read after its client has left the list" client cat /mnt/denied/marker
begin=$(date +%s)
check "and its end comes" client umount /mnt/denied
echo "HANG \`umount\` of what was mounted before | $(($(date +%s) - begin))"
client umount --lazy --force /mnt/denied 2> /dev/null

# Denied: each command for itself, all at once. The allowed flow is that of the test alone: a client's own calls would be counted.
flows_begin
hangs() {
  local name=$1 begin; shift; begin=$(date +%s)
  LIMIT=300 client "$@" > /dev/null 2>&1 && echo "FAIL $name of a denied client succeeds"
  local took=$(($(date +%s) - begin))
  # What ends at once has not waited, and what the limit ends would go on.
  [ $took -ge 5 ] && [ $took -lt 290 ] || echo "FAIL $name of a denied client ends after $took s"
  echo "HANG $name | $took"
}
hangs "\`mount -t nfs -o vers=3\`" mount -t nfs -o vers=3,nolock 198.51.100.1:/srv /mnt/denied & HANGS=$!
mkdir -p /mnt/denied6
hangs "\`mount -t nfs -o vers=3\` over IPv6" mount -t nfs -o vers=3,nolock,proto=tcp6,mountproto=tcp6 "[2001:db8:2::1]:/srv" /mnt/denied6 & HANGS+=" $!"
hangs "\`rpcinfo -p\`" rpcinfo -p 198.51.100.1 & HANGS+=" $!"
hangs "\`rpcinfo -T udp\`" rpcinfo -T udp 198.51.100.1 mountd 3 & HANGS+=" $!"
hangs "\`rpcinfo -T tcp\`" rpcinfo -T tcp 198.51.100.1 mountd 3 & HANGS+=" $!"
hangs "\`showmount -e\`" showmount -e 198.51.100.1 & HANGS+=" $!"
hangs "a file below an automount" cat /auto/denied/marker & HANGS+=" $!"
hangs "\`showmount -e\` over IPv6" showmount -e "2001:db8:2::1" & HANGS+=" $!"
wait $HANGS
echo "domain test server 198.51.100.1" > /etc/yp.conf
check "a denied client finds no NIS server" not binds
echo "domain test server 192.0.2.1" > /etc/yp.conf

# Without one of the ports, it has to ask, and waits.
waits_without() { LIMIT=10 not client mount -t nfs -o "vers=3,$(named_ports | sed "s/\(^\|,\)$1\(,\|$\)/,/")" 198.51.100.1:/srv /mnt/denied; }
check "without the port of mountd, it waits" waits_without "mountport=20048"
check "without the port of nfs, it waits" waits_without "port=2049"
# A lock is asked of a program whose port no option names.
locks_by_named_ports() {
  client mount -t nfs -o "vers=3,$(named_ports | sed 's/\(^\|,\)nolock\(,\|$\)/,/')" 198.51.100.1:/srv /mnt/denied || return 2
  touch /srv/locked
  LIMIT=15 on_client /run/client/lock.pl /mnt/denied/locked 0
  local got=$?
  client umount --lazy --force /mnt/denied
  return $got
}
locks_by_named_ports > /dev/null
check "a denied client that names the ports gets no lock" [ $? = 124 ]

# A denied client that names the ports needs no rpcbind. Its own side of the cable shows what it sends.
client_runs tcpdump -U -ni eth0 -Q out -w /run/named.pcap src host 198.51.100.20 or src host 2001:db8:2::20 2> /run/client/tcpdump &
NAMED=$!
within 30 grep -q listening /run/client/tcpdump
sent() { nsenter --target $HOST --net --mount tcpdump -r /run/named.pcap -n "$@" 2> /dev/null | wc -l; }
# As fast as it is kept off, further above.
LIMIT=10 check "a denied client that names the ports mounts and reads" mounts 198.51.100.1 "$(named_ports)"
# The last of it is what umount tells mountd.
sleep 3
to_mountd=$(sent dst port 20048)
check "over the ports that it names" [ "$to_mountd" -gt 0 -a "$(sent dst port 2049)" -gt 0 ]
nfs4() { client mount -t nfs -o vers=4.2 198.51.100.1:/srv /mnt/denied && client grep -q marker /mnt/denied/marker && client umount /mnt/denied; }
check "a denied client mounts by NFSv4" nfs4
check "which asks nothing of mountd" [ "$(sent dst port 20048)" = "$to_mountd" ]
kill $NAMED; wait $NAMED
# The flow sends NULL calls, whose UDP length is 48; what asks for a port is longer.
check "both without a packet to port 111 but those of the flow" [ "$(sent dst port 111)" = "$(sent "udp dst port 111 and udp[4:2] = 48")" ]
check "stats names the denied client" sh -c "portguard stats eth0 | grep -q '198.51.100.20'"
check "explain says that no entry covers it" sh -c "portguard explain 198.51.100.20 | grep -q 'no entry'"
flows_end

# A guard on the client as well.
sysctl -q fs.nfs.nlm_tcpport=0 fs.nfs.nlm_udpport=0
check "the client is guarded, too, its server not on its list" guard_client 203.0.113.0/24
# A lock that the client holds, while the server's services end, start again, and report that, as after a crash: such a machine has
# forgotten the locks, and has what rpc.statd wrote of its clients. Here lockd runs on, for the client, so the server is told to
# forget the locks; and Linux 6.12 ends the watch of a client with the service, so what was written is put back.
check "the client mounts, to lock a file" client mount -t nfs -o vers=3,proto=tcp 192.0.2.1:/srv /mnt
nsenter --target $HOST --net --mount -- perl - /mnt/locked 600 < /run/client/lock.pl > /dev/null &
HOLDER=$!
LOCKED=$(printf '%02x:%02x:%s' $(stat -c '%Hd %Ld %i' /srv/locked))
has_lock() { grep -q " $LOCKED " /proc/locks; }
# Linux 6.12 refuses this while no server runs.
unlock() { echo /srv > /proc/fs/nfsd/unlock_filesystem; } 2> /dev/null
restarts() {
  mkdir -p /run/watched
  cp -a /var/lib/nfs/sm/. /run/watched
  systemctl stop nfs-server
  unlock
  cp -a /run/watched/. /var/lib/nfs/sm
  systemctl start nfs-server && not has_lock && sm-notify -f
}
check "the server has a lock of the client" within 30 has_lock
check "the server restarts, and has it no more" restarts
check "doctor on the client names the server that its list lacks" client_says doctor "lacks the NFS server 192.0.2.1"
check "doctor on the client lists what the server calls" client_says doctor "nlockmgr"
check "suggest on the client proposes it" client_says suggest "NFSv3 server of this host, which calls back, mounted on /mnt"
check "a client whose list lacks the server does not reclaim it" not within 60 has_lock
check "because its guard has dropped the notice" [ "$(dropped_of_server)" -gt 0 ]
# It would go on to tell the client.
pkill sm-notify
check "the server comes onto the client's list" guard_client 192.0.2.1
check "it restarts once more" restarts
check "then the client reclaims it" within 60 has_lock
check "doctor has nothing to say of it any more" doctor_is_silent_of "lacks the NFS server"
kill $HOLDER; wait $HOLDER
client umount /mnt
works "guard on both, the client's list has the server"
lock "guard on both, the client's list has the server"

# Generic mode.
nsenter --net=/run/netns/outside portguard detach eth0
systemctl stop portguard@eth0
portguard detach eth0
echo 'PORTGUARD_OPTIONS=--mode generic' > /etc/default/portguard-eth0
check "the guard starts in generic mode" systemctl start portguard@eth0
check "and is on" within 30 guarded
check "in that mode" grep -q "generic mode" /run/status
works "guard on the server, generic"
lock "guard on the server, generic"
LIMIT=10 check "a denied client, generic" not client rpcinfo -p 198.51.100.1
check "stats, generic, names the denied client" sh -c "portguard stats eth0 | grep -q '198.51.100.20'"

# NIS by broadcast asks by CALLIT, which is no lookup.
nis_server() {
  within 60 sh -c "rpcinfo -p 127.0.0.1 | grep -q portmapper" && systemctl restart ypserv &&
    within 30 sh -c "rpcinfo -p 127.0.0.1 | grep -q ypserv"
}
echo 'OPTIONS="-w -r"' > /etc/default/rpcbind
systemctl restart rpcbind.service
check "rpcbind that answers broadcasts has the NIS server" nis_server
echo "domain test broadcast" > /etc/yp.conf
check "with udp: lookups, NIS by broadcast finds no server" not binds
printf 'udp: all\nallow:\n  - 192.0.2.0/24\n  - 2001:db8:1::/64\n' > $LIST
check "a list with udp: all" systemctl reload portguard@eth0
# A ypbind hears only answers that come within its wait, and a machine that is emulated may be slower.
check "with udp: all, it does" tried_again binds
echo 'OPTIONS="-w"' > /etc/default/rpcbind
systemctl restart rpcbind.service
check "rpcbind without -r has the NIS server" nis_server
check "and answers no broadcast" not binds
complete
