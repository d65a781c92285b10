# The interface has come when the service was ready and the guard was not yet checked; the guard only counts.
systemctl is-system-running --wait > /dev/null
echo "BEGIN $(systemctl --version | head -1), Linux $(uname -r)"
audited() { portguard status --guarded eth0 | grep -q "audit only"; }
check "the service is up" active
check "the service was held up" [ -s /run/held-up ]
check "the guard is on, in audit mode, by settings of its own" audited
check "which status does not take for enforcing" not portguard status eth0
check "rpcbind listens" active rpcbind.socket
check "it did so after the check" earlier InactiveEnterTimestampMonotonic portguard-is-on@eth0.service ActiveEnterTimestampMonotonic rpcbind.socket
check "which has waited for the guard" [ $(($(show InactiveEnterTimestampMonotonic portguard-is-on@eth0.service) - $(show InactiveExitTimestampMonotonic portguard-is-on@eth0.service))) -gt 2000000 ]
check "nobody has waited longer" [ "$(show ActiveEnterTimestampMonotonic portguard-rpcbind.service)" = 0 ]
systemctl start rpcbind.service
check "an allowed source reaches rpcbind" open_to 192.0.2.1
check "a denied one, too: it is only counted" open_to 198.51.100.1
check "nothing has failed" [ -z "$(systemctl list-units --failed --no-legend 'portguard*' 'rpcbind*')" ]
complete
