/* SPDX-License-Identifier: MIT */
/*
 * What a dead worker left, and was perhaps made to leave: a journal, counters and records of chains
 * in flight of any bytes. The first byte decides how the input becomes a journal: as it is, header
 * and all, or as records whose lengths are right, so that what is behind the walk is reached.
 *
 * Properties: a journal that is refused leaves an empty device and an empty journal; one that is
 * believed gives tables that agree with the renderer's, within all limits, and what is written of
 * them gives the same tables again; commands of the dead worker and new ones are answered once;
 * a reset leaves nothing.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "device.h"
#include "display.h"
#include "fake.h"
#include "gpu.h"
#include "journal.h"
#include "log.h"
#include "vault.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#define REGION_BYTES 16384u
#define WINDOW_BYTES 65536u
#define RECORDS_MAX 64u
#define COMMANDS_MAX 16u
#define BODY_BYTES_MAX (512u + VGD_CURSOR_BYTES)
#define MAPS_MAX 6u
#define RESOURCES_MAX 12u
#define CONTEXTS_MAX 4u
#define PAGE VGD_BLOB_ALIGNMENT_BYTES

enum how {
    HOW_RAW = 1,       /* the journal is the input's bytes */
    HOW_NO_3D = 2,     /* the new worker has no 3D */
    HOW_NO_BLOBS = 4,  /* nor blobs of host memory */
    HOW_NO_WINDOW = 8, /* and no host-visible region */
    HOW_HOLE = 16,     /* the VMM shares less memory than before */
    HOW_FAIL = 32,     /* the renderer fails once */
    HOW_BUSY = 64,     /* the VMM answers nothing */
};

static struct {
    const uint8_t *pos, *end;
    uint8_t how;
    struct vgd_gpu *gpu;
    struct vgd_render *render;
    struct vgd_display display;
    struct vgd_journal *journal;
    struct vgd_gpu_counters counters;
    struct vgd_gpu_request requests[COMMANDS_MAX];
    bool pending[COMMANDS_MAX];
    uint32_t n_requests;
} s;

static uint8_t ram[REGION_BYTES];
/* Off a page boundary, so that the journal does not try to give pages back. */
static _Alignas(8) uint8_t area_memory[2 * 4096 + 2 * 65536];
#define AREA (area_memory + 8)
#define AREA_BYTES (sizeof(area_memory) - 8)
#define FIRST_HALF (AREA + 4096)

/* --- input --- */

static uint8_t u8(void)
{
    return s.pos < s.end ? *s.pos++ : 0;
}

static uint32_t u32(void)
{
    uint32_t v = u8();
    v |= (uint32_t)u8() << 8;
    v |= (uint32_t)u8() << 16;
    return v | (uint32_t)u8() << 24;
}

/* What bodies are made of: ids, formats and sizes are small, places in the region whole pages. */
static uint32_t dword(void)
{
    uint8_t b = u8();
    if (b < 0xd0) {
        return b % 24u;
    }
    if (b < 0xe0) {
        return 1u << b % 16u;
    }
    return b < 0xf0 ? (b & 0xfu) * PAGE : u32();
}

/* --- display and region: what is there, and no more --- */

static void rec_set(struct vgd_display *d, uint32_t idx, uint32_t res_id,
                    const struct vgd_image *image, struct vgd_rect src)
{
    (void)d;
    assert(idx < VGD_MAX_SCANOUTS && src.w_px > 0 && src.h_px > 0);
    assert(vgd_fake_has_resource(s.render, res_id));
    struct vgd_rect last = {
        .x_px = src.x_px + src.w_px - 1, .y_px = src.y_px + src.h_px - 1, .w_px = 1, .h_px = 1};
    uint8_t pixel[4]; /* the fake asserts that it lies inside */
    (void)s.render->ops->read_pixels(s.render, res_id, image, last, pixel, sizeof(pixel));
}

static void rec_disable(struct vgd_display *d, uint32_t idx)
{
    (void)d;
    assert(idx < VGD_MAX_SCANOUTS);
}

