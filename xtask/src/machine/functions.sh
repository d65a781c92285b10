#!/bin/bash
# What the tests in a machine share: how they tell on the console how it went, what they look at, and the flows.
exec > /dev/ttyS0 2>&1
LIST=/etc/portguard/allowlist.yaml
IFACE=eth0

pass() { echo "PASS $1"; }
fail() {
  echo "FAIL $1"
  systemctl --no-pager --full --lines 5 status "portguard@$IFACE" portguard-check portguard-rpcbind rpcbind.service rpcbind.socket nfs-server | head -100
  portguard status
}
# check NAME COMMAND...: the command must succeed.
check() { local name=$1; shift; if "$@"; then pass "$name"; else fail "$name"; fi; }
# within SECONDS COMMAND...: the command must succeed in one of five tries for each second. It is longer on a machine that is busy.
within() { local n=$(($1 * 5)); shift; until "$@"; do n=$((n - 1)); [ $n -gt 0 ] || return 1; sleep 0.2; done; }
not() { ! "$@"; }
show() { systemctl show --value -p "$1" "${2:-portguard@$IFACE}"; }
active() { systemctl -q is-active "${1:-portguard@$IFACE}"; }
pid() { show MainPID; }
# The guard says, and so does the kernel, that port 111 is guarded.
guarded() { portguard status $IFACE > /run/status 2>&1 && grep -q enforcing /run/status && ip link show $IFACE | grep -q xdp; }
generation() { sed -n 's/.*generation \([0-9]*\),.*/\1/p' /run/status; }
earlier() { [ "$(show "$1" "$2")" -le "$(show "$3" "$4")" ]; }
status_text() { show StatusText | grep -q "$1"; }
attached() { sed -n 's/.*since //p' /run/status | head -1; }
good() { printf 'allow:\n  - 192.0.2.0/24\n' > $LIST; }
broken() { printf 'allow:\n  - 192.0.2.0/33\n' > $LIST; }
# Nothing has the port, not even systemd.
nothing_listens() { [ -z "$(ss --no-header --listening --tcp --udp --numeric 'sport = 111')" ]; }
open_to() { ip netns exec outside timeout 5 bash -c "echo > /dev/tcp/$1/111" 2> /dev/null; }

# A call of NULL of rpcbind, which is a lookup: transaction 7, a call, RPC 2, program 100000, version 2, procedure 0, no credentials.
export NULL_CALL='\0\0\0\7\0\0\0\0\0\0\0\2\0\1\206\240\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
# From here on an allowed and a denied flow, and a witness who sees what comes through.
flows_begin() {
  rm -f /run/stop /run/sent /run/seen
  tcpdump -U -ni eth0 -Q in -l udp dst port 111 > /run/seen 2> /run/tcpdump &
  WITNESS=$!
  within 60 grep -q listening /run/tcpdump
  ip netns exec outside bash -c '
    n=0
    while [ ! -e /run/stop ]; do
      printf "$NULL_CALL" > /dev/udp/198.51.100.1/111; printf "$NULL_CALL" > /dev/udp/192.0.2.1/111
      n=$((n + 1)); sleep 0.01
    done
    echo $n > /run/sent' &
  SENDER=$!
  within 30 grep -q 192.0.2.10 /run/seen || fail "the witness sees the allowed flow"
}
# The end of the flows, and the count.
flows_end() {
  touch /run/stop
  wait $SENDER
  sleep 2
  kill -INT $WITNESS
  wait $WITNESS
  SENT=$(cat /run/sent)
  ALLOWED=$(grep -c 'IP 192.0.2.10' /run/seen)
  DENIED=$(grep -c 'IP 198.51.100.20' /run/seen)
  echo "FIGURES $SENT $ALLOWED $DENIED"
  check "every allowed packet came through" [ "$ALLOWED" = "$SENT" ]
  check "no denied packet came through" [ "$DENIED" = 0 ]
}
# The end of everything.
complete() { echo COMPLETE; systemctl poweroff --force --force; }

