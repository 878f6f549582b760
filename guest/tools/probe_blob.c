/* SPDX-License-Identifier: MIT */
/* Blobs of guest memory, blobs as scanouts, UUIDs, and what a guest gets wrong with them. B.. and
 * H.. are the cases of the security catalogue. */
#include <stdlib.h>
#include <string.h>

#include "probe.h"

#define BGRX VGD_FORMAT_B8G8R8X8_UNORM
#define BAD_ID 0x7fffff00u
#define PAGE VGD_GUEST_PAGE_BYTES
#define BIT(n) (UINT64_C(1) << (n))
#define BLOB_CONFIG                                                                                \
    {                                                                                              \
        .frontend = {.profile = VGD_GUEST_QEMU_11_2 }                                              \
    }

static struct vgd_cmd_resource_create_blob guest_blob(uint32_t res_id, uint64_t size_bytes,
                                                      uint32_t n_entries)
{
    return (struct vgd_cmd_resource_create_blob){
        .resource_id = res_id,
        .blob_mem = VGD_BLOB_MEM_GUEST,
        .blob_flags = VGD_BLOB_FLAG_USE_SHAREABLE,
        .nr_entries = n_entries,
        .size_bytes = size_bytes,
    };
}

static uint32_t create_guest_blob(struct probe *p, uint32_t res_id,
                                  const struct vgd_guest_backing *backing)
{
    struct vgd_cmd_resource_create_blob cmd =
        guest_blob(res_id, backing->size_bytes, backing->n_entries);
    return vgd_guest_create_blob(p->gpu, 0, &cmd, backing->entries, backing->n_entries);
}

static void life(struct probe *p)
{
    struct vgd_guest_backing backing;
    PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, 10 * PAGE, 5, &backing));
    uint32_t first = probe_id(p);
    for (uint32_t round = 0; round < 50; round++) {
        PROBE_OK_OR_RETURN(p, create_guest_blob(p, first, &backing));
        PROBE_OK_OR_RETURN(p, vgd_guest_unref(p->gpu, first));
    }
    /* Many at once over the same pages: guest memory is the guest's. */
    uint32_t ids[100];
    for (uint32_t i = 0; i < 100; i++) {
        ids[i] = probe_id(p);
        PROBE_OK_OR_RETURN(p, create_guest_blob(p, ids[i], &backing));
    }
    /* The guest's pages are not in the host-visible region. */
    probe_err(p, "MAP_BLOB of guest memory", vgd_guest_map_blob(p->gpu, ids[0], 0, NULL));
    probe_err(p, "UNMAP_BLOB of what is not mapped", vgd_guest_unmap_blob(p->gpu, ids[0]));
    for (uint32_t i = 0; i < 100; i++) {
        PROBE_OK_OR_RETURN(p, vgd_guest_unref(p->gpu, ids[i]));
    }
    probe_resp(p, "UNREF of a blob that is gone", vgd_guest_unref(p->gpu, ids[0]),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    vgd_guest_backing_destroy(p->gpu, &backing);
    probe_goes_on(p);
}

