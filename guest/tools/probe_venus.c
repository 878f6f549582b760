/* SPDX-License-Identifier: MIT */
/* Vulkan contexts: their rings and fences, and how they are lost. F.. and H.. are the cases of the
 * security catalogue. */
#include "probe_venus.h"

#include "log.h"

#define PAGE VGD_GUEST_PAGE_BYTES
#define CTX 1u
#define OTHER_CTX 2u
#define LOST_MAX_MS 5000
#define BLOB_CONFIG                                                                                \
    {                                                                                              \
        .frontend = {.profile = VGD_GUEST_QEMU_11_2 }                                              \
    }

bool probe_context(struct probe *p, struct vgd_venus *v, uint32_t ctx_id)
{
    return VENUS_CHECK(p, v, vgd_venus_open(v, p->gpu, ctx_id, probe_id(p)));
}

/* Fences of rings that exist come in order, each with its own ring and number. */
static void ring_fences(struct probe *p)
{
    struct vgd_venus v;
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
    VENUS_REQUIRE(p, &v, vgd_venus_device(&v));
    for (uint32_t ring = 2; ring <= 63; ring++) {
        VENUS_REQUIRE(p, &v, vgd_venus_bind_ring(&v, ring));
    }
    enum { EACH = 2, RINGS = 64 };
    struct vgd_guest_command *cmds[RINGS * EACH] = {0};
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    for (uint32_t i = 0; i < RINGS * EACH; i++) {
        struct vgd_guest_request req =
            vgd_guest_ring_request(CTX, (uint8_t)(i % RINGS), NULL, 0, 1000 + i, body);
        cmds[i] = vgd_guest_gpu_begin(p->gpu, &req, true);
        if (cmds[i] == NULL) { /* the queue is full: wait for the first */
            PROBE_REQUIRE(p, i > 0 && vgd_guest_gpu_wait(p->gpu, cmds[i - 1], LOST_MAX_MS));
            cmds[i] = vgd_guest_gpu_begin(p->gpu, &req, true);
        }
        PROBE_REQUIRE(p, cmds[i] != NULL);
    }
    for (uint32_t i = 0; i < RINGS * EACH; i++) {
        PROBE_REQUIRE(p, vgd_guest_gpu_wait(p->gpu, cmds[i], LOST_MAX_MS));
        const struct vgd_ctrl_hdr *resp = &cmds[i]->resp;
        if (resp->type != VGD_RESP_OK_NODATA || resp->fence_id != 1000 + i ||
            resp->ring_idx != i % RINGS || resp->ctx_id != CTX ||
            resp->flags != (VGD_FLAG_FENCE | VGD_FLAG_INFO_RING_IDX)) {
            probe_fail(p, "ring %u, fence %u: 0x%x, ring %u, fence %llu, context %u, flags %u",
                       i % RINGS, 1000 + i, resp->type, resp->ring_idx,
                       (unsigned long long)resp->fence_id, resp->ctx_id, resp->flags);
            break;
        }
    }
    for (uint32_t i = 0; i < RINGS * EACH; i++) {
        vgd_guest_gpu_end(p->gpu, cmds[i]);
    }
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
    probe_goes_on(p);
}

/* F02, H07: a fence on a ring that nothing is bound to costs the guest its context. */
static void unbound_ring(struct probe *p)
{
    static const uint8_t rings[] = {1, 2, 63};
    struct vgd_venus other;
    PROBE_REQUIRE(p, probe_context(p, &other, OTHER_CTX));
    VENUS_REQUIRE(p, &other, vgd_venus_device(&other));
    for (size_t i = 0; i < sizeof(rings); i++) {
        struct vgd_venus v;
        PROBE_REQUIRE(p, probe_context(p, &v, CTX));
        uint64_t start_ns = vgd_now_ns();
        uint32_t got = vgd_guest_submit_ring(p->gpu, CTX, rings[i], NULL, 0, 77);
        double ms = (double)(vgd_now_ns() - start_ns) / 1e6;
        PROBE_CHECK(p, got != 0 && ms < LOST_MAX_MS);
        probe_note(p, "ring %u: %s after %.1f ms", rings[i], vgd_resp_name(got), ms);
        /* It may take the device a moment to see it; then every submit is an error. */
        uint64_t until_ns = vgd_now_ns() + (uint64_t)LOST_MAX_MS * 1000000;
        do {
            got = vgd_guest_submit_ring(p->gpu, CTX, 0, NULL, 0, 78);
        } while (got == VGD_RESP_OK_NODATA && vgd_now_ns() < until_ns);
        probe_err(p, "SUBMIT_3D to the context that is lost", got);
        /* The other goes on, and the lost one can be tidied up and made anew. */
        uint64_t memory = vgd_venus_allocate(&other, PAGE);
        VENUS_CHECK(p, &other, memory != 0);
        VENUS_CHECK(p, &other, memory == 0 || vgd_venus_free(&other, memory));
        VENUS_CHECK(p, &v, vgd_venus_close(&v));
    }
    static const uint8_t bad[] = {64, 100, 255};
    for (size_t i = 0; i < sizeof(bad); i++) {
        probe_err(p, "a fence on a ring above 63",
                  vgd_guest_submit_ring(p->gpu, OTHER_CTX, bad[i], NULL, 0, 90 + i));
    }
    VENUS_CHECK(p, &other, vgd_venus_close(&other));
    probe_goes_on(p);
}

