# shellcheck shell=bash disable=SC2154,SC2034
# The guests of a scenario, and what is done with them again and again. Sourced by run.sh.
#
#   appliance   owns an emulated NVMe drive and a network card through a user-space driver, and runs `throughline`
#   client      Debian's own kernel with its NVMe/TCP initiator; knows nothing of us
#   partner     another appliance, where a scenario has a pair: what is said of an appliance here is done with the guest that `node` names
#
# Networks: lan0 (192.0.2.0/24) and, where a scenario asks for a second path, lan1 (198.51.100.0/24); the appliance is .1, the client .2,
# the partner .3.

: "${appliance_tools:?}" "${client_tools:?}"

target=192.0.2.1
node=appliance
nqn=nqn.2026-01.com.example:flash0
NIC=0000:00:04.0
NIC1=0000:00:05.0
DRIVE=0000:01:00.0

# ---- devices: each prints QEMU's arguments, one a line ---------------------------------------------------------------

# nic GUEST LAN MODEL: a card of a guest on a network: lan0 at 0000:00:04.0, lan1 at 0000:00:05.0.
nic() {
	local guest=$1 lan=$2 model=$3 peer=appliance end=2 net
	case $guest in
	appliance) peer=client end=1 ;;
	partner) end=3 ;;
	esac
	net="dgram,id=$lan,local.type=unix,local.path=$run/$lan.$guest,remote.type=unix,remote.path=$run/$lan.$peer"
	[ -z "${taps:-}" ] || net="tap,id=$lan,ifname=$lan$guest,script=no,downscript=no"
	printf '%s\n' -netdev "$net" \
		-device "$model,netdev=$lan,id=nic-$lan,romfile=,mac=52:54:00:00:0${lan#lan}:0$end,addr=0x$((4 + ${lan#lan}))"
}

# with_taps: for root, lan0 is a bridge of TAPs instead of a pair of sockets. Only on a TAP does QEMU give virtio cards offloads:
# it leaves checksums and large segments to the kernel, as it does in every cloud. The namespace is this run's own (ci/vm).
# `guests`: who is on it; `lans`: others like it.
with_taps() {
	local guest lan
	if [ "$(id -u)" != 0 ] || [ ! -c /dev/net/tun ]; then
		echo "without root there are no TAPs, and so no offloads to look at"
		return
	fi
	for lan in lan0 ${lans:-}; do
		ip link add "$lan" type bridge && ip link set "$lan" up
		for guest in ${guests:-appliance client}; do
			ip tuntap add "$lan$guest" mode tap
			ip link set "$lan$guest" master "$lan" up
		done
	done
	taps=yes
}

# offloaded NAME...: each of these counters of the port says that the card did its part.
offloaded() {
	local name
	for name; do
		[ "$(counter ".counters.port.$name")" -gt 100 ] || fail "the card's $name: $(jq -c '[.shards[].counters.port]' "$run/stats.json")"
	done
}

# drive NAME MEBIBYTES: an empty image, $run/NAME.img.
drive() { truncate -s "$2M" "$run/$1.img"; }

