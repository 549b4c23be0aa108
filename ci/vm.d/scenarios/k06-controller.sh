# shellcheck shell=bash disable=SC2154,SC2034
# connections come and go by the dozen, with and without digests, reset by the client, and lost for longer: nothing is left behind
# long 600

drive flash 64
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance e1000e "${devices[@]}"
client
ready
configure < <(one_subsystem 1)
serve
before=$(pools)
for options in '' --hdr-digest --data-digest '--hdr-digest --data-digest' '--nr-io-queues=1' '--queue-size=16'; do
	for _ in 1 2 3; do
		connect $options
		on client 'dd if=/dev/zero of=/dev/nvme0n1 bs=64k count=4 oflag=direct'
		disconnect
	done
done
await 20 "not everything came back: $before at first, $(pools) now" settled

connect
for _ in 1 2 3; do
	begin client reset 'fio --name=verify --filename=/dev/nvme0n1 --size=4m --rw=randwrite --bs=16k --ioengine=libaio --direct=1 --iodepth=8 --verify=crc32c \
		--output=/dev/null'
	on client 'nvme reset /dev/nvme0'
	end client reset 100
done
disconnect

# The program stays away for longer than the client tries: the controller goes, and connecting again works.
connect --reconnect-delay=1 --ctrl-loss-tmo=5
stop
await 60 "the client keeps a controller that is lost" on client '[ ! -e /dev/nvme0 ]'
serve
connect
write_through='dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null && dd if=/tmp/data of=/dev/nvme0n1 bs=128k oflag=direct 2>/dev/null && cmp -n 4194304 /tmp/data /dev/nvme0n1'
on client "$write_through"
disconnect
stop
