/* Ports: finding, configuring, starting, and reading their counters. */
#include "internal.h"

#include <rte_bus.h>
#include <rte_dev.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct tl_port_state tl_ports[RTE_MAX_ETHPORTS];

_Static_assert(TL_NAME_MAX >= RTE_ETH_NAME_MAX_LEN, "a device name fits");
_Static_assert(TL_NAME_MAX >= RTE_ETH_XSTATS_NAME_SIZE, "a counter's name fits");

/* ---- Offloads ----------------------------------------------------------------------------------------------------- */

struct offload {
	uint32_t ours;
	uint64_t theirs; /* all of them */
};

static const struct offload rx_offloads[] = {
	{ TL_OFFLOAD_RX_IP_CSUM, TLC_OFF_RX_IP },
	{ TL_OFFLOAD_RX_L4_CSUM, TLC_OFF_RX_TCP | TLC_OFF_RX_UDP },
	{ TL_OFFLOAD_RX_VLAN_STRIP, TLC_OFF_RX_VLAN },
	{ TL_OFFLOAD_RX_SCATTER, TLC_OFF_RX_SCATTER },
	{ TL_OFFLOAD_RX_RSS_HASH, TLC_OFF_RX_RSS },
};

static const struct offload tx_offloads[] = {
	{ TL_OFFLOAD_TX_IP_CSUM, TLC_OFF_TX_IP },
	{ TL_OFFLOAD_TX_TCP_CSUM, TLC_OFF_TX_TCP },
	{ TL_OFFLOAD_TX_UDP_CSUM, TLC_OFF_TX_UDP },
	{ TL_OFFLOAD_TX_TSO, TLC_OFF_TX_TSO },
	{ TL_OFFLOAD_TX_VLAN, TLC_OFF_TX_VLAN },
	{ TL_OFFLOAD_TX_MULTI_SEG, TLC_OFF_TX_MULTI_SEG },
};

static uint32_t to_ours(const struct offload *table, size_t n, uint64_t theirs)
{
	uint32_t ours = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		ours |= (theirs & table[i].theirs) == table[i].theirs ? table[i].ours : 0;
	}
	return ours;
}

static uint64_t to_theirs(const struct offload *table, size_t n, uint32_t ours)
{
	uint64_t theirs = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		theirs |= (ours & table[i].ours) != 0 ? table[i].theirs : 0;
	}
	return theirs;
}

/* ---- Drivers with ways of their own ------------------------------------------------------------------------------- */

/* Continues a long frame at the very start of the next buffer, headroom included: net_pcap whatever the MTU. */
static bool writes_headroom(const char *driver)
{
	return strcmp(driver, "net_pcap") == 0 || strcmp(driver, "net_tap") == 0 || strstr(driver, "virtio") != NULL;
}

/* Segments in software, but takes the Ethernet header for a part of what the MTU bounds: it refuses full segments, for ever. */
static bool segments_badly(const char *driver)
{
	return strcmp(driver, "net_tap") == 0;
}

/* What a driver sends well. */
static uint64_t tx_capa(const struct rte_eth_dev_info *info)
{
	return info->tx_offload_capa & ~(segments_badly(info->driver_name) ? (uint64_t)TLC_OFF_TX_TSO : 0);
}

static bool suits(const char *driver, uint32_t shift, bool scatter)
{
	if (shift == TL_CLUSTER_INSIDE) {
		return true;
	}
	return strcmp(driver, "net_pcap") != 0 && !(scatter && (shift != 0 || writes_headroom(driver)));
}

/* ---- Finding ------------------------------------------------------------------------------------------------------ */

uint16_t tl_port_next(uint16_t prev)
{
	uint16_t port = (uint16_t)rte_eth_find_next(prev == TL_PORT_NONE ? 0 : (uint16_t)(prev + 1));

	return port >= RTE_MAX_ETHPORTS ? TL_PORT_NONE : port;
}

int32_t tl_port_find(const char *name, uint16_t *port)
{
	return rte_eth_dev_get_port_by_name(name, port) == 0 ? 0 : -ENODEV;
}

