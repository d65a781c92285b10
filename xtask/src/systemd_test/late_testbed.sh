#!/bin/bash
# The modules, and a host outside; nothing leads there yet.
for _ in 1 2 3 4; do
  for module in /modules/*; do
    case $module in
    # Or it makes a bond0 by itself.
    */bonding.ko) insmod "$module" max_bonds=0 ;;
    *) insmod "$module" ;;
    esac
  done
done 2> /dev/null
ip netns add outside
# What is exported: the root of this machine has no file handles.
mkdir -p /srv
mount -t tmpfs tmpfs /srv
echo "by the server" > /srv/told
