# shellcheck shell=bash
# Sourced by ci/bench: Throughline and its peer take turns at the same end of a veth, SPDK's perf is on the other.
: "${root:?}" "${dir:?}" "${release:?}" "${size:?}" "${device:?}" "${peer:?}" "${peer_program?}" "${mtu:?}" "${offloads:?}" "${digests?}"

# shellcheck source=ci/lab/lib.sh
. "$root/ci/lab/lib.sh"
THROUGHLINE=$release/throughline
SECONDS_EACH=2
LAB_PORT_KEYS="mtu = $mtu"

# What is measured: pattern, bytes, depth of each queue, connections.
loads() {
	local pattern depth connections
	if [ "$device" = file ]; then
		# One write at a time on each connection: its host waits until it is stable.
		for connections in 1 8 32; do echo "randwrite 4096 1 $connections"; done
		return
	fi
	for pattern in "randwrite 4096" "randread 4096" "write 131072" "read 131072"; do
		for depth in 1 32; do
			for connections in 1 16; do
				case $size-$pattern-$connections in
				full-* | quick-rand*-1) echo "$pattern $depth $connections" ;;
				esac
			done
		done
	done
}
rounds=2
[ "$size" = quick ] || rounds=3

# ---- the two sides: SIDE_start, SIDE_stop, SIDE_busy ---------------------------------------------------------------------

# On files (--stable) both sides keep their data in files, which outlive them: as large as they get, so that a flush has no blocks to
# account for. The log has one of its own.
disk_file=$dir/lab/disk log_file=$dir/lab/log
files() {
	local file
	for file in "$disk_file" "$log_file"; do
		[ -s "$file" ] || dd if=/dev/zero of="$file" bs=1M count="$LAB_DISK_MIB" conv=fsync 2>>"$LOG" || return
	done
}

# Busy time is what a target's own clock says: TSC cycles of the core that polls, idle polls left out.
throughline_start() {
	local stores=() write=through
	case $device in
	malloc) stores=('[[store]]' 'name = "disk0"' "malloc = { size_mib = $LAB_DISK_MIB }") ;;
	null) bdevs '{method: "bdev_null_create", params: {name: "Disk0", num_blocks: $blocks, block_size: 512}}' ;;
	file)
		write=logged
		files && bdevs '{method: "bdev_aio_create", params: {name: ("Disk0", "Log0"), filename: null, block_size: 512}}
			| .params.filename = if .params.name == "Disk0" then $disk else $log end'
		stores=('[[store]]' 'name = "log0"' 'bdev = "Log0"' '[log]' 'store = "log0"')
		;;
	esac
	[ "$device" = malloc ] || stores=('[spdk]' 'config = "bdevs.json"' '[[store]]' 'name = "disk0"' 'bdev = "Disk0"' "${stores[@]}")
	lab_config "${stores[@]}" '[[subsystem]]' "nqn = \"$LAB_NQN\"" 'serial = "LAB0001"' "namespaces = [{ store = \"disk0\", write = \"$write\" }]"
	lab_start "$@" && ip netns exec "$lab_target_ns" nft list chain netdev lab port >/dev/null
}
# bdevs FILTER: SPDK's configuration, of methods by a jq filter.
bdevs() {
	jq -n --argjson blocks $((LAB_DISK_MIB * 2048)) --arg disk "$disk_file" --arg log "$log_file" \
		"{subsystems: [{subsystem: \"bdev\", config: [$1]}]}" >"$lab_dir/bdevs.json"
}
throughline_stop() { lab_stop; }
throughline_busy() {
	lab_stats "$lab_dir/stats.json"
	jq '{busy: ([.shards[].cycles_by_stage[]] | add), copied: ([.shards[].copied_bytes[]] | add)}' "$lab_dir/stats.json"
}

copy_start() { throughline_start --copy; }
copy_stop() { lab_stop; }
copy_busy() { throughline_busy; }

