#!/bin/bash
# Runs in the machine, when systemd has started everything else, and tells on the console how it went.
exec > /dev/ttyS0 2>&1
LIST=/etc/portguard/allowlist.yaml
UNIT=portguard@eth0.service

pass() { echo "PASS $1"; }
fail() { echo "FAIL $1"; systemctl --no-pager --full status $UNIT rpcbind.service rpcbind.socket | head -60; portguard status; }
# check NAME COMMAND...: the command must succeed.
check() { local name=$1; shift; if "$@"; then pass "$name"; else fail "$name"; fi; }
# within SECONDS COMMAND...: the command must succeed before so much time has passed.
within() { local n=$(($1 * 5)); shift; until "$@"; do n=$((n - 1)); [ $n -gt 0 ] || return 1; sleep 0.2; done; }
not() { ! "$@"; }
show() { systemctl show --value -p "$1" "${2:-$UNIT}"; }
active() { systemctl -q is-active "${1:-$UNIT}"; }
pid() { show MainPID; }
# The guard says, and so does the kernel, that port 111 is guarded.
guarded() { portguard status eth0 > /run/status && grep -q enforcing /run/status && ip link show eth0 | grep -q xdp; }
generation() { sed -n 's/.*generation \([0-9]*\),.*/\1/p' /run/status; }
earlier() { [ "$(show "$1" "$2")" -le "$(show "$3" "$4")" ]; }
status_text() { show StatusText | grep -q "$1"; }
attached() { sed -n 's/.*since //p' /run/status | head -1; }
good() { printf 'allow:\n  - 192.0.2.0/24\n' > $LIST; }
broken() { printf 'allow:\n  - 192.0.2.0/33\n' > $LIST; }

systemctl is-system-running --wait > /dev/null
echo "BEGIN $(systemctl --version | head -1), Linux $(uname -r)"

# Boot
check "the service is up after the boot" active
check "the guard is on" guarded
check "it was up before rpcbind listened" earlier ActiveEnterTimestampMonotonic $UNIT ActiveEnterTimestampMonotonic rpcbind.socket
check "it was up before the network" earlier ActiveEnterTimestampMonotonic $UNIT ActiveEnterTimestampMonotonic network-pre.target
check "rpcbind listens" active rpcbind.socket
systemctl start rpcbind.service
check "rpcbind runs" active rpcbind.service
check "the status line has the totals" status_text "eth0: generation 1, "
RPCBIND=$(show MainPID rpcbind.service)

# From here on an allowed and a denied flow, and a witness who sees what comes through.
tcpdump -U -ni eth0 -Q in -l udp dst port 111 > /run/seen 2> /run/tcpdump &
WITNESS=$!
within 60 grep -q listening /run/tcpdump
ip netns exec outside bash -c '
  n=0
  while [ ! -e /run/stop ]; do
    echo d > /dev/udp/198.51.100.1/111; echo a > /dev/udp/192.0.2.1/111; n=$((n + 1)); sleep 0.01
  done
  echo $n > /run/sent' &
SENDER=$!
within 30 grep -q 192.0.2.10 /run/seen || fail "the witness sees the allowed flow"

# Reload
guarded; SINCE=$(attached)
printf 'allow:\n  - 192.0.2.0/24\n  - 203.0.113.0/24\n' > $LIST
check "a changed list is noticed" within 30 sh -c 'portguard status eth0 | grep -q "generation 2, 2 IPv4"'
check "systemctl reload works" systemctl reload $UNIT
check "the list was reloaded" within 30 sh -c 'portguard status eth0 | grep -q "generation 3, "'
check "the service is ready again" within 30 status_text "generation 3, "
broken
check "systemctl reload fails with a broken list" not systemctl reload $UNIT
check "and the service goes on" active
check "with the list in force" guarded
check "which status says is not that of the file" grep -q "BROKEN on disk" /run/status
good
check "a mended list is noticed" within 30 sh -c 'portguard status eth0 | grep -q "unchanged on disk"'

# Killed
BEFORE=$(pid)
kill -KILL "$BEFORE"
check "killed, the guard is on" guarded
check "and systemd starts it again" within 60 sh -c "[ \$(systemctl show --value -p MainPID $UNIT) -gt 0 ] && [ \$(systemctl show --value -p MainPID $UNIT) != $BEFORE ] && systemctl -q is-active $UNIT"
guarded
check "over the same guard" [ "$(attached)" = "$SINCE" ]

# Stuck
BEFORE=$(pid)
kill -STOP "$BEFORE"
check "stuck, the guard is on" guarded
check "the watchdog ends it, and systemd starts it again" within 180 sh -c "[ \$(systemctl show --value -p MainPID $UNIT) -gt 0 ] && [ \$(systemctl show --value -p MainPID $UNIT) != $BEFORE ] && systemctl -q is-active $UNIT"

# Restarted, as by an upgrade
check "restart" systemctl restart $UNIT
check "restarted, the guard is on" guarded
check "and is the same" [ "$(attached)" = "$SINCE" ]
check "detach refuses while the service runs" not portguard detach eth0

# Stopped
check "stop" systemctl stop $UNIT
check "stopped, the guard is on" guarded
check "and is the same" [ "$(attached)" = "$SINCE" ]
check "rpcbind has noticed nothing of it all" [ "$(show MainPID rpcbind.service)" = "$RPCBIND" ]

# Started over a guard, with a broken list
broken
check "start with a broken list" systemctl start $UNIT
check "the list in force stays" guarded
check "and the status line says so" status_text BROKEN
good
check "mended, the line says so" within 30 not status_text BROKEN
systemctl stop $UNIT

# The end of the flows
systemctl start $UNIT
systemctl --no-pager --full status $UNIT | grep -E "Active:|Status:"
systemctl stop $UNIT
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

# As after a reboot with a broken list: the last good one
check "detach" portguard detach eth0
systemctl stop rpcbind.service rpcbind.socket portguard.target portguard-is-on@eth0.service
broken
check "start with a broken list and no guard" systemctl start $UNIT
check "the last good list is in force" guarded
check "and status says so" grep -q "last good list" /run/status
check "rpcbind starts" systemctl start rpcbind.service

# Without any list
systemctl stop $UNIT rpcbind.service rpcbind.socket portguard.target portguard-is-on@eth0.service
portguard detach eth0
rm -r /var/lib/portguard/*
check "without any list the service fails" not systemctl start $UNIT
systemctl reset-failed
check "rpcbind does not start without its guard" not systemctl start rpcbind.service
check "nor does its socket" not systemctl start rpcbind.socket
check "and nothing listens" not active rpcbind.socket
good
systemctl reset-failed
check "with a list everything starts" systemctl start rpcbind.socket
check "and is guarded" guarded
systemctl start rpcbind.service
check "rpcbind runs again" active rpcbind.service
echo "EXPOSURE $(systemd-analyze security --no-pager $UNIT | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p')"
echo COMPLETE
systemctl poweroff --force --force
