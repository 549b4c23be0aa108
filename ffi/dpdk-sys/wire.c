/* A port whose wire is memory: DPDK's net_ring between two rings of ours. For benchmarks, where no kernel and no device
 * may be in the loop. */
#include "internal.h"

#include <rte_eth_ring.h>
#include <rte_malloc.h>
#include <rte_ring.h>
#include <stdio.h>

/* Where drivers are shared libraries that the EAL loads, nothing links with this one. */
#pragma weak rte_eth_from_rings

struct tl_wire {
	struct rte_ring *in;  /* to the port */
	struct rte_ring *out; /* from the port */
};

int32_t tl_wire_create(const char *name, uint32_t frames, struct tl_wire **out)
{
	char ring[RTE_RING_NAMESIZE];
	struct tl_wire *wire;
	int rc;

	if (rte_eth_from_rings == NULL) {
		return -ENOTSUP;
	}
	wire = rte_zmalloc(NULL, sizeof(*wire), 0);
	if (wire == NULL) {
		return -ENOMEM;
	}
	rte_errno = 0;
	snprintf(ring, sizeof(ring), "%s_in", name);
	wire->in = rte_ring_create(ring, frames, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
	snprintf(ring, sizeof(ring), "%s_out", name);
	wire->out = wire->in == NULL ? NULL : rte_ring_create(ring, frames, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
	if (wire->out == NULL || rte_eth_from_rings(name, &wire->in, 1, &wire->out, 1, 0) < 0) {
		rc = tlc_error(-1);
		tl_wire_destroy(wire);
		return rc;
	}
	*out = wire;
	return 0;
}

void tl_wire_destroy(struct tl_wire *wire)
{
	if (wire != NULL) {
		rte_ring_free(wire->in);
		rte_ring_free(wire->out);
		rte_free(wire);
	}
}

bool tl_wire_put(struct tl_wire *wire, struct tl_mbuf *buffer, uint16_t len, bool good)
{
	struct rte_mbuf *m = tl_in(buffer);

	m->data_len = len;
	m->pkt_len = len;
	m->ol_flags |= good ? TLC_RX_IP_GOOD | TLC_RX_L4_GOOD : 0;
	return rte_ring_sp_enqueue(wire->in, m) == 0;
}

uint32_t tl_wire_take(struct tl_wire *wire, struct tl_mbuf **frames, uint32_t max)
{
	return rte_ring_sc_dequeue_burst(wire->out, (void **)frames, max, NULL);
}
