/*
 * What Throughline asks of DPDK, and nothing else.
 *
 * Fixed-width integers and opaque pointers only: no DPDK structure crosses this border, and every difference between
 * DPDK versions is absorbed in the shim's C files. Unless a comment says otherwise a function returns 0 or a count on
 * success and a negative errno on failure, and may be called from one thread at a time. "Fast path" functions take no
 * lock, make no system call and allocate nothing beyond the pools named.
 */
#ifndef TL_DPDK_SHIM_H
#define TL_DPDK_SHIM_H

#include <stdbool.h>
#include <stdint.h>

/* ---- EAL ---------------------------------------------------------------------------------------------------------- */

/* Initialises DPDK's environment; once per process. argv[0] is the program name; the strings must stay alive.
 * Returns the number of arguments consumed, or a negative errno. The calling thread becomes the main lcore. */
int32_t tl_eal_init(int32_t argc, char **argv);

/* Releases the environment. No other function of this header may be called afterwards. */
int32_t tl_eal_cleanup(void);

/* DPDK's version string, for reports. Static storage. */
const char *tl_dpdk_version(void);

/* A sentence for an errno value, positive or negative. Storage belongs to the calling thread. */
const char *tl_strerror(int32_t err);

/* Sets DPDK's log level: 1 emergency ... 8 debug, as in <rte_log.h>. */
void tl_dpdk_log_level(uint32_t level);

/* What an lcore runs; its result is what tl_lcore_wait returns. */
typedef int32_t (*tl_lcore_fn)(void *arg);

#define TL_LCORE_NONE UINT32_MAX

/* The lcore after `prev`, or the first one for TL_LCORE_NONE; TL_LCORE_NONE at the end. The main lcore is included. */
uint32_t tl_lcore_next(uint32_t prev);
/* The lcore tl_eal_init was called on. */
uint32_t tl_lcore_main(void);
/* The calling thread's lcore, or TL_LCORE_NONE when it is not one of EAL's threads. */
uint32_t tl_lcore_current(void);
/* NUMA node of an lcore; 0 when unknown. */
int32_t tl_lcore_socket(uint32_t lcore);
/* Starts fn(arg) on a worker lcore and returns at once. -EBUSY when it is still running something. */
int32_t tl_lcore_launch(uint32_t lcore, tl_lcore_fn fn, void *arg);
/* Blocks until the lcore is idle and returns its function's result. */
int32_t tl_lcore_wait(uint32_t lcore);

/* The time-stamp counter, and its frequency in Hz. */
uint64_t tl_tsc(void);
uint64_t tl_tsc_hz(void);

/* ---- Memory ------------------------------------------------------------------------------------------------------- */

/* Makes [va, va + len) known to DPDK as external memory made of `page_size` pages, and remembers the IOVA of each page
 * for tl_iova. The pages must be populated and locked (hugepages are). va and len are multiples of page_size.
 * Call after tl_eal_init and before ports that will use the memory are started. At most 16 regions. */
int32_t tl_extmem_register(void *va, uint64_t len, uint64_t page_size);
int32_t tl_extmem_unregister(void *va, uint64_t len);

static const uint64_t TL_BAD_IOVA = 0xffffffffffffffffull;

/* Fast path. The address a device uses for `va`, from the tables of the registered regions; TL_BAD_IOVA elsewhere. */
uint64_t tl_iova(const void *va);
/* The same for any address, by asking the EAL. Slow (reads /proc): for set-up and checks. */
uint64_t tl_virt2iova(const void *va);

/* Maps a registered region for DMA by the device behind a port. 0 also when the device needs no mapping. */
int32_t tl_port_dma_map(uint16_t port, void *va, uint64_t len);
int32_t tl_port_dma_unmap(uint16_t port, void *va, uint64_t len);

/* ---- Receive pools: the NIC's receive buffers ARE the clusters --------------------------------------------------- */

