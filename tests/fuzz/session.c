/* SPDX-License-Identifier: MIT */
/*
 * Whole sessions of a hostile guest: many commands per input, fences delayed and reordered, guest
 * memory that comes and goes, contexts lost, renderer failures, a VMM that accepts, refuses and
 * delays maps, resets, and workers that die and are restored from their journal (sometimes a
 * damaged one).
 *
 * Properties: each request is completed at most once, and each one after fail_pending; answers fit
 * and echo their header; the tables of device and renderer agree; what is asked of the host-visible
 * region never overlaps and lies inside; an undamaged journal restores as many objects and maps as
 * there were; after a reset nothing is left. The fake renderer asserts its own. One file: each
 * command of the input is judged by what all the others left.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "display.h"
#include "fake.h"
#include "gpu.h"
#include "journal.h"
#include "log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#define REQUESTS_MAX 64u
#define COMMAND_BYTES_MAX 512u
#define CAPSET_BYTES 40u
#define REGION_BYTES 8192u
#define REGIONS_COUNT 3u
#define WINDOW_BYTES 65536u
#define MAPS_MAX 6u
#define ASKS_MAX 64u
#define RANGES_MAX (ASKS_MAX + MAPS_MAX)
#define PAGE VGD_BLOB_ALIGNMENT_BYTES

struct request {
    struct vgd_gpu_request req;
    bool pending;
    struct vgd_ctrl_hdr hdr; /* as sent; zero for a short one */
};

/* A range of the region, from the time that it was asked for until it is out again. */
struct range {
    uint64_t offset_bytes, len_bytes;
    uint64_t map_token;
    bool there;     /* the VMM said so */
    bool unmapping; /* asked for: the range may be asked for again */
    bool old;       /* a dead worker's: the new one may know of it or not */
};

static struct {
    const uint8_t *pos, *end; /* the input */
    struct vgd_gpu *gpu;
    struct vgd_render *render;
    struct vgd_display display;
    struct vgd_journal *journal;
    struct vgd_gpu_counters counters;
    struct vgd_gpu_config config;
    struct request requests[REQUESTS_MAX];
    uint32_t completions_count;
    bool completes; /* may the device complete anything now? */
    bool defer;
    struct {
        vgd_display_info_fn info;
        vgd_display_edid_fn edid;
        void *user;
    } questions[REQUESTS_MAX];
    uint32_t questions_count;
    bool gone[REGIONS_COUNT];
    uint8_t swap; /* which mapping each region has */
    bool window_later, window_refuses;
    bool no_model; /* a damaged journal was believed: it may say anything of the region */
    struct {
        uint64_t token;
        bool is_map;
        uint64_t offset_bytes, len_bytes;
    } asks[ASKS_MAX];
    uint32_t asks_count;
    uint64_t last_token;
    bool failing; /* a command of a dead worker is being answered */
    struct range ranges[RANGES_MAX];
    uint32_t ranges_count;
} s;

static uint8_t ram[REGIONS_COUNT * 2][REGION_BYTES];
/* Off a page boundary, so that the journal does not try to give pages back: that costs a system
 * call each time. */
static _Alignas(8) uint8_t area_memory[2 * 4096 + 2 * 131072];
#define AREA (area_memory + 8)
#define AREA_BYTES (sizeof(area_memory) - 8)

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

/* Mostly one of a few, sometimes anything. */
static uint32_t small(uint32_t count)
{
    uint8_t b = u8();
    return b < 0xf0 ? b % count : u32();
}

static uint32_t length(uint32_t usual)
{
    uint8_t b = u8();
    if (b < 0x80) {
        return usual;
    }
    return b < 0xe0 ? b - 0x80u : u32();
}

/* --- display --- */

static void rec_set(struct vgd_display *d, uint32_t idx, uint32_t res_id,
                    const struct vgd_image *image, struct vgd_rect src)
{
    (void)d;
    assert(idx < s.config.n_scanouts && src.w_px > 0 && src.h_px > 0);
    assert(vgd_fake_has_resource(s.render, res_id));
    /* Its last pixel: the fake asserts that it lies inside. */
    struct vgd_rect last = {
        .x_px = src.x_px + src.w_px - 1, .y_px = src.y_px + src.h_px - 1, .w_px = 1, .h_px = 1};
    uint8_t pixel[4];
    (void)s.render->ops->read_pixels(s.render, res_id, image, last, pixel, sizeof(pixel));
}

static void rec_disable(struct vgd_display *d, uint32_t idx)
{
    (void)d;
    assert(idx < s.config.n_scanouts);
}

static void rec_flush(struct vgd_display *d, uint32_t idx, struct vgd_rect damage)
{
    (void)d;
    assert(idx < s.config.n_scanouts && damage.w_px > 0 && damage.h_px > 0);
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
    assert(pos.scanout_id < s.config.n_scanouts);
}

