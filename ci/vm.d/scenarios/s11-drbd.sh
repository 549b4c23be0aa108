# shellcheck shell=bash disable=SC2154,SC2034,SC2016
# DRBD, what others mirror with: bytes on the wire for each byte written, and for each byte changed while the other node was away
# long 600

guests='appliance partner'
with_taps
[ -n "${taps:-}" ] || skip "what a card sends frame by frame is seen on TAPs, which take root"
newer_kernel
declare -A address=([appliance]=192.0.2.1 [partner]=192.0.2.3)

# Without offloads, as in `ci/bench --pair`: each frame is one that goes over a wire.
card=virtio-net-pci,csum=off,gso=off,guest_csum=off,host_tso4=off,host_tso6=off,guest_tso4=off,guest_tso6=off
for node in appliance partner; do
	drive "disk-$node" 128
	mapfile -t devices < <(nic "$node" lan0 "$card" && image "disk-$node" && printf '%s\n' -device "virtio-blk-pci,drive=disk-$node")
	boot "$node" 768 "$client_tools" "$drbd_tools" -- "${devices[@]}"
done
await_guest appliance partner

for node in appliance partner; do
	on "$node" "modprobe -a virtio_net virtio_blk crc32c_generic drbd usermode_helper=disabled
		ip link set eth0 up && ip address add ${address[$node]}/24 dev eth0 && mkdir -p /var/lock /var/lib/drbd /run/drbd"
	put "$node" /etc/drbd.conf <<-END
		global { usage-count no; }
		resource r0 {
			protocol C;
			device /dev/drbd0;
			disk /dev/vda;
			meta-disk internal;
			on appliance { address ${address[appliance]}:7789; }
			on partner { address ${address[partner]}:7789; }
		}
	END
	on "$node" 'yes yes | drbdadm create-md r0 && drbdadm up r0'
done
state() { on "$1" 'cat /proc/drbd'; }
is_connected() { state appliance | grep -q 'cs:Connected'; }
is_alike() { state appliance | grep -q 'cs:Connected .*ds:UpToDate/UpToDate'; }
await 60 "the nodes do not connect" is_connected
on appliance 'drbdadm -- --clear-bitmap new-current-uuid r0 && drbdadm primary r0'
await 60 "the nodes are not in sync" is_alike

# What the card of a node has sent, in bytes and in frames.
sent() { on "$1" "cat /sys/class/net/eth0/statistics/tx_bytes /sys/class/net/eth0/statistics/tx_packets" | paste -s -d ' '; }
# What this machine's interfaces saw of both: ratio to BYTES, and frames for each 4 KiB of them.
ratio() { awk -v bytes="$3" -v before="$1" -v after="$2" 'BEGIN { split(before, b); split(after, a); printf "%.4f %.2f\n", (a[1] - b[1]) / bytes, (a[2] - b[2]) / (bytes / 4096) }'; }
# load DEPTH: 32 MiB, 4 KiB at a time, each page once and in random order.
load() { on appliance "fio --name=load --filename=/dev/drbd0 --rw=randwrite --bs=4k --size=32m --direct=1 --ioengine=libaio --iodepth=$1 --minimal" 240 >"$run/fio-$1"; }

bytes=$((32 << 20))
for depth in 32 1; do
	there=$(sent appliance) back=$(sent partner)
	load "$depth"
	read -r stream frames < <(ratio "$there" "$(sent appliance)" "$bytes")
	read -r stream_back frames_back < <(ratio "$back" "$(sent partner)" "$bytes")
	printf 'DRBD %s, 4 KiB, each page once, depth %d: %s bytes in frames for each byte, %s frames a write; the other way %s, %s\n' \
		"$(on appliance 'sed -n "s/^version: \([0-9.]*\).*/\1/p" /proc/drbd')" "$depth" "$stream" "$frames" "$stream_back" "$frames_back" | tee -a "$run/figures"
	awk -v r="$stream" 'BEGIN { exit !(r > 1 && r < 2) }' || fail "that is not what a mirror sends: $stream"
done

# The other node is away while 256 pages, each in its own 64 KiB, are written.
on partner 'drbdadm disconnect r0'
is_alone() { state appliance | grep -qE 'cs:(StandAlone|WFConnection)'; }
await 60 "the nodes stay connected" is_alone
on appliance 'i=0; while [ $i -lt 256 ]; do dd if=/dev/urandom of=/dev/drbd0 bs=4k count=1 seek=$((i * 16)) oflag=direct 2>/dev/null; i=$((i + 1)); done' 120
there=$(sent appliance)
on appliance 'drbdadm connect r0 || true'
on partner 'drbdadm connect r0'
await 120 "the nodes do not come in sync again" is_alike
read -r stream _ < <(ratio "$there" "$(sent appliance)" $((256 * 4096)))
printf 'DRBD, 256 pages changed while the other node was away: %s bytes in frames for each byte\n' "$stream" | tee -a "$run/figures"