/* A pool of packet buffers whose data lives in an array of equal clusters, cluster i at base + i * cluster_size. A frame
 * starts at cluster + data_shift, which is one of:
 *
 *   TL_CLUSTER_SHIFT (2)  The layout for NICs. Poll-mode drivers hard-code a headroom of 128 bytes, so each buffer is
 *        declared to start 128 bytes before its frame, in the neighbour; nobody writes there (but virtio: up to 12 bytes
 *        before the frame). Payload behind 54 or 66 bytes of headers is 4-byte aligned. No scatter; the port's MTU
 *        must keep frames, with VLAN tag and FCS, within cluster_size - 16 bytes.
 *   0    The same without the shift, for NICs that scatter long frames over several clusters, cluster_size bytes each.
 *   TL_CLUSTER_INSIDE (130)  Headroom and all inside the cluster, which then holds cluster_size - 130 bytes of a frame; the
 *        rest of a longer frame continues at cluster + 2. For net_pcap, net_tap and virtio, which write into the
 *        headroom when they continue a frame. Same alignment.
 *
 * tl_port_info.cluster_shift says which of them a port wants, and tl_rx_queue_setup refuses those that would let a driver
 * write over a neighbour. The 128 bytes before base must lie inside the same registered region and hold nothing. */
#define TL_CLUSTER_HEADROOM 128u
#define TL_CLUSTER_SHIFT 2u
#define TL_CLUSTER_INSIDE 130u
#define TL_CLUSTER_SIZE_MIN 2048u
#define TL_CLUSTER_SIZE_MAX 16384u

struct tl_cluster_pool;
struct tl_mbuf;

/* Creates a pool of `count` clusters of `cluster_size` bytes (a power of two, 2048..16384) at `base`, which must lie in
 * a region given to tl_extmem_register. No cluster may cross a page of that region. `cache` is the
 * number of buffers each lcore keeps at hand (0..512). `socket`: NUMA node of the pool's own memory, -1 for any.
 * -EINVAL for a bad shape, -EEXIST for a name in use, -ENOMEM. All clusters start out free. */
int32_t tl_cluster_pool_create(const char *name, void *base, uint32_t count, uint32_t cluster_size,
			       uint32_t data_shift, uint32_t cache, int32_t socket, struct tl_cluster_pool **out);
/* Every port that uses the pool must have been closed. Clusters still held by the caller are simply forgotten. */
void tl_cluster_pool_destroy(struct tl_cluster_pool *pool);

/* The packet buffer of cluster `index`; NULL when out of range. */
struct tl_mbuf *tl_cluster_pool_mbuf(const struct tl_cluster_pool *pool, uint32_t index);
/* Free clusters in the pool, counting lcore caches but not the buffers a NIC holds. Walks all lcores: not for the fast path. */
uint32_t tl_cluster_pool_available(const struct tl_cluster_pool *pool);

/* Fast path. Takes up to n free clusters out of the pool for the caller (as if received). Returns n or 0: all or none. */
uint32_t tl_cluster_pool_take(struct tl_cluster_pool *pool, uint32_t *indices, uint32_t n);
/* Fast path. Gives clusters back to the NIC: resets their buffers and puts them into the pool in bulk. Each index must be
 * held by the caller, exactly once, and no longer be part of a chain (see tl_mbuf_unchain). */
void tl_cluster_pool_return(struct tl_cluster_pool *pool, const uint32_t *indices, uint32_t n);

/* ---- Receive ------------------------------------------------------------------------------------------------------ */

/* tl_rx_frame.flags */
#define TL_RX_IP_CSUM_GOOD 0x0001u
#define TL_RX_IP_CSUM_BAD 0x0002u /* neither bit: not checked */
#define TL_RX_L4_CSUM_GOOD 0x0004u
#define TL_RX_L4_CSUM_BAD 0x0008u /* neither bit: not checked */
#define TL_RX_RSS 0x0010u         /* .rss is valid */
#define TL_RX_VLAN 0x0020u        /* the tag was stripped from the frame into .vlan */
#define TL_RX_FOREIGN 0x0040u     /* some segment is not of the given pool: copy it out, then tl_mbuf_free */

#define TL_CLUSTER_NONE UINT32_MAX

/* A received frame: its first segment, and totals. */
struct tl_rx_frame {
	struct tl_mbuf *mbuf;
	uint8_t *data;     /* first byte of the frame */
	uint32_t pkt_len;  /* of all segments */
	uint32_t rss;
	uint32_t cluster;  /* index in the pool of the first segment; TL_CLUSTER_NONE when that one is foreign */
	uint32_t flags;    /* TL_RX_* */
	uint16_t data_len; /* of the first segment */
	uint16_t nb_segs;  /* >= 1 */
	uint16_t vlan;     /* tag control information */
	uint16_t reserved;
};

