# Runs in the machine, when systemd has started everything else.
systemctl is-system-running --wait > /dev/null
echo "BEGIN $(systemctl --version | head -1), Linux $(uname -r)"

# Boot
check "the service is up after the boot" active
check "the guard is on" guarded
check "it was up before rpcbind listened" earlier ActiveEnterTimestampMonotonic portguard@eth0.service ActiveEnterTimestampMonotonic rpcbind.socket
check "it was up before the network" earlier ActiveEnterTimestampMonotonic portguard@eth0.service ActiveEnterTimestampMonotonic network-pre.target
check "rpcbind listens" active rpcbind.socket
systemctl start rpcbind.service
check "rpcbind runs" active rpcbind.service
check "the status line has the totals" status_text "eth0: generation 1, "
RPCBIND=$(show MainPID rpcbind.service)

flows_begin

# Reload
guarded; SINCE=$(attached)
printf 'allow:\n  - 192.0.2.0/24\n  - 203.0.113.0/24\n' > $LIST
check "a changed list is noticed" within 30 sh -c 'portguard status eth0 | grep -q "generation 2, 2 IPv4"'
check "systemctl reload works" systemctl reload portguard@eth0.service
check "the list was reloaded" within 30 sh -c 'portguard status eth0 | grep -q "generation 3, "'
check "the service is ready again" within 30 status_text "generation 3, "
broken
check "systemctl reload fails with a broken list" not systemctl reload portguard@eth0.service
check "and the service goes on" active
check "with the list in force" guarded
check "which status says is not that of the file" grep -q "BROKEN on disk" /run/status
good
check "a mended list is noticed" within 30 sh -c 'portguard status eth0 | grep -q "unchanged on disk"'

# Killed
BEFORE=$(pid)
kill -KILL "$BEFORE"
check "killed, the guard is on" guarded
check "and systemd starts it again" within 60 sh -c "[ \$(systemctl show --value -p MainPID portguard@eth0.service) -gt 0 ] && [ \$(systemctl show --value -p MainPID portguard@eth0.service) != $BEFORE ] && systemctl -q is-active portguard@eth0.service"
guarded
check "over the same guard" [ "$(attached)" = "$SINCE" ]

# Stuck
BEFORE=$(pid)
kill -STOP "$BEFORE"
check "stuck, the guard is on" guarded
check "the watchdog ends it, and systemd starts it again" within 180 sh -c "[ \$(systemctl show --value -p MainPID portguard@eth0.service) -gt 0 ] && [ \$(systemctl show --value -p MainPID portguard@eth0.service) != $BEFORE ] && systemctl -q is-active portguard@eth0.service"

# Restarted, as by an upgrade
check "restart" systemctl restart portguard@eth0.service
check "restarted, the guard is on" guarded
check "and is the same" [ "$(attached)" = "$SINCE" ]
check "detach refuses while the service runs" not portguard detach eth0

# Stopped
check "stop" systemctl stop portguard@eth0.service
check "stopped, the guard is on" guarded
check "and is the same" [ "$(attached)" = "$SINCE" ]
check "rpcbind has noticed nothing of it all" [ "$(show MainPID rpcbind.service)" = "$RPCBIND" ]

# Started over a guard, with a broken list
broken
check "start with a broken list" systemctl start portguard@eth0.service
check "the list in force stays" guarded
check "and the status line says so" status_text BROKEN
good
check "mended, the line says so" within 30 not status_text BROKEN
systemctl stop portguard@eth0.service

systemctl start portguard@eth0.service
systemctl --no-pager --full status portguard@eth0.service | grep -E "Active:|Status:"
systemctl stop portguard@eth0.service
flows_end

# As after a reboot with a broken list: the last good one
check "detach" portguard detach eth0
systemctl stop rpcbind.service rpcbind.socket
broken
check "start with a broken list and no guard" systemctl start portguard@eth0.service
check "the last good list is in force" guarded
check "and status says so" grep -q "last good list" /run/status
check "rpcbind starts" systemctl start rpcbind.service

