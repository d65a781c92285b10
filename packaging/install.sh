#!/bin/sh
# Installs portguard from the folder that this script is in, or upgrades it; guards that are on stay on.
#
#   ./install.sh [--prefix /usr/local] [--destdir DIRECTORY]
set -eu

prefix=/usr/local
destdir=
while [ $# -gt 0 ]; do
    case "$1" in
    --prefix) prefix=${2:?} && shift 2 ;;
    --destdir) destdir=${2:?} && shift 2 ;;
    *) sed -n '2,4s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done
from=$(cd "$(dirname "$0")" && pwd)
share=$prefix/share
# systemd looks into few prefixes.
case "$prefix" in
/usr | /usr/local) units=$prefix/lib/systemd/system ;;
*) units=/etc/systemd/system ;;
esac
installed=$destdir$share/portguard/installed
record=$(mktemp)
# What an earlier version has made is still ours.
[ ! -r "$installed" ] || grep '/$' "$installed" > "$record" || true

# folder PATH: makes a folder, and writes down that it is ours to remove, unless it is there.
folder() {
    [ -d "$destdir$1" ] || { folder "$(dirname "$1")" && mkdir "$destdir$1" && echo "$1/" >> "$record"; }
}
# put MODE FILE TO: installs a file, and writes it down.
put() {
    folder "$(dirname "$3")"
    install -m "$1" "$2" "$destdir$3"
    echo "$3" >> "$record"
}
# keep FILE TO: installs settings, unless the administrator has some.
keep() {
    [ -e "$destdir$2" ] || install -D -m 644 "$1" "$destdir$2"
}

[ -z "$destdir" ] || mkdir -p "$destdir"
put 755 "$from/portguard" "$prefix/sbin/portguard"
for page in "$from"/man/*; do
    put 644 "$page" "$share/man/man${page##*.}/${page##*/}"
done
put 644 "$from/completions/portguard" "$share/bash-completion/completions/portguard"
put 644 "$from/completions/_portguard" "$share/zsh/site-functions/_portguard"
put 644 "$from/completions/portguard.fish" "$share/fish/vendor_completions.d/portguard.fish"
for unit in $(cd "$from/systemd" && find . -type f); do
    put 644 "$from/systemd/$unit" "$units/${unit#./}"
    sed -i "s|/usr/sbin/portguard|$prefix/sbin/portguard|g" "$destdir$units/${unit#./}"
done
put 755 "$from/uninstall.sh" "$share/portguard/uninstall.sh"
keep "$from/allowlist.yaml" /etc/portguard/allowlist.yaml
keep "$from/default" /etc/default/portguard
install -m 644 "$record" "$installed"
rm "$record"

if [ -z "$destdir" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart 'portguard@*.service'
    # uninstall.sh has stopped them and has taken their guards off.
    for link in /etc/systemd/system/*.wants/portguard@*.service; do
        unit=${link##*/}
        if [ -L "$link" ] && ! systemctl --quiet is-active "$unit"; then
            systemctl start "$unit" ||
                echo "install.sh: WARNING: $unit did not start, port 111 may be open: systemctl status $unit" >&2
        fi
    done
fi
cat <<END
portguard is in $destdir$prefix. Write down who may reach port 111 in /etc/portguard/allowlist.yaml, then:
    systemctl enable --now portguard@INTERFACE
To remove it: $share/portguard/uninstall.sh
END
