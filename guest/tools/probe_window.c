/* SPDX-License-Identifier: MIT */
/* The host-visible region: memory that guest and render server share, every way to map it wrongly,
 * many mappings, pauses and resets with them. B.. are the cases of the security catalogue. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "probe_venus.h"

#define BAD_ID 0x7fffff00u
#define PAGE VGD_GUEST_PAGE_BYTES
#define CTX 1u
#define MANY_MAPS 1000u
#define MAPS_LIMIT 4200u /* no backend should let a guest have more */
#define BLOB_CONFIG                                                                                \
    {                                                                                              \
        .frontend = {.profile = VGD_GUEST_QEMU_11_2 }                                              \
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
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, blobs != NULL && probe_context(p, &v, CTX));
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

/* Never both: with memory slots QEMU 11.1 aborts at the 512th mapping and crashes at a reboot with
 * one (D2, D3). And the alignment that the driver is told is one that it can keep. */
static void offers(struct probe *p)
{
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(p->gpu);
    uint64_t protocol = vgd_guest_frontend_protocol_features(fe);
    bool slots = (protocol & UINT64_C(1) << VGD_VU_F_CONFIGURE_MEM_SLOTS) != 0;
    PROBE_CHECK(p, (protocol & UINT64_C(1) << VGD_VU_F_SHMEM) != 0);
    PROBE_CHECK(p, !slots);
    PROBE_CHECK(p, vgd_guest_window_bytes(p->gpu) % PAGE == 0);
    uint32_t alignment = vgd_guest_frontend_blob_alignment(fe);
    if ((vgd_guest_frontend_acked_features(fe) & UINT64_C(1) << VGD_F_BLOB_ALIGNMENT) != 0) {
        PROBE_CHECK(p, alignment >= PAGE && (alignment & (alignment - 1)) == 0);
    }
}

#define AT_ONCE 40u

/* Blobs, and MAP_BLOB of each in flight at once. */
struct burst {
    uint32_t ids[AT_ONCE];
    uint64_t at[AT_ONCE];
    struct vgd_guest_command *maps[AT_ONCE];
};

static bool burst_begin(struct probe *p, struct burst *b)
{
    uint8_t body[VGD_CMD_RESOURCE_MAP_BLOB_SIZE];
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        b->ids[i] = plain_blob(p, CTX, 0, VGD_BLOB_FLAG_USE_MAPPABLE, PAGE);
        b->at[i] = vgd_guest_window_alloc(p->gpu, PAGE);
        if (b->ids[i] == 0 || b->at[i] == UINT64_MAX) {
            return false;
        }
    }
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        struct vgd_guest_request req = vgd_guest_map_request(b->ids[i], b->at[i], body);
        b->maps[i] = vgd_guest_gpu_begin(p->gpu, &req, i + 1 == AT_ONCE || i % 7 == 0);
        if (!PROBE_CHECK(p, b->maps[i] != NULL)) {
            return false;
        }
    }
    return true;
}

static bool is_there(struct probe *p, uint64_t at)
{
    int fd;
    uint64_t offset;
    uint64_t len;
    return vgd_guest_window_file(p->gpu, at, &fd, &offset, &len);
}

/* Each was answered; what the guest was told is mapped is there, after a pause within a moment (a
 * map that the pause interrupts is answered then and made after it). How many were mapped, and of
 * them (*out_late) not at once. */
static uint32_t burst_check(struct probe *p, struct burst *b, uint32_t *out_late)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        PROBE_CHECK(p, vgd_guest_gpu_wait(p->gpu, b->maps[i], 5000));
        bool mapped = b->maps[i]->resp.type == VGD_RESP_OK_MAP_INFO;
        bool there = is_there(p, b->at[i]);
        uint64_t until_ns = vgd_now_ns() + UINT64_C(200000000);
        *out_late += mapped && !there;
        while (mapped && !there && vgd_now_ns() < until_ns) {
            vgd_guest_gpu_turn(p->gpu, 1);
            there = is_there(p, b->at[i]);
        }
        PROBE_CHECK(p, mapped || b->maps[i]->resp.type >= VGD_RESP_ERR_UNSPEC);
        PROBE_CHECK(p, !mapped || there);
        n += mapped;
        vgd_guest_gpu_end(p->gpu, b->maps[i]);
    }
    return n;
}

static void burst_end(struct probe *p, struct burst *b)
{
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        PROBE_OK(p, vgd_guest_unref(p->gpu, b->ids[i]));
        vgd_guest_window_free(p->gpu, b->at[i], PAGE);
    }
}

/* D4: however many the guest asks for, the VMM is asked for one at a time. */
static void maps_at_once(struct probe *p)
{
    struct vgd_venus v;
    struct burst b;
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
    for (uint32_t round = 0; round < 10; round++) {
        PROBE_REQUIRE(p, burst_begin(p, &b));
        uint32_t late = 0;
        PROBE_CHECK(p, burst_check(p, &b, &late) == AT_ONCE);
        PROBE_CHECK(p, late == 0);
        burst_end(p, &b);
    }
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
}

