#!/bin/sh
# The first process of the machine, from the initial RAM disk: it mounts the Debian
# tree, read-only, below a layer that takes what the machine writes, and hands over.
. /machine
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done
mkdir -p /tree /layer /new
mount -t ext4 -o ro,noload /dev/vda /tree || poweroff -f
if [ "$disk" = true ]; then
	mount -t ext4 /dev/vdb /layer || poweroff -f
else
	mount -t tmpfs -o size=80% tmpfs /layer
fi
mkdir -p /layer/upper /layer/work
mount -t overlay -o lowerdir=/tree,upperdir=/layer/upper,workdir=/layer/work overlay /new || poweroff -f
if [ "$disk" = true ]; then
	# Container runtimes keep layers there: an overlay is no place for another one.
	for runtime in containers docker containerd; do
		mkdir -p "/layer/$runtime" "/new/var/lib/$runtime"
		mount -o bind "/layer/$runtime" "/new/var/lib/$runtime"
	done
fi
mkdir -p /new/w
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /new/w || poweroff -f

echo "$name" >/new/etc/hostname
hostname "$name"
: >/new/etc/fstab
ip link set lo up
if [ -n "$addr" ]; then
	ip addr add "$addr/24" dev eth0
	ip link set eth0 up
	ip route add default via "$router"
fi
mount --move /dev /new/dev
mount --move /proc /new/proc
mount --move /sys /new/sys
if [ "$systemd" = true ]; then
	cp /new/w/exec.service /new/etc/systemd/system/
	mkdir -p /new/etc/systemd/system/multi-user.target.wants
	ln -sf ../exec.service /new/etc/systemd/system/multi-user.target.wants/exec.service
	exec switch_root /new /lib/systemd/systemd
fi
mount -t tmpfs tmpfs /new/run
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts devpts /new/dev/pts
mount -t tmpfs tmpfs /new/dev/shm
exec switch_root /new /bin/bash /w/exec.sh