static void rec_move(struct vgd_display *d, struct vgd_cursor_pos pos)
{
    (void)d;
    assert(pos.scanout_id < s.config.n_scanouts);
}

static void answer(vgd_display_info_fn info, vgd_display_edid_fn edid, void *user)
{
    if (info != NULL) {
        static const struct vgd_resp_display_info shown;
        info(user, &shown);
    } else {
        static const uint8_t bytes[VGD_EDID_MAX_BYTES + 1];
        static const uint32_t sizes[] = {
            0, 1, 128, 256, VGD_EDID_MAX_BYTES, VGD_EDID_MAX_BYTES + 1};
        edid(user, bytes, sizes[u8() % 6]);
    }
}

static void ask(vgd_display_info_fn info, vgd_display_edid_fn edid, void *user)
{
    if (!s.defer) {
        answer(info, edid, user);
        return;
    }
    assert(s.questions_count < REQUESTS_MAX);
    s.questions[s.questions_count].info = info;
    s.questions[s.questions_count].edid = edid;
    s.questions[s.questions_count].user = user;
    s.questions_count++;
}

static void rec_get_info(struct vgd_display *d, vgd_display_info_fn fn, void *user)
{
    (void)d;
    ask(fn, NULL, user);
}

static void rec_get_edid(struct vgd_display *d, uint32_t idx, vgd_display_edid_fn fn, void *user)
{
    (void)d;
    assert(idx < s.config.n_scanouts);
    ask(NULL, fn, user);
}

static void rec_cancel(struct vgd_display *d)
{
    (void)d;
    s.questions_count = 0;
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

/* --- the host-visible region --- */

static void range_remove(uint32_t i)
{
    s.ranges[i] = s.ranges[--s.ranges_count];
}

static void window_done(uint32_t nth, enum vgd_status status)
{
    uint64_t token = s.asks[nth].token;
    bool is_map = s.asks[nth].is_map;
    uint64_t offset_bytes = s.asks[nth].offset_bytes;
    s.asks_count--;
    memmove(&s.asks[nth], &s.asks[nth + 1], (s.asks_count - nth) * sizeof(s.asks[0]));
    for (uint32_t i = 0; i < s.ranges_count; i++) {
        struct range *r = &s.ranges[i];
        if (is_map && r->map_token == token) {
            r->there = status == VGD_OK;
            if (!r->there && !r->unmapping) {
                range_remove(i);
            }
            break;
        }
        if (!is_map && r->unmapping && r->offset_bytes == offset_bytes) {
            range_remove(i); /* the oldest one, as the window works */
            break;
        }
    }
    vgd_gpu_window_done(s.gpu, token, status);
}

static void window_ask(uint64_t token, bool is_map, uint64_t offset_bytes, uint64_t len_bytes)
{
    assert(token > s.last_token && len_bytes > 0);
    assert(offset_bytes % PAGE == 0 && len_bytes % PAGE == 0);
    assert(offset_bytes <= WINDOW_BYTES && len_bytes <= WINDOW_BYTES - offset_bytes);
    s.last_token = token;
    if (s.asks_count == ASKS_MAX) { /* the VMM cannot lose any */
        window_done(0, VGD_HOST_FAILED);
    }
    s.asks[s.asks_count].token = token;
    s.asks[s.asks_count].is_map = is_map;
    s.asks[s.asks_count].offset_bytes = offset_bytes;
    s.asks[s.asks_count].len_bytes = len_bytes;
    s.asks_count++;
    if (!s.window_later) {
        window_done(s.asks_count - 1, s.window_refuses ? VGD_HOST_FAILED : VGD_OK);
    }
}

static void window_map(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes,
                       const struct vgd_blob_file *file)
{
    (void)user;
    assert(file->fd >= 0 && file->offset_bytes % PAGE == 0);
    for (uint32_t i = 0; i < s.ranges_count; i++) {
        const struct range *r = &s.ranges[i];
        bool overlaps = offset_bytes < r->offset_bytes + r->len_bytes &&
                        r->offset_bytes < offset_bytes + len_bytes;
        if (overlaps && r->old) {
            range_remove(i--);
        } else {
            assert(!overlaps || r->unmapping || s.no_model);
        }
    }
    assert(s.ranges_count < RANGES_MAX);
    s.ranges[s.ranges_count++] =
        (struct range){.offset_bytes = offset_bytes, .len_bytes = len_bytes, .map_token = token};
    window_ask(token, true, offset_bytes, len_bytes);
}

static void window_unmap(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes)
{
    (void)user;
    struct range *found = NULL; /* rather this worker's than one that a dead one left there */
    for (uint32_t i = 0; i < s.ranges_count; i++) {
        struct range *r = &s.ranges[i];
        bool fits = r->offset_bytes == offset_bytes && r->len_bytes == len_bytes && !r->unmapping;
        found = fits && (found == NULL || found->old) ? r : found;
    }
    if (found != NULL) {
        found->unmapping = true;
    }
    /* What a dead worker was asked for may be there: it is taken out all the same. */
    assert(found != NULL || s.failing || s.no_model);
    if (found == NULL && s.failing) {
        assert(s.ranges_count < RANGES_MAX);
        s.ranges[s.ranges_count++] =
            (struct range){.offset_bytes = offset_bytes, .len_bytes = len_bytes, .unmapping = true};
    }
    window_ask(token, false, offset_bytes, len_bytes);
}

/* What a new worker must find in its journal. */
static uint32_t ranges_there(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s.ranges_count; i++) {
        n += s.ranges[i].there && !s.ranges[i].unmapping && !s.ranges[i].old;
    }
    return n;
}