/* One segment of a frame. */
struct tl_rx_seg {
	struct tl_mbuf *mbuf;
	uint8_t *data;
	uint32_t cluster; /* TL_CLUSTER_NONE when foreign */
	uint32_t len;
};

#define TL_RX_BURST_MAX 64u

/* Fast path. Receives up to max (<= TL_RX_BURST_MAX) frames and prefetches their headers. The caller owns every cluster
 * of every frame until tl_cluster_pool_return (own clusters) or tl_mbuf_free (foreign frames). `pool` is the queue's. */
uint16_t tl_rx_burst(uint16_t port, uint16_t queue, const struct tl_cluster_pool *pool, struct tl_rx_frame *out,
		     uint16_t max);

/* Fast path. Breaks a frame of several segments into segments that are owned and returned one by one, in order. Must be
 * called for every frame with nb_segs > 1 before its clusters are returned. Returns the number of segments, or -E2BIG
 * (nothing changed) when there are more than max. */
int32_t tl_mbuf_unchain(const struct tl_cluster_pool *pool, struct tl_mbuf *head, struct tl_rx_seg *out, uint32_t max);

/* Frees frames whole (all segments of each), wherever their buffers came from. For drops, foreign frames, unsent frames. */
void tl_mbuf_free(struct tl_mbuf *const *frames, uint32_t n);
/* Frees single segments, each by itself, after tl_mbuf_unchain. */
void tl_mbuf_free_segs(struct tl_mbuf *const *segs, uint32_t n);

/* ---- Transmit: headers and small data are copied into pool buffers, pages go by reference ------------------------- */

/* One shard's transmit pools and its list of finished tokens. Build, burst and drain on the lcore that created it
 * (or that tl_tx_ctx_bind named); drivers and other lcores may free its buffers from anywhere. */
struct tl_tx_ctx;

#define TL_TX_DIRECT_ROOM 2048u
#define TL_TX_PIECES_MAX 64u

/* direct_count: buffers of TL_TX_DIRECT_ROOM bytes for headers, inline data and small whole frames. ref_count: segments by
 * reference that may be on their way or undrained at any time (also bounds the list of finished tokens, which therefore
 * never overflows). Both are at most 2^20. `cache`: per-lcore, 0..512. The calling thread becomes the owner. */
int32_t tl_tx_ctx_create(const char *name, uint32_t direct_count, uint32_t ref_count, uint32_t cache, int32_t socket,
			 struct tl_tx_ctx **out);
/* Makes the calling lcore the owner. Only while no frame of the context is under way. */
void tl_tx_ctx_bind(struct tl_tx_ctx *ctx);
/* Every port that was handed frames of the context must have been closed. -EBUSY when frames are still out. */
int32_t tl_tx_ctx_destroy(struct tl_tx_ctx *ctx);

/* tl_tx_piece.kind */
#define TL_TX_INLINE 0u /* copied into the frame at once; no token */
#define TL_TX_REF 1u    /* the device reads the caller's memory; token comes back when it no longer will */

struct tl_tx_piece {
	const void *addr;
	uint64_t token; /* the caller's; any value */
	uint32_t len;   /* 1..65535 for TL_TX_REF, which must lie in one page of a registered region; any for TL_TX_INLINE */
	uint32_t kind;
};

/* tl_tx_offload.flags. The port must have been configured with the matching TL_OFFLOAD_* bit. */
#define TL_TX_IPV4 0x0001u
#define TL_TX_IPV6 0x0002u
#define TL_TX_IP_CSUM 0x0004u  /* with TL_TX_IPV4; the field must be 0 */
#define TL_TX_TCP_CSUM 0x0008u /* tl_tx_build writes the pseudo-header sum the device wants; any value in the field */
#define TL_TX_UDP_CSUM 0x0010u
#define TL_TX_TSO 0x0020u      /* implies TL_TX_TCP_CSUM; segments of .mss payload bytes */
#define TL_TX_VLAN 0x0040u     /* the device inserts .vlan */

struct tl_tx_offload {
	uint32_t flags;
	uint16_t l2_len; /* Ethernet header with any tag in the data */
	uint16_t l3_len;
	uint16_t l4_len;
	uint16_t mss;
	uint16_t vlan;
	uint16_t reserved;
};

