/* Names and behaviours that differ between DPDK versions, 20.05 on one side and 22.11 or later on the other. */
#ifndef TL_DPDK_COMPAT_H
#define TL_DPDK_COMPAT_H

#include <errno.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_net.h>
#include <rte_version.h>
#include <stdbool.h>
#include <string.h>

#define TL_DPDK_LEGACY (RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0))

#if TL_DPDK_LEGACY
#define TLC_MBUF_EXTERNAL EXT_ATTACHED_MBUF
#define TLC_RX_IP_MASK PKT_RX_IP_CKSUM_MASK
#define TLC_RX_IP_GOOD PKT_RX_IP_CKSUM_GOOD
#define TLC_RX_IP_BAD PKT_RX_IP_CKSUM_BAD
#define TLC_RX_IP_NONE PKT_RX_IP_CKSUM_NONE
#define TLC_RX_L4_MASK PKT_RX_L4_CKSUM_MASK
#define TLC_RX_L4_GOOD PKT_RX_L4_CKSUM_GOOD
#define TLC_RX_L4_BAD PKT_RX_L4_CKSUM_BAD
#define TLC_RX_L4_NONE PKT_RX_L4_CKSUM_NONE
#define TLC_RX_RSS PKT_RX_RSS_HASH
#define TLC_RX_VLAN_STRIPPED PKT_RX_VLAN_STRIPPED
#define TLC_TX_IPV4 PKT_TX_IPV4
#define TLC_TX_IPV6 PKT_TX_IPV6
#define TLC_TX_IP_CKSUM PKT_TX_IP_CKSUM
#define TLC_TX_TCP_CKSUM PKT_TX_TCP_CKSUM
#define TLC_TX_UDP_CKSUM PKT_TX_UDP_CKSUM
#define TLC_TX_TCP_SEG PKT_TX_TCP_SEG
#define TLC_TX_VLAN PKT_TX_VLAN_PKT
#define TLC_OFF_RX_IP DEV_RX_OFFLOAD_IPV4_CKSUM
#define TLC_OFF_RX_TCP DEV_RX_OFFLOAD_TCP_CKSUM
#define TLC_OFF_RX_UDP DEV_RX_OFFLOAD_UDP_CKSUM
#define TLC_OFF_RX_VLAN DEV_RX_OFFLOAD_VLAN_STRIP
#define TLC_OFF_RX_SCATTER DEV_RX_OFFLOAD_SCATTER
#define TLC_OFF_RX_RSS DEV_RX_OFFLOAD_RSS_HASH
#define TLC_OFF_TX_IP DEV_TX_OFFLOAD_IPV4_CKSUM
#define TLC_OFF_TX_TCP DEV_TX_OFFLOAD_TCP_CKSUM
#define TLC_OFF_TX_UDP DEV_TX_OFFLOAD_UDP_CKSUM
#define TLC_OFF_TX_TSO DEV_TX_OFFLOAD_TCP_TSO
#define TLC_OFF_TX_VLAN DEV_TX_OFFLOAD_VLAN_INSERT
#define TLC_OFF_TX_MULTI_SEG DEV_TX_OFFLOAD_MULTI_SEGS
#define TLC_MQ_RX_RSS ETH_MQ_RX_RSS
#define TLC_RSS_IP ETH_RSS_IP
#define TLC_RSS_TCP ETH_RSS_TCP
#define TLC_FULL_DUPLEX ETH_LINK_FULL_DUPLEX
#else
#define TLC_MBUF_EXTERNAL RTE_MBUF_F_EXTERNAL
#define TLC_RX_IP_MASK RTE_MBUF_F_RX_IP_CKSUM_MASK
#define TLC_RX_IP_GOOD RTE_MBUF_F_RX_IP_CKSUM_GOOD
#define TLC_RX_IP_BAD RTE_MBUF_F_RX_IP_CKSUM_BAD
#define TLC_RX_IP_NONE RTE_MBUF_F_RX_IP_CKSUM_NONE
#define TLC_RX_L4_MASK RTE_MBUF_F_RX_L4_CKSUM_MASK
#define TLC_RX_L4_GOOD RTE_MBUF_F_RX_L4_CKSUM_GOOD
#define TLC_RX_L4_BAD RTE_MBUF_F_RX_L4_CKSUM_BAD
#define TLC_RX_L4_NONE RTE_MBUF_F_RX_L4_CKSUM_NONE
#define TLC_RX_RSS RTE_MBUF_F_RX_RSS_HASH
#define TLC_RX_VLAN_STRIPPED RTE_MBUF_F_RX_VLAN_STRIPPED
#define TLC_TX_IPV4 RTE_MBUF_F_TX_IPV4
#define TLC_TX_IPV6 RTE_MBUF_F_TX_IPV6
#define TLC_TX_IP_CKSUM RTE_MBUF_F_TX_IP_CKSUM
#define TLC_TX_TCP_CKSUM RTE_MBUF_F_TX_TCP_CKSUM
#define TLC_TX_UDP_CKSUM RTE_MBUF_F_TX_UDP_CKSUM
#define TLC_TX_TCP_SEG RTE_MBUF_F_TX_TCP_SEG
#define TLC_TX_VLAN RTE_MBUF_F_TX_VLAN
#define TLC_OFF_RX_IP RTE_ETH_RX_OFFLOAD_IPV4_CKSUM
#define TLC_OFF_RX_TCP RTE_ETH_RX_OFFLOAD_TCP_CKSUM
#define TLC_OFF_RX_UDP RTE_ETH_RX_OFFLOAD_UDP_CKSUM
#define TLC_OFF_RX_VLAN RTE_ETH_RX_OFFLOAD_VLAN_STRIP
#define TLC_OFF_RX_SCATTER RTE_ETH_RX_OFFLOAD_SCATTER
#define TLC_OFF_RX_RSS RTE_ETH_RX_OFFLOAD_RSS_HASH
#define TLC_OFF_TX_IP RTE_ETH_TX_OFFLOAD_IPV4_CKSUM
#define TLC_OFF_TX_TCP RTE_ETH_TX_OFFLOAD_TCP_CKSUM
#define TLC_OFF_TX_UDP RTE_ETH_TX_OFFLOAD_UDP_CKSUM
#define TLC_OFF_TX_TSO RTE_ETH_TX_OFFLOAD_TCP_TSO
#define TLC_OFF_TX_VLAN RTE_ETH_TX_OFFLOAD_VLAN_INSERT
#define TLC_OFF_TX_MULTI_SEG RTE_ETH_TX_OFFLOAD_MULTI_SEGS
#define TLC_MQ_RX_RSS RTE_ETH_MQ_RX_RSS
#define TLC_RSS_IP RTE_ETH_RSS_IP
#define TLC_RSS_TCP RTE_ETH_RSS_TCP
#define TLC_FULL_DUPLEX RTE_ETH_LINK_FULL_DUPLEX
#endif