/* --- memory: three regions of 8 KiB, the first two touch --- */

static enum vgd_status translate(void *user, uint64_t addr, uint64_t len_bytes, struct iovec *iov,
                                 uint32_t *n_iov, uint32_t max)
{
    (void)user;
    static const uint64_t base[REGIONS_COUNT] = {0, REGION_BYTES, UINT64_C(1) << 32};
    uint32_t n = *n_iov;
    while (len_bytes > 0) {
        uint32_t i = 0;
        while (i < REGIONS_COUNT && (addr < base[i] || addr - base[i] >= REGION_BYTES)) {
            i++;
        }
        if (i == REGIONS_COUNT || s.gone[i] || n == max) {
            return VGD_RANGE;
        }
        uint64_t at = addr - base[i];
        uint64_t here = len_bytes < REGION_BYTES - at ? len_bytes : REGION_BYTES - at;
        uint32_t mapping = 2 * i + (s.swap >> i & 1);
        iov[n++] = (struct iovec){ram[mapping] + at, here};
        addr += here;
        len_bytes -= here;
    }
    *n_iov = n;
    return VGD_OK;
}

static uint64_t guest_address(void)
{
    uint8_t b = u8();
    if (b < 0xf0) {
        static const uint64_t near[] = {
            0, 64, 4096, REGION_BYTES - 64, REGION_BYTES, UINT64_C(1) << 32};
        return near[b % 6];
    }
    return (uint64_t)u32() << 32 | u32();
}

/* --- requests --- */

static void completed(void *user, struct vgd_gpu_request *req, const uint8_t *resp, size_t n_bytes)
{
    (void)user;
    struct request *r = (struct request *)req; /* the first member */
    assert(s.completes && r->pending);
    assert(n_bytes <= req->resp_capacity_bytes);
    r->pending = false;
    s.completions_count++;
    if (req->resp_capacity_bytes < VGD_CTRL_HDR_SIZE) {
        assert(n_bytes == 0);
        return;
    }
    assert(n_bytes >= VGD_CTRL_HDR_SIZE);
    struct vgd_reader reader = vgd_reader_of(resp, VGD_CTRL_HDR_SIZE);
    struct vgd_ctrl_hdr hdr;
    enum vgd_status st = vgd_ctrl_hdr_decode(&reader, &hdr);
    assert(st == VGD_OK);
    size_t body_bytes = n_bytes - VGD_CTRL_HDR_SIZE;
    switch (hdr.type) {
    case VGD_RESP_OK_DISPLAY_INFO:
        assert(body_bytes == VGD_RESP_DISPLAY_INFO_SIZE);
        break;
    case VGD_RESP_OK_EDID:
        assert(body_bytes == VGD_RESP_EDID_SIZE);
        break;
    case VGD_RESP_OK_CAPSET_INFO:
        assert(body_bytes == VGD_RESP_CAPSET_INFO_SIZE);
        break;
    case VGD_RESP_OK_CAPSET:
        assert(body_bytes == CAPSET_BYTES || body_bytes == 2 * CAPSET_BYTES);
        break;
    case VGD_RESP_OK_MAP_INFO:
        assert(body_bytes == VGD_RESP_MAP_INFO_SIZE);
        assert(resp[VGD_CTRL_HDR_SIZE] == VGD_MAP_CACHE_CACHED);
        break;
    case VGD_RESP_OK_RESOURCE_UUID:
        assert(body_bytes == VGD_RESP_RESOURCE_UUID_SIZE);
        assert(resp[VGD_CTRL_HDR_SIZE + 6] >> 4 == 4 || s.no_model);
        break;
    case VGD_RESP_OK_NODATA:
        assert(body_bytes == 0);
        break;
    default:
        assert(hdr.type >= VGD_RESP_ERR_UNSPEC && hdr.type <= VGD_RESP_ERR_INVALID_PARAMETER);
        assert(body_bytes == 0 ||
               (r->hdr.type == VGD_CMD_GET_CAPSET_INFO && body_bytes == VGD_RESP_CAPSET_INFO_SIZE));
        break;
    }
    if ((r->hdr.flags & VGD_FLAG_FENCE) != 0) {
        bool ring = (r->hdr.flags & VGD_FLAG_INFO_RING_IDX) != 0;
        assert(hdr.flags == (r->hdr.flags & (VGD_FLAG_FENCE | VGD_FLAG_INFO_RING_IDX)));
        assert(hdr.fence_id == r->hdr.fence_id && hdr.ctx_id == r->hdr.ctx_id);
        assert(hdr.ring_idx == (ring ? r->hdr.ring_idx : 0));
    } else {
        assert(hdr.flags == 0 && hdr.fence_id == 0 && hdr.ctx_id == 0 && hdr.ring_idx == 0);
    }
}

