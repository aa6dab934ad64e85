#!/bin/bash
# Mounts the volume of the log, and formats it only if nothing was ever written to it.
#
# usage: volume.sh DEVICE DIRECTORY
#
# A volume that has anything but a file system it knows is left alone, and the service does not start: a node that began on an
# empty directory would have forgotten what it acknowledged. So is one that cannot be read. Formatting that was interrupted is done
# again: mkfs.xfs marks the superblock as unfinished until its last write, and what is marked was never mounted.
#
# VOLUME_TIMEOUT is how many seconds the device is waited for, since a volume is attached after its machine has started;
# VOLUME_MOUNT is the command that mounts.
set -euo pipefail

device=$1
directory=$2
timeout=${VOLUME_TIMEOUT:-600}
# What is looked at of a volume without a file system: beginnings of file systems, partition tables, RAID, LVM and LUKS are there.
looked_at=$((16 * 1024 * 1024))

fail() { echo "volume: $*" >&2; exit 1; }

# Whether mkfs.xfs was interrupted: until its last write the superblock says that it is at work, and Linux mounts nothing that does.
# The checksum has to agree, so that it is what mkfs.xfs wrote, and no damage to a file system with a log in it.
unfinished() {
    local shown
    shown=$(xfs_db -r -c 'sb 0' -c 'print inprogress crc' "$device" 2>/dev/null) || return 1
    [[ $shown == "inprogress = 1"$'\n'"crc = "*" (correct)" ]]
}

for ((waited = 0; ; waited++)); do
    [ -e "$device" ] && break
    [ "$waited" -lt "$timeout" ] || fail "$device is not attached after $timeout s"
    sleep 1
done

if mountpoint -q "$directory"; then
    echo "volume: $directory is mounted"
    exit 0
fi

# 0: it has something; 2: nothing that blkid knows. Anything else is an error, and errors never lead to formatting.
status=0
found=$(blkid -p -o value -s TYPE "$device") || status=$?
case $status in
    0)
        [ "$found" = xfs ] || fail "$device has ${found:-a partition table}, not xfs: it is left as it is"
        if unfinished; then
            echo "volume: formatting $device was interrupted: formatting it anew"
            mkfs.xfs -q -f "$device"
        fi
        ;;
    2)
        # What blkid does not know may still be data, such as a file system whose beginning was damaged.
        if ! cmp -s -n "$looked_at" "$device" /dev/zero; then
            fail "$device has no file system, but is not empty: it is left as it is"
        fi
        echo "volume: $device is empty: formatting it"
        mkfs.xfs -q "$device"
        ;;
    *)
        fail "$device cannot be read (blkid: $status)"
        ;;
esac

mkdir -p "$directory"
${VOLUME_MOUNT:-mount -o noatime,nodev,nosuid,noexec} "$device" "$directory"
