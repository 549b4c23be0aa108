/* The transmit path: headers are copied into pool buffers, pages go out by reference and come back as tokens. */
#include "internal.h"

#include <rte_malloc.h>
#include <rte_ring.h>
#include <stdio.h>
#include <string.h>

#define COUNT_MAX (1u << 20)

/* Behind each reference mbuf. */
struct ref {
	struct rte_mbuf_ext_shared_info shared;
	uint64_t token;
	struct tl_tx_ctx *ctx;
};
#define REF_SIZE RTE_ALIGN(sizeof(struct ref), RTE_MBUF_PRIV_ALIGN)

struct tl_tx_ctx {
	struct rte_mempool *direct;
	struct rte_mempool *refs;
	struct rte_ring *remote; /* tokens finished on other threads than the owner's */
	uint32_t lcore;          /* the owner */
	uint32_t ref_count;
	uint32_t outstanding;    /* tokens built and not drained: bounds both lists */
	uint32_t mask;           /* of the local list */
	uint32_t head, tail;     /* local list: [head, tail) */
	uint64_t local[];        /* tokens finished on the owner */
};

/* ---- Contexts ----------------------------------------------------------------------------------------------------- */

int32_t tl_tx_ctx_create(const char *name, uint32_t direct_count, uint32_t ref_count, uint32_t cache, int32_t socket,
			 struct tl_tx_ctx **out)
{
	char part[RTE_MEMPOOL_NAMESIZE];
	struct tl_tx_ctx *ctx;
	uint32_t slots;
	int rc = -ENOMEM;

	if (direct_count == 0 || ref_count == 0 || direct_count > COUNT_MAX || ref_count > COUNT_MAX) {
		return -EINVAL;
	}
	slots = rte_align32pow2(ref_count + 1);
	ctx = rte_zmalloc_socket(NULL, sizeof(*ctx) + (uint64_t)slots * sizeof(ctx->local[0]), RTE_CACHE_LINE_SIZE,
				 socket);
	if (ctx == NULL) {
		return -ENOMEM;
	}
	ctx->ref_count = ref_count;
	ctx->mask = slots - 1;
	rte_errno = 0;
	if (snprintf(part, sizeof(part), "%s_d", name) >= (int)sizeof(part)) {
		rc = -ENAMETOOLONG;
		goto fail;
	}
	ctx->direct = rte_pktmbuf_pool_create(part, direct_count, cache, 0, RTE_PKTMBUF_HEADROOM + TL_TX_DIRECT_ROOM,
					      socket);
	snprintf(part, sizeof(part), "%s_r", name);
	ctx->refs = ctx->direct == NULL ? NULL : rte_pktmbuf_pool_create(part, ref_count, cache, REF_SIZE, 0, socket);
	snprintf(part, sizeof(part), "%s_t", name);
	ctx->remote = ctx->refs == NULL ? NULL : rte_ring_create(part, slots, socket, RING_F_SC_DEQ);
	if (ctx->remote == NULL) {
		rc = rte_errno != 0 ? -rte_errno : -ENOMEM;
		goto fail;
	}
	tl_tx_ctx_bind(ctx);
	*out = ctx;
	return 0;
fail:
	rte_ring_free(ctx->remote);
	rte_mempool_free(ctx->refs);
	rte_mempool_free(ctx->direct);
	rte_free(ctx);
	return rc;
}

void tl_tx_ctx_bind(struct tl_tx_ctx *ctx)
{
	ctx->lcore = rte_lcore_id();
}

int32_t tl_tx_ctx_destroy(struct tl_tx_ctx *ctx)
{
	if (ctx == NULL) {
		return 0;
	}
	if (!rte_mempool_full(ctx->direct) || !rte_mempool_full(ctx->refs)) {
		return -EBUSY;
	}
	rte_ring_free(ctx->remote);
	rte_mempool_free(ctx->refs);
	rte_mempool_free(ctx->direct);
	rte_free(ctx);
	return 0;
}

uint32_t tl_tx_outstanding(const struct tl_tx_ctx *ctx)
{
	return ctx->outstanding;
}

uint32_t tl_tx_direct_available(const struct tl_tx_ctx *ctx)
{
	return rte_mempool_avail_count(ctx->direct);
}

uint32_t tl_tx_ref_available(const struct tl_tx_ctx *ctx)
{
	return rte_mempool_avail_count(ctx->refs);
}

/* ---- Tokens ------------------------------------------------------------------------------------------------------- */

/* DPDK is done with a segment by reference: on whatever thread freed it. There is room, because `outstanding` bounds the
 * tokens in both lists together. */