static struct request *request_free(void)
{
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        if (!s.requests[i].pending) {
            return &s.requests[i];
        }
    }
    s.completes = true;
    vgd_gpu_fail_pending(s.gpu);
    s.completes = false;
    assert(!s.requests[0].pending);
    return &s.requests[0];
}

/* Send what @w holds: whole, cut, or with something behind it. */
static void request_send(struct vgd_writer *w, bool to_dead_worker)
{
    assert(w->status == VGD_OK);
    struct request *r = request_free();
    size_t n_bytes = vgd_writer_used(w);
    uint8_t shape = u8();
    if (shape >= 0xf8) {
        n_bytes = u8() < n_bytes ? (size_t)u8() % (n_bytes + 1) : n_bytes;
    } else if (shape >= 0xf0) {
        vgd_write_zeros(w, 1u + shape % 8u);
        n_bytes = vgd_writer_used(w);
    }
    static const size_t capacities[] = {4096, 24, 4096, 4096, 40, 23, 0, 64};
    uint8_t room = u8();
    uint8_t *exact = malloc(n_bytes != 0 ? n_bytes : 1);
    assert(exact != NULL);
    memcpy(exact, w->start, n_bytes);
    struct vgd_reader type_reader = vgd_reader_of(exact, n_bytes);
    uint32_t type = vgd_read_le32(&type_reader);
    bool cursor = type == VGD_CMD_UPDATE_CURSOR || type == VGD_CMD_MOVE_CURSOR;
    *r = (struct request){
        .req = {.cmd = exact,
                .cmd_bytes = n_bytes,
                .resp_capacity_bytes = room < 0xc0 ? 4096 : capacities[room % 8],
                .queue = cursor != (room == 0xbf) ? VGD_QUEUE_CURSOR : VGD_QUEUE_CONTROL},
        .pending = true,
    };
    if (n_bytes >= VGD_CTRL_HDR_SIZE) {
        struct vgd_reader reader = vgd_reader_of(exact, VGD_CTRL_HDR_SIZE);
        enum vgd_status st = vgd_ctrl_hdr_decode(&reader, &r->hdr);
        assert(st == VGD_OK);
    }
    s.completes = true;
    if (to_dead_worker) {
        s.failing = true;
        vgd_gpu_fail(s.gpu, &r->req);
        s.failing = false;
        assert(!r->pending);
    } else {
        vgd_gpu_execute(s.gpu, &r->req);
    }
    s.completes = false;
    free(exact);
}

static uint32_t count_pending(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        n += s.requests[i].pending;
    }
    return n;
}

/* --- the device and its life --- */

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

static void worker_start(bool no_3d)
{
    const struct vgd_fake_config fake = {
        .callbacks = {.fence_done = fence_done, .context_lost = context_lost},
        .no_3d = no_3d,
        .n_capsets = 2,
        .capsets = {{.id = VGD_CAPSET_VIRGL, .max_version = 1, .size_bytes = CAPSET_BYTES},
                    {.id = VGD_CAPSET_VIRGL2, .max_version = 2, .size_bytes = 2 * CAPSET_BYTES}},
        .rings_count = 8,
        .unbound_kills = (s.swap & 0x80) != 0,
        .blob_mems =
            1u << VGD_BLOB_MEM_GUEST | 1u << VGD_BLOB_MEM_HOST3D | 1u << VGD_BLOB_MEM_HOST3D_GUEST,
    };
    s.render = vgd_fake_create(&fake);
    s.journal = vgd_journal_open(AREA, AREA_BYTES);
    assert(s.render != NULL && s.journal != NULL);
    s.config = (struct vgd_gpu_config){
        .render = s.render,
        .display = &s.display,
        .memory = {.translate = translate},
        .window = {.size_bytes = WINDOW_BYTES, .map = window_map, .unmap = window_unmap},
        .journal = s.journal,
        .counters = &s.counters,
        .n_scanouts = 3,
        .limits = {.resources_max = 16,
                   .contexts_max = 4,
                   .fences_max = 40,
                   .attachments_max = 24,
                   .backing_entries_max = 64,
                   .resource_bytes_max = 128 << 10,
                   .submit_bytes_max = 256,
                   .maps_max = MAPS_MAX},
        .complete = completed,
    };
    s.gpu = vgd_gpu_create(&s.config);
    assert(s.gpu != NULL);
    vgd_gpu_set_features(s.gpu, UINT64_MAX);
}