/* Fast path. Builds a frame: `header` copied into a buffer of its own (with inline pieces appended to it while they fit),
 * then the pieces in order. `offload` may be NULL. Memory referred to stays untouched by the shim and must stay unchanged
 * until its token comes back. Exactly one token comes back for every TL_TX_REF piece of a frame built, whether it was
 * sent, dropped by the driver or freed unsent. With checksum or TSO flags the header must hold all of l2 + l3 + l4.
 * At most TL_TX_PIECES_MAX pieces; header_len is 1..TL_TX_DIRECT_ROOM.
 * -ENOBUFS when a pool is dry, -EINVAL for a bad piece: nothing was taken then and no token will come back. */
int32_t tl_tx_build(struct tl_tx_ctx *ctx, const void *header, uint32_t header_len, const struct tl_tx_piece *pieces,
		    uint32_t n, const struct tl_tx_offload *offload, struct tl_mbuf **out);

/* Fast path. Hands frames to the NIC and returns how many it took; the caller keeps the others (send again, or
 * tl_mbuf_free). A frame whose offload request the driver rejects is freed, and counted as taken and in
 * tl_port_stats.tx_rejected. */
uint16_t tl_tx_burst(uint16_t port, uint16_t queue, struct tl_mbuf **frames, uint16_t n);

/* Fast path. Moves up to max finished tokens out of the context's list. */
uint32_t tl_tx_drain_done(struct tl_tx_ctx *ctx, uint64_t *tokens, uint32_t max);
/* Segments by reference whose token has not been drained yet. 0 when the context is quiet. */
uint32_t tl_tx_outstanding(const struct tl_tx_ctx *ctx);
/* Direct and reference buffers at hand. Walks all lcores: for tests and reports. */
uint32_t tl_tx_direct_available(const struct tl_tx_ctx *ctx);
uint32_t tl_tx_ref_available(const struct tl_tx_ctx *ctx);

/* Asks the driver to release buffers of frames already sent, so that their tokens come back without further traffic.
 * Returns how many, or -ENOTSUP. */
int32_t tl_tx_done_cleanup(uint16_t port, uint16_t queue);

/* A frame's segments, as they will go out: for tests and traces. Returns the number of segments (fills up to max). */
uint32_t tl_mbuf_segments(const struct tl_mbuf *head, struct tl_rx_seg *out, uint32_t max);

/* ---- Ports -------------------------------------------------------------------------------------------------------- */

static const uint16_t TL_PORT_NONE = 0xffff;
#define TL_NAME_MAX 64u

/* Offloads: what a port can do, and what tl_port_configure is asked for. */
#define TL_OFFLOAD_RX_IP_CSUM 0x0001u
#define TL_OFFLOAD_RX_L4_CSUM 0x0002u /* TCP and UDP */
#define TL_OFFLOAD_RX_VLAN_STRIP 0x0004u
#define TL_OFFLOAD_RX_SCATTER 0x0008u
#define TL_OFFLOAD_RX_RSS_HASH 0x0010u
#define TL_OFFLOAD_TX_IP_CSUM 0x0020u
#define TL_OFFLOAD_TX_TCP_CSUM 0x0040u
#define TL_OFFLOAD_TX_UDP_CSUM 0x0080u
#define TL_OFFLOAD_TX_TSO 0x0100u
#define TL_OFFLOAD_TX_VLAN 0x0200u
#define TL_OFFLOAD_TX_MULTI_SEG 0x0400u

struct tl_port_info {
	char name[TL_NAME_MAX];   /* device name, e.g. 0000:01:00.0 or net_ring0 */
	char driver[TL_NAME_MAX];
	uint8_t mac[6];
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
	uint16_t mtu;
	uint16_t mtu_min;
	uint16_t mtu_max;
	uint32_t max_rx_pktlen;
	uint32_t offloads;        /* TL_OFFLOAD_*; TX_MULTI_SEG is what frames with pieces by reference need */
	uint64_t rss_types;       /* non-zero: the port can spread flows over queues */
	uint32_t reta_size;
	uint32_t rss_key_len;
	uint16_t rx_desc_min, rx_desc_max, rx_desc_align;
	uint16_t tx_desc_min, tx_desc_max, tx_desc_align;
	uint16_t tx_segs_max;     /* buffers per frame; 0: no limit known */
	uint16_t tx_mtu_segs_max; /* buffers per segment, where the port does not cut it; 0: no limit known */
	uint16_t cluster_shift;   /* the data_shift of a pool for this port, without scatter */
	int32_t numa;             /* -1: unknown */
};