static inline unsigned int tlc_main_lcore(void)
{
#if TL_DPDK_LEGACY
	return rte_get_master_lcore();
#else
	return rte_get_main_lcore();
#endif
}

static inline void tlc_set_iova(struct rte_mbuf *m, rte_iova_t iova)
{
#if TL_DPDK_LEGACY
	m->buf_iova = iova;
#else
	rte_mbuf_iova_set(m, iova);
#endif
}

static inline int tlc_port_stop(uint16_t port)
{
#if TL_DPDK_LEGACY
	rte_eth_dev_stop(port);
	return 0;
#else
	return rte_eth_dev_stop(port);
#endif
}

static inline int tlc_port_close(uint16_t port)
{
#if TL_DPDK_LEGACY
	rte_eth_dev_close(port);
	return 0;
#else
	return rte_eth_dev_close(port);
#endif
}

/* The largest frame a port is to receive, for an MTU. */
static inline void tlc_set_mtu(struct rte_eth_conf *conf, uint16_t mtu, uint64_t capa)
{
#if TL_DPDK_LEGACY
	if (mtu > RTE_ETHER_MTU && (capa & DEV_RX_OFFLOAD_JUMBO_FRAME) != 0) {
		conf->rxmode.offloads |= DEV_RX_OFFLOAD_JUMBO_FRAME;
	}
	conf->rxmode.max_rx_pkt_len = mtu + RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
#else
	(void)capa;
	conf->rxmode.mtu = mtu;
#endif
}

/* Whether a driver continues long frames in further buffers although it does not offer scatter: virtio always merged
 * buffers, but says so since DPDK 21.11 only. (Every virtio device in use has VIRTIO_NET_F_MRG_RXBUF.) */
static inline bool tlc_scatters_unasked(const char *driver)
{
#if TL_DPDK_LEGACY
	return strstr(driver, "virtio") != NULL;
#else
	(void)driver;
	return false;
#endif
}

/* DPDK reports most errors as -1 with rte_errno, some as a negative errno. */
static inline int32_t tlc_error(int rc)
{
	if (rc >= 0) {
		return rc;
	}
	if (rc == -1 && rte_errno != 0) {
		return -rte_errno;
	}
	return rc;
}

#endif
