/* SPDX-License-Identifier: MIT */
/* Vulkan contexts and the host-visible region: memory that guest and render server share, every way
 * to map it wrongly, many mappings, contexts that die. B.., F.. and H.. are the cases of the
 * security catalogue. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest_venus.h"
#include "log.h"
#include "probe.h"

#define BAD_ID 0x7fffff00u
#define PAGE VGD_GUEST_PAGE_BYTES
#define CTX 1u
#define OTHER_CTX 2u
#define MANY_MAPS 1000u
#define MAPS_LIMIT 4200u /* no backend should let a guest have more */
#define LOST_MAX_MS 5000
#define BLOB_CONFIG                                                                                \
    {                                                                                              \
        .frontend = {.profile = VGD_GUEST_QEMU_11_2 }                                              \
    }

/* What a Vulkan call needs to go on, with its reason in the diagnosis. */
#define VENUS_REQUIRE(p, v, call)                                                                  \
    do {                                                                                           \
        if (!(call)) {                                                                             \
            probe_fail((p), "%s: %s", #call, (v)->why);                                            \
            return;                                                                                \
        }                                                                                          \
    } while (0)
#define VENUS_CHECK(p, v, call)                                                                    \
    ((call) ? true : (probe_fail((p), "%s: %s", #call, (v)->why), false))

static bool open_context(struct probe *p, struct vgd_venus *v, uint32_t ctx_id)
{
    return VENUS_CHECK(p, v, vgd_venus_open(v, p->gpu, ctx_id, probe_id(p)));
}

/* Both see the same bytes: we through the region, any other process through the file. */
static void check_shared(struct probe *p, const struct vgd_venus_blob *blob, uint32_t seed)
{
    int fd;
    uint64_t file_offset;
    uint64_t len;
    uint8_t bytes[64];
    PROBE_REQUIRE(p, vgd_guest_window_file(p->gpu, blob->offset_bytes, &fd, &file_offset, &len));
    PROBE_CHECK(p, len >= blob->size_bytes);
    uint64_t last = blob->size_bytes - sizeof(bytes);
    memset(blob->bytes + last, (int)(seed & 0xff), sizeof(bytes));
    PROBE_CHECK(p, pread(fd, bytes, sizeof(bytes), (off_t)(file_offset + last)) == sizeof(bytes));
    PROBE_CHECK(p, memcmp(bytes, blob->bytes + last, sizeof(bytes)) == 0);
    memset(bytes, (int)(~seed & 0xff), sizeof(bytes));
    PROBE_CHECK(p, pwrite(fd, bytes, sizeof(bytes), (off_t)file_offset) == sizeof(bytes));
    PROBE_CHECK(p, memcmp(bytes, blob->bytes, sizeof(bytes)) == 0);
}

static void shared_memory(struct probe *p)
{
    struct vgd_venus v;
    PROBE_REQUIRE(p, open_context(p, &v, CTX));
    static const uint64_t sizes[] = {PAGE, 2 * PAGE, 33 * PAGE, 16u << 20};
    for (uint32_t i = 0; i < 4; i++) {
        struct vgd_venus_blob blob;
        VENUS_REQUIRE(p, &v, vgd_venus_blob_create(&v, probe_id(p), 0, sizes[i], &blob));
        PROBE_CHECK(p, blob.map_info >= VGD_MAP_CACHE_CACHED && blob.map_info <= VGD_MAP_CACHE_WC);
        for (uint64_t at = 0; at < blob.size_bytes; at += PAGE) {
            if (blob.bytes[at] != 0) {
                probe_fail(p, "new memory holds 0x%02x at %llu", blob.bytes[at],
                           (unsigned long long)at);
                break;
            }
        }
        check_shared(p, &blob, i + 1);
        VENUS_CHECK(p, &v, vgd_venus_blob_destroy(&v, &blob));
    }
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
    probe_goes_on(p);
}

/* B15: what one freed is not what the next finds. */
static void no_stale_memory(struct probe *p)
{
    struct vgd_venus v;
    PROBE_REQUIRE(p, open_context(p, &v, CTX));
    for (uint32_t round = 0; round < 10; round++) {
        struct vgd_venus_blob blob;
        VENUS_REQUIRE(p, &v, vgd_venus_blob_create(&v, probe_id(p), 0, 1u << 20, &blob));
        uint64_t wrong = 0;
        for (uint64_t at = 0; at < blob.size_bytes; at++) {
            wrong += blob.bytes[at] != 0;
        }
        PROBE_CHECK(p, wrong == 0);
        memset(blob.bytes, 0xa5, blob.size_bytes);
        VENUS_REQUIRE(p, &v, vgd_venus_blob_destroy(&v, &blob));
    }
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
}

/* The render server executes what lies in shared memory, without a command of ours. */
static void ring(struct probe *p)
{
    struct vgd_venus v;
    struct vgd_venus_ring ring;
    PROBE_REQUIRE(p, open_context(p, &v, CTX));
    VENUS_REQUIRE(p, &v, vgd_venus_ring_create(&v, probe_id(p), &ring));
    for (uint32_t i = 0; i < 1000; i++) {
        VENUS_REQUIRE(p, &v, vgd_venus_ring_turn(&v, &ring, 5000));
    }
    usleep(50000); /* it falls asleep, and has to be told */
    VENUS_CHECK(p, &v, vgd_venus_ring_turn(&v, &ring, 5000));
    VENUS_CHECK(p, &v, vgd_venus_ring_destroy(&v, &ring));
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
}

/* Memory of the Vulkan device: the GPU writes, the guest reads, and the other way round. */
static void device_memory(struct probe *p)
{
    struct vgd_venus v;
    PROBE_REQUIRE(p, open_context(p, &v, CTX));
    VENUS_REQUIRE(p, &v, vgd_venus_device(&v));
    static const uint64_t sizes[] = {PAGE, 65536, 1u << 20, 64u << 20};
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t memory = vgd_venus_allocate(&v, sizes[i]);
        VENUS_REQUIRE(p, &v, memory != 0);
        struct vgd_venus_blob blob;
        VENUS_REQUIRE(p, &v, vgd_venus_blob_create(&v, probe_id(p), memory, sizes[i], &blob));
        uint32_t value = 0xc0de0001u * (i + 1);
        if (VENUS_CHECK(p, &v, vgd_venus_fill(&v, memory, sizes[i], value))) {
            const uint32_t *words = (const uint32_t *)(const void *)blob.bytes;
            uint64_t wrong = 0;
            for (uint64_t at = 0; at < sizes[i] / 4; at++) {
                wrong += words[at] != value;
            }
            PROBE_CHECK(p, wrong == 0);
        }
        check_shared(p, &blob, i + 1);
        VENUS_CHECK(p, &v, vgd_venus_blob_destroy(&v, &blob));
        VENUS_CHECK(p, &v, vgd_venus_free(&v, memory));
    }
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
    probe_goes_on(p);
}

/* A blob that is created, not yet mapped; 0: failed. */
static uint32_t plain_blob(struct probe *p, uint32_t ctx_id, uint64_t blob_id, uint32_t flags,
                           uint64_t size_bytes)
{
    struct vgd_cmd_resource_create_blob create = {
        .resource_id = probe_id(p),
        .blob_mem = VGD_BLOB_MEM_HOST3D,
        .blob_flags = flags,
        .blob_id = blob_id,
        .size_bytes = size_bytes,
    };
    uint32_t got = vgd_guest_create_blob(p->gpu, ctx_id, &create, NULL, 0);
    return probe_resp(p, "RESOURCE_CREATE_BLOB", got, VGD_RESP_OK_NODATA) ? create.resource_id : 0;
}

static bool map_is_ok(struct probe *p, uint32_t res_id, uint64_t offset_bytes)
{
    return probe_resp(p, "MAP_BLOB", vgd_guest_map_blob(p->gpu, res_id, offset_bytes, NULL),
                      VGD_RESP_OK_MAP_INFO);
}

/* B04: no place, half a place, a place that is taken. */
static void map_errors(struct probe *p)
{
    struct vgd_venus v;
    PROBE_REQUIRE(p, open_context(p, &v, CTX));
    uint32_t maps = vgd_guest_window_maps_count(p->gpu);
    uint64_t window = vgd_guest_window_bytes(p->gpu);
    uint64_t base = vgd_guest_window_alloc(p->gpu, 64 * PAGE);
    PROBE_REQUIRE(p, base != UINT64_MAX && base + 64 * PAGE <= window);
    uint32_t there = plain_blob(p, CTX, 0, VGD_BLOB_FLAG_USE_MAPPABLE, 4 * PAGE);
    uint32_t other = plain_blob(p, CTX, 0, VGD_BLOB_FLAG_USE_MAPPABLE, 4 * PAGE);
    PROBE_REQUIRE(p, there != 0 && other != 0 && map_is_ok(p, there, base + 8 * PAGE));
    const struct {
        const char *name;
        uint64_t offset_bytes;
    } bad[] = {
        {"at the end of the region", window},
        {"a page over the end", window - 3 * PAGE},
        {"far outside", window * 2},
        {"the last page of 64 bits", UINT64_MAX - PAGE + 1},
        {"offset + size wraps to 0", UINT64_MAX - 4 * PAGE + 1},
        {"2^63", UINT64_C(1) << 63},
        {"not a page", base + 512},
        {"not a page, by one", base + PAGE - 1},
        {"the same place", base + 8 * PAGE},
        {"over its beginning", base + 5 * PAGE},
        {"over its end", base + 11 * PAGE},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        probe_err(p, bad[i].name, vgd_guest_map_blob(p->gpu, other, bad[i].offset_bytes, NULL));
        PROBE_CHECK(p, vgd_guest_window_maps_count(p->gpu) == maps + 1);
    }
    probe_resp(p, "MAP_BLOB of an unknown id", vgd_guest_map_blob(p->gpu, BAD_ID, base, NULL),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    probe_resp(p, "MAP_BLOB of id 0", vgd_guest_map_blob(p->gpu, 0, base, NULL),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    /* Its neighbours' places are free, and so is the last of the region. */
    if (map_is_ok(p, other, base + 12 * PAGE)) {
        PROBE_OK(p, vgd_guest_unmap_blob(p->gpu, other));
    }
    if (map_is_ok(p, other, window - 4 * PAGE)) {
        PROBE_OK(p, vgd_guest_unmap_blob(p->gpu, other));
    }
    /* B05: twice, and not at all. */
    probe_err(p, "MAP_BLOB twice", vgd_guest_map_blob(p->gpu, there, base + 32 * PAGE, NULL));
    probe_err(p, "UNMAP_BLOB of what is not mapped", vgd_guest_unmap_blob(p->gpu, other));
    PROBE_CHECK(p, vgd_guest_window_maps_count(p->gpu) == maps + 1);
    PROBE_OK(p, vgd_guest_unmap_blob(p->gpu, there));
    probe_err(p, "UNMAP_BLOB twice", vgd_guest_unmap_blob(p->gpu, there));
    probe_resp(p, "UNMAP_BLOB of an unknown id", vgd_guest_unmap_blob(p->gpu, BAD_ID),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    PROBE_CHECK(p, vgd_guest_window_maps_count(p->gpu) == maps);
    PROBE_OK(p, vgd_guest_unref(p->gpu, there));
    PROBE_OK(p, vgd_guest_unref(p->gpu, other));
    vgd_guest_window_free(p->gpu, base, 64 * PAGE);
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
    probe_goes_on(p);
}

/* B03, B09: objects that are not there, memory that is not to be mapped, sizes that lie. */
static void blob_errors(struct probe *p)
{
    struct vgd_venus v;
    PROBE_REQUIRE(p, open_context(p, &v, CTX));
    VENUS_REQUIRE(p, &v, vgd_venus_device(&v));
    uint32_t maps = vgd_guest_window_maps_count(p->gpu);
    struct vgd_cmd_resource_create_blob cmd = {
        .resource_id = probe_id(p),
        .blob_mem = VGD_BLOB_MEM_HOST3D,
        .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
        .blob_id = 0x123456789,
        .size_bytes = PAGE,
    };
    probe_err(p, "a blob_id that the context does not know",
              vgd_guest_create_blob(p->gpu, CTX, &cmd, NULL, 0));
    cmd.blob_id = v.device; /* an object, but no memory */
    probe_err(p, "a blob_id that is no memory", vgd_guest_create_blob(p->gpu, CTX, &cmd, NULL, 0));
    static const uint64_t sizes[] = {
        0, 1, PAGE + 1, UINT64_C(1) << 46, UINT64_C(1) << 63, UINT64_MAX - PAGE + 1};
    cmd.blob_id = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        cmd.resource_id = probe_id(p);
        cmd.size_bytes = sizes[i];
        if (!probe_err(p, "an impossible size",
                       vgd_guest_create_blob(p->gpu, CTX, &cmd, NULL, 0))) {
            probe_note(p, "size %llu", (unsigned long long)sizes[i]);
            break;
        }
    }
    /* Larger than the memory is: refused now or when it is mapped. */
    uint64_t memory = vgd_venus_allocate(&v, 16 * PAGE);
    VENUS_REQUIRE(p, &v, memory != 0);
    cmd.resource_id = probe_id(p);
    cmd.blob_id = memory;
    cmd.size_bytes = 1u << 20;
    uint32_t got = vgd_guest_create_blob(p->gpu, CTX, &cmd, NULL, 0);
    if (got == VGD_RESP_OK_NODATA) {
        probe_err(p, "MAP_BLOB of more than there is",
                  vgd_guest_map_blob(p->gpu, cmd.resource_id, 0, NULL));
        PROBE_OK(p, vgd_guest_unref(p->gpu, cmd.resource_id));
    } else {
        probe_err(p, "a blob larger than its memory", got);
    }
    PROBE_CHECK(p, vgd_guest_window_maps_count(p->gpu) == maps);
    VENUS_CHECK(p, &v, vgd_venus_free(&v, memory));
    /* Not made for mapping. */
    memory = vgd_venus_allocate(&v, 16 * PAGE);
    VENUS_REQUIRE(p, &v, memory != 0);
    cmd.resource_id = probe_id(p);
    cmd.blob_id = memory;
    cmd.size_bytes = 16 * PAGE;
    cmd.blob_flags = VGD_BLOB_FLAG_USE_SHAREABLE;
    got = vgd_guest_create_blob(p->gpu, CTX, &cmd, NULL, 0);
    if (got == VGD_RESP_OK_NODATA) {
        probe_err(p, "MAP_BLOB of a blob that is not mappable",
                  vgd_guest_map_blob(p->gpu, cmd.resource_id, 0, NULL));
        PROBE_OK(p, vgd_guest_unref(p->gpu, cmd.resource_id));
    } else {
        probe_err(p, "a blob that is not mappable", got);
    }
    PROBE_CHECK(p, vgd_guest_window_maps_count(p->gpu) == maps);
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
    probe_goes_on(p);
}

/* B06: the place is empty before the memory goes. */
static void unref_while_mapped(struct probe *p)
{
    struct vgd_venus v;
    PROBE_REQUIRE(p, open_context(p, &v, CTX));
    uint32_t maps = vgd_guest_window_maps_count(p->gpu);
    uint64_t at = vgd_guest_window_alloc(p->gpu, PAGE);
    for (uint32_t i = 0; i < 20; i++) {
        uint32_t id = plain_blob(p, CTX, 0, VGD_BLOB_FLAG_USE_MAPPABLE, PAGE);
        PROBE_REQUIRE(p, id != 0 && map_is_ok(p, id, at));
        vgd_guest_window(p->gpu)[at] = 1;
        PROBE_OK(p, vgd_guest_unref(p->gpu, id));
        PROBE_CHECK(p, vgd_guest_window_maps_count(p->gpu) == maps);
    }
    /* The context goes before its mapped blob: the mapping stays the guest's until it says so. */
    uint32_t id = plain_blob(p, CTX, 0, VGD_BLOB_FLAG_USE_MAPPABLE, PAGE);
    PROBE_REQUIRE(p, id != 0 && map_is_ok(p, id, at));
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, CTX));
    vgd_guest_window(p->gpu)[at] = 2;
    PROBE_CHECK(p, vgd_guest_window(p->gpu)[at] == 2);
    PROBE_OK(p, vgd_guest_unmap_blob(p->gpu, id));
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    PROBE_OK(p, vgd_guest_unmap_blob(p->gpu, v.reply.res_id));
    PROBE_OK(p, vgd_guest_unref(p->gpu, v.reply.res_id));
    vgd_guest_window_free(p->gpu, v.reply.offset_bytes, v.reply.size_bytes);
    vgd_guest_window_free(p->gpu, at, PAGE);
    probe_goes_on(p);
}

/* Mapping is a command like others: fence, context and ring come back with the answer. */
static void fenced_map(struct probe *p)
{
    struct vgd_venus v;
    PROBE_REQUIRE(p, open_context(p, &v, CTX));
    uint32_t id = plain_blob(p, CTX, 0, VGD_BLOB_FLAG_USE_MAPPABLE, PAGE);
    uint64_t at = vgd_guest_window_alloc(p->gpu, PAGE);
    uint8_t body[VGD_CMD_RESOURCE_MAP_BLOB_SIZE];
    PROBE_REQUIRE(p, id != 0 && at != UINT64_MAX);
    /* First one that fails, then one that does not. */
    for (uint32_t i = 0; i < 2; i++) {
        struct vgd_guest_request req = vgd_guest_map_request(id, i == 0 ? at + 1 : at, body);
        req.hdr.flags = VGD_FLAG_FENCE;
        req.hdr.fence_id = UINT64_C(0x123456780000) + i;
        struct vgd_guest_command *cmd = vgd_guest_gpu_begin(p->gpu, &req, true);
        PROBE_REQUIRE(p, cmd != NULL && vgd_guest_gpu_wait(p->gpu, cmd, 10000));
        PROBE_CHECK(p, (cmd->resp.flags & VGD_FLAG_FENCE) != 0);
        PROBE_CHECK(p, cmd->resp.fence_id == req.hdr.fence_id);
        PROBE_CHECK(p, (cmd->resp.type == VGD_RESP_OK_MAP_INFO) == (i == 1));
        vgd_guest_gpu_end(p->gpu, cmd);
    }
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    vgd_guest_window_free(p->gpu, at, PAGE);
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
}

/* 1,000 live mappings, each its own memory; then more, until the backend says no (B10). */
static void many_maps(struct probe *p)
{
    struct vgd_venus v;
    struct vgd_venus_blob *blobs = calloc(MAPS_LIMIT, sizeof(*blobs));
    PROBE_REQUIRE(p, blobs != NULL && open_context(p, &v, CTX));
    uint32_t n = 0;
    uint64_t start_ns = vgd_now_ns();
    while (n < MAPS_LIMIT && vgd_venus_blob_create(&v, probe_id(p), 0, PAGE, &blobs[n])) {
        memcpy(blobs[n].bytes, &n, sizeof(n));
        n++;
        if (n == MANY_MAPS) {
            probe_note(p, "%u mappings: %.0f us each to create and map", n,
                       (double)(vgd_now_ns() - start_ns) / 1000.0 / n);
        }
    }
    probe_note(p, "%u mappings, then: %s", n, n < MAPS_LIMIT ? v.why : "no end");
    PROBE_CHECK(p, n >= MANY_MAPS);
    PROBE_CHECK(p, n < MAPS_LIMIT);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t value;
        memcpy(&value, blobs[i].bytes, sizeof(value));
        wrong += value != i;
    }
    PROBE_CHECK(p, wrong == 0);
    probe_goes_on(p);
    for (uint32_t i = 0; i < n; i++) {
        if (!VENUS_CHECK(p, &v, vgd_venus_blob_destroy(&v, &blobs[i]))) {
            break;
        }
    }
    free(blobs);
    /* And it can be done again. */
    struct vgd_venus_blob blob;
    if (VENUS_CHECK(p, &v, vgd_venus_blob_create(&v, probe_id(p), 0, PAGE, &blob))) {
        VENUS_CHECK(p, &v, vgd_venus_blob_destroy(&v, &blob));
    }
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
}

/* Fences of rings that exist come in order, each with its own ring and number. */
static void ring_fences(struct probe *p)
{
    struct vgd_venus v;
    PROBE_REQUIRE(p, open_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, open_context(p, &other, OTHER_CTX));
    VENUS_REQUIRE(p, &other, vgd_venus_device(&other));
    for (size_t i = 0; i < sizeof(rings); i++) {
        struct vgd_venus v;
        PROBE_REQUIRE(p, open_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, open_context(p, &other, OTHER_CTX));
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        struct vgd_venus v;
        PROBE_REQUIRE(p, open_context(p, &v, CTX));
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
    if (open_context(p, &v, CTX)) {
        VENUS_CHECK(p, &v, vgd_venus_close(&v));
    }
}

/* B11: nothing survives a reset, and every place is free again. */
static void reset_while_mapped(struct probe *p)
{
    for (uint32_t boot = 0; boot < 3; boot++) {
        struct vgd_venus v;
        struct vgd_venus_blob blobs[30];
        PROBE_REQUIRE(p, open_context(p, &v, CTX));
        PROBE_CHECK(p, v.reply.offset_bytes == 0);
        for (uint32_t i = 0; i < 30; i++) {
            VENUS_REQUIRE(p, &v, vgd_venus_blob_create(&v, probe_id(p), 0, 3 * PAGE, &blobs[i]));
            PROBE_CHECK(p, blobs[i].bytes[0] == 0);
            blobs[i].bytes[0] = 1;
        }
        uint32_t id = blobs[0].res_id;
        PROBE_REQUIRE(p, vgd_guest_gpu_reset(p->gpu) == VGD_OK);
        PROBE_CHECK(p, vgd_guest_window_maps_count(p->gpu) == 0);
        probe_resp(p, "UNREF of a blob of the last boot", vgd_guest_unref(p->gpu, id),
                   VGD_RESP_ERR_INVALID_RESOURCE_ID);
        probe_resp(p, "UNMAP_BLOB of a blob of the last boot", vgd_guest_unmap_blob(p->gpu, id),
                   VGD_RESP_ERR_INVALID_RESOURCE_ID);
    }
    probe_goes_on(p);
}

/* A pause with @n mappings. */
static void pause_with(struct probe *p, uint32_t n)
{
    struct vgd_venus v;
    struct vgd_venus_blob blobs[64];
    PROBE_REQUIRE(p, n <= 64 && open_context(p, &v, CTX));
    for (uint32_t i = 0; i < n; i++) {
        VENUS_REQUIRE(p, &v,
                      vgd_venus_blob_create(&v, probe_id(p), 0, (1 + i % 3) * PAGE, &blobs[i]));
        memset(blobs[i].bytes, (int)i + 1, PAGE);
    }
    for (uint32_t round = 0; round < 3; round++) {
        PROBE_REQUIRE(p, vgd_guest_gpu_pause(p->gpu) == VGD_OK);
        enum vgd_status st = vgd_guest_gpu_resume(p->gpu);
        if (st == VGD_LIMIT) {
            /* D1: too many regions for this VMM. It reads the backend channel again; the next
             * pause and resume have to work. */
            probe_note(p, "the first start after the pause fails, as QEMU 11.1's (D1)");
            vgd_guest_gpu_settle(p->gpu, 500);
            PROBE_REQUIRE(p, vgd_guest_gpu_pause(p->gpu) == VGD_OK);
            st = vgd_guest_gpu_resume(p->gpu);
        }
        PROBE_REQUIRE(p, st == VGD_OK);
        probe_goes_on(p);
        vgd_guest_gpu_settle(p->gpu, 100);
        PROBE_REQUIRE(p, vgd_guest_window_maps_count(p->gpu) == p->maps_before + n + 1);
        for (uint32_t i = 0; i < n; i++) {
            PROBE_CHECK(p, blobs[i].bytes[0] == i + 1 && blobs[i].bytes[PAGE - 1] == i + 1);
        }
    }
    VENUS_CHECK(p, &v, vgd_venus_device(&v));
    for (uint32_t i = 0; i < n; i++) {
        VENUS_CHECK(p, &v, vgd_venus_blob_destroy(&v, &blobs[i]));
    }
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
}

static void pause_few(struct probe *p)
{
    pause_with(p, 5);
}

static void pause_many(struct probe *p)
{
    pause_with(p, 20);
}

static const struct probe_test tests[] = {
    {"window/shared-memory", shared_memory, PROBE_VENUS, BLOB_CONFIG},
    {"window/no-stale-memory", no_stale_memory, PROBE_VENUS, BLOB_CONFIG},
    {"window/ring", ring, PROBE_VENUS, BLOB_CONFIG},
    {"window/device-memory", device_memory, PROBE_VENUS, BLOB_CONFIG},
    {"window/map-errors", map_errors, PROBE_VENUS, BLOB_CONFIG},
    {"window/blob-errors", blob_errors, PROBE_VENUS, BLOB_CONFIG},
    {"window/unref-while-mapped", unref_while_mapped, PROBE_VENUS, BLOB_CONFIG},
    {"window/fenced-map", fenced_map, PROBE_VENUS, BLOB_CONFIG},
    {"window/many-maps", many_maps, PROBE_VENUS, BLOB_CONFIG},
    {"window/reset-while-mapped", reset_while_mapped, PROBE_VENUS, BLOB_CONFIG},
    {"window/pause-few", pause_few, PROBE_VENUS, BLOB_CONFIG},
    {"window/pause-many", pause_many, PROBE_VENUS, BLOB_CONFIG},
    {"venus/ring-fences", ring_fences, PROBE_VENUS, BLOB_CONFIG},
    {"venus/unbound-ring", unbound_ring, PROBE_VENUS, BLOB_CONFIG},
    {"venus/bad-streams", bad_streams, PROBE_VENUS, BLOB_CONFIG},
    {"venus/many-contexts", many_contexts, PROBE_VENUS, BLOB_CONFIG},
};

const struct probe_suite probe_window = {tests, sizeof(tests) / sizeof(tests[0])};
