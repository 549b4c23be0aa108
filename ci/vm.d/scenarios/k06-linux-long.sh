# shellcheck shell=bash disable=SC2154,SC2034
# a stock Linux client at length: file systems exercised over and over, a large tree, verified I/O of all sizes with digests
# long 1500

drive flash 1024
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance virtio-net-pci "${devices[@]}"
client
ready
configure < <(one_subsystem 1)
serve
connect --hdr-digest --data-digest
on client "printf 'label: gpt\n,384M\n,\n' | sfdisk -q /dev/nvme0n1"
await 10 "the client sees no partitions" on client '[ -b /dev/nvme0n1p2 ]'
limit=300 operations=3000
for seed in 1 2; do
	filesystem ext4 /dev/nvme0n1p1
	filesystem xfs /dev/nvme0n1p2
done
# Everything this guest consists of, as a tree.
on client 'mount -t xfs /dev/nvme0n1p2 /mnt && cp -a /usr /mnt/ && sync && echo 3 >/proc/sys/vm/drop_caches && diff -r /usr /mnt/usr && umount /mnt' 300
disconnect
connect
for bs in 512-4k 4k-64k 64k-1m; do
	on client "fio --name=verify --filename=/dev/nvme0n1 --size=64m --rw=randrw --bsrange=$bs --blockalign=512 --ioengine=libaio --direct=1 \
		--iodepth=32 --verify=crc32c --output=/dev/null" 300
done
on client '! dmesg | grep "I/O Error"' || fail "the client was refused a command"
[ "$(counter .io.errors)" -eq 0 ] || fail "commands failed: $(jq -c '.shards[].io' "$run/stats.json")"
disconnect
stop
