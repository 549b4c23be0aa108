# Samples of both sides, all rounds, to one report: medians, spread (largest less smallest, over the median), ratios.
def median: sort | if length == 0 then null elif length % 2 == 1 then .[(length - 1) / 2] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def spread: if (length == 0) or (median == 0) then null else (max - min) / median end;
def figures: . as $samples
	| [("iops", "p50_us", "p99_us", "p999_us", "busy_cycles_per_io", "frames_in_per_io", "frames_out_per_io") as $name | {key: $name, value: ($samples | map(.[$name]) | median)}]
	| from_entries
	| . + {iops_spread: ($samples | map(.iops) | spread), copied_per_byte: ($samples | map(.copied_per_byte | values) | median)};
def over($a; $b): if $b == null or $b == 0 then null else $a / $b end;
{
	title: "Throughline against \($peer_is), side by side", peer: $peer, device: $device, rounds: $rounds, seconds_each: $seconds,
	machine: $machine[0],
	wire: "veth, MTU \($mtu)\($digests), offloads \($offloads) on both ends; initiator on core 0, target on core 1",
	loads: (group_by([.pattern, .bytes, .depth, .connections]) | map(
		(map(select(.side == "throughline")) | figures) as $ours
		| (map(select(.side == $peer)) | figures) as $theirs
		| .[0] as $load
		| {pattern: $load.pattern, bytes: $load.bytes, depth: $load.depth, connections: $load.connections, throughline: $ours, peer: $theirs,
		   ratio: {iops: over($ours.iops; $theirs.iops), p50: over($ours.p50_us; $theirs.p50_us), p99: over($ours.p99_us; $theirs.p99_us),
			busy: over($ours.busy_cycles_per_io; $theirs.busy_cycles_per_io)}}))
}