# nvme ID BUS OPTIONS NAMESPACE...: an NVMe controller at 0000:BUS:00.0. A namespace is `NAME:BLOCK_SIZE` with the name of
# an image, or of a block node that the scenario defines itself.
nvme() {
	local id=$1 bus=$2 options=$3 namespace name size
	shift 3
	printf '%s\n' -device "pcie-root-port,id=port-$id,chassis=$bus,slot=$bus,addr=0x$((7 + bus))" \
		-device "nvme,id=$id,serial=$id,bus=port-$id${options:+,$options}"
	for namespace; do
		name=${namespace%:*} size=${namespace##*:}
		[ ! -e "$run/$name.img" ] || image "$name"
		printf '%s\n' -device "nvme-ns,drive=$name,bus=$id,logical_block_size=$size,physical_block_size=$size"
	done
}

# braked_drive: a drive of 64 MiB behind a throttle, whose options are in `devices`. brake N: N bytes a second, 0: no limit.
braked_drive() {
	drive disk 64
	mapfile -t devices < <(printf '%s\n' -object throttle-group,id=brake && image disk &&
		printf '%s\n' -blockdev driver=throttle,node-name=flash,throttle-group=brake,file=disk && nvme nvme0 1 "" flash:512)
}
brake() { qmp appliance "{\"execute\": \"qom-set\", \"arguments\": {\"path\": \"/objects/brake\", \"property\": \"limits\", \"value\": {\"bps-total\": $1}}}"; }

# image NAME: an image as a block node of the same name.
image() { printf '%s\n' -blockdev "file,node-name=$1,filename=$run/$1.img,cache.no-flush=on"; }

# A forgetful drive loses, when its machine is killed, what was not flushed: QEMU keeps the tables of a qcow2 in memory until then, and what was
# written to places that the image did not have goes with them. So it has layers, $run/NAME.N.qcow2; its block node is NAME-N, of the topmost.
#
# forgetful_drive NAME MEBIBYTES: prints QEMU's arguments for the layers that there are, and makes the first.
forgetful_drive() {
	local layer backing=
	[ -e "$run/$1.1.qcow2" ] || empty_qcow2 "$2" >"$run/$1.1.qcow2"
	for layer in $(seq "$(layers "$1")"); do
		printf '%s\n' -blockdev "file,node-name=$1-file-$layer,filename=$run/$1.$layer.qcow2,cache.no-flush=on" \
			-blockdev "qcow2,node-name=$1-$layer,file=$1-file-$layer$backing"
		backing=,backing=$1-$layer
	done
}
layers() { find "$run" -name "$1.*.qcow2" | wc -l; }

# forgets_from_here NAME MEBIBYTES: the appliance's drive gets a fresh, empty layer: all places are such that the image does not have.
forgets_from_here() {
	local top next
	top=$(layers "$1") next=$(($(layers "$1") + 1))
	empty_qcow2 "$2" >"$run/$1.$next.qcow2"
	qmp appliance "{\"execute\": \"blockdev-add\", \"arguments\": {\"driver\": \"qcow2\", \"node-name\": \"$1-$next\", \"backing\": null, \"file\":
		{\"driver\": \"file\", \"node-name\": \"$1-file-$next\", \"filename\": \"$run/$1.$next.qcow2\", \"cache\": {\"no-flush\": true}}}}" >/dev/null
	qmp appliance "{\"execute\": \"blockdev-snapshot\", \"arguments\": {\"node\": \"$1-$top\", \"overlay\": \"$1-$next\"}}" >/dev/null
}

# empty_qcow2 MEBIBYTES: an image of four clusters of 64 KiB (QEMU, docs/interop/qcow2.txt): header, refcount table and block, L1 table; up to
# 512 MiB.
empty_qcow2() {
	perl -e '
		print pack("a4 N Q> N N Q> N N Q> Q> N N Q>", "QFI\xfb", 2, 0, 0, 16, shift() << 20, 0, 1, 3 << 16, 1 << 16, 1, 0, 0) . "\0" x (65536 - 72);
		print pack("Q>", 2 << 16) . "\0" x (65536 - 8);
		print pack("n4", 1, 1, 1, 1) . "\0" x (65536 - 8);
		print "\0" x 65536;' "$1"
}

# ---- guests --------------------------------------------------------------------------------------------------------

# appliance MODEL ARGUMENT...: boots it with a card of that model on lan0. Hugepages: 384, of its 1280 MiB.
appliance() {
	local nics
	mapfile -t nics < <(nic "$node" lan0 "$1")
	boot "$node" 1280 "$appliance_tools" -- "${nics[@]}" "${@:2}"
}

# client ARGUMENT...: boots it with a card on lan0. `client_more`: an archive of programs besides.
client() {
	local nics
	mapfile -t nics < <(nic client lan0 virtio-net-pci)
	boot client 768 "$client_tools" ${client_more:+"$client_more"} -- "${nics[@]}" "$@"
}

# newer_kernel: guests that are booted from here on have it.
newer_kernel() { kernel=${newer_kernel:?} base=${newer_base:?}; }

# newest_kernel: the same, of Debian's testing.
newest_kernel() { kernel=${newest_kernel:?} base=${newest_base:?}; }

# ready: waits for both; the client is on lan0, and the appliance's card and drive (and any further address) are taken from its kernel.
ready() {
	await_guest appliance client
	on client 'modprobe -a virtio_net nvme-tcp virtio_blk && ip link set eth0 up && ip address add 192.0.2.2/24 dev eth0'
	on appliance 'sysctl -q vm.nr_hugepages=384'
	take "$NIC" "$DRIVE" "$@" >"$run/bound"
}

# take ADDRESS...: gives the appliance's PCI devices to a driver of user space.
take() { on "$node" "throughline bind $*"; }

# ---- the program ---------------------------------------------------------------------------------------------------

# configure: the appliance's configuration: what every scenario has, and the stores and subsystems from standard input.
configure() {
	put "$node" /etc/throughline.toml <<-END
		cores = [0]
		[[port]]
		device = "$NIC"
		addresses = ["$target/24"]
		${port_more:-}
		[memory]
		clusters = 16384
		pages = 16384
		requests = 256
		connections = 64
		native_mib = 256
		$(cat)
	END
}

# put GUEST FILE: writes standard input into a file of a guest.
put() { on "$1" "echo $(base64 -w 0) | base64 -d >$2"; }

# one_subsystem NSID...: a configuration with namespaces of the one drive behind one subsystem.
one_subsystem() {
	local nsid names=
	for nsid; do
		printf '[[store]]\nname = "flash%s"\nnvme = { transport_id = "trtype:PCIe traddr:%s", nsid = %s }\n' "$nsid" "$DRIVE" "$nsid"
		names+="\"flash$nsid\", "
	done
	printf '[[subsystem]]\nnqn = "%s"\nnamespaces = [%s]\n' "$nqn" "$names"
}

# logged_stores: volume and log on the first namespaces of two drives.
DRIVE1=0000:02:00.0
logged_stores() {
	cat <<-END
		[[store]]
		name = "flash"
		nvme = { transport_id = "trtype:PCIe traddr:$DRIVE", nsid = 1 }
		[[store]]
		name = "log"
		nvme = { transport_id = "trtype:PCIe traddr:$DRIVE1", nsid = 1 }
		[log]
		store = "log"
		consistency_point_s = 2
	END
}

# serve: starts the program, and waits until it serves.
serve() {
	on "$node" 'throughline run --config /etc/throughline.toml >>/run/throughline.log 2>&1 & echo $! >/run/throughline.pid'
	await 30 "throughline did not come up" serving
}
serving() {
	on "$node" 'kill -0 $(cat /run/throughline.pid)' || fail "throughline ended: $(on "$node" 'tail -n 3 /run/throughline.log' | tr '\n' ' ')"
	on "$node" 'throughline stats --json' >"$run/stats.json" && jq -e .ready "$run/stats.json"
}

# stop: SIGTERM, and it must end well.
stop() {
	on "$node" 'kill $(cat /run/throughline.pid)'
	await 20 "throughline does not stop" on "$node" '! kill -0 $(cat /run/throughline.pid)'
	on "$node" 'tail -n 1 /run/throughline.log | grep -q "stopped$"' || fail "throughline did not stop cleanly"
}

# counter FILTER: a number from the program's counters, by a jq filter on the sum over all shards.
counter() {
	on "$node" 'throughline stats --json' >"$run/stats.json"
	jq -r "[.shards[] | $1] | add" "$run/stats.json"
}
copied() { counter '.copied_bytes | add'; }

# pools: connections, and what is free of the pools that commands draw on. A driver keeps the last pages it sent until it
# sends more: those are not counted.
pools() { on appliance 'throughline stats --json' | jq -c '[.shards[] | {connections, pools: (.pools | del(.pages))}]'; }

# settled: whether all is back as it was when the scenario said before=$(pools).
settled() { [ "$(pools)" = "$before" ]; }

# ---- the client ----------------------------------------------------------------------------------------------------

# connect [OPTION...]: the client connects; its first namespace is /dev/nvme0n1.
connect() {
	on client "nvme connect -t tcp -a $target -s 4420 -n $nqn $*"
	await 10 "the client sees no namespace" on client '[ -b /dev/nvme0n1 ]'
}
disconnect() { on client "nvme disconnect -n $nqn"; }

# same IMAGE BYTES FILE: the drive's image on the host begins with the file.
same() { cmp -n "$2" "$run/$1.img" "$3" || fail "the drive does not hold what the client wrote"; }

# write_and_read IMAGE BYTES MEBIBYTES: the client writes that much of $run/pattern (its /dev/vda) in commands of so many bytes
# to ${disk:-/dev/nvme0n1}, and reads it back; both the drive's image and what came back are compared with the pattern.
write_and_read() {
	local image=$1 bytes=$2 size=$(($3 << 20)) disk=${disk:-/dev/nvme0n1}
	on client "dd if=/dev/vda of=$disk bs=$bytes count=$((size / bytes)) oflag=direct 2>/dev/null
		dd if=$disk bs=$bytes count=$((size / bytes)) iflag=direct 2>/dev/null | sha256sum" >"$run/sum"
	same "$image" "$size" "$run/pattern"
	[ "$(head -c "$size" "$run/pattern" | sha256sum)" = "$(cat "$run/sum")" ] || fail "what was read is not what was written ($bytes bytes a command)"
}

# without_copies COMMAND...: copies not a byte, unless the client had to send segments again: then a page may come in more pieces
# than it has segments. A machine that is too busy for its guests makes it do so; once without is enough.
without_copies() {
	local try before again
	for try in 1 2 3; do
		before=$(copied) again=$(resent)
		"$@"
		[ "$(copied)" -gt "$before" ] || return 0
		[ "$(resent)" -gt "$again" ] || break
	done
	fail "$(($(copied) - before)) bytes were copied: $(jq -c '.shards[].copied_bytes' "$run/stats.json")"
}
resent() { on client 'awk "/^Tcp: [0-9]/ { print \$13 }" /proc/net/snmp'; }

# filesystem TYPE DEVICE: made, exercised, a tree copied to it and compared after all caches were dropped, checked.
filesystem() {
	local check='e2fsck -fn' make='mkfs.ext4 -qF'
	[ "$1" != xfs ] || check='xfs_repair -n' make='mkfs.xfs -qf'
	on client "set -e
		modprobe $1
		$make $2
		mount -t $1 $2 /mnt
		exercise /mnt/exercised ${seed:-1} ${operations:-300} /tmp/exercised
		cp -r /usr/lib/modules /mnt/
		umount /mnt
		echo 3 >/proc/sys/vm/drop_caches
		mount -t $1 $2 /mnt
		cmp /mnt/exercised /tmp/exercised
		diff -r /usr/lib/modules /mnt/modules
		umount /mnt
		$check $2" "${limit:-60}"
}
