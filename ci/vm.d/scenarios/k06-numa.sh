# shellcheck shell=bash disable=SC2154,SC2034
# two NUMA nodes, card and drive on the second: check tells a core that is far from them, and memory comes from the core's node
# long 600

drive flash 64
head -c 4M /dev/urandom >"$run/pattern"
# Root ports of node 1 hang on a bus of their own.
card="dgram,id=lan0,local.type=unix,local.path=$run/lan0.appliance,remote.type=unix,remote.path=$run/lan0.client"
mapfile -t devices < <(image flash && printf '%s\n' \
	-object memory-backend-ram,id=near,size=640M -object memory-backend-ram,id=far,size=640M \
	-numa node,nodeid=0,cpus=0,memdev=near -numa node,nodeid=1,cpus=1,memdev=far \
	-device pxb-pcie,id=bus1,bus_nr=64,numa_node=1,bus=pcie.0 \
	-device pcie-root-port,id=port-nic,bus=bus1,chassis=1,addr=0x0 -device pcie-root-port,id=port-nvme0,bus=bus1,chassis=2,addr=0x1 \
	-netdev "$card" -device e1000e,netdev=lan0,id=nic-lan0,romfile=,mac=52:54:00:00:00:01,bus=port-nic \
	-device nvme,id=nvme0,serial=nvme0,bus=port-nvme0 -device nvme-ns,drive=flash,bus=nvme0)
guest_cpus=2 boot appliance 1280 "$appliance_tools" -- "${devices[@]}"
client -drive "file=$run/pattern,if=virtio,format=raw,readonly=on"
await_guest appliance client
on client 'modprobe -a virtio_net nvme-tcp virtio_blk && ip link set eth0 up && ip address add 192.0.2.2/24 dev eth0'
find_device() { on appliance "grep -l $1 /sys/bus/pci/devices/*/class" | sed 's#.*/devices/\([^/]*\)/class#\1#'; }
NIC=$(find_device 0x020000) DRIVE=$(find_device 0x010802)
[ "$(on appliance "cat /sys/bus/pci/devices/$DRIVE/numa_node")" = 1 ] || fail "the drive is not on node 1"
take "$NIC" "$DRIVE"
pages='/sys/devices/system/node/node%s/hugepages/hugepages-2048kB/nr_hugepages'
# shellcheck disable=SC2059
on appliance "echo 192 >$(printf "$pages" 0); echo 224 >$(printf "$pages" 1)"

configure < <(one_subsystem 1)
on appliance 'throughline check --config /etc/throughline.toml' >"$run/check"
grep -q "$DRIVE is on node 1, core 0 on another" "$run/check" || fail "check does not tell that the core is far from the drive"
on appliance 'sed -i "s/^cores = .*/cores = [1]/" /etc/throughline.toml && throughline check --config /etc/throughline.toml' >"$run/check"
grep -q "cores, memory and devices are on the same nodes" "$run/check" || fail "check is not content: $(grep numa "$run/check")"
serve
# Hugepages by node, of all its mappings.
on appliance 'grep huge /proc/$(cat /run/throughline.pid)/numa_maps' >"$run/numa_maps"
on_node() { grep -o "N$1=[0-9]*" "$run/numa_maps" | awk -F= '{ n += $2 } END { print n + 0 }'; }
[ "$(on_node 1)" -ge 48 ] || fail "the shard's memory is not on its node: $(on_node 0) hugepages on node 0, $(on_node 1) on node 1"
[ "$(on_node 0)" -eq 0 ] || fail "$(on_node 0) hugepages are on the far node"
connect
without_copies write_and_read flash 131072 4
disconnect
stop

# Nothing left on the near node: it comes up with what there is, and says so.
# shellcheck disable=SC2059
on appliance "echo 32 >$(printf "$pages" 1); echo 384 >$(printf "$pages" 0)"
serve
on appliance 'grep -q "core 1 is on node 1, but .* of its .* hugepages are not" /run/throughline.log' || fail "it does not say that its memory is far"
connect
write_and_read flash 131072 4
disconnect
stop