struct tl_port_config {
	uint16_t rx_queues;
	uint16_t tx_queues;
	uint16_t mtu;             /* 0: leave it */
	uint16_t reserved;
	uint32_t offloads;        /* wanted; what the port lacks is silently left out */
	uint32_t rss_key_len;     /* 0: the driver's own key */
	const uint8_t *rss_key;
};

struct tl_port_stats {
	uint64_t rx_packets, rx_bytes, rx_missed, rx_errors, rx_nombuf;
	uint64_t tx_packets, tx_bytes, tx_errors;
	uint64_t tx_rejected;     /* frames tl_tx_burst freed because the driver refused their offload request */
};

struct tl_port_link {
	uint32_t mbps;            /* UINT32_MAX: unknown */
	uint8_t up;
	uint8_t full_duplex;
	uint8_t reserved[2];
};

struct tl_port_xstat {
	char name[TL_NAME_MAX];
	uint64_t value;
};

/* The port after `prev`, or the first one for TL_PORT_NONE; TL_PORT_NONE at the end. */
uint16_t tl_port_next(uint16_t prev);
/* A port by its device name. -ENODEV. */
int32_t tl_port_find(const char *name, uint16_t *port);
/* Adds a device at run time by an EAL device string: "net_null0,size=64", "0000:01:00.0" ... -EEXIST when it is there. */
int32_t tl_port_probe(const char *devargs);
/* Removes the device behind a closed port. */
int32_t tl_port_remove(uint16_t port);
int32_t tl_port_info(uint16_t port, struct tl_port_info *out);

/* Stops at nothing it cannot get except queues: the offloads left on are written to *granted (TL_OFFLOAD_*). With more
 * than one receive queue, RSS over IP and TCP is switched on, and with a key of 40 or more bytes that key is used. Asking
 * for a symmetric key is the caller's business: 0x6d5a repeated sends both directions of a flow to one queue. */
int32_t tl_port_configure(uint16_t port, const struct tl_port_config *config, uint32_t *granted);
/* descriptors: 0 for the driver's preference; rounded to what the device accepts, written back. -EINVAL for a pool whose
 * data_shift does not suit the driver, or scatter. */
int32_t tl_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t *descriptors, int32_t socket,
			  struct tl_cluster_pool *pool);
int32_t tl_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t *descriptors, int32_t socket);
int32_t tl_port_start(uint16_t port);
int32_t tl_port_stop(uint16_t port);
/* Stops if need be and gives every buffer back to its pool. */
int32_t tl_port_close(uint16_t port);

int32_t tl_port_set_promiscuous(uint16_t port, bool on);
int32_t tl_port_set_allmulticast(uint16_t port, bool on);
int32_t tl_port_mac(uint16_t port, uint8_t mac[6]);
int32_t tl_port_mtu(uint16_t port, uint16_t *mtu);
int32_t tl_port_set_mtu(uint16_t port, uint16_t mtu);
/* Does not wait for the link. */
int32_t tl_port_link(uint16_t port, struct tl_port_link *out);
int32_t tl_port_stats(uint16_t port, struct tl_port_stats *out);
/* The driver's own counters. Returns how many there are (fills up to max). */
int32_t tl_port_xstats(uint16_t port, struct tl_port_xstat *out, uint32_t max);
/* NUMA node of the device; -1 unknown. */
int32_t tl_port_socket(uint16_t port);

/* ---- A wire in memory --------------------------------------------------------------------------------------------- */

/* A port whose wire is memory, with one queue pair: what is put on the wire the port receives, what the port sends is
 * taken off it. Its device name is "net_ring_" and `name`. For benchmarks; -ENOTSUP where DPDK's drivers are shared
 * libraries. `frames`, a power of two, is what each direction holds. */
struct tl_wire;
int32_t tl_wire_create(const char *name, uint32_t frames, struct tl_wire **out);
/* The port is closed, and both directions are empty. */
void tl_wire_destroy(struct tl_wire *wire);
/* A buffer taken from the pool that the port receives into arrives as a frame of `len` bytes; `good`: with checksums that
 * the port found right. False when the wire is full: the buffer is still the caller's. */
bool tl_wire_put(struct tl_wire *wire, struct tl_mbuf *buffer, uint16_t len, bool good);
/* Frames that the port sent, to be freed by the caller, as a driver does once they are out. */
uint32_t tl_wire_take(struct tl_wire *wire, struct tl_mbuf **frames, uint32_t max);

#endif