static void finished(void *addr __rte_unused, void *opaque)
{
	struct ref *ref = opaque;
	struct tl_tx_ctx *ctx = ref->ctx;

	if (likely(ctx->lcore == rte_lcore_id() && ctx->lcore != LCORE_ID_ANY)) {
		ctx->local[ctx->tail++ & ctx->mask] = ref->token;
	} else if (rte_ring_mp_enqueue(ctx->remote, (void *)(uintptr_t)ref->token) != 0) {
		rte_panic("a transmit token has no room in its list");
	}
}

uint32_t tl_tx_drain_done(struct tl_tx_ctx *ctx, uint64_t *tokens, uint32_t max)
{
	uint32_t n = 0;

	_Static_assert(sizeof(void *) == sizeof(uint64_t), "tokens travel as ring elements");
	while (n < max && ctx->head != ctx->tail) {
		tokens[n++] = ctx->local[ctx->head++ & ctx->mask];
	}
	if (n < max) {
		n += rte_ring_sc_dequeue_burst(ctx->remote, (void **)(uintptr_t)&tokens[n], max - n, NULL);
	}
	ctx->outstanding -= n;
	return n;
}

/* ---- Building ----------------------------------------------------------------------------------------------------- */

/* What a frame takes, found before anything is taken. */
struct plan {
	uint32_t refs;
	uint32_t directs;
	uint64_t iova[TL_TX_PIECES_MAX];
};

static int32_t make_plan(struct plan *plan, uint32_t header_len, const struct tl_tx_piece *pieces, uint32_t n)
{
	uint32_t i, left, room = TL_TX_DIRECT_ROOM - header_len;

	plan->refs = 0;
	plan->directs = 1;
	for (i = 0; i < n; i++) {
		if (pieces[i].kind == TL_TX_REF) {
			if (pieces[i].len == 0 || pieces[i].len > UINT16_MAX) {
				return -EINVAL;
			}
			plan->iova[i] = tl_iova_range(pieces[i].addr, pieces[i].len);
			if (plan->iova[i] == TL_BAD_IOVA) {
				return -EINVAL;
			}
			plan->refs++;
			room = 0;
		} else if (pieces[i].kind == TL_TX_INLINE) {
			left = pieces[i].len - RTE_MIN(pieces[i].len, room);
			room -= pieces[i].len - left;
			if (left != 0) {
				plan->directs += (left + TL_TX_DIRECT_ROOM - 1) / TL_TX_DIRECT_ROOM;
				room = (TL_TX_DIRECT_ROOM - left % TL_TX_DIRECT_ROOM) % TL_TX_DIRECT_ROOM;
			}
		} else {
			return -EINVAL;
		}
	}
	return plan->directs <= TL_TX_PIECES_MAX ? 0 : -EINVAL;
}

static uint64_t offload_flags(struct rte_mbuf *m, const struct tl_tx_offload *o)
{
	uint64_t ol = 0;

	m->l2_len = o->l2_len;
	m->l3_len = o->l3_len;
	m->l4_len = o->l4_len;
	ol |= (o->flags & TL_TX_IPV4) != 0 ? TLC_TX_IPV4 : 0;
	ol |= (o->flags & TL_TX_IPV6) != 0 ? TLC_TX_IPV6 : 0;
	ol |= (o->flags & TL_TX_IP_CSUM) != 0 ? TLC_TX_IP_CKSUM : 0;
	if ((o->flags & (TL_TX_TCP_CSUM | TL_TX_TSO)) != 0) {
		ol |= TLC_TX_TCP_CKSUM;
	} else if ((o->flags & TL_TX_UDP_CSUM) != 0) {
		ol |= TLC_TX_UDP_CKSUM;
	}
	if ((o->flags & TL_TX_TSO) != 0) {
		ol |= TLC_TX_TCP_SEG;
		m->tso_segsz = o->mss;
	}
	if ((o->flags & TL_TX_VLAN) != 0) {
		ol |= TLC_TX_VLAN;
		m->vlan_tci = o->vlan;
	}
	return ol;
}

/* Bytes of struct virtio_net_hdr with num_buffers (VIRTIO 1.2, 5.1.6); mbufs have RTE_PKTMBUF_HEADROOM in front of their data. */
#define VIRTIO_HEADER 12

static const uint32_t WITH_HEADERS = TL_TX_IP_CSUM | TL_TX_TCP_CSUM | TL_TX_UDP_CSUM | TL_TX_TSO;