static void rec_flush(struct vgd_display *d, uint32_t idx, struct vgd_rect damage)
{
    (void)d;
    assert(idx < VGD_MAX_SCANOUTS && damage.w_px > 0 && damage.h_px > 0);
}

static void rec_cursor(struct vgd_display *d, struct vgd_cursor_pos pos, uint32_t hot_x_px,
                       uint32_t hot_y_px, const uint8_t *pixels)
{
    (void)d;
    (void)hot_x_px;
    (void)hot_y_px;
    static volatile uint8_t sum;
    for (size_t i = 0; pixels != NULL && i < VGD_CURSOR_BYTES; i += 1021) {
        sum = (uint8_t)(sum + pixels[i]);
    }
    assert(pos.scanout_id < VGD_MAX_SCANOUTS);
}

static void rec_move(struct vgd_display *d, struct vgd_cursor_pos pos)
{
    (void)d;
    assert(pos.scanout_id < VGD_MAX_SCANOUTS);
}

static void rec_get_info(struct vgd_display *d, vgd_display_info_fn fn, void *user)
{
    (void)d;
    static const struct vgd_resp_display_info shown;
    fn(user, &shown);
}

static void rec_get_edid(struct vgd_display *d, uint32_t idx, vgd_display_edid_fn fn, void *user)
{
    (void)d;
    (void)idx;
    fn(user, NULL, 0);
}

static void rec_cancel(struct vgd_display *d)
{
    (void)d;
}

static const struct vgd_display_ops display_ops = {
    .scanout_set = rec_set,
    .scanout_disable = rec_disable,
    .flush = rec_flush,
    .cursor_update = rec_cursor,
    .cursor_move = rec_move,
    .get_info = rec_get_info,
    .get_edid = rec_get_edid,
    .cancel = rec_cancel,
};

static void check_range(uint64_t offset_bytes, uint64_t len_bytes)
{
    assert(len_bytes > 0 && offset_bytes % PAGE == 0 && len_bytes % PAGE == 0);
    assert(offset_bytes <= WINDOW_BYTES && len_bytes <= WINDOW_BYTES - offset_bytes);
}

static void window_map(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes,
                       const struct vgd_blob_file *file)
{
    (void)user;
    check_range(offset_bytes, len_bytes);
    assert(file->fd >= 0);
    if ((s.how & HOW_BUSY) == 0) {
        vgd_gpu_window_done(s.gpu, token, VGD_OK);
    }
}

static void window_unmap(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes)
{
    (void)user;
    check_range(offset_bytes, len_bytes);
    if ((s.how & HOW_BUSY) == 0) {
        vgd_gpu_window_done(s.gpu, token, VGD_OK);
    }
}

static enum vgd_status translate(void *user, uint64_t addr, uint64_t len_bytes, struct iovec *iov,
                                 uint32_t *n_iov, uint32_t max)
{
    (void)user;
    uint64_t size_bytes = (s.how & HOW_HOLE) != 0 ? REGION_BYTES / 2 : REGION_BYTES;
    if (len_bytes == 0) {
        return VGD_OK;
    }
    if (addr > size_bytes || len_bytes > size_bytes - addr || *n_iov == max) {
        return VGD_RANGE;
    }
    iov[(*n_iov)++] = (struct iovec){ram + addr, len_bytes};
    return VGD_OK;
}

/* --- the device --- */

static void completed(void *user, struct vgd_gpu_request *req, const uint8_t *resp, size_t n_bytes)
{
    (void)user;
    (void)resp;
    size_t idx = (size_t)(req - s.requests);
    assert(idx < s.n_requests && s.pending[idx] && n_bytes <= req->resp_capacity_bytes);
    s.pending[idx] = false;
}

static void fence_done(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    (void)user;
    vgd_gpu_fence_done(s.gpu, ctx_id, ring_idx, seq);
}

static void context_lost(void *user, uint32_t ctx_id)
{
    (void)user;
    vgd_gpu_context_lost(s.gpu, ctx_id);
}

