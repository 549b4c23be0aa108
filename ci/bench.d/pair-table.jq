# A report of ci/bench --pair as text.
def pad($n): tostring | (" " * ([0, $n - length] | max)) + .;
def left($n): tostring | . + (" " * ([0, $n - length] | max));
def to($digits): pow(10; $digits) as $scale | . * $scale | round / $scale;
def hosts($name): (. as $f | ($name | left(34)) + ($f.iops | round | pad(10)) + ($f.p50_us | round | pad(9)) + ($f.p99_us | round | pad(9)) + ($f.p999_us | round | pad(10)));
.title, "\(.machine.cpu), \(.machine.cores) cores, load \(.machine.load_at_start), \(.machine.commit); \(.how)", "",
"From source to destination for each byte that hosts modify; by value: data when written, and each page of 4 KiB again at the consistency point",
("load" | left(34)) + ("writes" | pad(8)) + ("points" | pad(8)) + ("stream" | pad(9)) + ("frames' bytes" | pad(15)) + ("frames/write" | pad(14)) + ("back: stream" | pad(14)) + ("retransmitted" | pad(15)) + ("by value" | pad(10)),
(.bytes[] | ("\(.load), depth \(.depth)" | left(34)) + (.writes | pad(8)) + (.points | pad(8)) + (.stream | to(4) | pad(9)) + (.wire.bytes_per_byte | to(4) | pad(15))
	+ (.wire.frames_per_write | to(2) | pad(14)) + (.stream_back | to(4) | pad(14)) + (.retransmitted | pad(15)) + (.by_value | to(2) | pad(10))),
(select(.tls | not) | "Goal: at most \(.goal_stream) of the stream for 4 KiB: \(if .met then "met" else "missed" end)."),
"",
"4 KiB writes at random, by turns; medians of \(.rounds) rounds",
("" | left(34)) + ("IOPS" | pad(10)) + ("p50 µs" | pad(9)) + ("p99 µs" | pad(9)) + ("p99.9 µs" | pad(10)) + ("cycles, source" | pad(16)) + ("destination" | pad(13)),
(.latency[] | .depth as $depth
	| (.mirrored | hosts("mirrored, depth \($depth)") + (.cycles.source | round | pad(16)) + (.cycles.destination | round | pad(13))),
	  (.alone | hosts("logged, not mirrored, depth \($depth)") + (.cycles.source | round | pad(16))),
	  (.ratio | "  mirrored to not mirrored: IOPS \(.iops | to(2)), p50 \(.p50 | to(2)), p99 \(.p99 | to(2)), cycles of the source \(.cycles | to(2))")),
"Cycles: of the TSC, in which a node's shard was busy, for each write; with the kernel's work for its packet socket, and with time in which others had its core.",
"",
"A node that was away is copied to",
("" | left(34)) + ("MiB" | pad(8)) + ("MiB/s" | pad(9)) + ("in sync after s" | pad(17)),
(.copies[] | ((if .hosts then "hosts write, depth 8" else "hosts are silent" end) | left(34)) + (.mib | round | pad(8)) + (.mib_per_second | round | pad(9)) + (.back_in_sync_s | to(1) | pad(17))),
(.copies[] | select(.hosts) | (("" | left(34)) + ("IOPS" | pad(10)) + ("p50 µs" | pad(9)) + ("p99 µs" | pad(9)) + ("p99.9 µs" | pad(10))),
	(.meanwhile | hosts("  their writes meanwhile")), (.afterwards | hosts("  and when nothing is copied"))),
(select(.beside) | .beside | "", "4 KiB writes at random beside a raid1 of \(.peer) on the same wires: programs that begin anew by turns; medians of \(.rounds) rounds",
	("" | left(34)) + ("IOPS" | pad(10)) + ("p50 µs" | pad(9)) + ("p99 µs" | pad(9)) + ("p99.9 µs" | pad(10)) + ("cycles, source" | pad(16)) + ("destination" | pad(13))
	+ ("link B/B" | pad(10)) + ("frames" | pad(8)),
	(.depths[] | .depth as $depth
	| def side($name): hosts("\($name), depth \($depth)") + (.source | round | pad(16)) + (.destination | round | pad(13)) + (.bytes_on_the_wire | to(3) | pad(10)) + (.frames | to(2) | pad(8));
	  (.mirrored | side("mirrored")), (.raid1 | side("raid1")),
	  (.ratio | "  ours to theirs: IOPS \(.iops | to(2)), p50 \(.p50 | to(2)), p99 \(.p99 | to(2)), cycles of the source \(.cycles | to(2))")))
