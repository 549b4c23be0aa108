# A report as a table. Both sides of a load are a line each.
def pad($n): tostring | if length >= $n then . else ((" " * ($n - length)) + .) end;
def left($n): tostring | . + (" " * ([0, $n - length] | max));
def whole: if . == null then "-" else round | tostring end;
def two: if . == null then "-" else (. * 100 | round / 100 | tostring) end;
def percent: if . == null then "-" else "\(. * 100 | round)%" end;
def line($name; $side; $ratio):
	($name | left(30)) + ($side.who | left(13)) + ($side.f.iops | whole | pad(9)) + ($side.f.iops_spread | percent | pad(8))
	+ ($side.f.p50_us | whole | pad(9)) + ($side.f.p99_us | whole | pad(9)) + ($side.f.p999_us | whole | pad(9))
	+ ($side.f.busy_cycles_per_io | whole | pad(12)) + ($side.f.frames_in_per_io | two | pad(8)) + ($side.f.frames_out_per_io | two | pad(8)) + ($side.f.copied_per_byte | two | pad(9)) + ($ratio | pad(8));
.peer as $peer
| "\(.title) (\(.device) device, \(.rounds) rounds, medians)",
"\(.machine.cpu), \(.machine.cores) cores, Linux \(.machine.kernel), load \(.machine.load_at_start); \(.wire)", "",
("load" | left(30)) + ("target" | left(13)) + ("IOPS" | pad(9)) + ("spread" | pad(8)) + ("p50 us" | pad(9)) + ("p99 us" | pad(9)) + ("p99.9 us" | pad(9))
+ ("busy cyc/IO" | pad(12)) + ("in/IO" | pad(8)) + ("out/IO" | pad(8)) + ("copied" | pad(9)) + ("ratio" | pad(8)),
(.loads[] | "\(.pattern) \(.bytes / 1024)K depth \(.depth) x \(.connections)" as $name
	| line($name; {who: "throughline", f: .throughline}; .ratio.iops | two), line(""; {who: $peer, f: .peer}; ""))
