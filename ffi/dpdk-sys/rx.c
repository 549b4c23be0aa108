/* Receive pools whose buffers are clusters, and the receive path. */
#include "internal.h"

#include <rte_malloc.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_prefetch.h>
#include <stdio.h>

_Static_assert(TL_CLUSTER_HEADROOM == RTE_PKTMBUF_HEADROOM, "drivers put frames behind DPDK's headroom");
_Static_assert(TL_CLUSTER_SIZE_MAX + TL_CLUSTER_HEADROOM <= UINT16_MAX, "a buffer's length is 16 bits");

/* ---- Pools -------------------------------------------------------------------------------------------------------- */

/* Makes element i of the mempool the buffer of cluster i. Each carries its own shared info, behind the mbuf. */
static void init_buffer(struct rte_mempool *mp, void *opaque, void *element, unsigned int i)
{
	struct tl_cluster_pool *pool = opaque;
	struct rte_mbuf *m = element;
	struct rte_mbuf_ext_shared_info *shared = RTE_PTR_ADD(m, sizeof(*m));
	uint8_t *cluster = pool->base + ((uint64_t)i << pool->size_log2);

	memset(m, 0, sizeof(*m));
	m->buf_addr = cluster - TL_CLUSTER_HEADROOM + pool->shift;
	tlc_set_iova(m, tl_iova(cluster) - TL_CLUSTER_HEADROOM + pool->shift);
	m->buf_len = rte_pktmbuf_data_room_size(mp);
	m->data_off = RTE_PKTMBUF_HEADROOM;
	m->pool = mp;
	m->nb_segs = 1;
	m->port = TL_PORT_NONE;
	m->ol_flags = TLC_MBUF_EXTERNAL;
	rte_mbuf_refcnt_set(m, 1);
	m->next = NULL;
	shared->free_cb = NULL; /* pinned: DPDK never detaches it */
	shared->fcb_opaque = m;
	rte_mbuf_ext_refcnt_set(shared, 1);
	m->shinfo = shared;
	pool->table[i] = m;
}

int32_t tl_cluster_pool_create(const char *name, void *base, uint32_t count, uint32_t cluster_size,
			       uint32_t data_shift, uint32_t cache, int32_t socket, struct tl_cluster_pool **out)
{
	struct rte_pktmbuf_pool_private shape = { 0 };
	struct tl_cluster_pool *pool;
	uint64_t len = (uint64_t)count * cluster_size;
	uint64_t page = tl_region_page((uint8_t *)base - TL_CLUSTER_HEADROOM, len + TL_CLUSTER_HEADROOM);
	int rc;

	if (count == 0 || cluster_size < TL_CLUSTER_SIZE_MIN || cluster_size > TL_CLUSTER_SIZE_MAX ||
	    (cluster_size & (cluster_size - 1)) != 0 || page < cluster_size ||
	    (uintptr_t)base % cluster_size != 0 ||
	    (data_shift != 0 && data_shift != TL_CLUSTER_SHIFT && data_shift != TL_CLUSTER_INSIDE)) {
		return -EINVAL;
	}
	pool = rte_zmalloc_socket(NULL, sizeof(*pool) + (uint64_t)count * sizeof(pool->table[0]), RTE_CACHE_LINE_SIZE,
				  socket);
	if (pool == NULL) {
		return -ENOMEM;
	}
	pool->base = base;
	pool->count = count;
	pool->size_log2 = (uint32_t)__builtin_ctz(cluster_size);
	pool->shift = data_shift;
	rte_errno = 0;
	pool->mp = rte_mempool_create_empty(name, count,
					    sizeof(struct rte_mbuf) + sizeof(struct rte_mbuf_ext_shared_info), cache,
					    sizeof(shape), socket, 0);
	if (pool->mp == NULL) {
		rc = rte_errno != 0 ? -rte_errno : -ENOMEM;
		rte_free(pool);
		return rc;
	}
	rc = rte_mempool_set_ops_byname(pool->mp, rte_mbuf_best_mempool_ops(), NULL);
	if (rc == 0) {
		/* Up to where the next cluster's frame starts, or to the end of the cluster. */
		shape.mbuf_data_room_size = (uint16_t)(data_shift < TL_CLUSTER_HEADROOM
							       ? TL_CLUSTER_HEADROOM + cluster_size
							       : cluster_size - (data_shift - TL_CLUSTER_HEADROOM));
		shape.flags = RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF;
		rte_pktmbuf_pool_init(pool->mp, &shape);
		rc = rte_mempool_populate_default(pool->mp);
	}
	if (rc < 0) {
		tl_cluster_pool_destroy(pool);
		return rc;
	}
	rte_mempool_obj_iter(pool->mp, init_buffer, pool);
	*out = pool;
	return 0;
}

void tl_cluster_pool_destroy(struct tl_cluster_pool *pool)
{
	if (pool != NULL) {
		rte_mempool_free(pool->mp);
		rte_free(pool);
	}
}

struct tl_mbuf *tl_cluster_pool_mbuf(const struct tl_cluster_pool *pool, uint32_t index)
{
	return index < pool->count ? tl_out(pool->table[index]) : NULL;
}

uint32_t tl_cluster_pool_available(const struct tl_cluster_pool *pool)
{
	return rte_mempool_avail_count(pool->mp);
}

