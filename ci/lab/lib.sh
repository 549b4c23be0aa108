# shellcheck shell=bash
# A lab in two network namespaces joined by a veth: one end belongs to `throughline run`, on the other SPDK's initiator
# tools use the kernel's TCP. To be sourced; needs root, ci/setup, and LOG and common.sh before it.
#
#   lab_up DIR                        namespaces, the wire, a place for files
#   lab_wire NETEM... // NETEM...     a worse wire
#   lab_config [EXTRA...]             writes DIR/throughline.toml
#   lab_mtu BYTES                     of the wire
#   lab_receive_on_own_cores          for runs that measure
#   lab_start [ARGUMENT...]           starts the target and waits until it is ready
#   lab_stop                          SIGTERM, and waits; fails unless it ended cleanly
#   lab_stats FILE                    its counters
#   lab_scrape FILE                   its metrics
#   lab_identify | lab_dd | lab_bdevperf | lab_perf | lab_initiator     the other side
#   lab_kill PID                      one of them, at once
#   lab_down                          everything away; by itself on any exit

: "${root:?the command that sources lab/lib.sh sets root to the top of the tree}"

LAB_TARGET=192.0.2.1
LAB_INITIATOR=192.0.2.2
LAB_PORT=4420
LAB_FAMILY=IPv4
# The target's addresses, and other keys of its port.
LAB_ADDRESSES="\"$LAB_TARGET/24\"" LAB_PORT_KEYS=''
LAB_METRICS_PORT=9464 # inside the target's namespace
LAB_NQN=nqn.2026-01.com.example:lab
LAB_DISK_MIB=256
# Data blocks (of 4 KiB to 128 KiB) go as they are when no offload is in the way: every frame carries at most 1500 bytes.
LAB_OFFLOADS=(tx off rx off sg off tso off gso off gro off)
LAB_CORES=1

lab_dir='' lab_wire_pid='' lab_target_ns='' lab_initiator_ns='' lab_target_pid=''

lab_up() {
	lab_dir=$1
	mkdir -p "$lab_dir"
	lab_target_ns=tl-target-$$ lab_initiator_ns=tl-initiator-$$
	LAB_BIN=$("$root/ci/setup" --print-prefix)/bin
	LAB_SOCKET=$(mktemp -u "${TMPDIR:-/tmp}/throughline-lab-$$-XXXXXX.sock")
	trap lab_down EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	local ns
	for ns in "$lab_target_ns" "$lab_initiator_ns"; do
		ip netns add "$ns" || die "cannot make a network namespace: run this as root, in a container with CAP_NET_ADMIN and CAP_SYS_ADMIN."
		# Neither end may speak by itself.
		ip netns exec "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true
		ip -n "$ns" link set lo up
	done
	ip -n "$lab_target_ns" link add wire0 mtu 1500 type veth peer name wire0 mtu 1500 netns "$lab_initiator_ns"
	for ns in "$lab_target_ns" "$lab_initiator_ns"; do
		ip netns exec "$ns" ethtool -K wire0 "${LAB_OFFLOADS[@]}" >>"$LOG" 2>&1
		ip -n "$ns" link set wire0 up
	done
	ip -n "$lab_initiator_ns" address add "$LAB_INITIATOR/24" dev wire0
	ip netns exec "$lab_initiator_ns" ethtool -k wire0 >>"$LOG" 2>&1
}

# lab_wire NETEM... // NETEM...: a wire of ours in the place of the veth, which does to what the target sends and to what the
# initiator sends as it is told; "-" is nothing. The target must be stopped. See dataplane/net/examples/impaired_wire.rs.
lab_wire() {
	local ns deadline wire=${CARGO_TARGET_DIR:-$root/target}/debug/examples/impaired_wire
	if [ -z "$lab_wire_pid" ]; then
		(cd "$root" && cargo build --locked -p net --example impaired_wire) >>"$LOG" 2>&1 || return
	else
		lab_kill "$lab_wire_pid"
	fi
	ip -n "$lab_target_ns" link del wire0 2>/dev/null
	"$wire" "/run/netns/$lab_target_ns" "/run/netns/$lab_initiator_ns" wire0 "$@" >"$lab_dir/wire.log" 2>&1 &
	lab_wire_pid=$!
	deadline=$((SECONDS + 10))
	until grep -qx ready "$lab_dir/wire.log"; do
		if ! kill -0 "$lab_wire_pid" 2>/dev/null || [ $SECONDS -gt $deadline ]; then
			echo "no wire: $(cat "$lab_dir/wire.log")"
			return 1
		fi
		sleep 0.02
	done
	for ns in "$lab_target_ns" "$lab_initiator_ns"; do
		ip netns exec "$ns" ethtool -K wire0 "${LAB_OFFLOADS[@]}" >>"$LOG" 2>&1
		ip -n "$ns" link set wire0 mtu 1500 txqueuelen 10000 up || return
	done
}

