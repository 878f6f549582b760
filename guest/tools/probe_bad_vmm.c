/* SPDX-License-Identifier: MIT */
/* A VMM that refuses to map, answers late or never, or with rubbish: the guest's command is
 * answered within bounds, the place stays closed until the truth is known, and the device goes on.
 */
#include <string.h>

#include "guest_venus.h"
#include "log.h"
#include "probe.h"

#define PAGE VGD_GUEST_PAGE_BYTES
#define CTX 1u
#define ANSWER_MAX_MS 10000
#define PAUSE_MAX_MS 4000
#define LATE_MS 300u
#define BLOB_CONFIG                                                                                \
    {                                                                                              \
        .frontend = {.profile = VGD_GUEST_QEMU_11_2}, .command_timeout_ms = 15000                  \
    }

struct scene {
    struct vgd_venus v;
    uint64_t at; /* 16 pages of the region */
    uint32_t maps;
};

static void trouble(struct probe *p, enum vgd_guest_answer answer, uint32_t n_maps,
                    uint32_t n_unmaps)
{
    struct vgd_guest_trouble t = {
        .answer = answer, .n_maps = n_maps, .n_unmaps = n_unmaps, .late_ms = LATE_MS};
    vgd_guest_frontend_trouble(vgd_guest_gpu_frontend(p->gpu), &t);
}

static bool begin(struct probe *p, struct scene *s)
{
    if (!vgd_venus_open(&s->v, p->gpu, CTX, probe_id(p))) {
        probe_fail(p, "no context: %s", s->v.why);
        return false;
    }
    s->at = vgd_guest_window_alloc(p->gpu, 16 * PAGE);
    s->maps = vgd_guest_window_maps_count(p->gpu);
    return PROBE_CHECK(p, s->at != UINT64_MAX);
}

static uint32_t a_blob(struct probe *p)
{
    struct vgd_cmd_resource_create_blob create = {
        .resource_id = probe_id(p),
        .blob_mem = VGD_BLOB_MEM_HOST3D,
        .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
        .size_bytes = 4 * PAGE,
    };
    return PROBE_OK(p, vgd_guest_create_blob(p->gpu, CTX, &create, NULL, 0)) ? create.resource_id
                                                                             : 0;
}

static void end(struct probe *p, struct scene *s)
{
    vgd_guest_window_free(p->gpu, s->at, 16 * PAGE);
    if (!vgd_venus_close(&s->v)) {
        probe_fail(p, "the context does not go: %s", s->v.why);
    }
    probe_goes_on(p);
}

/* Map and say how long it took. */
static uint32_t timed_map(struct probe *p, const char *what, uint32_t res_id, uint64_t at,
                          double *out_ms)
{
    uint64_t start_ns = vgd_now_ns();
    uint32_t got = vgd_guest_map_blob(p->gpu, res_id, at, NULL);
    *out_ms = (double)(vgd_now_ns() - start_ns) / 1e6;
    probe_note(p, "%s: %s after %.1f ms", what, got == 0 ? "no answer" : vgd_resp_name(got),
               *out_ms);
    return got;
}

/* What is mapped now has to become @n within @timeout_ms. */
static bool maps_become(struct probe *p, uint32_t n, int timeout_ms)
{
    uint64_t until_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    while (vgd_guest_window_maps_count(p->gpu) != n && vgd_now_ns() < until_ns) {
        vgd_guest_gpu_turn(p->gpu, 5);
    }
    uint32_t have = vgd_guest_window_maps_count(p->gpu);
    if (have != n) {
        probe_fail(p, "%u mappings instead of %u", have, n);
    }
    return have == n;
}

/* B08 */
static void refuses(struct probe *p)
{
    struct scene s;
    PROBE_REQUIRE(p, begin(p, &s));
    uint32_t id = a_blob(p);
    double ms;
    for (uint32_t i = 0; i < 50; i++) {
        trouble(p, VGD_GUEST_ANSWER_REFUSE, 1, 0);
        if (!probe_err(p, "MAP_BLOB that the VMM refuses",
                       i == 0 ? timed_map(p, "refused", id, s.at, &ms)
                              : vgd_guest_map_blob(p->gpu, id, s.at, NULL))) {
            break;
        }
    }
    PROBE_CHECK(p, vgd_guest_window_maps_count(p->gpu) == s.maps);
    /* The place is free, for this blob and for others. */
    probe_resp(p, "MAP_BLOB then", vgd_guest_map_blob(p->gpu, id, s.at, NULL),
               VGD_RESP_OK_MAP_INFO);
    PROBE_OK(p, vgd_guest_unmap_blob(p->gpu, id));
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    end(p, &s);
}

/* QEMU refuses to unmap only what it does not have. One that keeps it all the same harms its own
 * guest only at that place. */