tgt_rpc() {
	local rpc=$LAB_BIN/rpc.py
	# A current SPDK installs it under another name.
	[ -e "$rpc" ] || rpc=$LAB_BIN/spdk-rpc
	"$rpc" -t 30 -s "$lab_dir/tgt.sock" "$@"
}
# The options are those with which a current one does best over a veth.
nvmf_tgt_start() {
	local options=()
	if [ -n "$peer_program" ]; then
		jq -n '{subsystems: [{subsystem: "sock", config: [{method: "sock_impl_set_options",
			params: {impl_name: "posix", enable_zerocopy_send_server: false}}]}]}' >"$lab_dir/sock.json"
		options=(-c "$lab_dir/sock.json")
		if "$peer_program" --help 2>&1 | grep -qe --disable-cpumask-locks; then options+=(--disable-cpumask-locks); fi
	fi
	rm -f "$lab_dir/tgt.sock"
	ip -n "$lab_target_ns" address add "$LAB_TARGET/24" dev wire0 || return
	# shellcheck disable=SC2016
	ip netns exec "$lab_target_ns" sh -c '
		mkdir -p /dev/hugepages /run/dpdk
		mount -t hugetlbfs -o pagesize=2M none /dev/hugepages && mount -t tmpfs none /run/dpdk && exec "$@"
	' sh "${peer_program:-$LAB_BIN/nvmf_tgt}" "${options[@]}" -u -m $((1 << LAB_CORES)) -s 1024 -r "$lab_dir/tgt.sock" </dev/null >"$lab_dir/nvmf_tgt.log" 2>&1 &
	tgt_pid=$!
	local disk=(bdev_malloc_create -b Disk0 "$LAB_DISK_MIB" 512) deadline=$((SECONDS + 30))
	case $device in
	null) disk=(bdev_null_create Disk0 "$LAB_DISK_MIB" 512) ;;
	file) files && disk=(bdev_aio_create "$disk_file" Disk0 512) ;;
	esac
	# A method of run time is refused until initialisation is over, and any before the socket is there.
	until tgt_rpc framework_wait_init; do
		[ $SECONDS -lt $deadline ] || return
		sleep 0.2
	done
	tgt_rpc nvmf_create_transport -t TCP -c 8192 &&
		tgt_rpc "${disk[@]}" &&
		tgt_rpc nvmf_create_subsystem "$LAB_NQN" -a -s LAB0001 &&
		tgt_rpc nvmf_subsystem_add_ns "$LAB_NQN" Disk0 &&
		tgt_rpc nvmf_subsystem_add_listener "$LAB_NQN" -t TCP -a "$LAB_TARGET" -s "$LAB_PORT"
}
nvmf_tgt_stop() {
	kill -TERM "$tgt_pid"
	wait "$tgt_pid" || true
	ip -n "$lab_target_ns" address del "$LAB_TARGET/24" dev wire0
	rm -f "$lab_dir/tgt.sock"
}
# Its copies are the kernel's, out of sight: recv copies every byte that is written, send every byte that is read.
nvmf_tgt_busy() { tgt_rpc thread_get_stats | jq '{busy: ([.threads[].busy] | add), copied: null}'; }

# ---- one measurement -----------------------------------------------------------------------------------------------------

# perf SIDE PATTERN BYTES DEPTH CONNECTIONS: SPDK's, as JSON.
perf() {
	local log=$lab_dir/perf.log
	# shellcheck disable=SC2086 # none, or one
	lab_perf -L $digests -w "$2" -o "$3" -q $(($4 * $5)) -P "$5" -t $SECONDS_EACH >"$log" 2>&1 || {
		tail -n 5 "$log" >&2
		return 1
	}
	cat "$log" >>"$LOG"
	awk '
		$1 == "Total" && $2 == ":" { iops = $3 }
		/^ *50\.0+%/ { p50 = $3 } /^ *99\.0+%/ { p99 = $3 } /^ *99\.90+%/ { p999 = $3 }
		END { gsub("us", "", p50); gsub("us", "", p99); gsub("us", "", p999)
			printf "{\"iops\": %f, \"p50_us\": %f, \"p99_us\": %f, \"p999_us\": %f}\n", iops, p50, p99, p999 }' "$log"
}

# stable SIDE PATTERN BYTES DEPTH CONNECTIONS: hosts that want each write stable: of nvmf_tgt, which says that its cache is volatile,
# they ask for a flush behind each, as Linux does for a write with FUA to such a drive. A logged namespace has no such cache.
stable() {
	local flush=()
	[ "$1" = throughline ] || flush=(flush)
	ip netns exec "$lab_initiator_ns" taskset -c 0 "$release/examples/stable" "$LAB_TARGET:$LAB_PORT" "$LAB_NQN" "$5" $SECONDS_EACH "$LAB_DISK_MIB" \
		"${flush[@]}" 2>>"$LOG"
}

