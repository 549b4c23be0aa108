# What was measured of a pair to a report: medians of the rounds, ratios, and whether the link's goal is met.
def median: sort | if length == 0 then null elif length % 2 == 1 then .[(length - 1) / 2] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def medians($keys): . as $runs | [$keys[] | . as $key | {key: $key, value: ([$runs[][$key]] | median)}] | from_entries;
def of_hosts: medians(["iops", "p50_us", "p99_us", "p999_us"]);
. as $told
| {title: "A mirrored pair: bytes on the link, latency, cycles, copies", machine: $machine[0],
 how: ("two programs in namespaces, veth, MTU 1500, no offloads; volumes and logs in memory; the source polls core 1, the destination core 0, hosts are where the kernel puts them; the link is in " + (if $told.tls then "TLS" else "the clear" end)),
 tls: $told.tls, rounds: ([$told.latency[].round] | max + 1), goal_stream: 1.03,
 bytes: $told.bytes,
 latency: [$told.latency | group_by(.depth)[] | .[0].depth as $depth
	| (map(select(.side == "mirrored"))) as $mirrored | (map(select(.side == "alone"))) as $alone
	| {depth: $depth,
	   mirrored: ($mirrored | of_hosts + {cycles: (map(.cycles) | medians(["source", "destination"]))}),
	   alone: ($alone | of_hosts + {cycles: (map(.cycles) | medians(["source"]))})}
	| . + {ratio: {p50: (.mirrored.p50_us / .alone.p50_us), p99: (.mirrored.p99_us / .alone.p99_us), iops: (.mirrored.iops / .alone.iops),
	   cycles: (.mirrored.cycles.source / .alone.cycles.source)}}],
 copies: [$told.copies | group_by(.hosts)[] | {hosts: .[0].hosts, rounds: length} + medians(["mib", "mib_per_second", "back_in_sync_s"])
	+ if .[0].hosts then {meanwhile: (map(.meanwhile) | of_hosts), afterwards: (map(.afterwards) | of_hosts)} else {} end]}
| if ($told.beside | length) > 0 then .beside = {peer: $peer, rounds: ([$told.beside[].round] | max + 1),
	depths: [$told.beside | group_by(.depth)[] | .[0].depth as $depth
	| map(. + {source: .cycles.source, destination: .cycles.destination, bytes_on_the_wire: .wire.bytes_per_byte, frames: .wire.frames_per_write})
	| [group_by(.side)[] | {key: .[0].side, value: medians(["iops", "p50_us", "p99_us", "p999_us", "source", "destination", "bytes_on_the_wire", "frames"])}]
	| from_entries | {depth: $depth, mirrored, raid1}
	| . + {ratio: {iops: (.mirrored.iops / .raid1.iops), p50: (.mirrored.p50_us / .raid1.p50_us), p99: (.mirrored.p99_us / .raid1.p99_us),
	   cycles: (.mirrored.source / .raid1.source)}}]} else . end
| .met = ([.bytes[] | select(.bytes == 4096) | .stream <= 1.03] | all)