/* D6: pauses that meet maps at every stage of their way. */
static void maps_across_pauses(struct probe *p)
{
    struct vgd_venus v;
    struct burst b;
    uint32_t mapped = 0;
    uint32_t late = 0;
    PROBE_REQUIRE(p, probe_context(p, &v, CTX));
    for (uint32_t round = 0; round < 40; round++) {
        PROBE_REQUIRE(p, burst_begin(p, &b));
        for (uint32_t i = 0; i < round % 10; i++) {
            vgd_guest_gpu_turn(p->gpu, 0);
        }
        usleep(round * 37 % 200);
        PROBE_REQUIRE(p, vgd_guest_gpu_pause(p->gpu) == VGD_OK);
        vgd_guest_gpu_turn(p->gpu, 1); /* QEMU reads what there is while it is paused */
        enum vgd_status st = vgd_guest_gpu_resume(p->gpu);
        if (st == VGD_LIMIT) { /* D1, see pause_with */
            vgd_guest_gpu_settle(p->gpu, 300);
            PROBE_REQUIRE(p, vgd_guest_gpu_pause(p->gpu) == VGD_OK);
            st = vgd_guest_gpu_resume(p->gpu);
        }
        PROBE_REQUIRE(p, st == VGD_OK);
        mapped += burst_check(p, &b, &late);
        burst_end(p, &b);
        PROBE_REQUIRE(p, !p->failed);
    }
    struct vgd_guest_frontend_counters c =
        vgd_guest_frontend_counters(vgd_guest_gpu_frontend(p->gpu));
    probe_note(p, "%u of %u maps were carried out, %u of them a moment after the resume", mapped,
               40 * AT_ONCE, late);
    PROBE_CHECK(p, mapped > 0); /* else nothing was tried */
    probe_note(p, "a message held the VMM %.2f ms at most", (double)c.longest_read_ns / 1e6);
    VENUS_CHECK(p, &v, vgd_venus_close(&v));
}

static void maps_across_resets(struct probe *p)
{
    for (uint32_t round = 0; round < 10; round++) {
        struct vgd_venus v;
        struct burst b;
        PROBE_REQUIRE(p, probe_context(p, &v, CTX));
        PROBE_REQUIRE(p, burst_begin(p, &b));
        for (uint32_t i = 0; i < round; i++) {
            vgd_guest_gpu_turn(p->gpu, 0);
        }
        PROBE_REQUIRE(p, vgd_guest_gpu_reset(p->gpu) == VGD_OK);
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            vgd_guest_gpu_end(p->gpu, b.maps[i]);
        }
        vgd_guest_gpu_settle(p->gpu, 20);
        PROBE_REQUIRE(p, vgd_guest_window_maps_count(p->gpu) == 0);
        probe_goes_on(p);
    }
}

/* B11: nothing survives a reset, and every place is free again. */
static void reset_while_mapped(struct probe *p)
{
    for (uint32_t boot = 0; boot < 3; boot++) {
        struct vgd_venus v;
        struct vgd_venus_blob blobs[30];
        PROBE_REQUIRE(p, probe_context(p, &v, CTX));
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
    PROBE_REQUIRE(p, n <= 64 && probe_context(p, &v, CTX));
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
    {"window/offers", offers, PROBE_WINDOW, BLOB_CONFIG},
    {"window/shared-memory", shared_memory, PROBE_VENUS, BLOB_CONFIG},
    {"window/no-stale-memory", no_stale_memory, PROBE_VENUS, BLOB_CONFIG},
    {"window/ring", ring, PROBE_VENUS, BLOB_CONFIG},
    {"window/device-memory", device_memory, PROBE_VENUS, BLOB_CONFIG},
    {"window/map-errors", map_errors, PROBE_VENUS, BLOB_CONFIG},
    {"window/blob-errors", blob_errors, PROBE_VENUS, BLOB_CONFIG},
    {"window/unref-while-mapped", unref_while_mapped, PROBE_VENUS, BLOB_CONFIG},
    {"window/fenced-map", fenced_map, PROBE_VENUS, BLOB_CONFIG},
    {"window/many-maps", many_maps, PROBE_VENUS, BLOB_CONFIG},
    {"window/maps-at-once", maps_at_once, PROBE_VENUS, BLOB_CONFIG},
    {"window/maps-across-pauses", maps_across_pauses, PROBE_VENUS, BLOB_CONFIG},
    {"window/maps-across-resets", maps_across_resets, PROBE_VENUS, BLOB_CONFIG},
    {"window/reset-while-mapped", reset_while_mapped, PROBE_VENUS, BLOB_CONFIG},
    {"window/pause-few", pause_few, PROBE_VENUS, BLOB_CONFIG},
    {"window/pause-many", pause_many, PROBE_VENUS, BLOB_CONFIG},
};

const struct probe_suite probe_window = {tests, sizeof(tests) / sizeof(tests[0])};