static void worker_stop(void)
{
    vgd_gpu_destroy(s.gpu); /* drops what is pending */
    assert(vgd_fake_resource_count(s.render) == 0 && vgd_fake_context_count(s.render) == 0);
    s.render->ops->destroy(s.render);
    vgd_journal_close(s.journal);
    memset(s.requests, 0, sizeof(s.requests));
}

static void nothing_left(void)
{
    assert(s.counters.resources_live == 0 && s.counters.contexts_live == 0);
    assert(s.counters.resource_bytes_live == 0 && s.counters.backing_entries_live == 0);
    assert(vgd_fake_resource_count(s.render) == 0 && vgd_fake_context_count(s.render) == 0);
    assert(vgd_gpu_pending_count(s.gpu) == 0);
    assert(s.counters.maps_live == 0);
}

static void worker_replace(void)
{
    uint8_t how = u8();
    struct vgd_gpu_counters before = s.counters;
    uint32_t maps = ranges_there();
    worker_stop();
    s.asks_count = 0; /* nobody hears the answers */
    s.last_token = 0;
    for (uint32_t i = 0; i < s.ranges_count; i++) {
        struct range *r = &s.ranges[i];
        r->old = r->old || r->unmapping || !r->there;
        r->unmapping = false;
        r->map_token = 0;
    }
    bool damaged = how >= 0xc0;
    for (uint32_t n = how % 4; damaged && n > 0; n--) {
        uint32_t at = u8() < 0x40 ? u8() % 24u : 4096 + (u32() & 0xfff);
        AREA[at] = u8();
    }
    worker_start((how & 0x10) != 0);
    enum vgd_status st = vgd_gpu_restore(s.gpu);
    assert(st == VGD_OK || damaged);
    s.no_model = s.no_model || (damaged && st == VGD_OK);
    if (st != VGD_OK) {
        nothing_left();
        for (uint32_t i = 0; i < s.ranges_count; i++) {
            s.ranges[i].old = true;
        }
    } else if (!damaged) {
        assert(s.counters.maps_live == maps || s.no_model);
        assert(s.counters.resources_live == before.resources_live);
        assert(s.counters.contexts_live == before.contexts_live);
        assert(s.counters.resource_bytes_live == before.resource_bytes_live);
        assert(s.counters.backing_entries_live == before.backing_entries_live);
    }
}

/* --- commands --- */

static struct vgd_rect rect(void)
{
    struct vgd_rect r;
    r.x_px = small(4);
    r.y_px = small(4);
    r.w_px = small(17);
    r.h_px = small(17);
    return r;
}

static void body_3d(struct vgd_writer *w)
{
    struct vgd_cmd_resource_create_3d cmd = {.resource_id = small(12)};
    uint8_t kind = u8();
    cmd.format = kind < 0xf8 ? 1 : u32();
    cmd.target = kind % 3 == 0 ? 0 : kind % 3 == 1 ? 2 : small(9);
    cmd.bind = kind % 2 ? 1u << 17 : u32();
    cmd.width = kind % 2 ? 16 : 1 + small(32);
    cmd.height = cmd.target == 0 ? 1 : 1 + small(32);
    cmd.depth = kind < 0xe0 ? 1 : small(4);
    cmd.array_size = kind < 0xe0 ? 1 : small(4);
    cmd.last_level = kind < 0xe0 ? 0 : small(4);
    cmd.nr_samples = kind < 0xe0 ? 0 : small(4);
    vgd_cmd_resource_create_3d_encode(w, &cmd);
}

static void body_attach(struct vgd_writer *w)
{
    struct vgd_cmd_resource_attach_backing cmd;
    cmd.resource_id = small(12);
    uint32_t n_entries = 1 + u8() % 8u;
    cmd.nr_entries = length(n_entries);
    vgd_cmd_resource_attach_backing_encode(w, &cmd);
    for (uint32_t i = 0; i < n_entries; i++) {
        struct vgd_mem_entry entry;
        entry.addr = guest_address();
        entry.len_bytes = length(1024);
        vgd_mem_entry_encode(w, &entry);
    }
}

