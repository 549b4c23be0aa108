# shellcheck shell=bash disable=SC2154,SC2034
# a logged volume, its log on the drive: the program is killed under load, and its whole machine; what the client saw acknowledged is there
# short 120, 40 a kill

# The drives outlive the machine; what was not flushed to them does not.
boot_appliance() {
	mapfile -t devices < <(forgetful_drive flash 64 && nvme nvme0 1 "" "flash-$(layers flash):512" && forgetful_drive log 64 && nvme nvme1 2 "" "log-$(layers log):512")
	appliance virtio-net-pci "${devices[@]}"
}
configured() {
	configure <<-END
		$(logged_stores)
		[[subsystem]]
		nqn = "$nqn"
		namespaces = [{ store = "flash", write = "logged" }]
	END
}
# The sentence of the last start about its replay.
replayed() { on appliance 'grep "were replayed" /run/throughline.log | tail -n 1'; }

boot_appliance
client
ready "$DRIVE1"
configured
serve
connect --reconnect-delay=1 --keep-alive-tmo=5
replays=0
for kill in $(seq "${kills:-4}"); do
	forgets_from_here flash 64
	forgets_from_here log 64
	on client 'rm -f /run/enough'
	begin client "load$kill" 'witness write /dev/nvme0n1 /run/record /run/enough'
	# Some before the first consistency point, some after it, some in one.
	sleep $((1 + kill % 4)).$((RANDOM % 10))
	if [ $((kill % 2)) -eq 1 ]; then
		on appliance 'kill -KILL $(cat /run/throughline.pid)'
		await 10 "it does not die" on appliance '! kill -0 $(cat /run/throughline.pid)'
	else
		halt appliance
		boot_appliance
		await_guest appliance
		on appliance 'sysctl -q vm.nr_hugepages=384'
		take "$NIC" "$DRIVE" "$DRIVE1" >"$run/bound"
		configured
	fi
	serve
	said=$(replayed)
	case $said in *' 0 records of '*) ;; *) replays=$((replays + 1)) ;; esac
	on client 'touch /run/enough'
	writes=$(end client "load$kill" 200) || fail "writes failed across kill $kill: $writes"
	wrong=$(on client 'witness verify /dev/nvme0n1 /run/record 2>&1') || fail "after kill $kill: $wrong (${said##*: })"
	printf 'kill %d: %s\n%s\n' "$kill" "$writes" "$said" >>"$run/kills"
done
[ "$replays" -gt 0 ] || fail "no start had anything to replay"
disconnect
stop
