# shellcheck shell=bash
# Sourced by ci/bench: what writes take while twenty consistency points come and go, the engine alone under full load.
: "${root:?}" "${dir:?}" "${release:?}" "${size:?}"

build "the engine alone" -p engine --example alone
points=20
# What a write takes on either device, in microseconds: most, and one in a hundred. No stall may be longer than ten times the latter.
device=(100 1000)

rm -f "$dir/samples.jsonl"
machine >"$dir/machine.json"
# run WHAT ARGUMENT...: one run, its line, its plot.
run_one() {
	local what=$1
	shift
	above_others "$release/examples/alone" write --logged --points $points --device-us "${device[@]}" "$@" |
		jq -c --arg what "$what" '{what: $what} + .' >>"$dir/samples.jsonl" || die "the engine alone does not do: $*"
	say "  consistency points $what"
}
run_one "every second" --interval-ms 1000 --half-mib 4096
run_one "as halves fill" --interval-ms 10000 --half-mib 256
jq -s --slurpfile machine "$dir/machine.json" '{title: "What a 4 KiB write takes while consistency points come and go", machine: $machine[0],
	runs: map(. + {limit_us: (10 * .device.slowest_us), longest_us: ([.bins[].max_us] | max)} | . + {stalls: (.limit_us as $limit | [.bins[] | select(.max_us > $limit)] | length)})}' \
	"$dir/samples.jsonl" >"$dir/report.json"
jq -r -f "$root/ci/bench.d/latency.jq" "$dir/report.json" >"$dir/report.svg"
jq -r '
	def pad($n): tostring | (" " * ([0, $n - length] | max)) + .;
	def left($n): tostring | . + (" " * ([0, $n - length] | max));
	def median: sort | .[length / 2 | floor];
	.title, "\(.machine.cpu), load \(.machine.load_at_start), \(.machine.commit); depth \(.runs[0].depth); a write takes \(.runs[0].device.most_us) µs on either device, one in a hundred \(.runs[0].device.slowest_us) µs", "",
	("consistency points" | left(20)) + ("how many" | pad(9)) + ("seconds" | pad(9)) + ("writes/s" | pad(10)) + ("p50 µs" | pad(8)) + ("p99 µs" | pad(8)) + ("worst p99" | pad(11)) + ("longest" | pad(9)) + ("limit" | pad(8)) + ("left out" | pad(9)),
	(.runs[] | (.what | left(20)) + (.ends | length | pad(9)) + (.seconds | round | pad(9)) + (.writes / .seconds | round | pad(10)) + ([.bins[].p50_us] | median | round | pad(8))
		+ ([.bins[].p99_us] | median | round | pad(8)) + ([.bins[].p99_us] | max | round | pad(11)) + (.longest_us | round | pad(9)) + (.limit_us | pad(8))
		+ (([.bins[].waited_us] | add) / 10000 / .seconds | round | "\(.) %" | pad(9)) + if .longest_us <= .limit_us then "" else "  missed, in \(.stalls) of \(.bins | length) tenths of a second" end),
	"", "Left out of what writes took: the time in which the machine had other work for this process'"'"'s core, a share of the run as shown."' \
	"$dir/report.json" | tee "$dir/report.txt"
say "Everything is in $dir: report.json, report.txt, report.svg."
jq -e '[.runs[] | .longest_us <= .limit_us] | all' "$dir/report.json" >/dev/null ||
	die "a write took longer than ten times what a device takes at most."