int32_t tl_port_probe(const char *devargs)
{
	rte_errno = 0;
	return tlc_error(rte_dev_probe(devargs));
}

int32_t tl_port_remove(uint16_t port)
{
	struct rte_eth_dev_info info;
	int rc = rte_eth_dev_info_get(port, &info);

	rte_errno = 0;
	return rc != 0 ? rc : tlc_error(rte_dev_remove(info.device));
}

int32_t tl_port_info(uint16_t port, struct tl_port_info *out)
{
	struct rte_ether_addr mac;
	struct rte_eth_dev_info info;
	int rc = rte_eth_dev_info_get(port, &info);

	if (rc != 0) {
		return rc;
	}
	memset(out, 0, sizeof(*out));
	rc = rte_eth_dev_get_name_by_port(port, out->name);
	if (rc != 0) {
		return rc;
	}
	snprintf(out->driver, sizeof(out->driver), "%s", info.driver_name);
	if (rte_eth_macaddr_get(port, &mac) == 0) {
		memcpy(out->mac, &mac, sizeof(out->mac));
	}
	(void)rte_eth_dev_get_mtu(port, &out->mtu);
	out->max_rx_queues = info.max_rx_queues;
	out->max_tx_queues = info.max_tx_queues;
	out->mtu_min = info.min_mtu;
	out->mtu_max = info.max_mtu;
	out->max_rx_pktlen = info.max_rx_pktlen;
	out->offloads = to_ours(rx_offloads, RTE_DIM(rx_offloads), info.rx_offload_capa) |
			to_ours(tx_offloads, RTE_DIM(tx_offloads), tx_capa(&info)) |
			(tlc_scatters_unasked(info.driver_name) ? TL_OFFLOAD_RX_SCATTER : 0);
	out->rss_types = info.flow_type_rss_offloads;
	out->reta_size = info.reta_size;
	out->rss_key_len = info.hash_key_size;
	out->rx_desc_min = info.rx_desc_lim.nb_min;
	out->rx_desc_max = info.rx_desc_lim.nb_max;
	out->rx_desc_align = info.rx_desc_lim.nb_align;
	out->tx_desc_min = info.tx_desc_lim.nb_min;
	out->tx_desc_max = info.tx_desc_lim.nb_max;
	out->tx_desc_align = info.tx_desc_lim.nb_align;
	out->tx_segs_max = info.tx_desc_lim.nb_seg_max == UINT16_MAX ? 0 : info.tx_desc_lim.nb_seg_max;
	out->tx_mtu_segs_max = info.tx_desc_lim.nb_mtu_seg_max == UINT16_MAX ? 0 : info.tx_desc_lim.nb_mtu_seg_max;
	out->cluster_shift = writes_headroom(info.driver_name) ? TL_CLUSTER_INSIDE : TL_CLUSTER_SHIFT;
	out->numa = rte_eth_dev_socket_id(port);
	return 0;
}

/* ---- Configuring -------------------------------------------------------------------------------------------------- */

/* The MTU of the system's interface under a virtual port; 0 if there is none. DPDK supposes 1500 there, whatever a program
   before this one, or the operator, made of it. */
static uint16_t interface_mtu(uint32_t index)
{
	struct ifreq request = { 0 };
	uint16_t mtu = 0;
	int fd;

	if (index == 0 || if_indextoname(index, request.ifr_name) == NULL) {
		return 0;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		if (ioctl(fd, SIOCGIFMTU, &request) == 0 && request.ifr_mtu <= UINT16_MAX) {
			mtu = (uint16_t)request.ifr_mtu;
		}
		close(fd);
	}
	return mtu;
}

