# shellcheck shell=bash disable=SC2154,SC2034
# jumbo frames over several clusters of 2 KiB each (row Z1): MTU 9000, by e1000e and by virtio, and not a byte copied
# short 300

drive flash 64
head -c 4M /dev/urandom >"$run/pattern"
mapfile -t devices < <(nvme nvme0 1 "" flash:512 && nic appliance lan1 virtio-net-pci)
mapfile -t more < <(nic client lan1 virtio-net-pci)
appliance e1000e "${devices[@]}"
client "${more[@]}" -drive "file=$run/pattern,if=virtio,format=raw,readonly=on"
ready "$NIC1"
on client 'ip link set eth0 mtu 9000 && ip link set eth1 mtu 9000 up && ip address add 198.51.100.2/24 dev eth1'
port_more='mtu = 9000'

# over CARD ADDRESS: what the client writes comes in frames of five clusters each, and pages are made of those.
over() {
	local NIC=$1 target=$2
	configure < <(one_subsystem 1)
	serve
	connect
	without_copies write_and_read flash 131072 4
	without_copies on client 'fio --name=verify --filename=/dev/nvme0n1 --size=4m --rw=randwrite --bsrange=4k-128k --blockalign=4k \
		--ioengine=libaio --direct=1 --iodepth=8 --verify=crc32c --output=/dev/null'
	[ "$(counter .counters.port.frames_scattered)" -ge $((8 * 1024 * 1024 / 8948)) ] || fail "frames did not span clusters"
	disconnect
	[ "$(counter .io.errors)" -eq 0 ] || fail "commands failed: $(jq -c '.shards[].io' "$run/stats.json")"
	stop
}
over "$NIC" 192.0.2.1
over "$NIC1" 198.51.100.1
