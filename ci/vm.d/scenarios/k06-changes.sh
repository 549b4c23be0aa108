# shellcheck shell=bash disable=SC2154,SC2034
# a stock Linux client under verified I/O while namespaces come, grow and go: it notices by itself
# long 240

# change METHOD JSON: of the program, while it runs.
change() { on appliance "throughline rpc $1 '$2'" >>"$run/changes"; }
# size_of NAME BYTES: whether the client has a disk of that name and size.
size_of() { on client "[ \"\$(cat /sys/class/block/$1/size)\" = $(($2 >> 9)) ]"; }

# shelf METHOD JSON: of SPDK's own target, which is the device that can grow: a logical volume of it, on the appliance's second CPU.
shelf() { on appliance "throughline rpc --socket /run/shelf.sock $1 '$2'" >>"$run/changes"; }
shelf_nqn=nqn.2026-01.com.example:shelf

programs "$run/tree" "$("$root/ci/setup" --print-prefix)/bin/nvmf_tgt"
archive "$run/tree" "$run/shelf.cpio"

drive flash 64
drive other 32
mapfile -t devices < <(nvme nvme0 1 "" flash:512 other:512)
mapfile -t nics < <(nic appliance lan0 virtio-net-pci)
guest_cpus=2 boot appliance 1664 "$appliance_tools" "$run/shelf.cpio" -- "${nics[@]}" "${devices[@]}"
client
ready

on appliance 'sysctl -q vm.nr_hugepages=576
	mkdir -p /dev/hugepages && mount -t hugetlbfs none /dev/hugepages
	nvmf_tgt -u -s 128 -m 2 -r /run/shelf.sock >/run/shelf.log 2>&1 &'
await 60 "SPDK's target did not come up" shelf nvmf_create_transport '{"trtype": "TCP", "num_shared_buffers": 512, "buf_cache_size": 32, "io_unit_size": 8192}'
shelf bdev_malloc_create '{"name": "Malloc0", "num_blocks": 16384, "block_size": 4096}'
shelf bdev_lvol_create_lvstore '{"bdev_name": "Malloc0", "lvs_name": "lvs", "cluster_sz": 1048576}'
shelf bdev_lvol_create "{\"lvs_name\": \"lvs\", \"lvol_name\": \"disk\", \"size\": $((24 << 20))}"
shelf nvmf_create_subsystem "{\"nqn\": \"$shelf_nqn\", \"allow_any_host\": true}"
shelf nvmf_subsystem_add_ns "{\"nqn\": \"$shelf_nqn\", \"namespace\": {\"bdev_name\": \"lvs/disk\"}}"
at='"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"'
shelf nvmf_subsystem_add_listener "{\"nqn\": \"$shelf_nqn\", \"listen_address\": {$at}}"
put appliance /etc/spdk.json <<END
{"subsystems": [{"subsystem": "bdev", "config": [
	{"method": "bdev_nvme_attach_controller", "params": {"name": "Shelf", "subnqn": "$shelf_nqn", $at}}]}]}
END
{
	one_subsystem 1
	cat <<-END
		[[store]]
		name = "other"
		nvme = { transport_id = "trtype:PCIe traddr:$DRIVE", nsid = 2 }
		[[store]]
		name = "shelf"
		bdev = "Shelfn1"
		[spdk]
		config = "spdk.json"
	END
} >"$run/stores"
configure <"$run/stores"
serve
connect
size_of nvme0n1 $((64 << 20)) || fail "the client sees a drive of another size"
begin client busy 'while [ ! -e /run/enough ]; do
	fio --name=verify --filename=/dev/nvme0n1 --size=8m --rw=randrw --bsrange=4k-16k --blockalign=4k --ioengine=libaio --direct=1 --iodepth=4 \
		--verify=crc32c --verify_backlog=64 --output=/run/fio || exit 1
done'
reads=$(counter .io.reads)
flowing() { [ "$(counter .io.reads)" -gt $((reads + 100)) ]; }
goes_on() {
	reads=$(counter .io.reads)
	await 30 "I/O on the first namespace stands still $1" flowing
}
goes_on 'before anything is changed'

# It comes.
change nvmf_subsystem_add_ns "{\"nqn\": \"$nqn\", \"namespace\": {\"bdev_name\": \"other\"}}"
await 20 "the client does not see a namespace that was added" size_of nvme0n2 $((32 << 20))
on client 'dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null
	dd if=/tmp/data of=/dev/nvme0n2 bs=64k oflag=direct 2>/dev/null && dd if=/dev/nvme0n2 bs=64k count=64 iflag=direct 2>/dev/null | cmp - /tmp/data' ||
	fail "what was read of the new namespace is not what was written"
on client 'cat /tmp/data' >"$run/data"
same other $((4 << 20)) "$run/data"
goes_on 'with another namespace'

# It goes.
change nvmf_subsystem_remove_ns "{\"nqn\": \"$nqn\", \"nsid\": 2}"
await 20 "the client keeps a namespace that was removed" on client '[ ! -e /dev/nvme0n2 ] && [ ! -e /sys/class/block/nvme0n2 ]'
goes_on 'after a namespace was removed'

# Another comes (Linux gives it the name that is free), and grows under the client's eyes; what it held stays, and the new end can be written.
change nvmf_subsystem_add_ns "{\"nqn\": \"$nqn\", \"namespace\": {\"bdev_name\": \"shelf\", \"nsid\": 3}}"
await 20 "the client does not see the second namespace that was added" size_of nvme0n2 $((24 << 20))
[ "$(on client 'cat /sys/class/block/nvme0n2/nsid')" = 3 ] || fail "the client gives the namespace another number"
# In short writes: over TCP SPDK's initiator takes no list of more than 16 pieces that does not divide into blocks.
on client 'dd if=/tmp/data of=/dev/nvme0n2 bs=16k oflag=direct 2>/dev/null'
shelf bdev_lvol_resize "{\"name\": \"lvs/disk\", \"size\": $((48 << 20))}"
await 30 "the client does not see that a namespace grew" size_of nvme0n2 $((48 << 20))
on client 'dd if=/tmp/data of=/dev/nvme0n2 bs=16k seek=2816 oflag=direct 2>/dev/null
	dd if=/dev/nvme0n2 bs=64k count=64 iflag=direct 2>/dev/null | cmp - /tmp/data &&
	dd if=/dev/nvme0n2 bs=64k skip=704 count=64 iflag=direct 2>/dev/null | cmp - /tmp/data' || fail "the namespace that grew does not hold what was written"
goes_on 'after a namespace grew'
change nvmf_subsystem_remove_ns "{\"nqn\": \"$nqn\", \"nsid\": 3}"
await 20 "the client keeps the namespace that grew" on client '[ ! -e /dev/nvme0n2 ]'
goes_on 'at the end'

on client 'touch /run/enough'
end client busy 60 || fail "verified I/O failed under changes: $(on client 'tail -n 3 /run/fio')"
on client '! dmesg | grep -qE "I/O [Ee]rror|reconnect|timeout"' || fail "the connection did not survive the changes"
disconnect
stop
