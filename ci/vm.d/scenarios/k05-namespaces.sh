# shellcheck shell=bash disable=SC2154,SC2034
# namespaces of 512 and 4096-byte blocks behind a controller that moves 8 KiB at most: nothing copied, nothing in the wrong place
# short 240

drive small 64
drive large 64
head -c 4M /dev/urandom >"$run/pattern"
mapfile -t devices < <(nvme nvme0 1 mdts=1 small:512 large:4096)
appliance e1000e "${devices[@]}"
client -drive "file=$run/pattern,if=virtio,format=raw,readonly=on"
ready
configure < <(one_subsystem 1 2)
serve
connect
[ "$(on client 'cat /sys/block/nvme0n1/queue/logical_block_size')" = 512 ] || fail "the first namespace has not 512-byte blocks"
[ "$(on client 'cat /sys/block/nvme0n2/queue/logical_block_size')" = 4096 ] || fail "the second namespace has not 4096-byte blocks"
# The drive's own health, asked for as soon as it was taken: QEMU's is at 323 K (50 °C), and says 0 of all else.
smart=$(on client 'nvme smart-log /dev/nvme0 -o json')
[ "$(jq -c '[.temperature, .critical_warning, .avail_spare, .percent_used]' <<<"$smart")" = '[323,0,0,0]' ] ||
	fail "the client sees another health than the drive's: $smart"
[ "$(on appliance 'throughline stats --json' | jq -c '[.drives[] | [.store, .temperature_celsius]]')" = '[["flash1",50],["flash2",50]]' ] ||
	fail "the program sees another health than the drive's: $(on appliance 'throughline stats --json' | jq -c .drives)"
without_copies write_and_read small 131072 4
disk=/dev/nvme0n2 without_copies write_and_read large 131072 4
on client 'fio --name=both --ioengine=libaio --direct=1 --iodepth=8 --rw=randwrite --bsrange=4k-128k --bs_unaligned=0 --blockalign=4k --size=4m \
	--verify=crc32c --filename=/dev/nvme0n1:/dev/nvme0n2 --offset=8m --output=/dev/null'
same small $((4 << 20)) "$run/pattern"
same large $((4 << 20)) "$run/pattern"
disconnect
stop
