#!/bin/sh
# Boots a Debian in namespaces: host.sh start NAME DEBIAN KEY. The mount namespace and the network are there already; what it
# mounts, and what the host writes, goes with its last process.
set -eu

start() {
    name=$1 debian=$2 key=$3
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/cgroup /mnt/upper /mnt/work /mnt/root
    # A part of the cgroups that is its own, or two systemd would meet there.
    mount -t cgroup2 cgroup2 /mnt/cgroup
    mkdir "/mnt/cgroup/$name"
    echo $$ > "/mnt/cgroup/$name/cgroup.procs"
    umount /mnt/cgroup
    mount -t overlay -o "lowerdir=$debian,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
    mkdir -p -m 700 /mnt/root/root/.ssh
    cp "$key" /mnt/root/root/.ssh/authorized_keys
    exec unshare --cgroup --pid --ipc --uts --fork --kill-child sh "$0" boot "$name"
}

boot() {
    hostname "$1"
    cd /mnt/root
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t bpf -o mode=0700 bpf sys/fs/bpf
    mount -t tmpfs -o mode=755 tmpfs run
    mount -t tmpfs -o mode=755 tmpfs dev
    for device in null zero full random urandom tty; do
        touch "dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    touch dev/console
    # Nobody can log in at a console that there is not.
    ln -sf /dev/null etc/systemd/system/console-getty.service
    mkdir old
    pivot_root . old
    umount --lazy /old
    rmdir /old
    exec env -i container=fleet-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=0
}

# What a host leaves behind: its cgroups.
clean() {
    mount -t cgroup2 cgroup2 /mnt
    find "/mnt/$1" -depth -type d -exec rmdir {} +
}

"$@"