static void refuses_to_unmap(struct probe *p)
{
    struct scene s;
    PROBE_REQUIRE(p, begin(p, &s));
    uint32_t id = a_blob(p);
    double ms;
    probe_resp(p, "MAP_BLOB", vgd_guest_map_blob(p->gpu, id, s.at, NULL), VGD_RESP_OK_MAP_INFO);
    trouble(p, VGD_GUEST_ANSWER_REFUSE, 0, 1);
    PROBE_CHECK(p, vgd_guest_unmap_blob(p->gpu, id) != 0);
    probe_goes_on(p);
    PROBE_CHECK(p, timed_map(p, "elsewhere", id, s.at + 8 * PAGE, &ms) == VGD_RESP_OK_MAP_INFO);
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    end(p, &s);
}

static void answers_late(struct probe *p)
{
    struct scene s;
    PROBE_REQUIRE(p, begin(p, &s));
    uint32_t id = a_blob(p);
    trouble(p, VGD_GUEST_ANSWER_LATE, 1, 1);
    /* Meanwhile other commands are answered. */
    uint8_t body[VGD_CMD_RESOURCE_MAP_BLOB_SIZE];
    struct vgd_guest_request req = vgd_guest_map_request(id, s.at, body);
    struct vgd_guest_command *cmd = vgd_guest_gpu_begin(p->gpu, &req, true);
    PROBE_REQUIRE(p, cmd != NULL);
    uint64_t start_ns = vgd_now_ns();
    uint32_t n = 0;
    while (!cmd->done && n < 20) {
        PROBE_OK_OR_RETURN(p, vgd_guest_set_scanout(p->gpu, 0, 0, (struct vgd_rect){0}));
        n++;
    }
    double ms = (double)(vgd_now_ns() - start_ns) / 1e6;
    probe_note(p, "%u commands in %.1f ms while the map waits", n, ms);
    PROBE_CHECK(p, n == 20);
    PROBE_REQUIRE(p, vgd_guest_gpu_wait(p->gpu, cmd, ANSWER_MAX_MS));
    probe_resp(p, "MAP_BLOB that is answered late", cmd->resp.type, VGD_RESP_OK_MAP_INFO);
    PROBE_CHECK(p, vgd_now_ns() - start_ns >= (uint64_t)LATE_MS * 1000000);
    vgd_guest_gpu_end(p->gpu, cmd);
    PROBE_OK(p, vgd_guest_unmap_blob(p->gpu, id));
    PROBE_CHECK(p, vgd_guest_window_maps_count(p->gpu) == s.maps);
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    end(p, &s);
}

/* The place stays closed until the answer comes, and is empty then. */
static void never_maps(struct probe *p)
{
    struct scene s;
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(p->gpu);
    PROBE_REQUIRE(p, begin(p, &s));
    uint32_t first = a_blob(p);
    uint32_t second = a_blob(p);
    double ms;
    trouble(p, VGD_GUEST_ANSWER_NEVER, 1, 0);
    probe_err(p, "MAP_BLOB that is never answered", timed_map(p, "never", first, s.at, &ms));
    PROBE_CHECK(p, ms < ANSWER_MAX_MS);
    probe_goes_on(p);
    probe_err(p, "MAP_BLOB where an answer is still to come",
              timed_map(p, "the same place", second, s.at + PAGE, &ms));
    PROBE_CHECK(p, ms < ANSWER_MAX_MS);
    /* Elsewhere: an error, or carried out later; answered in any case. */
    uint32_t got = timed_map(p, "elsewhere", second, s.at + 8 * PAGE, &ms);
    PROBE_CHECK(p, got != 0 && ms < ANSWER_MAX_MS);
    PROBE_CHECK(p, got != VGD_RESP_OK_MAP_INFO);
    PROBE_OK(p, vgd_guest_unref(p->gpu, first));
    probe_goes_on(p);
    /* A stop does not wait for it either. */
    uint64_t start_ns = vgd_now_ns();
    PROBE_REQUIRE(p, vgd_guest_gpu_pause(p->gpu) == VGD_OK);
    ms = (double)(vgd_now_ns() - start_ns) / 1e6;
    probe_note(p, "a pause takes %.1f ms", ms);
    PROBE_CHECK(p, ms < PAUSE_MAX_MS);
    PROBE_REQUIRE(p, vgd_guest_gpu_resume(p->gpu) == VGD_OK);
    PROBE_REQUIRE(p, vgd_guest_frontend_is_holding(fe));
    /* It was mapped after all: the backend takes it back by itself. */
    vgd_guest_frontend_release(fe);
    PROBE_REQUIRE(p, maps_become(p, s.maps, 5000));
    if (probe_resp(p, "MAP_BLOB at the place that is free again",
                   vgd_guest_map_blob(p->gpu, second, s.at, NULL), VGD_RESP_OK_MAP_INFO)) {
        memset(vgd_guest_window(p->gpu) + s.at, 7, 4 * PAGE);
    }
    PROBE_OK(p, vgd_guest_unref(p->gpu, second));
    PROBE_CHECK(p, vgd_guest_window_maps_count(p->gpu) == s.maps);
    end(p, &s);
}

