# shellcheck shell=bash disable=SC2154,SC2034
# a stock Linux client: discovery, digests, partitions, ext4 and xfs, verified I/O, a tree copied, disconnect and reconnect
# short 240

drive flash 512
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance virtio-net-pci "${devices[@]}"
client
ready
configure < <(one_subsystem 1)
serve
on client "nvme discover -t tcp -a $target -s 4420" >"$run/discovery"
grep -q "subnqn: *$nqn" "$run/discovery" || fail "the discovery log does not list the subsystem"

connect --hdr-digest --data-digest
on client "printf 'label: gpt\n,128M\n,\n' | sfdisk -q /dev/nvme0n1"
await 10 "the client sees no partitions" on client '[ -b /dev/nvme0n1p2 ]'
filesystem ext4 /dev/nvme0n1p1
disconnect

connect
filesystem xfs /dev/nvme0n1p2
on client 'fio --name=verify --filename=/dev/nvme0n1p1 --size=8m --rw=randrw --bsrange=4k-64k --blockalign=4k --ioengine=libaio --direct=1 \
	--iodepth=16 --verify=crc32c --output=/dev/null'
on client 'blkdiscard /dev/nvme0n1p2'
on client '! dmesg | grep "I/O Error"' || fail "the client was refused a command"
[ "$(counter .io.errors)" -eq 0 ] || fail "commands failed: $(jq -c '.shards[].io' "$run/stats.json")"
disconnect
stop