uint32_t tl_cluster_pool_take(struct tl_cluster_pool *pool, uint32_t *indices, uint32_t n)
{
	void *taken[TL_RX_BURST_MAX];
	uint32_t done, i, batch;

	for (done = 0; done < n; done += batch) {
		batch = RTE_MIN(n - done, TL_RX_BURST_MAX);
		if (tl_get_bulk(pool->mp, taken, batch) != 0) {
			tl_cluster_pool_return(pool, indices, done);
			return 0;
		}
		for (i = 0; i < batch; i++) {
			indices[done + i] = tl_cluster_of(pool, taken[i]);
		}
	}
	return n;
}

void tl_cluster_pool_return(struct tl_cluster_pool *pool, const uint32_t *indices, uint32_t n)
{
	void *batch[TL_RX_BURST_MAX];
	uint32_t done, i, k;

	for (done = 0; done < n; done += k) {
		k = RTE_MIN(n - done, TL_RX_BURST_MAX);
		for (i = 0; i < k; i++) {
			batch[i] = pool->table[indices[done + i]];
			rte_prefetch0(batch[i]);
		}
		for (i = 0; i < k; i++) {
			struct rte_mbuf *m = batch[i];

			/* All in the buffer's first cache line. `next` is NULL: unchaining saw to it. */
			m->data_off = RTE_PKTMBUF_HEADROOM;
			rte_mbuf_refcnt_set(m, 1);
			m->nb_segs = 1;
			m->ol_flags = TLC_MBUF_EXTERNAL;
		}
		rte_mempool_put_bulk(pool->mp, batch, k);
	}
}

/* ---- Receive ------------------------------------------------------------------------------------------------------ */

static uint32_t normalise(uint64_t ol)
{
	uint64_t ip = ol & TLC_RX_IP_MASK, l4 = ol & TLC_RX_L4_MASK;
	uint32_t flags = 0;

	/* NONE: the sum in the packet is not right, but its data are, as between machines on one host (virtio). */
	flags |= ip == TLC_RX_IP_GOOD || ip == TLC_RX_IP_NONE ? TL_RX_IP_CSUM_GOOD :
		 ip == TLC_RX_IP_BAD ? TL_RX_IP_CSUM_BAD : 0;
	flags |= l4 == TLC_RX_L4_GOOD || l4 == TLC_RX_L4_NONE ? TL_RX_L4_CSUM_GOOD :
		 l4 == TLC_RX_L4_BAD ? TL_RX_L4_CSUM_BAD : 0;
	flags |= (ol & TLC_RX_RSS) != 0 ? TL_RX_RSS : 0;
	flags |= (ol & TLC_RX_VLAN_STRIPPED) != 0 ? TL_RX_VLAN : 0;
	return flags;
}

uint16_t tl_rx_burst(uint16_t port, uint16_t queue, const struct tl_cluster_pool *pool, struct tl_rx_frame *out,
		     uint16_t max)
{
	struct rte_mbuf *burst[TL_RX_BURST_MAX];
	uint16_t i, n = rte_eth_rx_burst(port, queue, burst, RTE_MIN(max, (uint16_t)TL_RX_BURST_MAX));

	for (i = 0; i < n; i++) {
		struct rte_mbuf *m = burst[i], *s;
		bool own = m->pool == pool->mp;

		out[i].mbuf = tl_out(m);
		out[i].data = rte_pktmbuf_mtod(m, uint8_t *);
		rte_prefetch0(out[i].data);
		out[i].pkt_len = m->pkt_len;
		out[i].rss = m->hash.rss;
		out[i].cluster = own ? tl_cluster_of(pool, m) : TL_CLUSTER_NONE;
		out[i].data_len = m->data_len;
		out[i].nb_segs = m->nb_segs;
		out[i].flags = normalise(m->ol_flags);
		out[i].vlan = m->vlan_tci;
		out[i].reserved = 0;
		if (unlikely(m->nb_segs > 1)) {
			for (s = m->next; s != NULL; s = s->next) {
				own = own && s->pool == pool->mp;
			}
		}
		out[i].flags |= own ? 0 : TL_RX_FOREIGN;
	}
	return n;
}

static void describe(const struct tl_cluster_pool *pool, struct rte_mbuf *m, struct tl_rx_seg *out)
{
	out->mbuf = tl_out(m);
	out->data = rte_pktmbuf_mtod(m, uint8_t *);
	out->cluster = pool != NULL && m->pool == pool->mp ? tl_cluster_of(pool, m) : TL_CLUSTER_NONE;
	out->len = m->data_len;
}

int32_t tl_mbuf_unchain(const struct tl_cluster_pool *pool, struct tl_mbuf *head, struct tl_rx_seg *out, uint32_t max)
{
	struct rte_mbuf *m, *next;
	int32_t n = 0;

	if (tl_in(head)->nb_segs > max) {
		return -E2BIG;
	}
	for (m = tl_in(head); m != NULL; m = next) {
		next = m->next;
		m->next = NULL;
		m->nb_segs = 1;
		describe(pool, m, &out[n++]);
	}
	return n;
}

void tl_mbuf_free(struct tl_mbuf *const *frames, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		rte_pktmbuf_free(tl_in(frames[i]));
	}
}

void tl_mbuf_free_segs(struct tl_mbuf *const *segs, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		rte_pktmbuf_free_seg(tl_in(segs[i]));
	}
}

uint32_t tl_mbuf_segments(const struct tl_mbuf *head, struct tl_rx_seg *out, uint32_t max)
{
	struct rte_mbuf *m;
	uint32_t n = 0;

	for (m = tl_in((struct tl_mbuf *)(uintptr_t)head); m != NULL; m = m->next, n++) {
		if (n < max) {
			describe(NULL, m, &out[n]);
		}
	}
	return n;
}
