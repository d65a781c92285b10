#!/bin/sh
# Removes what install.sh has installed, after it has taken the guards off; with --purge, the settings, too.
#
#   PREFIX/share/portguard/uninstall.sh [--purge] [--destdir DIRECTORY]
set -eu

purge=
destdir=
while [ $# -gt 0 ]; do
    case "$1" in
    --purge) purge=yes && shift ;;
    --destdir) destdir=${2:?} && shift 2 ;;
    *) sed -n '2,4s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done
here=$(cd "$(dirname "$0")" && pwd)
record=$here/installed
[ -r "$record" ] || { echo "uninstall.sh: $record, which says what was installed, is missing" >&2 && exit 1; }

if [ -z "$destdir" ]; then
    if [ -d /run/systemd/system ]; then
        systemctl stop 'portguard@*.service' 'portguard-rpcbind*.service'
    fi
    if [ -n "$(find /sys/fs/bpf/portguard -name link 2> /dev/null)" ]; then
        cat >&2 <<'END'
portguard: WARNING: the guards are taken off, because they cannot be taken off later without portguard.
portguard: WARNING: from now on, everyone can reach port 111. If nothing here needs rpcbind:
portguard: WARNING:     systemctl mask --now rpcbind.service rpcbind.socket
END
        "$(grep '/sbin/portguard$' "$record")" detach --all >&2 || true
    fi
    # Those in other network namespaces, too: a guard whose pins are gone is off.
    rm -rf /sys/fs/bpf/portguard
fi

# Folders come after what is in them; those that others use by now stay.
files=$(LC_ALL=C sort -r "$record")
rm "$record"
echo "$files" | while read -r file; do
    case "$file" in
    */) rmdir --ignore-fail-on-non-empty "$destdir$file" ;;
    *) rm -f "$destdir$file" ;;
    esac
done
if [ -n "$purge" ]; then
    rm -rf "$destdir/etc/systemd/system/portguard.target.requires" "$destdir/var/lib/portguard"
    rm -f "$destdir/etc/default/portguard" "$destdir"/etc/default/portguard-* "$destdir/etc/portguard/allowlist.yaml" \
        "$destdir"/etc/systemd/system/multi-user.target.wants/portguard@*.service
    rmdir --ignore-fail-on-non-empty "$destdir/etc/portguard" 2> /dev/null || true
fi

if [ -z "$destdir" ] && [ -d /run/systemd/system ]; then
    # Before anything is stopped: rpcbind no longer requires them, and goes on.
    systemctl daemon-reload
    systemctl stop portguard.target 'portguard-*.service' 2> /dev/null || true
    systemctl reset-failed portguard.target 'portguard*.service' 2> /dev/null || true
    rm -rf /run/portguard
fi
