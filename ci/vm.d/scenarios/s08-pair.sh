# shellcheck shell=bash disable=SC2154,SC2034
# a stock Linux client with native multipath over a mirrored pair: agreed switches, a source that is killed, and its whole machine; no error
# long 900

guests='appliance partner client' lans=lan1
with_taps
[ -n "${taps:-}" ] || skip "three machines on a network need TAPs, and so root"
etcd=$(command -v etcd) || skip "there is no etcd here: run ci/setup"

# The kernels of the nodes, and this one's etcd, reach each other by lan1.
arbiter=198.51.100.9
ip link set lo up
ip address add "$arbiter/24" dev lan1
setpriv --pdeathsig KILL "$etcd" --data-dir "$run/etcd" --unsafe-no-fsync --logger zap \
	--listen-client-urls "http://$arbiter:2379" --advertise-client-urls "http://$arbiter:2379" \
	--listen-peer-urls "http://$arbiter:2380" --initial-advertise-peer-urls "http://$arbiter:2380" \
	--initial-cluster "default=http://$arbiter:2380" >"$run/etcd.log" 2>&1 </dev/null &

declare -A address=([appliance]=192.0.2.1 [partner]=192.0.2.3) kernels=([appliance]=198.51.100.1 [partner]=198.51.100.3)
declare -A ids=([appliance]=9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d [partner]=0c7e3f0a-51c2-4d0e-8a55-6a5b1c9a7e11)
declare -A first=([appliance]=source [partner]=destination) cntlids=([appliance]=1-32767 [partner]=32768-65519)
declare -A other=([appliance]=partner [partner]=appliance) path=([appliance]=0 [partner]=1)
volume=5d2a1c44-90b1-4f6e-9d0c-0f3a8f0b7c2e

# The drives outlive the machine.
boot_node() {
	node=$1
	mapfile -t devices < <(nvme nvme0 1 "" "flash-$node:512" && nvme nvme1 2 "" "log-$node:512" && nic "$node" lan1 virtio-net-pci)
	appliance virtio-net-pci "${devices[@]}"
}

begin_node() {
	node=$1 target=${address[$1]}
	on "$node" "sysctl -q vm.nr_hugepages=384 && modprobe virtio_net && ip link set eth1 up && ip address add ${kernels[$node]}/24 dev eth1"
	take "$NIC" "$DRIVE" "$DRIVE1" >"$run/bound"
	on "$node" "umask 077 && printf '%064d' 0 | tr 0 5 >/etc/pair.key"
	configure <<-ENDS
		$(logged_stores)
		[[subsystem]]
		nqn = "$nqn"
		serial = "PAIR0001"
		controller_ids = "${cntlids[$node]}"
		peer_listen = ["${address[${other[$node]}]}:4420"]
		namespaces = [{ store = "flash", write = "logged", uuid = "$volume" }]
		[pair]
		node = "${ids[$node]}"
		peer = "${ids[${other[$node]}]}"
		listen = ["$target:4421"]
		peer_listen = ["${address[${other[$node]}]}:4421"]
		key_file = "/etc/pair.key"
		[pair.arbiter]
		etcd = ["http://$arbiter:2379"]
		lease_s = 10
		[[pair.volume]]
		store = "flash"
		uuid = "$volume"
		first_role = "${first[$node]}"
	ENDS
	serve
}

# is NODE ROLE: and both have the same.
is() { on "$1" 'throughline rpc throughline_pair_report' | jq -e ".[0] | .role == \"$2\" and .in_sync"; }
# The source knows that the other node may take over, if it has everything.
is_safe() { is "$1" source && on "$1" 'throughline rpc throughline_pair_report' | jq -e '.[0].takeover'; }
# The client knows that this node serves.
serves() { on client "grep -qx optimized /sys/class/nvme/nvme${path[$1]}/nvme0c${path[$1]}n1/ana_state"; }
in_sync() {
	await 120 "the nodes do not come in sync, with $1 as the source" is_safe "$1"
	is "${other[$1]}" destination >/dev/null || fail "the destination does not say that it is in sync"
}
# Of both paths: the kernel counts none for the two together.
writes() { on client 'cat /sys/block/nvme0c*n1/stat' | awk '{ n += $5 } END { print n + 0 }'; }
flowing() { [ "$(writes)" -gt $((before + 50)) ]; }
goes_on() {
	before=$(writes)
	await 90 "writes stand still $1" flowing
}

for node in appliance partner; do drive "flash-$node" 64 && drive "log-$node" 64; done
boot_node appliance
boot_node partner
client
await_guest appliance partner client
on client 'modprobe -a virtio_net nvme-tcp && ip link set eth0 up && ip address add 192.0.2.2/24 dev eth0'
begin_node appliance
begin_node partner
in_sync appliance
for node in appliance partner; do
	# Linux gives a connection three seconds.
	await 60 "the client does not connect to $node" on client "nvme connect -t tcp -a ${address[$node]} -s 4420 -n $nqn --keep-alive-tmo=5 --reconnect-delay=1"
	[ "$node" = partner ] || await 20 "the client sees no namespace" on client '[ -b /dev/nvme0n1 ]'
done
on client "nvme discover -t tcp -a ${address[partner]} -s 4420" >"$run/discovery"
[ "$(grep -c "subnqn: *$nqn" "$run/discovery")" -eq 2 ] || fail "discovery does not name both nodes: $(grep traddr "$run/discovery" | tr '\n' ' ')"
await 20 "the client does not know that the appliance serves" serves appliance
on client '[ ! -b /dev/nvme1n1 ]' || fail "the two paths are not one namespace"

begin client load 'witness write /dev/nvme0n1 /run/record /run/enough'
goes_on 'at first'
for round in 1 2; do
	for node in appliance partner; do
		on "$node" 'throughline pair demote flash' >>"$run/demoted"
		await 30 "the client does not know that ${other[$node]} serves" serves "${other[$node]}"
		goes_on "after $node gave the volume up"
		in_sync "${other[$node]}"
	done
done
on client '! dmesg | grep -qiE "i/o error|resetting|reconnect|timeout"' ||
	fail "the client did not go over quietly: $(on client 'dmesg | grep -iE "i/o error|resetting|reconnect|timeout" | tail -n 3' | tr '\n' ';')"

# Each is lost as the source, by its program and by its machine.
for round in program machine; do
	for node in appliance partner; do
		if [ "$round" = program ]; then
			on "$node" 'kill -KILL $(cat /run/throughline.pid)'
			await 10 "it does not die" on "$node" '! kill -0 $(cat /run/throughline.pid)'
		else
			halt "$node"
		fi
		await 60 "the client does not know that ${other[$node]} took over from $node ($round)" serves "${other[$node]}"
		goes_on "after the $round of $node was lost"
		if [ "$round" = machine ]; then
			boot_node "$node"
			await_guest "$node"
			begin_node "$node"
		else
			target=${address[$node]}
			serve
		fi
		in_sync "${other[$node]}"
	done
done

on client 'touch /run/enough'
end client load 200 >"$run/writes" || fail "writes failed: $(cat "$run/writes")"
wrong=$(on client 'witness verify /dev/nvme0n1 /run/record 2>&1') || fail "$wrong"
on client '! dmesg | grep -qi "i/o error"' || fail "the client met an error: $(on client 'dmesg | grep -i "i/o error" | tail -n 3' | tr '\n' ';')"
verified=$(on appliance 'throughline pair verify flash 2>&1') || fail "the replicas differ: $verified"
disconnect
for node in partner appliance; do stop; done
cmp "$run/flash-appliance.img" "$run/flash-partner.img" || fail "the drives differ"
