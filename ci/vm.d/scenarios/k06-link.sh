# shellcheck shell=bash disable=SC2154,SC2034
# the link goes down and comes back under verified I/O: TCP carries on, and a longer outage ends in a new connection
# short 240

drive flash 64
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance e1000e "${devices[@]}"
client
ready
configure < <(one_subsystem 1)
serve
connect --keep-alive-tmo=30
link() { qmp appliance "{\"execute\": \"set_link\", \"arguments\": {\"name\": \"nic-lan0\", \"up\": $1}}"; }

fio='fio --name=verify --filename=/dev/nvme0n1 --size=8m --rw=randwrite --bsrange=4k-64k --blockalign=4k --ioengine=libaio --direct=1 --iodepth=8 --verify=crc32c'
begin client short "$fio --time_based --runtime=8 --output=/dev/null"
sleep 2
link false
sleep 2
link true
end client short 90
on client '! dmesg | grep -qi reconnecting' ||
	fail "two seconds without a link cost the connection: $(on client 'dmesg | grep -i nvme | tail -n 6' | tr '\n' ' ')"
disconnect

# Longer than the client's keep-alive of 5 seconds: it gives the connection up, and makes another.
connect --keep-alive-tmo=5 --reconnect-delay=1
begin client long "$fio --loops=2 --output=/dev/null"
sleep 1
link false
await 60 "the client does not notice" on client 'dmesg | grep -qi reconnecting'
await 20 "the missing link is not told" on appliance 'throughline stats | grep -q "has no link"'
link true
end client long 120
await 20 "the link that is back is not told" serving
[ "$(on client 'cat /sys/class/nvme/nvme0/state')" = live ] || fail "the controller is not back"
disconnect
stop
