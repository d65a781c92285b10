#!/bin/bash
# The modules, and a cable from `eth0` to a host outside, which has addresses on the list and others that are not.
for _ in 1 2 3 4; do
  for module in /modules/*; do insmod "$module"; done
done 2> /dev/null
set -e
ip netns add outside
ip link add eth0 type veth peer name eth0 netns outside
for side in "ip:1:1" "ip -n outside:10:20"; do
  IFS=: read -r ip allowed denied <<< "$side"
  $ip addr add 192.0.2.$allowed/24 brd + dev eth0
  $ip addr add 2001:db8:1::$allowed/64 dev eth0 nodad
  $ip addr add 198.51.100.$denied/24 brd + dev eth0
  $ip addr add 2001:db8:2::$denied/64 dev eth0 nodad
  $ip link set eth0 up
done
ip -n outside link set lo up
# What is exported: the root of this machine has no file handles.
mkdir -p /srv
mount -t tmpfs tmpfs /srv