static void never_unmaps(struct probe *p)
{
    struct scene s;
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(p->gpu);
    PROBE_REQUIRE(p, begin(p, &s));
    uint32_t first = a_blob(p);
    uint32_t second = a_blob(p);
    probe_resp(p, "MAP_BLOB", vgd_guest_map_blob(p->gpu, first, s.at, NULL), VGD_RESP_OK_MAP_INFO);
    trouble(p, VGD_GUEST_ANSWER_NEVER, 0, 1);
    uint64_t start_ns = vgd_now_ns();
    uint32_t got = vgd_guest_unmap_blob(p->gpu, first);
    double ms = (double)(vgd_now_ns() - start_ns) / 1e6;
    probe_note(p, "UNMAP_BLOB: %s after %.1f ms", got == 0 ? "no answer" : vgd_resp_name(got), ms);
    PROBE_CHECK(p, got != 0 && ms < ANSWER_MAX_MS);
    probe_err(p, "MAP_BLOB where an unmap is still to come",
              timed_map(p, "the same place", second, s.at, &ms));
    PROBE_CHECK(p, ms < ANSWER_MAX_MS);
    PROBE_CHECK(p, vgd_guest_unref(p->gpu, first) != 0);
    probe_goes_on(p);
    vgd_guest_frontend_release(fe);
    PROBE_REQUIRE(p, maps_become(p, s.maps, 5000));
    probe_goes_on(p);
    uint64_t until_ns = vgd_now_ns() + UINT64_C(5000000000);
    do {
        got = vgd_guest_map_blob(p->gpu, second, s.at, NULL);
    } while (got != VGD_RESP_OK_MAP_INFO && vgd_now_ns() < until_ns);
    probe_resp(p, "MAP_BLOB at the place that is free again", got, VGD_RESP_OK_MAP_INFO);
    PROBE_OK(p, vgd_guest_unref(p->gpu, second));
    end(p, &s);
}

/* The VMM's side of the channel is broken: no more maps, but everything else. */
static void broken_channel(struct probe *p, enum vgd_guest_answer answer, const char *name)
{
    struct scene s;
    PROBE_REQUIRE(p, begin(p, &s));
    uint32_t id = a_blob(p);
    double ms;
    trouble(p, answer, 1, 0);
    probe_err(p, name, timed_map(p, name, id, s.at, &ms));
    PROBE_CHECK(p, ms < ANSWER_MAX_MS);
    probe_goes_on(p);
    uint32_t got = timed_map(p, "the next", id, s.at + 8 * PAGE, &ms);
    PROBE_CHECK(p, got != 0 && ms < ANSWER_MAX_MS);
    PROBE_CHECK(p, vgd_guest_unref(p->gpu, id) != 0);
    PROBE_REQUIRE(p, vgd_guest_gpu_pause(p->gpu) == VGD_OK);
    PROBE_REQUIRE(p, vgd_guest_gpu_resume(p->gpu) == VGD_OK);
    probe_goes_on(p);
    /* A reset makes the region whole again where the channel still works; in any case it works. */
    PROBE_REQUIRE(p, vgd_guest_gpu_reset(p->gpu) == VGD_OK);
    probe_goes_on(p);
}

static void answers_rubbish(struct probe *p)
{
    broken_channel(p, VGD_GUEST_ANSWER_RUBBISH, "MAP_BLOB that is answered with rubbish");
}

static void closes(struct probe *p)
{
    broken_channel(p, VGD_GUEST_ANSWER_CLOSE, "MAP_BLOB after which the VMM closes the channel");
}

static void loses_an_answer(struct probe *p)
{
    broken_channel(p, VGD_GUEST_ANSWER_LOSE, "MAP_BLOB whose answer is lost");
}

static const struct probe_test tests[] = {
    {"vmm/refuses", refuses, PROBE_VENUS, BLOB_CONFIG},
    {"vmm/refuses-to-unmap", refuses_to_unmap, PROBE_VENUS | PROBE_BAD_VMM, BLOB_CONFIG},
    {"vmm/answers-late", answers_late, PROBE_VENUS, BLOB_CONFIG},
    {"vmm/never-maps", never_maps, PROBE_VENUS, BLOB_CONFIG},
    {"vmm/never-unmaps", never_unmaps, PROBE_VENUS, BLOB_CONFIG},
    {"vmm/answers-rubbish", answers_rubbish, PROBE_VENUS | PROBE_BAD_VMM | PROBE_HOSTILE,
     BLOB_CONFIG},
    {"vmm/closes", closes, PROBE_VENUS | PROBE_BAD_VMM | PROBE_HOSTILE, BLOB_CONFIG},
    {"vmm/loses-an-answer", loses_an_answer, PROBE_VENUS | PROBE_BAD_VMM | PROBE_EXEC, BLOB_CONFIG},
};

const struct probe_suite probe_bad_vmm = {tests, sizeof(tests) / sizeof(tests[0])};
