# A report of ci/bench --engine --logged as text.
def pad($n): tostring | (" " * ([0, $n - length] | max)) + .;
def left($n): tostring | . + (" " * ([0, $n - length] | max));
def to($digits): pow(10; $digits) as $scale | . * $scale | round / $scale;
def verdict: if . <= 0 then "met, with \(-. | round) to spare" else "missed by \(. | round)" end;
.title, "\(.machine.cpu), TSC \(.tsc_hz / 1000000 | round) MHz, load \(.machine.load_at_start), \(.machine.commit); depth \(.depth), medians of \(.rounds) rounds", "",
("" | left(34)) + ("p10" | pad(8)) + ("median" | pad(8)) + ("mean" | pad(8)) + ("instructions" | pad(14)) + ("records/group" | pad(15)) + ("log bytes/byte" | pad(16)) + ("by formula" | pad(12)),
(.shapes[] | (.shape | left(34)) + (.p10 | round | pad(8)) + (.median | round | pad(8)) + (.mean | round | pad(8)) + (.instructions | pad(14))
	+ if .write == "logged" then (.records_per_group | to(1) | pad(15)) + (.log_bytes_per_byte | to(4) | pad(16)) + (.formula | to(4) | pad(12)) else "" end),
"",
("" | left(34)) + ([.shapes[0].cycles | keys_unsorted[] | pad(9)] | add),
(.shapes[] | (.shape | left(34)) + ([.cycles[] | round | pad(9)] | add)),
"",
"One pass of the log's CRC32C over 4 KiB, alone: \(.crc.whole | round) cycles; in the three pieces that come off the wire: \(.crc.in_pieces | round).",
"Goal: a logged write takes at most one through + 1,400 + that pass.",
(.goal | "  median  at most \(.median | round): \(.over.median | verdict)", "  mean    at most \(.mean | round): \(.over.mean | verdict)", "  p10     at most \(.p10 | round): \(.over.p10 | verdict)"),
"Instructions, logged to through: \(.ratio.instructions | to(2)). Cycles: \(.ratio.median | to(2)).",
"A second store of the log adds \(.second.median | round) cycles in the median, \(.second.p10 | round) of p10, \(.second.instructions) instructions.",
"Log bytes for each byte, with blocks of B bytes and n records of one page in a group: 1 + ceil((80 + 52 n) / B) B / (4096 n).",
(.shapes[] | select(.write == "logged" and .log_stores == 1) | "  B = \(.log_block): \(.log_bytes_per_byte | to(4)) measured at \(.records_per_group | to(1)) records a group, by the formula \(.formula | to(4)); \(.formula_full_depth | to(4)) if all of the depth were one group"
	+ if .log_block == 512 then ". Goal, at most 1.05: \(if .log_bytes_per_byte <= 1.05 then "met" else "missed" end)" else "" end)
