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
# Patient: emulated machines on a busy host stand still for seconds.
connect --hdr-digest --data-digest --keep-alive-tmo=30
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
# Of one size each, so that fio knows of no block that was written twice; beside the pages' borders.
for bs in 2k 12k 132k 1m; do
	on client "fio --name=verify --filename=/dev/nvme0n1 --offset=1536 --size=48m --rw=randrw --bs=$bs --ioengine=libaio --direct=1 \
		--iodepth=32 --verify=crc32c --output=/dev/null" 300
done
on client '! dmesg | grep "I/O Error"' || fail "the client was refused a command"
[ "$(counter .io.errors)" -eq 0 ] || fail "commands failed: $(jq -c '.shards[].io' "$run/stats.json")"
disconnect
stop