static void body_transfer_3d(struct vgd_writer *w)
{
    struct vgd_cmd_transfer_host_3d cmd;
    cmd.box.x = small(4);
    cmd.box.y = small(2);
    cmd.box.z = small(2);
    cmd.box.w = small(17);
    cmd.box.h = small(17);
    cmd.box.d = small(2);
    cmd.offset_bytes = length(0);
    cmd.resource_id = small(12);
    cmd.level = small(2);
    cmd.stride_bytes = length(64);
    cmd.layer_stride_bytes = length(0);
    vgd_cmd_transfer_host_3d_encode(w, &cmd);
}

static void body_create_blob(struct vgd_writer *w)
{
    struct vgd_cmd_resource_create_blob cmd;
    uint8_t kind = u8();
    cmd.resource_id = small(12);
    cmd.blob_mem = kind < 0xf0 ? 1 + kind % 3u : u32();
    cmd.blob_flags = u8() < 0xf0 ? 1 : u8();
    cmd.blob_id = kind & 0x40 ? small(4) : 0;
    cmd.size_bytes = kind < 0xe0 ? PAGE * (1u + kind / 4 % 2u) : u32();
    uint32_t n_entries =
        cmd.blob_mem == VGD_BLOB_MEM_HOST3D ? kind >> 7 & kind >> 5 & 1u : 1u + u8() % 3u;
    cmd.nr_entries = length(n_entries);
    vgd_cmd_resource_create_blob_encode(w, &cmd);
    for (uint32_t i = 0; i < n_entries; i++) {
        struct vgd_mem_entry entry;
        entry.addr = guest_address();
        entry.len_bytes = length(PAGE);
        vgd_mem_entry_encode(w, &entry);
    }
}

static void body_scanout_blob(struct vgd_writer *w)
{
    struct vgd_cmd_set_scanout_blob cmd = {.rect = rect()};
    cmd.scanout_id = small(3);
    cmd.resource_id = small(12);
    cmd.w_px = small(40);
    cmd.h_px = small(40);
    cmd.format = 1 + small(4);
    cmd.strides_bytes[0] = 4 * small(64);
    cmd.offsets_bytes[0] = u8() < 0x80 ? 0 : 4 * small(128);
    vgd_cmd_set_scanout_blob_encode(w, &cmd);
}

static void body_submit(struct vgd_writer *w)
{
    struct vgd_cmd_submit_3d cmd;
    uint32_t n_bytes = u8();
    cmd.size_bytes = length(n_bytes);
    vgd_cmd_submit_3d_encode(w, &cmd);
    for (uint32_t i = 0; i < n_bytes; i++) {
        vgd_write_u8(w, (uint8_t)i);
    }
}

static void body_cursor(struct vgd_writer *w)
{
    struct vgd_cmd_update_cursor cmd;
    cmd.pos.scanout_id = small(3);
    cmd.pos.x_px = u8();
    cmd.pos.y_px = u8();
    cmd.resource_id = small(12);
    cmd.hot_x_px = u8();
    cmd.hot_y_px = u8();
    vgd_cmd_update_cursor_encode(w, &cmd);
}

