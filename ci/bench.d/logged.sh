# shellcheck shell=bash
# Sourced by ci/bench: what the log adds to a 4 KiB write, the consistency points in it; the engine alone, policies by turns.
: "${root:?}" "${dir:?}" "${release:?}" "${size:?}"

build "the engine alone" -p engine --example alone
alone() { above_others "$release/examples/alone" "$@"; }

# A part of the run that is measured together has two consistency points: halves of 16 MiB, left when half full, are 2,048 writes.
part=4096
rounds=3
[ "$size" != full ] || rounds=7
shapes=("write" "write --back" "write --logged" "write --logged --log-block 4096" "write --logged --two-logs")

# instructions SHAPE: of a command, counted by callgrind inside the shard's poll, over four consistency points.
instructions() {
	local commands=8192 counted
	# shellcheck disable=SC2086
	counted=$(nice -n 5 valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='*poll_counted*' \
		"$release/examples/alone" $1 --instructions --commands $commands 2>&1 >/dev/null | sed -n 's/.*Collected : \([0-9]*\).*/\1/p')
	[ -n "$counted" ] || die "the engine alone does not run under valgrind ($1)."
	echo $((counted / commands))
}

rm -f "$dir/samples.jsonl"
machine >"$dir/machine.json"
for round in $(seq $rounds); do
	for shape in "${shapes[@]}"; do
		# shellcheck disable=SC2086
		alone $shape --part $part | jq -c --arg shape "$shape" --argjson round "$round" '{shape: $shape, round: $round} + .' >>"$dir/samples.jsonl" ||
			die "the engine alone does not do: $shape"
	done
	say "  round $round of $rounds"
done
for shape in "${shapes[@]}"; do
	jq -n -c --arg shape "$shape" --argjson n "$(instructions "$shape")" '{shape: $shape, instructions: $n}' >>"$dir/samples.jsonl"
	say "  instructions: $shape"
done
jq -s --slurpfile machine "$dir/machine.json" --argjson rounds $rounds -f "$root/ci/bench.d/logged.jq" "$dir/samples.jsonl" >"$dir/report.json"
jq -r -f "$root/ci/bench.d/logged-table.jq" "$dir/report.json" | tee "$dir/report.txt"
say "Everything is in $dir: report.json, report.txt."
