# shellcheck shell=bash
# Sourced by ci/bench: what TLS adds to a command, the engine alone: in the clear and with either suite by turns.
: "${root:?}" "${dir:?}" "${release:?}"
# shellcheck disable=SC2154 # of ci/bench
rounds=$([ "$size" = full ] && echo 9 || echo 5)

build "the engine alone" -p engine --example alone
rm -f "$dir/samples.jsonl"
machine >"$dir/machine.json"
for ((round = 1; round <= rounds; round++)); do
	for shape in write read "write --cold" "read --cold" "write --connections 100" "read --connections 100"; do
		for tls in "" "--tls 128" "--tls 256"; do
			# shellcheck disable=SC2086
			above_others "$release/examples/alone" $shape $tls --commands 200000 | jq -c --arg shape "$shape" '{shape: $shape} + .' >>"$dir/samples.jsonl" ||
				die "the engine alone does not do: $shape $tls"
		done
	done
	say "  round $round of $rounds"
done

# Medians of the rounds. The ratio is of those of one round, then the median of those; its spread is the least and the most.
jq -s --slurpfile machine "$dir/machine.json" '
	def median: sort | .[(length - 1) / 2 | floor];
	[group_by(.shape)[] | . as $all | ([.[] | select(.tls == 0)]) as $plain
	 | (128, 256) as $bits | ([$all[] | select(.tls == $bits)]) as $tls
	 | [range($tls | length)] as $rounds
	 | def ratios($of): [$rounds[] | $tls[.][$of] / ($plain[.][$of] + $tls[.].cipher_cycles)];
	   {shape: $all[0].shape, tls: $bits, clear: ([$plain[].cycles_total] | median), clear_p10: ([$plain[].cycles_p10] | median),
	    cipher: ([$tls[].cipher_cycles] | median), cycles: ([$tls[].cycles_total] | median), cycles_p10: ([$tls[].cycles_p10] | median),
	    opened_elsewhere: ($tls[0].opened_elsewhere_per_byte), sealed_elsewhere: ($tls[0].sealed_elsewhere_per_byte),
	    copied: ($tls[0].copied_bytes_per_byte),
	    ratio: (ratios("cycles_total") | median), ratio_p10: (ratios("cycles_p10") | median),
	    ratio_least: (ratios("cycles_total") | min), ratio_most: (ratios("cycles_total") | max)}]
	| {title: "The engine alone, encrypted: TSC cycles per 4 KiB command", machine: $machine[0], shapes: .}' \
	"$dir/samples.jsonl" >"$dir/report.json"
jq -r '
	def pad($n): tostring | (" " * ([0, $n - length] | max)) + .;
	def left($n): tostring | . + (" " * ([0, $n - length] | max));
	def two: . * 100 | round / 100;
	.title, "\(.machine.cpu), load \(.machine.load_at_start), \(.machine.commit)", "",
	("" | left(26)) + (["suite", "clear", "cipher", "tls", "p10", "ratio", "least", "most", "by p10", "opened", "sealed", "copied"] | map(pad(8)) | add),
	(.shapes[] | (.shape | left(26)) + ([.tls, .clear, .cipher, .cycles, .cycles_p10, (.ratio | two), (.ratio_least | two), (.ratio_most | two), (.ratio_p10 | two),
		.opened_elsewhere, .sealed_elsewhere, .copied] | map(pad(8)) | add))' "$dir/report.json" | tee "$dir/report.txt"
say "Ratio: cycles with TLS by those in the clear and of the cipher alone; opened, sealed: bytes to another place than they lay in, for each of payload."
say "Everything is in $dir: report.json, report.txt."