int32_t tl_port_configure(uint16_t port, const struct tl_port_config *config, uint32_t *granted)
{
	struct rte_eth_conf conf = { 0 };
	struct rte_eth_dev_info info;
	uint16_t mtu = config->mtu, now = 0, below;
	int rc = rte_eth_dev_info_get(port, &info);

	if (rc != 0) {
		return rc;
	}
	(void)rte_eth_dev_get_mtu(port, &now);
	if (mtu == 0) {
		mtu = now;
	}
	conf.rxmode.offloads =
		to_theirs(rx_offloads, RTE_DIM(rx_offloads), config->offloads) & info.rx_offload_capa;
	conf.txmode.offloads =
		to_theirs(tx_offloads, RTE_DIM(tx_offloads), config->offloads) & tx_capa(&info);
	tlc_set_mtu(&conf, mtu, info.rx_offload_capa);
	if (config->rx_queues > 1 && info.flow_type_rss_offloads != 0) {
		conf.rxmode.mq_mode = TLC_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = (TLC_RSS_IP | TLC_RSS_TCP) & info.flow_type_rss_offloads;
		if (config->rss_key != NULL && config->rss_key_len >= 40) {
			uint32_t want = info.hash_key_size != 0 ? info.hash_key_size : 40;

			if (config->rss_key_len < want) {
				return -EINVAL;
			}
			conf.rx_adv_conf.rss_conf.rss_key = (uint8_t *)(uintptr_t)config->rss_key;
			conf.rx_adv_conf.rss_conf.rss_key_len = (uint8_t)want;
		}
	} else {
		conf.rxmode.offloads &= ~(uint64_t)TLC_OFF_RX_RSS;
	}
	rc = rte_eth_dev_configure(port, config->rx_queues, config->tx_queues, &conf);
	if (rc != 0) {
		return rc;
	}
	below = interface_mtu(info.if_index);
	if (mtu != now || (below != 0 && below < mtu)) {
		rc = rte_eth_dev_set_mtu(port, mtu);
		if (rc != 0 && rc != -ENOTSUP) {
			return rc;
		}
	}
	tl_ports[port].rx_offloads = conf.rxmode.offloads;
	tl_ports[port].tx_offloads = conf.txmode.offloads;
	tl_ports[port].scatter = (conf.rxmode.offloads & TLC_OFF_RX_SCATTER) != 0 ||
				 ((config->offloads & TL_OFFLOAD_RX_SCATTER) != 0 && tlc_scatters_unasked(info.driver_name));
	tl_ports[port].prepare = (conf.txmode.offloads & ~(uint64_t)TLC_OFF_TX_MULTI_SEG) != 0;
	if (granted != NULL) {
		*granted = (to_ours(rx_offloads, RTE_DIM(rx_offloads), conf.rxmode.offloads) |
			    to_ours(tx_offloads, RTE_DIM(tx_offloads), conf.txmode.offloads) |
			    (tl_ports[port].scatter ? TL_OFFLOAD_RX_SCATTER : 0)) & config->offloads;
	}
	return 0;
}

int32_t tl_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t *descriptors, int32_t socket,
			  struct tl_cluster_pool *pool)
{
	struct rte_eth_dev_info info;
	struct rte_eth_rxconf conf;
	uint16_t unused = 512;
	int rc = rte_eth_dev_info_get(port, &info);

	if (rc != 0) {
		return rc;
	}
	if (!suits(info.driver_name, pool->shift, tl_ports[port].scatter)) {
		return -EINVAL;
	}
	if (*descriptors == 0) {
		*descriptors = info.default_rxportconf.ring_size != 0 ? info.default_rxportconf.ring_size : 1024;
	}
	rc = rte_eth_dev_adjust_nb_rx_tx_desc(port, descriptors, &unused);
	if (rc != 0) {
		return rc;
	}
	conf = info.default_rxconf;
	conf.offloads = tl_ports[port].rx_offloads;
	return rte_eth_rx_queue_setup(port, queue, *descriptors, (unsigned int)socket, &conf, pool->mp);
}

int32_t tl_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t *descriptors, int32_t socket)
{
	struct rte_eth_dev_info info;
	struct rte_eth_txconf conf;
	uint16_t unused = 512;
	int rc = rte_eth_dev_info_get(port, &info);

	if (rc != 0) {
		return rc;
	}
	if (*descriptors == 0) {
		*descriptors = info.default_txportconf.ring_size != 0 ? info.default_txportconf.ring_size : 1024;
	}
	rc = rte_eth_dev_adjust_nb_rx_tx_desc(port, &unused, descriptors);
	if (rc != 0) {
		return rc;
	}
	conf = info.default_txconf;
	conf.offloads = tl_ports[port].tx_offloads;
	return rte_eth_tx_queue_setup(port, queue, *descriptors, (unsigned int)socket, &conf);
}