/* B01: sizes that cannot be, or that the entries do not hold. */
static void sizes(struct probe *p)
{
    struct vgd_guest_backing backing;
    PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, 4 * PAGE, 2, &backing));
    static const struct {
        const char *name;
        uint64_t size_bytes;
    } bad[] = {
        {"size 0", 0},
        {"size 1", 1},
        {"a byte more than a page", PAGE + 1},
        {"a page more than the entries", 5 * PAGE},
        {"64 TiB", UINT64_C(1) << 46},
        {"2^63", UINT64_C(1) << 63},
        {"the last page of 64 bits", UINT64_MAX - PAGE + 1},
        {"64 bits", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint32_t id = probe_id(p);
        struct vgd_cmd_resource_create_blob cmd = guest_blob(id, bad[i].size_bytes, 2);
        probe_err(p, bad[i].name, vgd_guest_create_blob(p->gpu, 0, &cmd, backing.entries, 2));
        probe_resp(p, "the id of a blob that was refused", vgd_guest_unref(p->gpu, id),
                   VGD_RESP_ERR_INVALID_RESOURCE_ID);
    }
    /* Entries that lie: outside RAM, wrapping, or fewer than announced. */
    struct vgd_mem_entry outside[2] = {backing.entries[0], backing.entries[1]};
    outside[1].addr = vgd_guest_ram_end(vgd_guest_gpu_ram(p->gpu));
    struct vgd_cmd_resource_create_blob cmd = guest_blob(probe_id(p), 4 * PAGE, 2);
    probe_err(p, "an entry outside RAM", vgd_guest_create_blob(p->gpu, 0, &cmd, outside, 2));
    outside[1].addr = UINT64_MAX - PAGE + 1;
    probe_err(p, "an entry that wraps", vgd_guest_create_blob(p->gpu, 0, &cmd, outside, 2));
    cmd.nr_entries = 3;
    probe_err(p, "fewer entries than announced",
              vgd_guest_create_blob(p->gpu, 0, &cmd, backing.entries, 2));
    cmd.nr_entries = 1;
    probe_err(p, "more entries than announced",
              vgd_guest_create_blob(p->gpu, 0, &cmd, backing.entries, 2));
    cmd.nr_entries = UINT32_MAX;
    probe_err(p, "2^32 - 1 entries announced",
              vgd_guest_create_blob(p->gpu, 0, &cmd, backing.entries, 2));
    cmd.nr_entries = 0;
    probe_err(p, "guest memory of no entries", vgd_guest_create_blob(p->gpu, 0, &cmd, NULL, 0));
    /* What is right still works. */
    uint32_t id = probe_id(p);
    PROBE_OK(p, create_guest_blob(p, id, &backing));
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    vgd_guest_backing_destroy(p->gpu, &backing);
    probe_goes_on(p);
}

/* B02: an id that is taken, by either kind, stays what it was. */
static void duplicates(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, BGRX, 64, 64, 1, 3));
    struct vgd_guest_backing backing;
    PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, PAGE, 1, &backing));
    probe_resp(p, "a blob with the id of a picture", create_guest_blob(p, img.res_id, &backing),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, img.res_id, probe_whole(&img), 0));
    uint32_t id = probe_id(p);
    PROBE_OK(p, create_guest_blob(p, id, &backing));
    probe_resp(p, "a blob with the id of a blob", create_guest_blob(p, id, &backing),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    probe_resp(p, "a picture with the id of a blob", vgd_guest_create_2d(p->gpu, id, BGRX, 16, 16),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    probe_resp(p, "a blob with id 0", create_guest_blob(p, 0, &backing),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    /* A blob has no rows and no format of its own. A transfer has nothing to do: an error, or
     * nothing is done (as QEMU's own device). */
    PROBE_CHECK(p,
                vgd_guest_transfer_2d(p->gpu, id, (struct vgd_rect){.w_px = 4, .h_px = 4}, 0) != 0);
    probe_err(p, "SET_SCANOUT of a blob",
              vgd_guest_set_scanout(p->gpu, 0, id, (struct vgd_rect){.w_px = 16, .h_px = 16}));
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    vgd_guest_backing_destroy(p->gpu, &backing);
    probe_image_destroy(p, &img);
    probe_goes_on(p);
}

/* B03: kinds of memory and flags that do not exist, and contexts that do not. */
static void kinds(struct probe *p)
{
    struct vgd_guest_backing backing;
    PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, 2 * PAGE, 1, &backing));
    static const uint32_t mems[] = {0, 4, 5, 0x100, UINT32_MAX};
    for (size_t i = 0; i < sizeof(mems) / sizeof(mems[0]); i++) {
        struct vgd_cmd_resource_create_blob cmd = guest_blob(probe_id(p), 2 * PAGE, 1);
        cmd.blob_mem = mems[i];
        if (!probe_err(p, "blob_mem that does not exist",
                       vgd_guest_create_blob(p->gpu, 0, &cmd, backing.entries, 1))) {
            probe_note(p, "blob_mem 0x%x", mems[i]);
        }
    }
    static const uint32_t flags[] = {8, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        struct vgd_cmd_resource_create_blob cmd = guest_blob(probe_id(p), 2 * PAGE, 1);
        cmd.blob_flags = flags[i];
        if (!probe_err(p, "blob_flags that do not exist",
                       vgd_guest_create_blob(p->gpu, 0, &cmd, backing.entries, 1))) {
            probe_note(p, "blob_flags 0x%x", flags[i]);
        }
    }
    static const uint32_t host[] = {VGD_BLOB_MEM_HOST3D, VGD_BLOB_MEM_HOST3D_GUEST};
    for (size_t i = 0; i < 2; i++) {
        uint32_t n_entries = host[i] == VGD_BLOB_MEM_HOST3D ? 0 : 1;
        struct vgd_cmd_resource_create_blob cmd = guest_blob(probe_id(p), 2 * PAGE, n_entries);
        cmd.blob_mem = host[i];
        cmd.blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE;
        probe_err(p, "host memory without a context",
                  vgd_guest_create_blob(p->gpu, 0, &cmd, backing.entries, n_entries));
        probe_err(p, "host memory in an unknown context",
                  vgd_guest_create_blob(p->gpu, 999, &cmd, backing.entries, n_entries));
    }
    vgd_guest_backing_destroy(p->gpu, &backing);
    probe_goes_on(p);
}