static void body(struct vgd_writer *w, uint32_t type)
{
    switch (type) {
    case VGD_CMD_RESOURCE_CREATE_2D: {
        struct vgd_cmd_resource_create_2d cmd;
        cmd.resource_id = small(12);
        cmd.format = 1 + small(4);
        cmd.w_px = small(72);
        cmd.h_px = small(72);
        vgd_cmd_resource_create_2d_encode(w, &cmd);
        break;
    }
    case VGD_CMD_SET_SCANOUT: {
        struct vgd_cmd_set_scanout cmd = {.rect = rect()};
        cmd.scanout_id = small(3);
        cmd.resource_id = small(12);
        vgd_cmd_set_scanout_encode(w, &cmd);
        break;
    }
    case VGD_CMD_RESOURCE_FLUSH: {
        struct vgd_cmd_resource_flush cmd = {.rect = rect()};
        cmd.resource_id = small(12);
        vgd_cmd_resource_flush_encode(w, &cmd);
        break;
    }
    case VGD_CMD_TRANSFER_TO_HOST_2D: {
        struct vgd_cmd_transfer_to_host_2d cmd = {.rect = rect()};
        cmd.offset_bytes = length(0);
        cmd.resource_id = small(12);
        vgd_cmd_transfer_to_host_2d_encode(w, &cmd);
        break;
    }
    case VGD_CMD_RESOURCE_ATTACH_BACKING:
        body_attach(w);
        break;
    case VGD_CMD_RESOURCE_CREATE_BLOB:
        body_create_blob(w);
        break;
    case VGD_CMD_SET_SCANOUT_BLOB:
        body_scanout_blob(w);
        break;
    case VGD_CMD_RESOURCE_MAP_BLOB:
        vgd_write_le32(w, small(12));
        vgd_write_le32(w, 0);
        vgd_write_le64(w,
                       u8() < 0xf0 ? (uint64_t)PAGE * (u8() % 18u) : (uint64_t)u32() << 32 | u32());
        break;
    case VGD_CMD_GET_DISPLAY_INFO:
    case VGD_CMD_CTX_DESTROY:
        break;
    case VGD_CMD_CTX_CREATE: {
        struct vgd_cmd_ctx_create cmd = {.debug_name = "fuzz"};
        cmd.name_len_bytes = length(4);
        cmd.context_init = small(4);
        vgd_cmd_ctx_create_encode(w, &cmd);
        break;
    }
    case VGD_CMD_RESOURCE_CREATE_3D:
        body_3d(w);
        break;
    case VGD_CMD_TRANSFER_TO_HOST_3D:
    case VGD_CMD_TRANSFER_FROM_HOST_3D:
        body_transfer_3d(w);
        break;
    case VGD_CMD_SUBMIT_3D:
        body_submit(w);
        break;
    case VGD_CMD_UPDATE_CURSOR:
    case VGD_CMD_MOVE_CURSOR:
        body_cursor(w);
        break;
    case VGD_CMD_GET_CAPSET:
        vgd_write_le32(w, small(4));
        vgd_write_le32(w, small(4));
        break;
    case VGD_CMD_RESOURCE_UNREF:
    case VGD_CMD_RESOURCE_UNMAP_BLOB:
    case VGD_CMD_RESOURCE_ASSIGN_UUID:
    case VGD_CMD_RESOURCE_DETACH_BACKING:
    case VGD_CMD_CTX_ATTACH_RESOURCE:
    case VGD_CMD_CTX_DETACH_RESOURCE:
    case VGD_CMD_GET_CAPSET_INFO:
    case VGD_CMD_GET_EDID:
        vgd_write_le32(w, small(12)); /* one id */
        vgd_write_le32(w, 0);
        break;
    default:
        for (uint32_t n = u8() % 64u; n > 0; n--) {
            vgd_write_u8(w, u8());
        }
        break;
    }
}

static void command(uint32_t type, bool to_dead_worker)
{
    uint8_t bytes[COMMAND_BYTES_MAX];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    struct vgd_ctrl_hdr hdr = {.type = type};
    uint8_t how = u8();
    hdr.ctx_id = small(5);
    if (how >= 0x80) {
        hdr.flags = how >= 0xfc ? u32() : VGD_FLAG_FENCE;
        hdr.fence_id = u8();
    }
    if (how >= 0xc0) {
        hdr.flags |= VGD_FLAG_INFO_RING_IDX;
        hdr.ring_idx = u8() < 0xf0 ? how % 8 : u8();
    }
    vgd_ctrl_hdr_encode(&w, &hdr);
    body(&w, type);
    request_send(&w, to_dead_worker);
}

static const uint32_t types[] = {
    VGD_CMD_GET_DISPLAY_INFO,
    VGD_CMD_RESOURCE_CREATE_2D,
    VGD_CMD_RESOURCE_UNREF,
    VGD_CMD_SET_SCANOUT,
    VGD_CMD_RESOURCE_FLUSH,
    VGD_CMD_TRANSFER_TO_HOST_2D,
    VGD_CMD_RESOURCE_ATTACH_BACKING,
    VGD_CMD_RESOURCE_DETACH_BACKING,
    VGD_CMD_GET_CAPSET_INFO,
    VGD_CMD_GET_CAPSET,
    VGD_CMD_GET_EDID,
    VGD_CMD_RESOURCE_CREATE_BLOB,
    VGD_CMD_RESOURCE_MAP_BLOB,
    VGD_CMD_RESOURCE_UNMAP_BLOB,
    VGD_CMD_SET_SCANOUT_BLOB,
    VGD_CMD_RESOURCE_ASSIGN_UUID,
    VGD_CMD_CTX_CREATE,
    VGD_CMD_CTX_DESTROY,
    VGD_CMD_CTX_ATTACH_RESOURCE,
    VGD_CMD_CTX_DETACH_RESOURCE,
    VGD_CMD_RESOURCE_CREATE_3D,
    VGD_CMD_TRANSFER_TO_HOST_3D,
    VGD_CMD_TRANSFER_FROM_HOST_3D,
    VGD_CMD_SUBMIT_3D,
    VGD_CMD_UPDATE_CURSOR,
    VGD_CMD_MOVE_CURSOR,
};
#define TYPES_COUNT (sizeof(types) / sizeof(types[0]))

