# shellcheck shell=bash
# Sourced by ci/bench: the engine alone, one process for each shape of load.
: "${root:?}" "${dir:?}" "${release:?}" "${size:?}"

build "the engine alone" -p engine --example alone
alone() { above_others "$release/examples/alone" "$@"; }

shapes() {
	local operation
	for operation in write read; do
		printf '%s\n' "$operation" "$operation --connections 100"
		[ "$size" = quick ] || printf '%s\n' "$operation --connections 10000" "$operation --gib 4" "$operation --gib 64"
		printf '%s\n' "$operation --digest" "$operation --no-offloads"
	done
	printf '%s\n' "write --copy" "write --cold" "write --cold --copy" "write --digest --copy" "write --cold --digest" "write --cold --digest --copy"
}

# Few commands, and what must be so of them whatever the machine: no timings.
sane() {
	local figures
	for shape in "write" "read" "write --connections 100 --digest" "read --no-offloads" "write --copy" "write --logged" "write --tls 128" "read --tls 256"; do
		# shellcheck disable=SC2086
		figures=$(alone $shape --commands 5000) || die "the engine alone does not do: $shape"
		jq -e '
			(.operation == "write") as $write | (if $write then 2.5 else 0 end) as $least
			| .commands >= 5000 and .cycles_total > 0 and ([.cycles[]] | min) >= 0 and .frames_in > $least and .frames_in < 4
			and .copied_bytes_per_byte == (if .copy then 1 else 0 end)
			and .opened_elsewhere_per_byte == 0 and .sealed_elsewhere_per_byte == 0 and (.tls > 0) == (.cipher_cycles > 0)' <<<"$figures" >/dev/null ||
			die "the engine alone counts wrongly ($shape): $figures"
	done
	say "The engine alone does what its hosts ask, and counts right."
}

if [ "$size" = sane ]; then
	sane
	exit
fi
rm -f "$dir/samples.jsonl"
machine >"$dir/machine.json"
while read -r shape; do
	# shellcheck disable=SC2086
	alone $shape | jq -c --arg shape "$shape" '{shape: $shape} + .' >>"$dir/samples.jsonl" || die "the engine alone does not do: $shape"
	say "  $shape"
done < <(shapes)
jq -s --slurpfile machine "$dir/machine.json" '{title: "The engine alone: TSC cycles per 4 KiB command", machine: $machine[0], shapes: .}' \
	"$dir/samples.jsonl" >"$dir/report.json"
jq -r '
	def pad($n): tostring | (" " * ([0, $n - length] | max)) + .;
	def left($n): tostring | . + (" " * ([0, $n - length] | max));
	.title, "\(.machine.cpu), TSC \(.shapes[0].tsc_hz / 1000000 | round) MHz, load \(.machine.load_at_start), \(.machine.commit)", "",
	("" | left(34)) + ([.shapes[0].cycles | keys_unsorted[] | pad(9)] | add) + ("total" | pad(8)) + ("p10" | pad(7)) + ("p90" | pad(7)) + ("IOPS/core" | pad(11)) + ("copied" | pad(7)),
	(.shapes[] | (.shape | left(34)) + ([.cycles[] | pad(9)] | add) + (.cycles_total | pad(8)) + (.cycles_p10 | pad(7)) + (.cycles_p90 | pad(7))
		+ (.iops_per_core | pad(11)) + (.copied_bytes_per_byte | pad(7)))' "$dir/report.json" | tee "$dir/report.txt"
say "Everything is in $dir: report.json, report.txt."
