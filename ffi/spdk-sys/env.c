/* Environment, memory, log and threads. */
#include "compat.h"
#include "shim.h"

#include <spdk/cpuset.h>
#include <spdk/env.h>
#include <spdk/env_dpdk.h>
#include <spdk/log.h>
#include <spdk/thread.h>

/* ---- Log ---------------------------------------------------------------------------------------------------------- */

static tl_spdk_log_fn log_hook;

_Static_assert(SPDK_LOG_ERROR == 0 && SPDK_LOG_WARN == 1 && SPDK_LOG_NOTICE == 2 && SPDK_LOG_INFO == 3 &&
	       SPDK_LOG_DEBUG == 4 && SPDK_LOG_DISABLED == -1, "our levels are SPDK's");

/* With a function of ours installed, SPDK filters nothing: this does. */
static void log_line(int level, const char *file, const int line, const char *func, const char *format, va_list args)
{
	char text[1024];
	size_t len;

	(void)func;
	if (level > (int)spdk_log_get_print_level()) {
		return;
	}
	vsnprintf(text, sizeof(text), format, args);
	len = strlen(text);
	while (len > 0 && text[len - 1] == '\n') {
		text[--len] = '\0';
	}
	if (log_hook != NULL) {
		log_hook(level, file != NULL ? file : "", line, text);
	} else {
		fprintf(stderr, "spdk: %s\n", text);
	}
}

void tl_spdk_log_level(int32_t level)
{
	spdk_log_set_print_level((enum spdk_log_level)level);
}

void tl_spdk_log_hook(tl_spdk_log_fn fn)
{
	log_hook = fn;
	spdk_log_open(log_line);
}

/* ---- Environment and memory --------------------------------------------------------------------------------------- */

int32_t tl_spdk_env_init(void)
{
	spdk_log_open(log_line);
	return spdk_env_dpdk_post_init(false);
}

void tl_spdk_env_fini(void)
{
	spdk_env_dpdk_post_fini();
}

const char *tl_spdk_version(void)
{
	return SPDK_VERSION_STRING;
}

int32_t tl_spdk_mem_register(void *va, uint64_t len)
{
	int rc = spdk_mem_register(va, len);

	return rc == -EBUSY ? 0 : rc; /* what DPDK knows already, SPDK has taken over from it */
}

int32_t tl_spdk_mem_unregister(void *va, uint64_t len)
{
	return spdk_mem_unregister(va, len);
}

uint64_t tl_spdk_vtophys(const void *va)
{
	return spdk_vtophys((void *)(uintptr_t)va, NULL);
}

/* ---- Threads ------------------------------------------------------------------------------------------------------ */

static struct spdk_thread *in(struct tl_spdk_thread *thread)
{
	return (struct spdk_thread *)thread;
}

int32_t tl_spdk_threads_init(void)
{
	return spdk_thread_lib_init(NULL, 0);
}

void tl_spdk_threads_fini(void)
{
	spdk_thread_lib_fini();
}

struct tl_spdk_thread *tl_spdk_thread_create(const char *name, uint32_t lcore)
{
	struct spdk_cpuset *set = NULL;
	struct spdk_thread *thread;

	if (lcore != UINT32_MAX) {
		set = spdk_cpuset_alloc();
		if (set == NULL) {
			return NULL;
		}
		spdk_cpuset_zero(set);
		spdk_cpuset_set_cpu(set, lcore, true);
	}
	thread = spdk_thread_create(name, set);
	if (set != NULL) {
		spdk_cpuset_free(set);
	}
	return (struct tl_spdk_thread *)thread;
}

void tl_spdk_thread_set(struct tl_spdk_thread *thread)
{
	spdk_set_thread(in(thread));
}

struct tl_spdk_thread *tl_spdk_thread_get(void)
{
	return (struct tl_spdk_thread *)spdk_get_thread();
}

int32_t tl_spdk_thread_poll(struct tl_spdk_thread *thread, uint32_t max_msgs)
{
	return spdk_thread_poll(in(thread), max_msgs, 0) > 0;
}

int32_t tl_spdk_thread_send(struct tl_spdk_thread *thread, tl_spdk_msg_fn fn, void *arg)
{
	return spdk_thread_send_msg(in(thread), fn, arg);
}

int32_t tl_spdk_thread_exit(struct tl_spdk_thread *thread)
{
	return spdk_thread_exit(in(thread));
}

bool tl_spdk_thread_exited(struct tl_spdk_thread *thread)
{
	return spdk_thread_is_exited(in(thread));
}

void tl_spdk_thread_destroy(struct tl_spdk_thread *thread)
{
	spdk_thread_destroy(in(thread));
}