static void worker_start(void)
{
    const struct vgd_fake_config fake = {
        .callbacks = {.fence_done = fence_done, .context_lost = context_lost},
        .no_3d = (s.how & HOW_NO_3D) != 0,
        .n_capsets = 2,
        .capsets = {{.id = VGD_CAPSET_VIRGL, .max_version = 1, .size_bytes = 40},
                    {.id = VGD_CAPSET_VIRGL2, .max_version = 2, .size_bytes = 80}},
        .blob_mems = (s.how & HOW_NO_BLOBS) != 0
                         ? 1u << VGD_BLOB_MEM_GUEST
                         : 1u << VGD_BLOB_MEM_GUEST | 1u << VGD_BLOB_MEM_HOST3D |
                               1u << VGD_BLOB_MEM_HOST3D_GUEST,
    };
    s.render = vgd_fake_create(&fake);
    s.journal = vgd_journal_open(AREA, AREA_BYTES);
    assert(s.render != NULL && s.journal != NULL);
    const struct vgd_gpu_config config = {
        .render = s.render,
        .display = &s.display,
        .memory = {.translate = translate},
        .window = {.size_bytes = (s.how & HOW_NO_WINDOW) != 0 ? 0 : WINDOW_BYTES,
                   .map = window_map,
                   .unmap = window_unmap},
        .journal = s.journal,
        .counters = &s.counters,
        .n_scanouts = 3,
        .limits = {.resources_max = RESOURCES_MAX,
                   .contexts_max = CONTEXTS_MAX,
                   .fences_max = 8,
                   .attachments_max = 16,
                   .backing_entries_max = 64,
                   .resource_bytes_max = 256 << 10,
                   .submit_bytes_max = 256,
                   .maps_max = MAPS_MAX},
        .complete = completed,
    };
    s.gpu = vgd_gpu_create(&config);
    assert(s.gpu != NULL);
    vgd_gpu_set_features(s.gpu, UINT64_MAX);
}

static void worker_stop(void)
{
    vgd_gpu_destroy(s.gpu);
    assert(vgd_fake_resource_count(s.render) == 0 && vgd_fake_context_count(s.render) == 0);
    s.render->ops->destroy(s.render);
    vgd_journal_close(s.journal);
}

static void check_nothing_left(void)
{
    assert(s.counters.resources_live == 0 && s.counters.contexts_live == 0);
    assert(s.counters.resource_bytes_live == 0 && s.counters.backing_entries_live == 0);
    assert(s.counters.maps_live == 0 && vgd_gpu_pending_count(s.gpu) == 0);
    assert(vgd_fake_resource_count(s.render) == 0 && vgd_fake_context_count(s.render) == 0);
    size_t cursor = 0, n_bytes;
    const uint8_t *record;
    enum vgd_status st = vgd_journal_next(s.journal, &cursor, &record, &n_bytes);
    assert(st == VGD_AGAIN);
    (void)st;
}

static void check_limits(void)
{
    assert(s.counters.resources_live <= RESOURCES_MAX && s.counters.contexts_live <= CONTEXTS_MAX);
    assert(vgd_fake_resource_count(s.render) <= s.counters.resources_live);
    assert(s.counters.resource_bytes_live <= 256 << 10);
    assert(s.counters.backing_entries_live <= 64 && s.counters.maps_live <= MAPS_MAX);
}

/* --- commands --- */

