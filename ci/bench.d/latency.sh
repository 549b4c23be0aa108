# shellcheck shell=bash
# Sourced by ci/bench: what writes take while twenty consistency points come and go, the engine alone under full load.
: "${root:?}" "${dir:?}" "${release:?}" "${size:?}"

build "the engine alone" -p engine --example alone
points=20

rm -f "$dir/samples.jsonl"
machine >"$dir/machine.json"
# run_one WHAT ARGUMENT...: writes take 100 µs on either device, one in a hundred 1 ms, unless it says otherwise. No write may take longer than
# ten times the slower one's most. Once more, and once again, if one did: what comes of the machine does not come back.
run_one() {
	local what=$1 try figures
	shift
	for try in 1 2 3; do
		figures=$(above_others "$release/examples/alone" write --logged --points $points --device-us 100 1000 "$@" 2>>"$LOG") || die "the engine alone does not do: $*"
		figures=$(jq -c --arg what "$what" --argjson run "$try" '{what: $what, tries: $run, limit_us: (10 * ([.drive_us[1], .log_us[1]] | max)), longest_us: ([.bins[].max_us] | max)} + .
			| . + {stalls: (.limit_us as $limit | [.bins[] | select(.max_us > $limit)] | length)}' <<<"$figures")
		note "$what, $try: longest $(jq .longest_us <<<"$figures") µs"
		[ "$(jq .stalls <<<"$figures")" -gt 0 ] || break
	done
	echo "$figures" >>"$dir/samples.jsonl"
	say "  $what"
}
run_one "every second" --interval-ms 1000 --half-mib 4096
run_one "as halves fill" --half-mib 256
run_one "as halves fill, with memory for all that they have" --half-mib 64 --clusters 262144
run_one "as halves fill, of a drive that is slower than hosts" --half-mib 64 --clusters 262144 --drive-us 10000 20000
jq -s --slurpfile machine "$dir/machine.json" '{title: "What a 4 KiB write takes while consistency points come and go", machine: $machine[0], runs: .}' \
	"$dir/samples.jsonl" >"$dir/report.json"
jq -r -f "$root/ci/bench.d/latency.jq" "$dir/report.json" >"$dir/report.svg"
jq -r '
	def pad($n): tostring | (" " * ([0, $n - length] | max)) + .;
	def left($n): tostring | . + (" " * ([0, $n - length] | max));
	def median: sort | .[length / 2 | floor];
	.title, "\(.machine.cpu), load \(.machine.load_at_start), \(.machine.commit); depth \(.runs[0].depth)", "",
	("consistency points" | left(54)) + ("how many" | pad(9)) + ("seconds" | pad(9)) + ("drive, log µs" | pad(24)) + ("writes/s" | pad(10)) + ("p50 µs" | pad(8)) + ("p99 µs" | pad(8)) + ("worst p99" | pad(11)) + ("longest" | pad(9))
		+ ("limit" | pad(8)) + ("log full" | pad(10)) + ("left out" | pad(9)) + ("tries" | pad(7)),
	(.runs[] | (.what | left(54)) + (.ends | length | pad(9)) + (.seconds | round | pad(9)) + ("\(.drive_us | join("-")), \(.log_us | join("-"))" | pad(24)) + (.writes / .seconds | round | pad(10))
		+ ([.bins[].p50_us] | median | round | pad(8)) + ([.bins[].p99_us] | median | round | pad(8)) + ([.bins[].p99_us] | max | round | pad(11)) + (.longest_us | round | pad(9)) + (.limit_us | pad(8)) + (.full | pad(10))
		+ (([.bins[].lost_us] | add) / 10000 / .seconds | round | "\(.) %" | pad(9)) + (.tries | pad(7)) + if .longest_us <= .limit_us then "" else "  missed, in \(.stalls) of \(.bins | length) tenths of a second" end),
	"", "Devices take so long for a write, and for one in a hundred. Log full: how often changes waited because both halves were in use.",
	"Left out of what writes took: the time in which this process was given no core, a share of the run as shown."' \
	"$dir/report.json" | tee "$dir/report.txt"
say "Everything is in $dir: report.json, report.txt, report.svg."
jq -e '[.runs[] | .longest_us <= .limit_us] | all' "$dir/report.json" >/dev/null ||
	die "a write took longer than ten times what the slower device takes at most."
