# The report of a pair's demonstration as text: what was compared, how long it took, and the host's throughput by seconds.
def pad($n): tostring | (" " * ([0, $n - length] | max)) + .;
def left($n): tostring | . + (" " * ([0, $n - length] | max));
def to1: . * 10 | round / 10;
def line: "━" * 100;
.timeline as $t | ($t.bin_s) as $bin | (1 / $bin | round) as $each
| [range(0; $t.mib_per_second | length; $each) as $at | $t.mib_per_second[$at:$at + $each] | add / $each] as $seconds
| ([$seconds[], 1] | max) as $most
| line, "  \(.title)", "  \(.machine | [to_entries[] | "\(.key): \(.value)"] | join(" · "))", line, "",
"What the host saw: MiB/s acknowledged, second by second; ░ MiB still to be copied to the other node",
($seconds | to_entries[] | .key as $s | .value as $mib
	| ([$t.left[] | select(.at_s >= $s and .at_s < $s + 1) | .mib] | last) as $copy
	| ([$t.events[] | select(.at_s >= $s and .at_s < $s + 1)] | map("\(.at_s | to1) s  \(.what)")) as $events
	| "\("\($s) s" | pad(6)) \($mib | round | pad(5)) \("█" * (24 * $mib / $most | round) // "" | left(24)) \(if $copy == null then "" else "░ \($copy | round)" end | left(7)) \($events[0] // "")",
		($events[1:][] | (" " * 46) + .)),
"",
"Taken over \(.takeover_s | to1) s after the kill (leases of \(.lease_s) s); \(.mib_copied | round) MiB at most were to be copied back, in sync again \(.back_in_sync_s | to1) s after the start of the node that was killed.",
"",
"`throughline pair report`, when both had the same again",
("  node one  \(.pair_report[0])", "  node two  \(.pair_report[1])"),
"",
"What was read back",
(.compared[] | "  node \(.node | left(5)) \(.what | left(44)) \(if .good then "identical" elif .blocks_differing then "\(.blocks_differing) blocks DIFFER" else "FAILED" end)"),
line,
if .good then "  Every comparison matched: nothing that was acknowledged was lost, and the node that was killed has everything again."
else "  FAILED: what was read back is not what was acknowledged." end,
line