static const uint16_t body_bytes_of[][2] = {
    {VGD_CMD_RESOURCE_CREATE_2D, VGD_CMD_RESOURCE_CREATE_2D_SIZE},
    {VGD_CMD_RESOURCE_CREATE_3D, VGD_CMD_RESOURCE_CREATE_3D_SIZE},
    {VGD_CMD_RESOURCE_CREATE_BLOB, VGD_CMD_RESOURCE_CREATE_BLOB_SIZE},
    {VGD_CMD_RESOURCE_ATTACH_BACKING, VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE},
    {VGD_CMD_SET_SCANOUT, VGD_CMD_SET_SCANOUT_SIZE},
    {VGD_CMD_SET_SCANOUT_BLOB, VGD_CMD_SET_SCANOUT_BLOB_SIZE},
    {VGD_CMD_CTX_CREATE, VGD_CMD_CTX_CREATE_SIZE},
    {VGD_CMD_CTX_DESTROY, 0},
    {VGD_CMD_CTX_ATTACH_RESOURCE, 8},
    {VGD_CMD_CTX_DETACH_RESOURCE, 8},
    {VGD_CMD_RESOURCE_MAP_BLOB, VGD_CMD_RESOURCE_MAP_BLOB_SIZE},
    {VGD_CMD_RESOURCE_UNMAP_BLOB, 8},
    {VGD_CMD_RESOURCE_UNREF, 8},
    {VGD_CMD_RESOURCE_DETACH_BACKING, 8},
    {VGD_CMD_RESOURCE_ASSIGN_UUID, 8},
    {VGD_CMD_UPDATE_CURSOR, VGD_CMD_UPDATE_CURSOR_SIZE},
    {VGD_CMD_MOVE_CURSOR, VGD_CMD_UPDATE_CURSOR_SIZE},
    {VGD_CMD_RESOURCE_FLUSH, VGD_CMD_RESOURCE_FLUSH_SIZE},
    {VGD_CMD_TRANSFER_TO_HOST_2D, VGD_CMD_TRANSFER_TO_HOST_2D_SIZE},
    {VGD_CMD_TRANSFER_TO_HOST_3D, VGD_CMD_TRANSFER_HOST_3D_SIZE},
    {VGD_CMD_TRANSFER_FROM_HOST_3D, VGD_CMD_TRANSFER_HOST_3D_SIZE},
    {VGD_CMD_SUBMIT_3D, VGD_CMD_SUBMIT_3D_SIZE},
    {VGD_CMD_GET_CAPSET_INFO, 8},
    {VGD_CMD_GET_CAPSET, 8},
    {VGD_CMD_GET_EDID, 8},
    {VGD_CMD_GET_DISPLAY_INFO, 0},
};
#define TYPES_COUNT (sizeof(body_bytes_of) / sizeof(body_bytes_of[0]))

/* A command, or a record, in @out; its size. */
static size_t make_command(uint8_t *out, bool is_record)
{
    struct vgd_writer w = vgd_writer_of(out, VGD_CTRL_HDR_SIZE + BODY_BYTES_MAX);
    uint8_t which = u8();
    uint32_t type, body_bytes, pixels_bytes = 0;
    if (which < TYPES_COUNT * 8) {
        type = body_bytes_of[which % TYPES_COUNT][0];
        body_bytes = body_bytes_of[which % TYPES_COUNT][1];
    } else if (is_record && which < 0xf8) {
        type = which % 2 == 0 ? VGD_RECORD_CURSOR : VGD_RECORD_UUID;
        body_bytes =
            which % 2 == 0 ? VGD_CMD_UPDATE_CURSOR_SIZE : VGD_RECORD_UUID_BYTES - VGD_CTRL_HDR_SIZE;
        pixels_bytes = which % 4 == 0 ? VGD_CURSOR_BYTES : 0;
    } else {
        type = u32();
        body_bytes = u8();
    }
    struct vgd_ctrl_hdr hdr = {.type = type};
    uint8_t shape = u8();
    hdr.ctx_id = shape % 6u;
    hdr.flags = shape >= 0xe0 ? VGD_FLAG_FENCE : 0;
    vgd_ctrl_hdr_encode(&w, &hdr);
    for (uint32_t i = 0; i < body_bytes / 4; i++) {
        vgd_write_le32(&w, dword());
    }
    uint32_t tail_dwords = shape & 0x08 ? u8() % 32u : 0; /* entries, mostly */
    for (uint32_t i = 0; i < tail_dwords; i++) {
        vgd_write_le32(&w, dword());
    }
    vgd_write_zeros(&w, pixels_bytes);
    assert(w.status == VGD_OK);
    return vgd_writer_used(&w);
}

