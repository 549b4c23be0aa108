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

# Traffic Based Keep Alive: while I/O flows Linux sends no Keep Alive, and it needs none.
disconnect
connect --keep-alive-tmo=3
on client 'nvme id-ctrl /dev/nvme0' | grep -q '^ctratt *: *0x41$' || fail "the client sees no Traffic Based Keep Alive"
reads=$(counter .io.reads)
begin client busy 'fio --name=busy --filename=/dev/nvme0n1 --rw=randread --bs=4k --direct=1 --time_based --runtime=15 --output=/dev/null'
flowing() { [ "$(counter .io.reads)" -gt $((reads + 100)) ]; }
await 30 "no I/O flows" flowing
before=$(counter .counters.nvmf.admin_commands)
sleep 7
commands=$(($(counter .counters.nvmf.admin_commands) - before))
[ "$commands" -le 1 ] || fail "the client sent $commands admin commands beside its I/O"
end client busy 60
on client '! dmesg | grep -qi reconnecting' || fail "I/O without Keep Alive cost the connection"
[ "$(counter .io.errors)" -eq 0 ] || fail "commands failed: $(jq -c '.shards[].io' "$run/stats.json")"
disconnect
stop