/* A picture in a blob of guest memory: rows with space behind them, and an offset. */
#define SHOWN_W_PX 200u
#define SHOWN_H_PX 120u
#define SHOWN_STRIDE_BYTES 1024u
#define SHOWN_OFFSET_BYTES 512u
#define SHOWN_BYTES                                                                                \
    ((SHOWN_OFFSET_BYTES + SHOWN_STRIDE_BYTES * SHOWN_H_PX + PAGE - 1) / PAGE * PAGE)

static void paint(struct probe *p, const struct vgd_guest_backing *backing, uint32_t *pixels,
                  uint32_t seed)
{
    for (uint32_t y = 0; y < SHOWN_H_PX; y++) {
        for (uint32_t x = 0; x < SHOWN_W_PX; x++) {
            pixels[y * SHOWN_W_PX + x] = probe_pixel(seed, x, y);
        }
        vgd_guest_backing_write(p->gpu, backing, SHOWN_OFFSET_BYTES + y * SHOWN_STRIDE_BYTES,
                                &pixels[y * SHOWN_W_PX], SHOWN_W_PX * 4);
    }
}

static struct vgd_cmd_set_scanout_blob shown_scanout(uint32_t res_id)
{
    return (struct vgd_cmd_set_scanout_blob){
        .rect = {.w_px = SHOWN_W_PX, .h_px = SHOWN_H_PX},
        .resource_id = res_id,
        .w_px = SHOWN_W_PX,
        .h_px = SHOWN_H_PX,
        .format = BGRX,
        .strides_bytes = {SHOWN_STRIDE_BYTES},
        .offsets_bytes = {SHOWN_OFFSET_BYTES},
    };
}

