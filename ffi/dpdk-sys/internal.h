/* Shared by the shim's C files; not seen by Rust. */
#ifndef TL_DPDK_INTERNAL_H
#define TL_DPDK_INTERNAL_H

#include "compat.h"
#include "shim.h"

#include <rte_mempool.h>

struct tl_cluster_pool {
	struct rte_mempool *mp;
	uint8_t *base;
	uint32_t count;
	uint32_t size_log2;
	uint32_t shift;
	struct rte_mbuf *table[]; /* by cluster index */
};

/* What tl_port_configure settled on, for the queue set-ups and the transmit path. */
struct tl_port_state {
	uint64_t rx_offloads;
	uint64_t tx_offloads;
	uint64_t tx_rejected;
	bool scatter; /* frames go on in further buffers */
	bool prepare; /* offloads are on: the driver must see frames before they are sent */
};
extern struct tl_port_state tl_ports[RTE_MAX_ETHPORTS];

/* The IOVA of [va, va + len) when it lies within one page of a registered region, else TL_BAD_IOVA. */
uint64_t tl_iova_range(const void *va, uint64_t len);
/* The page size of the region that holds [va, va + len); 0 when none does. */
uint64_t tl_region_page(const void *va, uint64_t len);

/* The cluster a buffer of this pool is made of. */
static inline uint32_t tl_cluster_of(const struct tl_cluster_pool *pool, const struct rte_mbuf *m)
{
	const uint8_t *frame = (const uint8_t *)m->buf_addr + TL_CLUSTER_HEADROOM;

	return (uint32_t)((uint64_t)(frame - pool->base) >> pool->size_log2);
}

/* All or none. A mempool takes large batches past the lcore's cache: what is left there is found one by one. */
static inline int tl_get_bulk(struct rte_mempool *mp, void **objects, uint32_t n)
{
	uint32_t i;

	if (likely(rte_mempool_get_bulk(mp, objects, n) == 0)) {
		return 0;
	}
	for (i = 0; i < n; i++) {
		if (rte_mempool_get(mp, &objects[i]) != 0) {
			rte_mempool_put_bulk(mp, objects, i);
			return -ENOBUFS;
		}
	}
	return 0;
}

static inline struct rte_mbuf *tl_in(struct tl_mbuf *m)
{
	return (struct rte_mbuf *)m;
}

static inline struct tl_mbuf *tl_out(struct rte_mbuf *m)
{
	return (struct tl_mbuf *)m;
}

#endif