lab_down() {
	local status=$? pid
	trap - EXIT INT TERM
	for pid in $(jobs -p); do lab_kill "$pid"; done
	lab_target_pid=''
	rm -f "$LAB_SOCKET"
	ip netns del "$lab_target_ns" 2>/dev/null || true
	ip netns del "$lab_initiator_ns" 2>/dev/null || true
	exit "$status"
}

# lab_kill PID: a process of ours and everything it started, at once.
lab_kill() {
	local child
	for child in $(pgrep -P "$1"); do lab_kill "$child"; done
	kill -KILL "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

lab_mtu() { ip -n "$lab_target_ns" link set wire0 mtu "$1" && ip -n "$lab_initiator_ns" link set wire0 mtu "$1"; }

# Each end receives on the core of its program, where a NIC's interrupt would be: else a veth does it on the sender's.
lab_receive_on_own_cores() {
	if ! { lab_receive_on "$lab_target_ns" "$LAB_CORES" && lab_receive_on "$lab_initiator_ns" 0; } 2>>"$LOG"; then
		die "the kernel cannot steer frames to cores: it needs CONFIG_RPS."
	fi
}
lab_receive_on() { ip netns exec "$1" sh -c "printf %x $((1 << $2)) >/sys/class/net/wire0/queues/rx-0/rps_cpus"; }

# ---- the target -----------------------------------------------------------------------------------------------------

# The file that the target runs on; EXTRA lines replace the subsystem and its store when given.
lab_config() {
	cat >"$lab_dir/throughline.toml" <<-END
		cores = [$LAB_CORES]
		[[port]]
		device = "wire0"
		addresses = [$LAB_ADDRESSES]
		$LAB_PORT_KEYS
		[control]
		socket = "$LAB_SOCKET"
		metrics = "127.0.0.1:$LAB_METRICS_PORT"
	END
	if [ $# -gt 0 ]; then
		printf '%s\n' "$@" >>"$lab_dir/throughline.toml"
		return
	fi
	cat >>"$lab_dir/throughline.toml" <<-END
		[[store]]
		name = "disk0"
		malloc = { size_mib = $LAB_DISK_MIB }
		[[subsystem]]
		nqn = "$LAB_NQN"
		serial = "LAB0001"
		namespaces = ["disk0"]
	END
}

# The port gets copies of the frames, and the kernel keeps its own and looks for a route: work on the initiator's core that
# no NIC makes. Here the kernel drops its copy first.
lab_kernel_ignores_port() {
	ip netns exec "$lab_target_ns" nft "add table netdev lab
		add chain netdev lab port { type filter hook ingress device wire0 priority 0; policy drop; }"
}
lab_kernel_minds_port() { ip netns exec "$lab_target_ns" nft delete table netdev lab 2>/dev/null || true; }

lab_start() {
	lab_kernel_minds_port
	lab_kernel_ignores_port >>"$LOG" 2>&1 || echo "no nftables here: the kernel looks for a route for every frame, too" >>"$LOG"
	lab_target_log=$lab_dir/target.log
	: >"$lab_target_log"
	ip netns exec "$lab_target_ns" "$THROUGHLINE" run --config "$lab_dir/throughline.toml" "$@" >"$lab_target_log" 2>&1 &
	lab_target_pid=$!
	local deadline=$((SECONDS + 30))
	until grep -q ' ready: ' "$lab_target_log"; do
		if ! kill -0 "$lab_target_pid" 2>/dev/null || [ $SECONDS -gt $deadline ]; then
			cat "$lab_target_log" >>"$LOG"
			tail -n 15 "$lab_target_log" >&2
			return 1
		fi
		sleep 0.05
	done
}

# Ends the target, and says whether it ended well: in ten seconds, with exit status 0, its socket gone.
lab_stop() {
	local status=0 deadline=$((SECONDS + 10)) pid=$lab_target_pid
	kill -TERM "$pid" 2>/dev/null || true
	while kill -0 "$pid" 2>/dev/null; do
		if [ $SECONDS -gt $deadline ]; then
			echo "the target does not stop"
			kill -KILL "$pid"
			status=1
			break
		fi
		sleep 0.05
	done
	wait "$pid" || status=$?
	lab_target_pid=''
	lab_kernel_minds_port
	cat "$lab_target_log" >>"$LOG"
	[ "$status" -eq 0 ] || echo "the target ended with status $status"
	[ ! -e "$LAB_SOCKET" ] || { echo "the control socket is left behind" && status=1; }
	return "$status"
}

lab_stats() { "$THROUGHLINE" stats --json --socket "$LAB_SOCKET" >"$1"; }

# What a scraper of the target gets: head and body.
lab_scrape() {
	printf 'GET /metrics HTTP/1.1\r\nHost: lab\r\n\r\n' |
		ip netns exec "$lab_target_ns" socat -t 5 - "TCP4:127.0.0.1:$LAB_METRICS_PORT" >"$1"
}

# A number out of the target's counters, all shards together: lab_count FILE '.io.reads'
lab_count() { jq "[.shards[] | $2] | add" "$1"; }

# ---- the initiator ---------------------------------------------------------------------------------------------------

lab_trid() { echo "trtype:TCP adrfam:$LAB_FAMILY traddr:$LAB_TARGET trsvcid:$LAB_PORT${1:+ subnqn:$1}"; }

# lab_initiator SECONDS COMMAND...: runs one of SPDK's tools on core 0 of the other side, with hugepages and run-time files
# of its own that vanish with it.
lab_initiator() {
	local seconds=$1
	shift
	# shellcheck disable=SC2016
	timeout --foreground -k 2 "$seconds" ip netns exec "$lab_initiator_ns" sh -c '
		mkdir -p /dev/hugepages /run/dpdk
		mount -t hugetlbfs -o pagesize=2M none /dev/hugepages && mount -t tmpfs none /run/dpdk && exec taskset -c 0 "$@"
	' sh "$@" </dev/null
}

lab_identify() { lab_initiator 15 "$LAB_BIN/spdk_nvme_identify" -d 128 -r "$(lab_trid "${1-$LAB_NQN}")"; }

# The JSON that attaches the target's namespaces as Nn1, Nn2 …: lab_attach [NQN] [EXTRA PARAMETERS]
lab_attach() {
	local file
	file=$(mktemp "$lab_dir/attach-XXXXXX.json")
	jq -n --arg nqn "${1:-$LAB_NQN}" --arg traddr "$LAB_TARGET" --arg family "$LAB_FAMILY" --arg port "$LAB_PORT" --argjson extra "${2:-{\}}" '
		{subsystems: [{subsystem: "bdev", config: [{method: "bdev_nvme_attach_controller", params:
			({name: "N", trtype: "TCP", adrfam: $family, traddr: $traddr, trsvcid: $port, subnqn: $nqn} + $extra)}]}]}
	' >"$file"
	echo "$file"
}

# lab_dd ATTACH ARGUMENT...
lab_dd() {
	local json=$1
	shift
	lab_initiator 60 "$LAB_BIN/spdk_dd" -u -s 128 -m 0x1 -r /run/dpdk/rpc.sock --json "$json" "$@"
}

# lab_bdevperf ATTACH ARGUMENT...
lab_bdevperf() {
	local json=$1
	shift
	lab_initiator 60 "$LAB_BIN/bdevperf" -u -s 256 -m 0x1 -r /run/dpdk/rpc.sock --json "$json" "$@"
}

lab_perf() { lab_initiator 60 "$LAB_BIN/spdk_nvme_perf" -s 256 -c 0x1 -r "$(lab_trid "$LAB_NQN")" "$@"; }

# ---- what tools print ------------------------------------------------------------------------------------------------

# IOPS, MiB/s and mean latency of perf's last "Total" line, as JSON members.
lab_perf_figures() {
	awk '$1 == "Total" { iops = $3; mib = $4; us = $5 } END { printf "{\"iops\": %f, \"mib_per_second\": %f, \"latency_us\": %f}\n", iops, mib, us }' "$1"
}

# The same of bdevperf's.
lab_bdevperf_figures() {
	awk '/IOPS/ && /MiB\/s/ && /Total/ { for (i = 1; i < NF; i++) { if ($(i + 1) == "IOPS") iops = $i; if ($(i + 1) == "MiB/s") mib = $i } }
		END { printf "{\"iops\": %f, \"mib_per_second\": %f}\n", iops, mib }' "$1"
}