static void scanout(struct probe *p)
{
    struct vgd_guest_backing backing;
    uint32_t *pixels = malloc(SHOWN_W_PX * SHOWN_H_PX * 4);
    PROBE_REQUIRE(p, pixels != NULL && vgd_guest_backing_create(p->gpu, SHOWN_BYTES, 7, &backing));
    struct probe_image img = {
        .res_id = probe_id(p), .w_px = SHOWN_W_PX, .h_px = SHOWN_H_PX, .pixels = pixels};
    struct vgd_rect whole = probe_whole(&img);
    struct vgd_cmd_set_scanout_blob set = shown_scanout(img.res_id);
    paint(p, &backing, pixels, 1);
    if (PROBE_OK(p, create_guest_blob(p, img.res_id, &backing)) &&
        PROBE_OK(p, vgd_guest_set_scanout_blob(p->gpu, &set)) &&
        PROBE_OK(p, vgd_guest_flush(p->gpu, img.res_id, whole)) &&
        probe_expect_picture(p, 0, &img, whole)) {
        /* Guest memory is used in place: no transfer, a flush is all. */
        for (uint32_t i = 2; i < 6; i++) {
            paint(p, &backing, pixels, i);
            PROBE_OK(p, vgd_guest_flush(p->gpu, img.res_id, whole));
            if (!probe_expect_picture(p, 0, &img, whole)) {
                break;
            }
        }
        /* B07: the scanout goes off with the blob. */
        PROBE_OK(p, vgd_guest_unref(p->gpu, img.res_id));
        vgd_guest_gpu_settle(p->gpu, 20);
        uint32_t w_px;
        uint32_t h_px;
        PROBE_CHECK(p, !vgd_guest_display_scanout(vgd_guest_gpu_display(p->gpu), 0, &w_px, &h_px));
        probe_resp(p, "FLUSH of a blob that is gone", vgd_guest_flush(p->gpu, img.res_id, whole),
                   VGD_RESP_ERR_INVALID_RESOURCE_ID);
    }
    vgd_guest_backing_destroy(p->gpu, &backing);
    free(pixels);
    probe_goes_on(p);
}