/* A stream that makes no sense does the same. */
static void bad_streams(struct probe *p)
{
    static const uint32_t streams[][4] = {
        {0xffffffff, 0, 0, 0}, {345, 0, 0, 0}, {0, 1, 0, 0}, {178, 0, 1, 0}, {21, 0, 99, 0},
    };
    struct vgd_venus other;
    PROBE_REQUIRE(p, probe_context(p, &other, OTHER_CTX));
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        struct vgd_venus v;
        PROBE_REQUIRE(p, probe_context(p, &v, CTX));
        PROBE_CHECK(p, vgd_guest_submit_ring(p->gpu, CTX, 0, streams[i], 4, 7) != 0);
        PROBE_CHECK(p, vgd_guest_submit_ring(p->gpu, CTX, 0, NULL, 0, 8) != 0);
        PROBE_OK(p, vgd_guest_submit_ring(p->gpu, OTHER_CTX, 0, NULL, 0, 9));
        VENUS_CHECK(p, &v, vgd_venus_close(&v));
    }
    VENUS_CHECK(p, &other, vgd_venus_close(&other));
    probe_goes_on(p);
}

/* F07: the render server has an end of contexts. */
static void many_contexts(struct probe *p)
{
    enum { TRIED = 300 };
    uint32_t n = 0;
    uint32_t got = VGD_RESP_OK_NODATA;
    uint64_t start_ns = vgd_now_ns();
    while (n < TRIED && got == VGD_RESP_OK_NODATA) {
        got = vgd_guest_ctx_create(p->gpu, n + 1, VGD_CAPSET_VENUS, "one of many");
        n += got == VGD_RESP_OK_NODATA;
    }
    probe_note(p, "%u contexts in %.0f ms, then %s", n, (double)(vgd_now_ns() - start_ns) / 1e6,
               n < TRIED ? vgd_resp_name(got) : "no end");
    PROBE_CHECK(p, n >= 32);
    if (n < TRIED) {
        probe_err(p, "one context too many", got);
    }
    probe_goes_on(p);
    PROBE_OK(p, vgd_guest_submit_ring(p->gpu, n, 0, NULL, 0, 5));
    for (uint32_t i = 1; i <= n; i++) {
        PROBE_OK_OR_RETURN(p, vgd_guest_ctx_destroy(p->gpu, i));
    }
    struct vgd_venus v;
    if (probe_context(p, &v, CTX)) {
        VENUS_CHECK(p, &v, vgd_venus_close(&v));
    }
}

/* A blob of Vulkan as a texture of OpenGL. @rows of 4,096 bytes. */
static uint32_t take_for_texture(struct probe *p, uint32_t res_id, uint32_t rows)
{
    enum { SET_TYPE = 49, B8G8R8A8 = 1, SAMPLER_VIEW = 8, RENDER_TARGET = 2 };
    const uint32_t words[] = {SET_TYPE | 10u << 16,
                              res_id,
                              B8G8R8A8,
                              SAMPLER_VIEW | RENDER_TARGET,
                              64, /* pixels a row */
                              rows,
                              0,
                              0, /* modifier: rows */
                              0,
                              PAGE, /* stride */
                              0};
    return vgd_guest_submit_3d(p->gpu, OTHER_CTX, words, sizeof(words) / sizeof(words[0]), 0);
}

/* B01: what lies behind it in the backend's memory is nobody's. */
static void texture_beyond_the_blob(struct probe *p)
{
    struct vgd_venus v;
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
    VENUS_REQUIRE(p, &v, vgd_venus_device(&v));
    if (vgd_guest_ctx_create(p->gpu, OTHER_CTX, 0, "opengl") != VGD_RESP_OK_NODATA) {
        probe_skip(p, "no OpenGL beside Vulkan");
        return;
    }
    uint64_t memory = vgd_venus_allocate(&v, 16 * PAGE);
    VENUS_REQUIRE(p, &v, memory != 0);
    struct vgd_cmd_resource_create_blob cmd = {.resource_id = probe_id(p),
                                               .blob_mem = VGD_BLOB_MEM_HOST3D,
                                               .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                               .blob_id = memory,
                                               .size_bytes = 16 * PAGE};
    PROBE_OK(p, vgd_guest_create_blob(p->gpu, CTX, &cmd, NULL, 0));
    PROBE_OK(p, vgd_guest_ctx_attach(p->gpu, OTHER_CTX, cmd.resource_id));
    static const uint32_t too_many[] = {17, 20, 4096, 16384, 16385, UINT32_MAX};
    for (size_t i = 0; i < sizeof(too_many) / sizeof(too_many[0]); i++) {
        if (!probe_err(p, "a texture beyond its blob",
                       take_for_texture(p, cmd.resource_id, too_many[i]))) {
            probe_note(p, "%u rows", too_many[i]);
            break;
        }
    }
    uint32_t got = take_for_texture(p, cmd.resource_id, 16);
    probe_note(p, "one that fits: 0x%x", got); /* not every host can */
    PROBE_OK(p, vgd_guest_unref(p->gpu, cmd.resource_id));
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, OTHER_CTX));
    VENUS_CHECK(p, &v, vgd_venus_free(&v, memory));
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
    probe_goes_on(p);
}

static const struct probe_test tests[] = {
    {"venus/ring-fences", ring_fences, PROBE_VENUS, BLOB_CONFIG},
    {"venus/unbound-ring", unbound_ring, PROBE_VENUS, BLOB_CONFIG},
    {"venus/bad-streams", bad_streams, PROBE_VENUS, BLOB_CONFIG},
    {"venus/texture-beyond-the-blob", texture_beyond_the_blob, PROBE_VENUS, BLOB_CONFIG},
    {"venus/many-contexts", many_contexts, PROBE_VENUS, BLOB_CONFIG},
};

const struct probe_suite probe_venus = {tests, sizeof(tests) / sizeof(tests[0])};
