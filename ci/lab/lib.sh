# shellcheck shell=bash
# A lab in two network namespaces joined by a veth: one end belongs to `throughline run`, on the other SPDK's initiator
# tools use the kernel's TCP. For ci/demo, ci/bench and ci/profile, which source it; needs root, ci/setup, and LOG and
# common.sh before it. The tests are in Rust: ci/lab/tests.
#
#   lab_up DIR                        namespaces, the wire, a place for files
#   lab_config [EXTRA...]             writes DIR/throughline.toml
#   lab_mtu BYTES                     of the wire
#   lab_receive_on_own_cores          for runs that measure
#   lab_start [ARGUMENT...]           starts the target and waits until it is ready
#   lab_stop                          SIGTERM, and waits; fails unless it ended cleanly
#   lab_stats FILE                    its counters
#   lab_identify | lab_dd | lab_bdevperf | lab_perf | lab_initiator     the other side
#   lab_kill PID                      one of them, at once
#   lab_down                          everything away; by itself on any exit

: "${root:?the command that sources lab/lib.sh sets root to the top of the tree}"

LAB_TARGET=192.0.2.1
LAB_INITIATOR=192.0.2.2
LAB_PORT=4420
LAB_PORT_KEYS='' # other keys of the target's port than its address
LAB_NQN=nqn.2026-01.com.example:lab
LAB_DISK_MIB=256
# Data blocks (of 4 KiB to 128 KiB) go as they are when no offload is in the way: every frame carries at most 1500 bytes.
LAB_OFFLOADS=(tx off rx off sg off tso off gso off gro off)
LAB_CORES=1

lab_dir='' lab_target_ns='' lab_initiator_ns='' lab_target_pid=''

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
	lab_forget_traces "$1"
}

# lab_forget_traces PID: what one of SPDK's applications keeps its tracepoints in, of a process that has ended: 135 MB of
# memory, which stay when it was killed.
lab_forget_traces() { rm -f "/dev/shm/"*"_trace.pid$1"; }

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
		addresses = ["$LAB_TARGET/24"]
		$LAB_PORT_KEYS
		[control]
		socket = "$LAB_SOCKET"
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

# ---- the initiator ---------------------------------------------------------------------------------------------------

lab_trid() { echo "trtype:TCP adrfam:IPv4 traddr:$LAB_TARGET trsvcid:$LAB_PORT subnqn:$LAB_NQN"; }

# lab_initiator SECONDS COMMAND...: runs one of SPDK's tools on core 0 of the other side, with hugepages and run-time files
# of its own that vanish with it.
lab_initiator() {
	local seconds=$1 pid_file=$lab_dir/initiator.$BASHPID status=0
	shift
	# shellcheck disable=SC2016
	timeout --foreground -k 2 "$seconds" ip netns exec "$lab_initiator_ns" sh -c '
		echo $$ >"$1" && shift
		mkdir -p /dev/hugepages /run/dpdk
		mount -t hugetlbfs -o pagesize=2M none /dev/hugepages && mount -t tmpfs none /run/dpdk && exec taskset -c 0 "$@"
	' sh "$pid_file" "$@" </dev/null || status=$?
	# It may have been killed.
	[ ! -s "$pid_file" ] || lab_forget_traces "$(<"$pid_file")"
	rm -f "$pid_file"
	return "$status"
}

lab_identify() { lab_initiator 15 "$LAB_BIN/spdk_nvme_identify" -d 128 -r "$(lab_trid)"; }

# The JSON that attaches the target's namespaces as Nn1, Nn2 ….
lab_attach() {
	local file
	file=$(mktemp "$lab_dir/attach-XXXXXX.json")
	jq -n --arg nqn "$LAB_NQN" --arg traddr "$LAB_TARGET" --arg port "$LAB_PORT" '
		{subsystems: [{subsystem: "bdev", config: [{method: "bdev_nvme_attach_controller", params:
			{name: "N", trtype: "TCP", adrfam: "IPv4", traddr: $traddr, trsvcid: $port, subnqn: $nqn}}]}]}
	' >"$file"
	echo "$file"
}

# lab_shares TOOL: the option by which one of SPDK's applications shares its core with others, if it locks it.
lab_shares() {
	if "$LAB_BIN/$1" --help 2>&1 | grep -qe --disable-cpumask-locks; then echo --disable-cpumask-locks; fi
}

# lab_dd ATTACH ARGUMENT...
lab_dd() {
	local json=$1 shares
	shift
	mapfile -t shares < <(lab_shares spdk_dd)
	lab_initiator 60 "$LAB_BIN/spdk_dd" "${shares[@]}" -u -s 128 -m 0x1 -r /run/dpdk/rpc.sock --json "$json" "$@"
}

# lab_bdevperf ATTACH ARGUMENT...
lab_bdevperf() {
	local json=$1 shares
	shift
	mapfile -t shares < <(lab_shares bdevperf)
	lab_initiator 60 "$LAB_BIN/bdevperf" "${shares[@]}" -u -s 256 -m 0x1 -r /run/dpdk/rpc.sock --json "$json" "$@"
}

lab_perf() { lab_initiator 60 "$LAB_BIN/spdk_nvme_perf" -s 256 -c 0x1 -r "$(lab_trid)" "$@"; }

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
