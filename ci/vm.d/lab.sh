# shellcheck shell=bash
# The two guests of a scenario, and what is done with them again and again. Sourced by run.sh.
#
#   appliance   owns an emulated NVMe drive and a network card through a user-space driver, and runs `throughline`
#   client      Debian's own kernel with its NVMe/TCP initiator; knows nothing of us
#
# Networks: lan0 (192.0.2.0/24) and, where a scenario asks for a second path, lan1 (198.51.100.0/24); the appliance is .1.

nqn=nqn.2026-01.com.example:flash0

# drive NAME MEBIBYTES: an empty drive image.
drive() { truncate -s "$2M" "$run/$1.img"; }

# nic GUEST LAN MODEL SLOT: QEMU's arguments for a card of a guest on a network.
nic() {
	local guest=$1 lan=$2 model=$3 slot=$4 peer=appliance
	[ "$guest" != appliance ] || peer=client
	printf '%s\n' -netdev "dgram,id=$lan,local.type=unix,local.path=$run/$lan.$guest,remote.type=unix,remote.path=$run/$lan.$peer" \
		-device "$model,netdev=$lan,id=nic-$lan,mac=52:54:00:00:0${lan#lan}:0$((${#guest} - 5)),addr=$slot"
}

# nvme ID BUS OPTIONS NAMESPACE...: QEMU's arguments for a controller on PCI bus 0000:BUS (so at 0000:BUS:00.0). A namespace is
# `IMAGE:BLOCK_SIZE`, or `NODE=…` with the name of a block node of the scenario's own instead of an image.
nvme() {
	local id=$1 bus=$2 options=$3 namespace node
	shift 3
	printf '%s\n' -device "pcie-root-port,id=port-$id,chassis=$bus,slot=$bus,addr=$(printf '0x%x' $((7 + bus)))" \
		-device "nvme,id=$id,serial=$id,bus=port-$id${options:+,$options}"
	for namespace; do
		node=${namespace%:*}
		case $node in
		node=*) node=${node#node=} ;;
		*) printf '%s\n' -blockdev "file,node-name=$node,filename=$run/$node.img,cache.no-flush=on" ;;
		esac
		printf '%s\n' -device "nvme-ns,drive=$node,bus=$id,logical_block_size=${namespace##*:},physical_block_size=${namespace##*:}"
	done
}

# take GUEST ADDRESS DRIVER: gives a PCI device to a user-space driver.
take() {
	on "$1" "modprobe $3
		[ ! -e /sys/bus/pci/devices/$2/driver ] || echo $2 >/sys/bus/pci/devices/$2/driver/unbind
		echo $3 >/sys/bus/pci/devices/$2/driver_override
		echo $2 >/sys/bus/pci/drivers_probe
		[ -e /sys/bus/pci/drivers/$3/$2 ]"
}

# join GUEST INTERFACE ADDRESS: an address on a kernel's interface.
join() { on "$1" "ip link set $2 up && ip address add $3 dev $2"; }
