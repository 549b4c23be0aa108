# Samples of all rounds to one report: medians, what the log adds, and whether the goal is met.
def median: sort | if length % 2 == 1 then .[(length - 1) / 2] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
# Bytes to the log for each byte of payload when every group has so many records of one page each (nvlog, "On disk"): a header of
# 80 bytes, and 48 + 4 for a record, in whole blocks.
def formula($records; $block): 1 + ((80 + 52 * $records) / $block | ceil) * $block / (4096 * $records);
. as $samples
| [$samples[] | select(.instructions == null)] as $runs
| ([$runs[].shape] | unique) as $shapes
| def of($shape): $runs | map(select(.shape == $shape));
  {title: "The log, in the engine alone: TSC cycles and instructions per 4 KiB write, consistency points included",
   machine: $machine[0], rounds: $rounds, depth: $runs[0].depth, tsc_hz: $runs[0].tsc_hz,
   crc: {whole: ([$runs[].crc_cycles] | median), in_pieces: ([$runs[].crc_cycles_in_pieces] | median)},
   shapes: [$shapes[] as $shape | of($shape) as $runs
	| {shape: $shape, write: $runs[0].write, log_block: $runs[0].log_block, log_stores: $runs[0].log_stores,
	   median: ([$runs[].cycles_total] | median), p10: ([$runs[].cycles_p10] | median), mean: ([$runs[].cycles_mean] | median),
	   cycles: ($runs[0].cycles | with_entries(.key as $stage | .value = ([$runs[].cycles[$stage]] | median))),
	   instructions: ($samples[] | select(.shape == $shape and .instructions != null) | .instructions),
	   points: ([$runs[].points] | median), records_per_group: ([$runs[].records_per_group] | median),
	   log_bytes_per_byte: ([$runs[].log_bytes_per_byte] | median)}
	| if .write == "logged" then .formula = formula(.records_per_group; .log_block)
		| .formula_full_depth = formula($runs[0].depth; .log_block) else . end]}
| (.shapes[] | select(.write == "through")) as $through
| (.shapes[] | select(.write == "logged" and .log_block == 512 and .log_stores == 1)) as $logged
| (.shapes[] | select(.write == "logged" and .log_stores == 2)) as $two
| .goal = ({median: ($through.median + 1400 + .crc.whole), mean: ($through.mean + 1400 + .crc.whole), p10: ($through.p10 + 1400 + .crc.whole)}
	| .over = {median: ($logged.median - .median), mean: ($logged.mean - .mean), p10: ($logged.p10 - .p10)})
| .ratio = {instructions: ($logged.instructions / $through.instructions), median: ($logged.median / $through.median)}
| .second = {instructions: ($two.instructions - $logged.instructions), median: ($two.median - $logged.median), p10: ($two.p10 - $logged.p10)}