#define EVENTS_COUNT 24u
static_assert(TYPES_COUNT * 8 + EVENTS_COUNT <= 256, "each event has a byte");

/* What happens to a device besides commands. */
static void event(uint8_t which)
{
    s.completes = true;
    switch (which % EVENTS_COUNT) {
    case 0:
        vgd_fake_signal(s.render, u8() % 8u);
        break;
    case 1:
        vgd_fake_signal_all(s.render);
        break;
    case 2:
        vgd_fake_hold_fences(s.render, true);
        break;
    case 3:
        vgd_fake_hold_fences(s.render, false);
        break;
    case 4:
        vgd_fake_lose_context(s.render, small(5));
        break;
    case 5:
        s.defer = !s.defer;
        break;
    case 6:
        while (s.questions_count > 0) {
            s.questions_count--;
            uint32_t i = s.questions_count;
            answer(s.questions[i].info, s.questions[i].edid, s.questions[i].user);
        }
        break;
    case 7: {
        uint8_t b = u8();
        s.gone[b % REGIONS_COUNT] = (b & 0x80) != 0;
        s.swap = u8();
        vgd_gpu_memory_changed(s.gpu);
        break;
    }
    case 8:
        vgd_gpu_memory_detach(s.gpu);
        vgd_gpu_memory_changed(s.gpu);
        break;
    case 9:
        s.completes = false;
        vgd_gpu_reset(s.gpu);
        nothing_left();
        memset(s.requests, 0, sizeof(s.requests)); /* dropped */
        s.ranges_count = 0; /* the VMM drops its maps; answers may still come */
        break;
    case 10:
        vgd_fake_fail_nth(s.render, 1 + u8() % 4u, u8() % 2 ? VGD_HOST_FAILED : VGD_NO_MEMORY);
        break;
    case 11:
        s.completes = false;
        worker_replace();
        break;
    case 12:
        vgd_gpu_fail_pending(s.gpu);
        assert(count_pending() == 0);
        break;
    case 13: {
        vgd_gpu_redisplay(s.gpu);
        struct vgd_rect changed = {.w_px = u8() % 16u, .h_px = u8() % 16u};
        vgd_fake_set_changed(s.render, changed.w_px != 0 ? &changed : NULL);
        break;
    }
    case 14: /* nonsense from the renderer */
        vgd_gpu_fence_done(s.gpu, small(5), u8(), u8());
        break;
    case 15:
        vgd_gpu_set_features(s.gpu, u8() % 4 ? UINT64_MAX : u8());
        break;
    case 16:
        s.completes = false;
        command(u8() < 0xf0 ? types[u8() % TYPES_COUNT] : u32(), true);
        break;
    case 17:
        if (s.asks_count > 0) {
            uint8_t b = u8();
            window_done(b % s.asks_count, b < 0xc0 ? VGD_OK : VGD_HOST_FAILED);
        }
        break;
    case 18:
        while (s.asks_count > 0) {
            window_done(0, VGD_OK);
        }
        break;
    case 19: {
        uint8_t b = u8();
        s.window_later = (b & 1) != 0;
        s.window_refuses = (b & 2) != 0;
        break;
    }
    case 20: /* of a request of before a reset, or of nobody */
        if (s.asks_count == 0) {
            vgd_gpu_window_done(s.gpu, u8() % 2 ? s.last_token : 0, VGD_OK);
        }
        break;
    case 21:
        (void)vgd_fake_add_object(s.render, small(5), 1 + u8() % 4u, PAGE * (1u + u8() % 3u),
                                  u8() % 4 == 0);
        break;
    case 22:
        s.render->ops->batch_end(s.render);
        break;
    default:
        s.completes = false;
        command(u32(), false);
        break;
    }
    s.completes = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    vgd_log_setup("fuzz", VGD_LOG_ERROR);
    memset(&s, 0, sizeof(s));
    s.pos = data;
    s.end = data + len_bytes;
    s.display.ops = &display_ops;
    memset(AREA, 0, 64); /* an empty journal; what lies behind its header does not matter */
    worker_start(false);

    while (s.pos < s.end) {
        uint8_t op = u8();
        if (op < TYPES_COUNT * 8) {
            command(types[op % TYPES_COUNT], false);
        } else {
            event(op);
        }
        assert(vgd_gpu_pending_count(s.gpu) == count_pending());
    }

    s.completes = true;
    vgd_gpu_fail_pending(s.gpu);
    assert(count_pending() == 0);
    s.completes = false;
    while (s.asks_count > 0) { /* what comes is unmapped: nothing that nobody wants stays */
        window_done(0, VGD_OK);
    }
    assert(s.counters.maps_live == ranges_there() || s.no_model);
    vgd_gpu_reset(s.gpu);
    nothing_left();
    worker_stop();
    return 0;
}