static void make_journal(void)
{
    memset(AREA, 0, 64);
    if ((s.how & HOW_RAW) != 0) {
        size_t n_bytes = (size_t)(s.end - s.pos) / 2;
        size_t head_bytes = n_bytes < 24 ? n_bytes : 24;
        memcpy(AREA, s.pos, head_bytes);
        memcpy(FIRST_HALF, s.pos + head_bytes, n_bytes - head_bytes);
        s.pos += n_bytes;
        return;
    }
    struct vgd_journal *journal = vgd_journal_open(AREA, AREA_BYTES);
    assert(journal != NULL);
    for (uint32_t n = u8() % RECORDS_MAX; n > 0 && s.pos < s.end; n--) {
        static uint8_t record[VGD_CTRL_HDR_SIZE + BODY_BYTES_MAX];
        size_t n_bytes = make_command(record, true);
        if (vgd_journal_append(journal, record, n_bytes) != VGD_OK) {
            break; /* too many pictures */
        }
    }
    vgd_journal_close(journal);
}

static void command(bool of_dead_worker)
{
    static uint8_t bytes[VGD_CTRL_HDR_SIZE + BODY_BYTES_MAX];
    size_t n_bytes = make_command(bytes, false);
    _Alignas(8) uint8_t *exact = malloc(n_bytes);
    assert(exact != NULL && s.n_requests < COMMANDS_MAX);
    memcpy(exact, bytes, n_bytes);
    uint32_t idx = s.n_requests++;
    bool cursor = bytes[1] == 0x03;
    s.requests[idx] = (struct vgd_gpu_request){
        .cmd = exact,
        .cmd_bytes = n_bytes,
        .resp_capacity_bytes = 4096,
        .queue = cursor ? VGD_QUEUE_CURSOR : VGD_QUEUE_CONTROL,
    };
    s.pending[idx] = true;
    if (of_dead_worker) {
        vgd_gpu_fail(s.gpu, &s.requests[idx]);
        assert(!s.pending[idx]);
    } else {
        vgd_gpu_execute(s.gpu, &s.requests[idx]);
    }
    free(exact);
}

/* The same tables again, from what the device wrote of them. */
static void restore_again(void)
{
    struct vgd_gpu_counters before = s.counters;
    worker_stop();
    worker_start();
    enum vgd_status st = vgd_gpu_restore(s.gpu);
    assert(st == VGD_OK);
    (void)st;
    assert(s.counters.resources_live == before.resources_live);
    assert(s.counters.contexts_live == before.contexts_live);
    assert(s.counters.resource_bytes_live == before.resource_bytes_live);
    assert(s.counters.backing_entries_live <= before.backing_entries_live);
    assert(s.counters.maps_live == before.maps_live);
}

/* What the supervisor itself reads of a vault. */
static void look_at_inflight(void)
{
    static struct vgd_vault *vault;
    if (vault == NULL) {
        int fd = vgd_vault_create();
        assert(fd >= 0);
        vault = vgd_vault_map(fd);
        assert(vault != NULL);
    }
    uint8_t *record = (uint8_t *)&vault->inflight[1];
    for (uint32_t n = u8() % 8u; n > 0; n--) {
        uint32_t at = u32() % sizeof(vault->inflight[1]);
        record[at] = u8();
    }
    (void)vgd_vault_queue_base(vault, 1);
    (void)vgd_vault_queue_has_undone(vault, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    vgd_log_setup("fuzz", VGD_LOG_ERROR);
    memset(&s, 0, sizeof(s));
    s.pos = data;
    s.end = data + len_bytes;
    s.display.ops = &display_ops;
    s.how = u8();
    memset(&s.counters, u8(), sizeof(s.counters));
    make_journal();
    worker_start();
    if ((s.how & HOW_FAIL) != 0) {
        vgd_fake_fail_nth(s.render, 1 + u8() % 8u, VGD_HOST_FAILED);
    }
    enum vgd_status st = vgd_gpu_restore(s.gpu);
    if (st == VGD_OK) {
        check_limits();
        restore_again();
    } else {
        check_nothing_left();
    }
    uint8_t n_dead = u8() % (COMMANDS_MAX / 2);
    for (; n_dead > 0 && s.pos < s.end; n_dead--) {
        command(true);
    }
    while (s.n_requests < COMMANDS_MAX && s.pos < s.end) {
        command(false);
        check_limits();
    }
    look_at_inflight();
    vgd_gpu_reset(s.gpu);
    check_nothing_left();
    worker_stop();
    return 0;
}