/* B12: strides and offsets that do not fit the blob, or wrap. */
static void scanout_errors(struct probe *p)
{
    struct vgd_guest_backing backing;
    PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, SHOWN_BYTES, 1, &backing));
    uint32_t id = probe_id(p);
    PROBE_OK_OR_RETURN(p, create_guest_blob(p, id, &backing));
    struct vgd_cmd_set_scanout_blob good = shown_scanout(id);
    PROBE_OK_OR_RETURN(p, vgd_guest_set_scanout_blob(p->gpu, &good));
    static const struct {
        const char *name;
        uint32_t w_px, h_px, stride_bytes, offset_bytes, format;
        struct vgd_rect rect;
    } bad[] = {
        {"stride 0", 200, 120, 0, 0, BGRX, {0, 0, 200, 120}},
        {"stride less than a row", 200, 120, 799, 0, BGRX, {0, 0, 200, 120}},
        {"the last row leaves the blob", 200, 121, 1024, 4096, BGRX, {0, 0, 200, 121}},
        {"stride * height wraps 32 bits", 200, 120, 0x80000000u, 0, BGRX, {0, 0, 200, 120}},
        {"the largest stride", 200, 120, UINT32_MAX - 3, 0, BGRX, {0, 0, 200, 120}},
        {"offset + rows wrap 32 bits", 200, 120, 1024, UINT32_MAX - 1023, BGRX, {0, 0, 200, 120}},
        {"offset behind the blob", 16, 16, 64, 0x40000000u, BGRX, {0, 0, 16, 16}},
        {"width 0", 0, 120, 1024, 0, BGRX, {0, 0, 0, 120}},
        {"height 0", 200, 0, 1024, 0, BGRX, {0, 0, 200, 0}},
        {"width * 4 wraps", 0x40000001u, 1, 1024, 0, BGRX, {0, 0, 1, 1}},
        {"the largest sides", UINT32_MAX, UINT32_MAX, UINT32_MAX, 0, BGRX, {0, 0, 16, 16}},
        {"rectangle outside", 200, 120, 1024, 0, BGRX, {100, 0, 101, 120}},
        {"rectangle wraps", 200, 120, 1024, 0, BGRX, {UINT32_MAX, 0, 2, 1}},
        {"unknown format", 200, 120, 1024, 0, 255, {0, 0, 200, 120}},
        {"format 0", 200, 120, 1024, 0, 0, {0, 0, 200, 120}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct vgd_cmd_set_scanout_blob cmd = {
            .rect = bad[i].rect,
            .resource_id = id,
            .w_px = bad[i].w_px,
            .h_px = bad[i].h_px,
            .format = bad[i].format,
            .strides_bytes = {bad[i].stride_bytes},
            .offsets_bytes = {bad[i].offset_bytes},
        };
        probe_err(p, bad[i].name, vgd_guest_set_scanout_blob(p->gpu, &cmd));
    }
    struct vgd_cmd_set_scanout_blob cmd = good;
    cmd.scanout_id = 16;
    probe_resp(p, "scanout 16", vgd_guest_set_scanout_blob(p->gpu, &cmd),
               VGD_RESP_ERR_INVALID_SCANOUT_ID);
    cmd = good;
    cmd.resource_id = BAD_ID;
    probe_resp(p, "an unknown blob", vgd_guest_set_scanout_blob(p->gpu, &cmd),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    struct probe_image img;
    if (probe_image_create(p, &img, BGRX, 256, 256, 1, 1)) {
        cmd.resource_id = img.res_id;
        probe_err(p, "a picture that is no blob", vgd_guest_set_scanout_blob(p->gpu, &cmd));
        probe_image_destroy(p, &img);
    }
    PROBE_OK(p, vgd_guest_flush(p->gpu, id, good.rect));
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    vgd_guest_backing_destroy(p->gpu, &backing);
    probe_goes_on(p);
}

/* B13 */
static void uuids(struct probe *p)
{
    uint64_t acked = vgd_guest_frontend_acked_features(vgd_guest_gpu_frontend(p->gpu));
    if ((acked & BIT(VGD_F_RESOURCE_UUID)) == 0) {
        probe_skip(p, "RESOURCE_UUID is not negotiated");
        return;
    }
    static const uint8_t zero[16];
    uint8_t seen[20][16];
    uint32_t ids[20];
    struct vgd_guest_backing backing;
    PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, PAGE, 1, &backing));
    for (uint32_t i = 0; i < 20; i++) {
        ids[i] = probe_id(p);
        PROBE_OK_OR_RETURN(p, create_guest_blob(p, ids[i], &backing));
        if (!probe_resp(p, "ASSIGN_UUID", vgd_guest_assign_uuid(p->gpu, ids[i], seen[i]),
                        VGD_RESP_OK_RESOURCE_UUID)) {
            return;
        }
        PROBE_CHECK(p, memcmp(seen[i], zero, 16) != 0);
        for (uint32_t j = 0; j < i; j++) {
            PROBE_CHECK(p, memcmp(seen[i], seen[j], 16) != 0);
        }
    }
    /* Asked again it stays the same, or is an error; never another one. */
    uint8_t again[16];
    uint32_t got = vgd_guest_assign_uuid(p->gpu, ids[0], again);
    if (got == VGD_RESP_OK_RESOURCE_UUID) {
        PROBE_CHECK(p, memcmp(again, seen[0], 16) == 0);
    } else {
        probe_err(p, "ASSIGN_UUID twice", got);
    }
    probe_resp(p, "ASSIGN_UUID of an unknown id", vgd_guest_assign_uuid(p->gpu, BAD_ID, again),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    probe_resp(p, "ASSIGN_UUID of id 0", vgd_guest_assign_uuid(p->gpu, 0, again),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    for (uint32_t i = 0; i < 20; i++) {
        PROBE_OK(p, vgd_guest_unref(p->gpu, ids[i]));
    }
    vgd_guest_backing_destroy(p->gpu, &backing);
    probe_goes_on(p);
}

/* H05: what was not negotiated is not there, whatever the backend can do. */
static void not_negotiated(struct probe *p)
{
    struct vgd_guest_backing backing;
    PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, PAGE, 1, &backing));
    uint32_t id = probe_id(p);
    uint8_t uuid[16];
    probe_err(p, "RESOURCE_CREATE_BLOB", create_guest_blob(p, id, &backing));
    probe_resp(p, "UNREF of the blob that is not", vgd_guest_unref(p->gpu, id),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    PROBE_OK(p, vgd_guest_create_2d(p->gpu, id, BGRX, 16, 16));
    struct vgd_cmd_set_scanout_blob set = shown_scanout(id);
    probe_err(p, "SET_SCANOUT_BLOB", vgd_guest_set_scanout_blob(p->gpu, &set));
    probe_err(p, "ASSIGN_UUID", vgd_guest_assign_uuid(p->gpu, id, uuid));
    probe_err(p, "MAP_BLOB", vgd_guest_map_blob(p->gpu, id, 0, NULL));
    probe_err(p, "UNMAP_BLOB", vgd_guest_unmap_blob(p->gpu, id));
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    if (vgd_guest_gpu_has_3d(p->gpu)) {
        /* context_init is a padding field then: ignored, or an error. */
        uint32_t got = vgd_guest_ctx_create(p->gpu, 5, VGD_CAPSET_VENUS, "not negotiated");
        if (got == VGD_RESP_OK_NODATA) {
            PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 5));
        } else {
            probe_err(p, "CTX_CREATE with a capset id", got);
        }
    }
    vgd_guest_backing_destroy(p->gpu, &backing);
    probe_goes_on(p);
}