# Without any list
systemctl stop portguard@eth0.service rpcbind.service rpcbind.socket
portguard detach eth0
rm -r /var/lib/portguard/*
check "without any list the service fails" not systemctl start portguard@eth0.service
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

# EX_TEMPFAIL
mkdir -p /run/systemd/system/portguard@eth0.service.d
cat > /run/systemd/system/portguard@eth0.service.d/tempfail.conf <<'END'
[Service]
ExecStart=
ExecStart=/bin/sh -c 'echo >> /run/portguard/starts; [ $$(wc -l < /run/portguard/starts) -gt 8 ] || exit 75; exec portguard run %i'
END
systemctl daemon-reload
check "a start that fails for a time is no success" not systemctl restart portguard@eth0.service
check "and is tried again until it succeeds" within 60 active
check "more often than systemd would by itself" [ "$(wc -l < /run/portguard/starts)" = 9 ]
check "the guard is on all the while" guarded
check "the folder of sockets is for root alone" [ "$(stat -c %a /run/portguard)" = 700 ]
rm -r /run/systemd/system/portguard@eth0.service.d /run/portguard/starts
systemctl daemon-reload
check "it restarts as before" systemctl restart portguard@eth0.service
check "the folder of sockets stays" [ -d /run/portguard ]

for module in inet_diag tcp_diag udp_diag; do insmod /modules/$module.ko; done

# Doctor, on a host without a guard, and beside systemd's own filter, which sockets have from their making
doctor_says() { portguard doctor > /run/doctor; grep -q "$1" /run/doctor || { grep -E "coverage|boot" /run/doctor; return 1; }; }
renew_rpcbind() {
  systemctl start portguard@eth0.service
  systemctl stop rpcbind.service rpcbind.socket
  systemctl start rpcbind.socket rpcbind.service
  systemctl stop portguard@eth0.service
  portguard detach eth0
}
OPEN="^FAILURE  coverage eth0: not guarded: port 111 is open"
renew_rpcbind
check "without a guard a denied host gets in" open_to 198.51.100.1
check "and doctor says so" doctor_says "$OPEN"
mkdir -p /run/systemd/system/rpcbind.socket.d
printf '[Socket]\nIPAddressDeny=any\nIPAddressAllow=localhost 192.0.2.0/24\n' > /run/systemd/system/rpcbind.socket.d/filter.conf
systemctl daemon-reload
if open_to 198.51.100.1; then
  check "doctor is not misled by a filter that the sockets do not have" doctor_says "$OPEN"
else
  check "doctor sees a filter that the sockets have at once" not doctor_says "$OPEN"
fi
renew_rpcbind
check "with IPAddressDeny= a denied host does not get in" not open_to 198.51.100.1
check "and an allowed one does" open_to 192.0.2.1
check "and doctor names it" doctor_says "^ok       coverage eth0: not guarded; .*IPAddressDeny= of rpcbind.socket"
rm -r /run/systemd/system/rpcbind.socket.d
systemctl daemon-reload
renew_rpcbind
systemctl start portguard@eth0.service
check "the guard is on at each boot" doctor_says "^ok       boot eth0:"
systemctl disable portguard@eth0.service
check "or doctor says how" doctor_says "systemctl enable portguard@eth0"
systemctl enable portguard@eth0.service
check "which helps" doctor_says "^ok       boot eth0:"

# What guards are kept in is taken away under the service: it heals itself, or exits with 75.
rm -rf /sys/fs/bpf/portguard
check "the guard comes back" within 15 guarded
check "and the service runs" within 15 active
umount /sys/fs/bpf && mount -t bpf bpf /sys/fs/bpf
check "with a new BPF file system, the guard comes back" within 15 guarded
check "and the service runs again" within 15 active
echo "EXPOSURE $(systemd-analyze security --no-pager portguard@eth0.service | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p')"
complete