# Frames that the target's end of the wire has received and sent, as JSON: before segments are cut, where offloads are on.
frames() {
	ip netns exec "$lab_target_ns" sh -c 'cd /sys/class/net/wire0/statistics && echo "{\"in\": $(cat rx_packets), \"out\": $(cat tx_packets)}"'
}

# measure SIDE PATTERN BYTES DEPTH CONNECTIONS ROUND: appends one line to samples.
measure() {
	local side=$1 pattern=$2 bytes=$3 depth=$4 connections=$5 round=$6 before after frames_before frames_after figures
	before=$("${side}_busy") frames_before=$(frames)
	figures=$("$load_with" "${@:1:5}") || die "$load_with failed against $side ($pattern $bytes, depth $depth, $connections connections)."
	after=$("${side}_busy") frames_after=$(frames)
	jq -c --arg side "$side" --arg pattern "$pattern" --argjson bytes "$bytes" --argjson depth "$depth" --argjson seconds $SECONDS_EACH \
		--argjson connections "$connections" --argjson round "$round" --argjson before "$before" --argjson after "$after" \
		--argjson frames_before "$frames_before" --argjson frames_after "$frames_after" '
		if .iops <= 0 then error("there are no figures") else . end
		| (.iops * $seconds) as $commands
		| {side: $side, pattern: $pattern, bytes: $bytes, depth: $depth, connections: $connections, round: $round} + .
		+ {busy_cycles_per_io: (($after.busy - $before.busy) / $commands),
		   frames_in_per_io: (($frames_after.in - $frames_before.in) / $commands), frames_out_per_io: (($frames_after.out - $frames_before.out) / $commands),
		   copied_per_byte: (if $after.copied == null then null else ($after.copied - $before.copied) / ($commands * $bytes) end)}
	' <<<"$figures" >>"$dir/samples.jsonl"
}

# ---- the run -------------------------------------------------------------------------------------------------------------

load_with=perf
build throughline -p throughline
if [ "$device" = file ]; then
	load_with=stable
	build "the hosts" -p lab --example stable
fi
rm -f "$dir/samples.jsonl"
machine >"$dir/machine.json"
LAB_DISK_MIB=128
[ "$offloads" = off ] || LAB_OFFLOADS=(tx on rx on sg on tso on gso on gro off)
lab_up "$dir/lab"
lab_mtu "$mtu"
lab_receive_on_own_cores
mapfile -t list < <(loads)
say "Throughline and $peer take turns, $rounds rounds of ${#list[@]} loads of $SECONDS_EACH s, device $device, MTU $mtu, offloads $offloads:"
for round in $(seq $rounds); do
	# Who begins changes with the round.
	sides=(throughline "$peer")
	[ $((round % 2)) -eq 1 ] || sides=("$peer" throughline)
	for side in "${sides[@]}"; do
		"${side}_start" >>"$LOG" 2>&1 || die "$side did not start."
		for load in "${list[@]}"; do
			read -r pattern bytes depth connections <<<"$load"
			measure "$side" "$pattern" "$bytes" "$depth" "$connections" "$round"
		done
		"${side}_stop" >>"$LOG" 2>&1 || die "$side did not stop cleanly."
		say "  round $round: $side done"
	done
done

peer_is=$peer
[ -z "$peer_program" ] || peer_is="$(spdk_version "$peer_program"), nvmf_tgt without zero-copy send"
jq -s --arg peer "$peer" --arg peer_is "$peer_is" --arg device "$device" --argjson mtu "$mtu" --arg digests "${digests:+, digests}" --arg offloads "$offloads" --argjson rounds $rounds --argjson seconds $SECONDS_EACH --slurpfile machine "$dir/machine.json" \
	-f "$root/ci/bench.d/compare.jq" "$dir/samples.jsonl" >"$dir/report.json"
jq -r -f "$root/ci/bench.d/table.jq" "$dir/report.json" | tee "$dir/report.txt"
jq -r -f "$root/ci/bench.d/plot.jq" "$dir/report.json" >"$dir/report.svg"
say "Everything is in $dir: report.json, report.txt, report.svg."
