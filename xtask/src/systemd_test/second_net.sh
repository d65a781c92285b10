# systemd's own filter, made from the list, behind the guard: it sees what no card sees.
systemctl is-system-running --wait > /dev/null
echo "BEGIN $(systemctl --version | head -1), Linux $(uname -r)"
# In any order: each of them, once those that it needs are there.
for _ in 1 2 3 4 5; do for module in /modules/*.ko; do insmod "$module"; done; done 2> /dev/null

check "the guard is on" guarded
systemctl start rpcbind.service

# reaches NAMESPACE ADDRESS PORT
reaches() { ip netns exec "$1" timeout 5 bash -c "echo > /dev/tcp/$2/$3" 2> /dev/null; }
doctor_says() { portguard doctor > /run/doctor; grep -q "$1" /run/doctor || { grep systemd /run/doctor; return 1; }; }

# A tunnel that ends here; its outer packets are of an allowed host.
ip tunnel add tunnel0 mode ipip local 192.0.2.1 remote 192.0.2.10
ip address add 203.0.113.1/30 dev tunnel0
ip link set tunnel0 up
ip -n outside tunnel add tunnel0 mode ipip local 192.0.2.10 remote 192.0.2.1
ip -n outside address add 203.0.113.2/30 dev tunnel0
ip -n outside link set tunnel0 up
# Two macvlans on the guarded interface, which reach each other without it.
ip netns add sibling
ip link add mv0 link eth0 type macvlan mode bridge
ip address add 203.0.113.65/28 dev mv0
ip link set mv0 up
ip link add mv1 link eth0 netns sibling type macvlan mode bridge
ip -n sibling address add 203.0.113.66/28 dev mv1
ip -n sibling link set mv1 up
# A port that the firewall leads to that of rpcbind.
check "the firewall takes the rule" nft -f - <<'END'
table ip redirected {
  chain in {
    type nat hook prerouting priority dstnat
    tcp dport 1111 redirect to :111
  }
}
END

check "a denied host does not get in over the card" not reaches outside 198.51.100.1 111
check "out of a tunnel it does" within 10 reaches outside 203.0.113.1 111
check "by a redirected port it does" within 10 reaches outside 198.51.100.1 1111
check "from a sibling it does" within 10 reaches sibling 203.0.113.65 111

second_net() {
  for unit in rpcbind.socket rpcbind.service; do
    mkdir -p "/etc/systemd/system/$unit.d"
    portguard suggest --systemd $unit > "/etc/systemd/system/$unit.d/portguard-addresses.conf" || return 1
  done
  systemctl daemon-reload && systemctl restart rpcbind.socket rpcbind.service
}
check "both units get the addresses of the list" second_net
journalctl --boot --no-pager > /run/journal
check "systemd has restarted both" [ "$(grep -c "rpcbind" /run/journal)" -gt 3 ]
check "and finds nothing wrong with that" not grep -qi "portguard-addresses.conf.*\(unknown\|ignoring\|failed\)" /run/journal
for unit in rpcbind.socket rpcbind.service; do
  check "$unit still asks for the check of the guards" sh -c "systemctl show --value -p Requires $unit | grep -q portguard-check.service"
done
check "by the redirected port an allowed host gets in" reaches outside 192.0.2.1 1111
check "with the second net, nobody gets in out of the tunnel" not reaches outside 203.0.113.1 111
check "nor by the redirected port" not reaches outside 198.51.100.1 1111
check "nor from the sibling" not reaches sibling 203.0.113.65 111
check "nor over the card" not reaches outside 198.51.100.1 111
check "an allowed host does" reaches outside 192.0.2.1 111
check "and asks by rpcinfo" ip netns exec outside rpcinfo -p 192.0.2.1
check "and over UDP" ip netns exec outside rpcinfo -T udp 192.0.2.1 portmapper
check "this host does, too" rpcinfo -p 127.0.0.1
check "doctor says that of the sockets" doctor_says "^ok       systemd.addresses: IPAddressAllow= of rpcbind.socket is as the allowlist"
check "and of the process" doctor_says "^ok       systemd.addresses: IPAddressAllow= of rpcbind.service is as the allowlist"

printf 'allow:\n  - 192.0.2.0/24\n  - 203.0.113.64/28\n' > $LIST
check "the list gets another entry" portguard reload eth0
check "doctor says that the units lack it" doctor_says "^warning  systemd.addresses: IPAddressAllow= of rpcbind.socket lacks 1 prefix of the allowlist, which get no answer: 203.0.113.64/28"
check "still nobody gets in from there" not reaches sibling 203.0.113.65 111
check "both units get it" second_net
check "and who it names gets in" within 10 reaches sibling 203.0.113.65 111
check "doctor is content" doctor_says "^ok       systemd.addresses: IPAddressAllow= of rpcbind.socket is as the allowlist"

good
check "the list loses it" portguard reload eth0
check "doctor says that the units have it" doctor_says "^warning  systemd.addresses: IPAddressAllow= of rpcbind.service has 1 prefix that the allowlist has not: 203.0.113.64/28"
rm -r /etc/systemd/system/rpcbind.service.d
systemctl daemon-reload
check "doctor says that one unit has no list" doctor_says "^warning  systemd.addresses: rpcbind.service filters no addresses"
complete