int32_t tl_tx_build(struct tl_tx_ctx *ctx, const void *header, uint32_t header_len, const struct tl_tx_piece *pieces,
		    uint32_t n, const struct tl_tx_offload *offload, struct tl_mbuf **out)
{
	struct rte_mbuf *refs[TL_TX_PIECES_MAX], *directs[TL_TX_PIECES_MAX];
	struct rte_mbuf *head, *last, **next_ref = refs, **next_direct = directs;
	struct plan plan;
	uint32_t i;

	if (unlikely(header_len == 0 || header_len > TL_TX_DIRECT_ROOM || n > TL_TX_PIECES_MAX ||
		     make_plan(&plan, header_len, pieces, n) != 0)) {
		return -EINVAL;
	}
	if (offload != NULL && (offload->flags & WITH_HEADERS) != 0 &&
	    (uint32_t)offload->l2_len + offload->l3_len + offload->l4_len > header_len) {
		return -EINVAL;
	}
	if (unlikely(plan.refs > ctx->ref_count - ctx->outstanding)) {
		return -ENOBUFS;
	}
	if (unlikely(tl_get_bulk(ctx->direct, (void **)directs, plan.directs) != 0)) {
		return -ENOBUFS;
	}
	if (plan.refs != 0 && unlikely(tl_get_bulk(ctx->refs, (void **)refs, plan.refs) != 0)) {
		rte_mempool_put_bulk(ctx->direct, (void **)directs, plan.directs);
		return -ENOBUFS;
	}

	for (i = 0; i < plan.directs; i++) {
		rte_pktmbuf_reset(directs[i]);
	}
	head = last = *next_direct++;
	memcpy(rte_pktmbuf_append(head, (uint16_t)header_len), header, header_len);
	for (i = 0; i < n; i++) {
		const struct tl_tx_piece *p = &pieces[i];

		if (p->kind == TL_TX_REF) {
			struct rte_mbuf *m = *next_ref++;
			struct ref *ref = rte_mbuf_to_priv(m);

			rte_pktmbuf_reset(m);
			ref->token = p->token;
			ref->ctx = ctx;
			ref->shared.free_cb = finished;
			ref->shared.fcb_opaque = ref;
			rte_mbuf_ext_refcnt_set(&ref->shared, 1);
			rte_pktmbuf_attach_extbuf(m, (void *)(uintptr_t)p->addr, plan.iova[i], (uint16_t)p->len,
						  &ref->shared);
			m->data_len = (uint16_t)p->len;
			last->next = m;
			last = m;
			head->nb_segs++;
			head->pkt_len += p->len;
		} else {
			const uint8_t *from = p->addr;
			uint32_t left = p->len, part;

			while (left != 0) {
				if (last->pool != ctx->direct || rte_pktmbuf_tailroom(last) == 0) {
					last->next = *next_direct++;
					last = last->next;
					head->nb_segs++;
				}
				part = RTE_MIN(left, (uint32_t)rte_pktmbuf_tailroom(last));
				memcpy(rte_pktmbuf_mtod_offset(last, uint8_t *, last->data_len), from, part);
				last->data_len += part;
				head->pkt_len += part;
				from += part;
				left -= part;
			}
		}
	}
	ctx->outstanding += plan.refs;
	if (offload != NULL && offload->flags != 0) {
		head->ol_flags |= offload_flags(head, offload);
		if ((offload->flags & WITH_HEADERS) != 0) {
			rte_net_intel_cksum_prepare(head); /* the pseudo-header sum, as every driver wants it */
		}
	} else {
		/*
		 * The header that a virtio driver puts in front of a frame in one piece. DPDK 20.05 leaves there what the last frame in this
		 * buffer had: a checksum that is to be computed, behind the end of an ARP reply, which the host then drops.
		 */
		memset(rte_pktmbuf_mtod_offset(head, uint8_t *, -VIRTIO_HEADER), 0, VIRTIO_HEADER);
	}
	*out = tl_out(head);
	return 0;
}

/* ---- Sending ------------------------------------------------------------------------------------------------------ */

uint16_t tl_tx_burst(uint16_t port, uint16_t queue, struct tl_mbuf **frames, uint16_t n)
{
	struct rte_mbuf **m = (struct rte_mbuf **)frames;
	uint16_t taken = 0, good, sent;

	if (likely(!tl_ports[port].prepare)) {
		return rte_eth_tx_burst(port, queue, m, n);
	}
	while (taken < n) {
		good = rte_eth_tx_prepare(port, queue, m + taken, n - taken);
		sent = good == 0 ? 0 : rte_eth_tx_burst(port, queue, m + taken, good);
		taken += sent;
		if (sent < good) {
			break;
		}
		if (taken < n) {
			/* The driver rejects this one's offload request. */
			rte_pktmbuf_free(m[taken++]);
			__atomic_fetch_add(&tl_ports[port].tx_rejected, 1, __ATOMIC_RELAXED);
		}
	}
	return taken;
}

int32_t tl_tx_done_cleanup(uint16_t port, uint16_t queue)
{
	return tlc_error(rte_eth_tx_done_cleanup(port, queue, 0));
}
