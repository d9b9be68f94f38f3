#!/bin/sh
# A command in a root that cannot be written to, as another user, without any capability.
# container.sh HOSTNAME ROOT IMAGE FOLDER UID GID [SOURCE TARGET]... -- COMMAND...
# To be run by root in mount, UTS and PID namespaces of its own; ROOT is an empty folder. IMAGE is a folder with an
# image's files, or empty for a root that holds only the mounts.
set -e
PATH=$PATH:/usr/sbin:/sbin
hostname "$1"; root=$2; image=$3; folder=$4; uid=$5; gid=$6; shift 6
mount --make-rprivate /
if [ -n "$image" ]; then mount --bind "$image" "$root"; else mount -t tmpfs -o mode=755 tmpfs "$root"; fi
mkdir -p "$root/proc" "$root/dev" "$root/tmp"
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
[ -n "$image" ] || for link in bin lib lib64 sbin; do [ ! -L "/$link" ] || cp -P "/$link" "$root/$link"; done
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid="$uid" --regid="$gid" --clear-groups --no-new-privs --bounding-set=-all \
    sh -c 'cd "$0"; exec "$@"' "$folder" "$@"