int32_t tl_port_start(uint16_t port)
{
	return rte_eth_dev_start(port);
}

int32_t tl_port_stop(uint16_t port)
{
	return rte_eth_dev_is_valid_port(port) ? tlc_port_stop(port) : -ENODEV;
}

int32_t tl_port_close(uint16_t port)
{
	if (!rte_eth_dev_is_valid_port(port)) {
		return -ENODEV;
	}
	(void)tlc_port_stop(port);
	memset(&tl_ports[port], 0, sizeof(tl_ports[port]));
	return tlc_port_close(port);
}

/* ---- While it runs ------------------------------------------------------------------------------------------------ */

int32_t tl_port_set_promiscuous(uint16_t port, bool on)
{
	return on ? rte_eth_promiscuous_enable(port) : rte_eth_promiscuous_disable(port);
}

int32_t tl_port_set_allmulticast(uint16_t port, bool on)
{
	return on ? rte_eth_allmulticast_enable(port) : rte_eth_allmulticast_disable(port);
}

int32_t tl_port_mac(uint16_t port, uint8_t mac[6])
{
	struct rte_ether_addr addr;
	int rc = rte_eth_macaddr_get(port, &addr);

	if (rc == 0) {
		memcpy(mac, &addr, 6);
	}
	return rc;
}

int32_t tl_port_mtu(uint16_t port, uint16_t *mtu)
{
	return rte_eth_dev_get_mtu(port, mtu);
}

int32_t tl_port_set_mtu(uint16_t port, uint16_t mtu)
{
	return rte_eth_dev_set_mtu(port, mtu);
}

int32_t tl_port_link(uint16_t port, struct tl_port_link *out)
{
	struct rte_eth_link link;
	int rc;

	memset(out, 0, sizeof(*out));
	memset(&link, 0, sizeof(link));
	rc = rte_eth_link_get_nowait(port, &link);
	if (rc != 0) {
		return rc;
	}
	out->mbps = link.link_speed;
	out->up = link.link_status != 0;
	out->full_duplex = link.link_duplex == TLC_FULL_DUPLEX;
	return 0;
}

int32_t tl_port_stats(uint16_t port, struct tl_port_stats *out)
{
	struct rte_eth_stats stats;
	int rc = rte_eth_stats_get(port, &stats);

	if (rc != 0) {
		return rc;
	}
	out->rx_packets = stats.ipackets;
	out->rx_bytes = stats.ibytes;
	out->rx_missed = stats.imissed;
	out->rx_errors = stats.ierrors;
	out->rx_nombuf = stats.rx_nombuf;
	out->tx_packets = stats.opackets;
	out->tx_bytes = stats.obytes;
	out->tx_errors = stats.oerrors;
	out->tx_rejected = __atomic_load_n(&tl_ports[port].tx_rejected, __ATOMIC_RELAXED);
	return 0;
}

int32_t tl_port_xstats(uint16_t port, struct tl_port_xstat *out, uint32_t max)
{
	struct rte_eth_xstat_name *names;
	struct rte_eth_xstat *values;
	int i, n = rte_eth_xstats_get_names(port, NULL, 0), got;

	if (n <= 0) {
		return n;
	}
	names = calloc((size_t)n, sizeof(*names));
	values = calloc((size_t)n, sizeof(*values));
	got = names == NULL || values == NULL ? -ENOMEM : rte_eth_xstats_get_names(port, names, (unsigned int)n);
	if (got >= 0) {
		got = rte_eth_xstats_get(port, values, (unsigned int)n);
	}
	for (i = 0; i < RTE_MIN(got, n) && (uint32_t)i < max; i++) {
		snprintf(out[i].name, sizeof(out[i].name), "%s",
			 values[i].id < (uint64_t)n ? names[values[i].id].name : "");
		out[i].value = values[i].value;
	}
	free(names);
	free(values);
	return got;
}

int32_t tl_port_socket(uint16_t port)
{
	return rte_eth_dev_socket_id(port);
}