/* Capsets that do not exist, in CTX_CREATE. */
static void unknown_capsets(struct probe *p)
{
    uint64_t acked = vgd_guest_frontend_acked_features(vgd_guest_gpu_frontend(p->gpu));
    if ((acked & BIT(VGD_F_CONTEXT_INIT)) == 0) {
        probe_skip(p, "CONTEXT_INIT is not negotiated");
        return;
    }
    static const uint32_t bad[] = {3, 5, 6, 7, 63, 64, 255, 0x100, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (!probe_err(p, "CTX_CREATE with a capset that is not there",
                       vgd_guest_ctx_create(p->gpu, 9, bad[i], "unknown"))) {
            probe_note(p, "context_init 0x%x", bad[i]);
        }
        probe_resp(p, "the context that was refused", vgd_guest_ctx_destroy(p->gpu, 9),
                   VGD_RESP_ERR_INVALID_CONTEXT_ID);
    }
    probe_goes_on(p);
}

/* H07 on a context of OpenGL: answered, and the next command works. */
static void ring_indices(struct probe *p)
{
    static const uint8_t rings[] = {1, 62, 63, 64, 128, 255};
    uint32_t nop = 0;
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 3, 0, "rings"));
    for (size_t i = 0; i < sizeof(rings); i++) {
        uint32_t got = vgd_guest_submit_ring(p->gpu, 3, rings[i], &nop, 1, 100 + i);
        PROBE_CHECK(p, got != 0);
        if (rings[i] >= 64 && !probe_err(p, "a fence on a ring above 63", got)) {
            probe_note(p, "ring %u", rings[i]);
        }
    }
    PROBE_OK(p, vgd_guest_submit_3d(p->gpu, 3, &nop, 1, 200));
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 3));
    probe_goes_on(p);
}

static const struct probe_test tests[] = {
    {"blob/life", life, PROBE_BLOB, BLOB_CONFIG},
    {"blob/sizes", sizes, PROBE_BLOB, BLOB_CONFIG},
    {"blob/duplicates", duplicates, PROBE_BLOB, BLOB_CONFIG},
    {"blob/kinds", kinds, PROBE_BLOB, BLOB_CONFIG},
    {"blob/scanout", scanout, PROBE_BLOB | PROBE_DISPLAY, BLOB_CONFIG},
    {"blob/scanout-errors", scanout_errors, PROBE_BLOB, BLOB_CONFIG},
    {"blob/uuids", uuids, PROBE_BLOB, BLOB_CONFIG},
    {"blob/unknown-capsets", unknown_capsets, PROBE_3D, BLOB_CONFIG},
    {"blob/ring-indices", ring_indices, PROBE_3D, BLOB_CONFIG},
    {"blob/not-negotiated",
     not_negotiated,
     PROBE_EXEC,
     {.frontend = {.profile = VGD_GUEST_QEMU_11_2,
                   .drop_features = BIT(VGD_F_RESOURCE_BLOB) | BIT(VGD_F_CONTEXT_INIT) |
                                    BIT(VGD_F_RESOURCE_UUID)}}},
};

const struct probe_suite probe_blob = {tests, sizeof(tests) / sizeof(tests[0])};
