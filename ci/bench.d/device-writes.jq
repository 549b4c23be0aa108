# Samples to a report: beside what devices were told to write, what they have to be told at least, by arithmetic.
# Of n writes to N pages, each with the chances of the pattern: how many pages are written at least once. Places do not depend on each other, so
# that of the pages written a share of 1 - written / N has none before it: as many runs there are, of 32 pages at most (`max_io_kib`).
def written($pattern; $pages; $n):
	if $pattern == "sequential" then [$pages, $n] | min
	elif $pattern == "uniform" then $pages * (1 - pow(1 - 1 / $pages; $n))
	else (reduce range(1; $pages + 1) as $rank (0; . + pow($rank; -0.99))) as $zeta
		| reduce range(1; $pages + 1) as $rank (0; . + 1 - pow(1 - pow($rank; -0.99) / $zeta; $n)) end;
def runs($pattern; $pages; $written):
	if $pattern == "sequential" then $written / 32
	# A run of geometrical length, in pieces of 32.
	else ($written / $pages) as $share | $written * (1 - $share) / (1 - pow($share; 32)) end;
{title: "What a drive is told to write for what hosts write to a logged namespace", machine: $machine[0],
 loads: map((.mib * 256) as $pages | (.commands / .points) as $n | written(.pattern | split(" ")[0]; $pages; $n) as $written
	| . + {least_pages: ($written / $n), least_operations: (runs(.pattern | split(" ")[0]; $pages; $written) / $n)})}
