#!/bin/sh
# A command in a root that cannot be written to, as another user, without any capability.
# container.sh HOSTNAME ROOT FOLDER UID GID [SOURCE TARGET]... -- COMMAND...
# To be run by root in mount, UTS and PID namespaces of its own; ROOT is an empty folder.
set -e
PATH=$PATH:/usr/sbin:/sbin
hostname "$1"; root=$2; folder=$3; uid=$4; gid=$5; shift 5
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir "$root/proc" "$root/dev" "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")"; touch "$root$2"; fi
    mount --bind "$1" "$root$2"
    shift 2
done
shift
mkdir -p "$root$folder"
for link in bin lib lib64 sbin; do [ ! -L "/$link" ] || cp -P "/$link" "$root/$link"; done
mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid="$uid" --regid="$gid" --clear-groups --no-new-privs --bounding-set=-all \
    sh -c 'cd "$0"; exec "$@"' "$folder" "$@"
