/* Bringing SPDK's subsystems up and down, and its own JSON-RPC server. */
#include "compat.h"
#include "shim.h"

#include <spdk/rpc.h>
#include <sys/mman.h>
#if TL_SPDK_LEGACY
#include <spdk_internal/event.h>
#define load_file spdk_app_json_config_load
#else
#include <spdk/init.h>
#define load_file spdk_subsystem_init_from_json_config
#endif

/* One start or stop under way, freed before its callback runs. */
struct step {
	tl_spdk_done_fn done;
	void *arg;
	char *json;
	uint64_t len;
};

static void finish(struct step *step, int rc)
{
	struct step last = *step;

	free(step->json);
	free(step);
	last.done(last.arg, rc);
}

static const char NOTHING[] = "{\"subsystems\":[]}";

#if TL_SPDK_BEFORE_2405

static void loaded(int rc, void *arg)
{
	finish(arg, rc);
}

/* These versions take their configuration from a file, and initialise the subsystems on the way. */
static void load(struct step *step)
{
	char path[64];
	int fd = memfd_create("throughline-spdk.json", MFD_CLOEXEC);
	uint64_t done = 0;
	ssize_t n;

	if (fd < 0) {
		finish(step, -errno);
		return;
	}
	while (done < step->len) {
		n = write(fd, step->json + done, step->len - done);
		if (n <= 0) {
			close(fd);
			finish(step, -EIO);
			return;
		}
		done += (uint64_t)n;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* The file is read before this returns. */
	load_file(path, NULL, loaded, step, true);
	close(fd);
}

#else

static void runtime_loaded(int rc, void *arg)
{
	finish(arg, rc);
}

static void initialised(int rc, void *arg)
{
	struct step *step = arg;

	if (rc != 0) {
		finish(step, rc);
		return;
	}
	spdk_rpc_set_state(SPDK_RPC_RUNTIME);
	spdk_subsystem_load_config(step->json, (ssize_t)step->len, runtime_loaded, step, true);
}

static void startup_loaded(int rc, void *arg)
{
	if (rc != 0) {
		finish(arg, rc);
		return;
	}
	spdk_subsystem_init(initialised, arg);
}

/* Twice: methods allowed before initialisation, then all the others. */
static void load(struct step *step)
{
	spdk_rpc_set_state(SPDK_RPC_STARTUP);
	spdk_subsystem_load_config(step->json, (ssize_t)step->len, startup_loaded, step, true);
}

#endif

/* ---- Which call failed -------------------------------------------------------------------------------------------- */

/* Neither generation tells. So the configuration has calls before each of its own, which note what comes: one for each of
 * the two times that it is gone through, since a method of both states may be called the first time alone. */

static char step_text[256];

static void take_step(struct spdk_jsonrpc_request *request, const struct spdk_json_val *params)
{
	static const struct spdk_json_object_decoder decoders[] = { { "call", 0, spdk_json_decode_string, true } };
	struct spdk_json_write_ctx *w;
	char *text = NULL;

	if (params != NULL && spdk_json_decode_object(params, decoders, 1, &text) == 0 && text != NULL) {
		snprintf(step_text, sizeof(step_text), "%s", text);
	}
	free(text);
	w = spdk_jsonrpc_begin_result(request);
	if (w != NULL) {
		spdk_json_write_bool(w, true);
		spdk_jsonrpc_end_result(request, w);
	}
}
SPDK_RPC_REGISTER("throughline_step", take_step, SPDK_RPC_RUNTIME)

static void take_startup_step(struct spdk_jsonrpc_request *request, const struct spdk_json_val *params)
{
	take_step(request, params);
}
SPDK_RPC_REGISTER("throughline_startup_step", take_startup_step, SPDK_RPC_STARTUP)

const char *tl_spdk_step(void)
{
	return step_text;
}

bool tl_spdk_has_method(const char *name)
{
	return spdk_rpc_is_method_allowed(name, SPDK_RPC_RUNTIME) != -ENOENT;
}

bool tl_spdk_is_legacy(void)
{
	return TL_SPDK_LEGACY;
}

void tl_spdk_start(const char *json, uint64_t len, tl_spdk_done_fn done, void *arg)
{
	struct step *step = calloc(1, sizeof(*step));

	if (json == NULL || len == 0) {
		json = NOTHING;
		len = sizeof(NOTHING) - 1;
	}
	if (step == NULL || (step->json = malloc(len)) == NULL) {
		free(step);
		done(arg, -ENOMEM);
		return;
	}
	memcpy(step->json, json, len);
	step->len = len;
	step->done = done;
	step->arg = arg;
	load(step);
}

static void stopped(void *arg)
{
	finish(arg, 0);
}

void tl_spdk_stop(tl_spdk_done_fn done, void *arg)
{
	struct step *step = calloc(1, sizeof(*step));

	if (step == NULL) {
		done(arg, -ENOMEM);
		return;
	}
	step->done = done;
	step->arg = arg;
	spdk_subsystem_fini(stopped, step);
}

/* ---- SPDK's JSON-RPC ---------------------------------------------------------------------------------------------- */

#if TL_SPDK_BEFORE_2405

int32_t tl_spdk_rpc_listen(const char *path)
{
	if (spdk_rpc_listen(path) != 0) {
		return -EADDRINUSE;
	}
	spdk_rpc_set_state(SPDK_RPC_RUNTIME);
	return 0;
}

void tl_spdk_rpc_poll(void)
{
	spdk_rpc_accept();
}

void tl_spdk_rpc_close(void)
{
	spdk_rpc_close();
}

#else

static struct spdk_rpc_server *server;

int32_t tl_spdk_rpc_listen(const char *path)
{
	if (server != NULL) {
		return -EALREADY;
	}
	server = spdk_rpc_server_listen(path);
	if (server == NULL) {
		return -EADDRINUSE;
	}
	spdk_rpc_set_state(SPDK_RPC_RUNTIME);
	return 0;
}

void tl_spdk_rpc_poll(void)
{
	if (server != NULL) {
		spdk_rpc_server_accept(server);
	}
}

void tl_spdk_rpc_close(void)
{
	if (server != NULL) {
		spdk_rpc_server_close(server);
		server = NULL;
	}
}

#endif
