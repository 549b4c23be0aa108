# shellcheck shell=bash disable=SC2154,SC2034
# more commands at once than the program has requests and the drive's queue has entries: they wait, and all come right
# long 600

drive flash 64
mapfile -t devices < <(nvme nvme0 1 "max_ioqpairs=1" flash:512)
appliance virtio-net-pci "${devices[@]}"
client
ready
configure < <(one_subsystem 1 && printf '[target]\nqueue_depth = 1024\n')
on appliance 'sed -i "s/^requests = .*/requests = 1024/" /etc/throughline.toml'
serve
connect --queue-size=1024
for bs in 4k 64k; do
	on client "fio --name=full --filename=/dev/nvme0n1 --size=32m --rw=randwrite --bs=$bs --ioengine=libaio --direct=1 --iodepth=1023 --verify=crc32c \
		--output=/dev/null" 200
done
disconnect

# And with fewer requests than the client's queue has entries.
stop
on appliance 'sed -i "s/^requests = .*/requests = 64/" /etc/throughline.toml'
serve
connect --queue-size=1024
on client 'fio --name=short --filename=/dev/nvme0n1 --size=32m --rw=randwrite --bsrange=4k-128k --blockalign=4k --ioengine=libaio --direct=1 --iodepth=512 \
	--verify=crc32c --output=/dev/null' 200
[ "$(counter .io.errors)" -eq 0 ] || fail "$(counter .io.errors) commands failed"
[ "$(counter '.pools.runs | .size - .free')" -eq 0 ] || fail "requests were not given back: $(jq -c '.shards[].pools' "$run/stats.json")"
disconnect
stop
