/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"
#include "log.h"

/* --- display --- */

static struct recorder *recorder_of(struct vgd_display *d)
{
    return (struct recorder *)d;
}

static void record(struct vgd_display *d, struct event event)
{
    struct recorder *r = recorder_of(d);
    if (r->events_count < EVENTS_MAX) {
        r->events[r->events_count] = event;
    }
    r->events_count++;
}

static void rec_set(struct vgd_display *d, uint32_t scanout_idx, uint32_t res_id,
                    const struct vgd_image *image, struct vgd_rect src)
{
    assert(src.w_px > 0 && src.h_px > 0);
    struct event event = {
        .kind = EVENT_SET, .scanout_idx = scanout_idx, .res_id = res_id, .rect = src};
    if (image != NULL) {
        event.is_blob = true;
        event.image = *image;
    }
    record(d, event);
}

static void rec_disable(struct vgd_display *d, uint32_t scanout_idx)
{
    record(d, (struct event){.kind = EVENT_DISABLE, .scanout_idx = scanout_idx});
}

static void rec_flush(struct vgd_display *d, uint32_t scanout_idx, struct vgd_rect damage)
{
    assert(damage.w_px > 0 && damage.h_px > 0);
    record(d, (struct event){.kind = EVENT_FLUSH, .scanout_idx = scanout_idx, .rect = damage});
}

static void rec_cursor(struct vgd_display *d, struct vgd_cursor_pos pos, uint32_t hot_x_px,
                       uint32_t hot_y_px, const uint8_t *pixels)
{
    record(d, (struct event){.kind = pixels != NULL ? EVENT_CURSOR : EVENT_CURSOR_HIDDEN,
                             .scanout_idx = pos.scanout_id,
                             .pos = pos,
                             .hot_x_px = hot_x_px,
                             .hot_y_px = hot_y_px});
    if (pixels != NULL) {
        memcpy(recorder_of(d)->pixels, pixels, VGD_CURSOR_BYTES);
    }
}

static void rec_move(struct vgd_display *d, struct vgd_cursor_pos pos)
{
    record(d, (struct event){.kind = EVENT_CURSOR_MOVE, .scanout_idx = pos.scanout_id, .pos = pos});
}

static void answer_info(vgd_display_info_fn fn, void *user)
{
    struct vgd_resp_display_info info = {0};
    info.pmodes[0] = (struct vgd_display_one){.rect = {.w_px = 1280, .h_px = 800}, .enabled = 1};
    fn(user, &info);
}

static void answer_edid(const struct recorder *r, vgd_display_edid_fn fn, void *user)
{
    static const uint8_t edid[128] = {0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00};
    fn(user, edid, r->no_edid ? 0 : sizeof(edid));
}

static void ask(struct recorder *r, vgd_display_info_fn info, vgd_display_edid_fn edid, void *user)
{
    if (!r->defer) {
        if (info != NULL) {
            answer_info(info, user);
        } else {
            answer_edid(r, edid, user);
        }
        return;
    }
    assert(r->questions_count < QUESTIONS_MAX);
    r->questions[r->questions_count].info = info;
    r->questions[r->questions_count].edid = edid;
    r->questions[r->questions_count].user = user;
    r->questions_count++;
}

static void rec_get_info(struct vgd_display *d, vgd_display_info_fn fn, void *user)
{
    ask(recorder_of(d), fn, NULL, user);
}

static void rec_get_edid(struct vgd_display *d, uint32_t scanout_idx, vgd_display_edid_fn fn,
                         void *user)
{
    (void)scanout_idx;
    ask(recorder_of(d), NULL, fn, user);
}

static void rec_cancel(struct vgd_display *d)
{
    recorder_of(d)->questions_count = 0;
}

void recorder_init(struct recorder *d)
{
    static const struct vgd_display_ops ops = {
        .scanout_set = rec_set,
        .scanout_disable = rec_disable,
        .flush = rec_flush,
        .cursor_update = rec_cursor,
        .cursor_move = rec_move,
        .get_info = rec_get_info,
        .get_edid = rec_get_edid,
        .cancel = rec_cancel,
    };
    *d = (struct recorder){.base.ops = &ops};
}

void recorder_answer(struct recorder *d)
{
    while (d->questions_count > 0) {
        d->questions_count--;
        uint32_t i = d->questions_count; /* the last one first: answers come in any order */
        if (d->questions[i].info != NULL) {
            answer_info(d->questions[i].info, d->questions[i].user);
        } else {
            answer_edid(d, d->questions[i].edid, d->questions[i].user);
        }
    }
}

void events_clear(struct bench *b)
{
    b->display.events_count = 0;
}

uint32_t events_of(const struct bench *b, enum event_kind kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->display.events_count && i < EVENTS_MAX; i++) {
        n += b->display.events[i].kind == kind;
    }
    return n;
}

/* --- guest memory --- */

static const uint64_t region_gpa[REGIONS_COUNT] = {LOW_GPA, MIDDLE_GPA, HIGH_GPA};

static bool region_of(const struct bench *b, uint64_t gpa, uint32_t *out)
{
    for (uint32_t i = 0; i < REGIONS_COUNT; i++) {
        if (gpa >= region_gpa[i] && gpa - region_gpa[i] < REGION_BYTES && !b->ram_gone[i]) {
            *out = i;
            return true;
        }
    }
    return false;
}

uint8_t *ram_at(struct bench *b, uint64_t gpa)
{
    uint32_t i = 0;
    bool found = region_of(b, gpa, &i);
    assert(found);
    return b->ram[i] + (gpa - region_gpa[i]);
}

static enum vgd_status translate(void *user, uint64_t addr, uint64_t len_bytes, struct iovec *iov,
                                 uint32_t *n_iov, uint32_t max)
{
    struct bench *b = user;
    uint32_t n = *n_iov;
    while (len_bytes > 0) {
        uint32_t i = 0;
        if (!region_of(b, addr, &i) || n == max) {
            return VGD_RANGE;
        }
        uint64_t left_bytes = REGION_BYTES - (addr - region_gpa[i]);
        uint64_t here_bytes = len_bytes < left_bytes ? len_bytes : left_bytes;
        iov[n++] = (struct iovec){b->ram[i] + (addr - region_gpa[i]), here_bytes};
        addr += here_bytes;
        len_bytes -= here_bytes;
    }
    *n_iov = n;
    return VGD_OK;
}

/* --- the host-visible region --- */

static void range_close(struct window_range *range)
{
    if (range->fd >= 0) {
        (void)close(range->fd);
        range->fd = -1;
    }
}

static bool overlaps(const struct window_range *a, const struct window_range *b)
{
    return a->offset_bytes < b->offset_bytes + b->len_bytes &&
           b->offset_bytes < a->offset_bytes + a->len_bytes;
}

static enum vgd_status vmm_map(struct window *w, const struct window_range *range)
{
    for (uint32_t i = 0; i < w->maps_count;) {
        if (!overlaps(&w->maps[i], range)) {
            i++;
        } else if (w->maps[i].generation == range->generation) {
            return VGD_RANGE;
        } else { /* a dead worker's: this one has not been told, and does not need it */
            range_close(&w->maps[i]);
            w->maps[i] = w->maps[--w->maps_count];
        }
    }
    assert(w->maps_count < WINDOW_MAPS_MAX);
    w->maps[w->maps_count++] = *range;
    return VGD_OK;
}

static enum vgd_status vmm_unmap(struct window *w, const struct window_range *range)
{
    for (uint32_t i = 0; i < w->maps_count; i++) {
        if (w->maps[i].offset_bytes == range->offset_bytes &&
            w->maps[i].len_bytes == range->len_bytes) {
            range_close(&w->maps[i]);
            w->maps[i] = w->maps[--w->maps_count];
            return VGD_OK;
        }
    }
    return VGD_RANGE;
}

void window_answer(struct bench *b, uint32_t nth, enum vgd_status status)
{
    struct window *w = &b->window;
    assert(nth < w->asks_count);
    uint64_t token = w->asks[nth].token;
    bool is_map = w->asks[nth].is_map;
    struct window_range range = w->asks[nth].range;
    w->asks_count--;
    memmove(&w->asks[nth], &w->asks[nth + 1], (w->asks_count - nth) * sizeof(w->asks[0]));
    if (status == VGD_OK) {
        status = is_map ? vmm_map(w, &range) : vmm_unmap(w, &range);
    }
    if (status != VGD_OK) {
        range_close(&range);
    }
    vgd_gpu_window_done(b->gpu, token, status);
}

static void window_ask(struct bench *b, uint64_t token, bool is_map, struct window_range range)
{
    struct window *w = &b->window;
    assert(token > w->last_token && w->asks_count < WINDOW_ASKS_MAX);
    assert(range.len_bytes > 0 && range.offset_bytes % VGD_BLOB_ALIGNMENT_BYTES == 0 &&
           range.len_bytes % VGD_BLOB_ALIGNMENT_BYTES == 0);
    assert(range.offset_bytes <= WINDOW_BYTES &&
           range.len_bytes <= WINDOW_BYTES - range.offset_bytes);
    w->last_token = token;
    w->asks[w->asks_count].token = token;
    w->asks[w->asks_count].is_map = is_map;
    w->asks[w->asks_count].range = range;
    w->asks[w->asks_count].range.generation = w->generation;
    w->asks_count++;
    if (!w->later) {
        window_answer(b, w->asks_count - 1, w->status);
    }
}

static void window_map(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes,
                       const struct vgd_blob_file *file)
{
    struct bench *b = user;
    b->window.asked_maps++;
    struct stat st;
    assert(fstat(file->fd, &st) == 0);
    assert(file->offset_bytes % VGD_BLOB_ALIGNMENT_BYTES == 0);
    assert((uint64_t)st.st_size >= file->offset_bytes + len_bytes);
    window_ask(b, token, true,
               (struct window_range){.offset_bytes = offset_bytes,
                                     .len_bytes = len_bytes,
                                     .fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0),
                                     .file_offset_bytes = file->offset_bytes});
}

static void window_unmap(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes)
{
    struct bench *b = user;
    b->window.asked_unmaps++;
    window_ask(
        b, token, false,
        (struct window_range){.offset_bytes = offset_bytes, .len_bytes = len_bytes, .fd = -1});
}

/* Requests that nobody answers any more. */
static void window_drop_asks(struct window *w)
{
    for (uint32_t i = 0; i < w->asks_count; i++) {
        range_close(&w->asks[i].range);
    }
    w->asks_count = 0;
}

static void window_drop_maps(struct window *w)
{
    for (uint32_t i = 0; i < w->maps_count; i++) {
        range_close(&w->maps[i]);
    }
    w->maps_count = 0;
}

static const struct window_range *window_at(const struct bench *b, uint64_t offset_bytes,
                                            size_t n_bytes)
{
    for (uint32_t i = 0; i < b->window.maps_count; i++) {
        const struct window_range *map = &b->window.maps[i];
        if (offset_bytes >= map->offset_bytes &&
            offset_bytes - map->offset_bytes <= map->len_bytes - n_bytes) {
            return map;
        }
    }
    return NULL;
}

bool window_read(struct bench *b, uint64_t offset_bytes, void *out, size_t n_bytes)
{
    const struct window_range *map = window_at(b, offset_bytes, n_bytes);
    return map != NULL &&
           pread(map->fd, out, n_bytes,
                 (off_t)(map->file_offset_bytes + offset_bytes - map->offset_bytes)) ==
               (ssize_t)n_bytes;
}

bool window_write(struct bench *b, uint64_t offset_bytes, const void *data, size_t n_bytes)
{
    const struct window_range *map = window_at(b, offset_bytes, n_bytes);
    return map != NULL &&
           pwrite(map->fd, data, n_bytes,
                  (off_t)(map->file_offset_bytes + offset_bytes - map->offset_bytes)) ==
               (ssize_t)n_bytes;
}

/* --- the device --- */

static void fence_done(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    struct bench *b = user;
    vgd_gpu_fence_done(b->gpu, ctx_id, ring_idx, seq);
}

static void context_lost(void *user, uint32_t ctx_id)
{
    struct bench *b = user;
    vgd_gpu_context_lost(b->gpu, ctx_id);
}

static void postponed(void *user, struct vgd_gpu_request *req)
{
    struct sent *s = (struct sent *)req;
    assert(s->bench == user);
    assert(s->completions == 0);
    s->postponements++;
}

static void completed(void *user, struct vgd_gpu_request *req, const uint8_t *resp, size_t n_bytes)
{
    struct sent *s = (struct sent *)req; /* the first member */
    assert(s->bench == user);
    assert(n_bytes <= req->resp_capacity_bytes && n_bytes <= sizeof(s->resp));
    s->completions++;
    assert(s->completions == 1);
    s->resp_bytes = n_bytes;
    memcpy(s->resp, resp, n_bytes);
    if (n_bytes >= VGD_CTRL_HDR_SIZE) {
        struct vgd_reader r = vgd_reader_of(resp, VGD_CTRL_HDR_SIZE);
        enum vgd_status st = vgd_ctrl_hdr_decode(&r, &s->hdr);
        assert(st == VGD_OK);
    }
}

#define BLOB_MEMS_ALL                                                                              \
    (1u << VGD_BLOB_MEM_GUEST | 1u << VGD_BLOB_MEM_HOST3D | 1u << VGD_BLOB_MEM_HOST3D_GUEST)

static void render_open(struct bench *b, const struct bench_setup *setup)
{
    struct vgd_fake_config config = {
        .callbacks = {.fence_done = fence_done, .context_lost = context_lost, .user = b},
        .no_3d = setup->no_3d,
        .n_capsets = setup->with_venus ? 3 : 2,
        .capsets =
            {
                {.id = VGD_CAPSET_VIRGL, .max_version = 1, .size_bytes = CAPSET_VIRGL_BYTES},
                {.id = VGD_CAPSET_VIRGL2, .max_version = 2, .size_bytes = CAPSET_VIRGL2_BYTES},
                {.id = VGD_CAPSET_VENUS, .max_version = 0, .size_bytes = 160},
            },
        .capsets_are_zero = setup->capsets_are_zero,
        .rings_count = setup->rings_count,
        .unbound_kills = setup->unbound_kills,
        .blob_mems = setup->no_blobs || b->blobs_gone ? 0
                     : setup->blob_mems != 0          ? setup->blob_mems
                                                      : BLOB_MEMS_ALL,
    };
    b->render = vgd_fake_create(&config);
    assert(b->render != NULL);
}

void bench_open(struct bench *b, const struct bench_setup *setup)
{
    static const struct bench_setup plain;
    if (setup == NULL) {
        setup = &plain;
    }
    *b = (struct bench){.fence_id = 1};
    vgd_log_setup("test", VGD_LOG_ERROR);
    recorder_init(&b->display);
    render_open(b, setup);
    for (uint32_t i = 0; i < REGIONS_COUNT; i++) {
        b->ram[i] = calloc(1, REGION_BYTES);
        assert(b->ram[i] != NULL);
    }
    if (setup->area != NULL) {
        b->area = setup->area;
        b->area_bytes = setup->area_bytes;
        b->area_lent = true;
    } else if (setup->with_journal) {
        b->area_bytes = vgd_gpu_journal_area_bytes(&setup->limits);
        b->area =
            mmap(NULL, b->area_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert(b->area != MAP_FAILED);
    }
    if (b->area != NULL) {
        b->journal = vgd_journal_open(b->area, b->area_bytes);
        assert(b->journal != NULL);
    }
    b->config = (struct vgd_gpu_config){
        .render = b->render,
        .display = &b->display.base,
        .memory = {.translate = translate, .user = b},
        .window = {.size_bytes = setup->no_window ? 0 : WINDOW_BYTES,
                   .map = window_map,
                   .unmap = window_unmap,
                   .user = b},
        .journal = b->journal,
        .counters = &b->counters,
        .n_scanouts = 4,
        .limits = setup->limits,
        .strict_streams = setup->strict_streams,
        .complete = completed,
        .postpone = postponed,
        .user = b,
    };
    b->gpu = vgd_gpu_create(&b->config);
    assert(b->gpu != NULL);
    if (!setup->without_features) {
        vgd_gpu_set_features(b->gpu,
                             setup->features != 0 ? setup->features : vgd_gpu_features(b->gpu));
    }
}

void bench_close(struct bench *b)
{
    vgd_gpu_destroy(b->gpu);
    b->render->ops->destroy(b->render);
    window_drop_asks(&b->window);
    window_drop_maps(&b->window);
    vgd_journal_close(b->journal);
    if (b->area != NULL && !b->area_lent) {
        (void)munmap(b->area, b->area_bytes);
    }
    for (uint32_t i = 0; i < REGIONS_COUNT; i++) {
        free(b->ram[i]);
    }
}

void bench_reset(struct bench *b)
{
    vgd_gpu_reset(b->gpu);
    window_drop_asks(&b->window);
    window_drop_maps(&b->window);
}

void bench_replace_worker(struct bench *b, bool no_3d)
{
    /* The device's own destroy does not touch the journal, so this is what a death leaves. */
    uint64_t features = vgd_gpu_features(b->gpu);
    vgd_gpu_destroy(b->gpu);
    b->render->ops->destroy(b->render);
    vgd_journal_close(b->journal);
    window_drop_asks(&b->window); /* what is mapped stays in the VMM */
    b->window.last_token = 0;
    b->window.generation++;
    recorder_init(&b->display);
    render_open(b, &(struct bench_setup){.no_3d = no_3d});
    b->journal = vgd_journal_open(b->area, b->area_bytes);
    assert(b->journal != NULL);
    b->config.render = b->render;
    b->config.journal = b->journal;
    b->gpu = vgd_gpu_create(&b->config);
    assert(b->gpu != NULL);
    vgd_gpu_set_features(b->gpu, features);
}

/* --- commands --- */

static void sent_init(struct bench *b, struct sent *s, size_t n_bytes, size_t capacity,
                      enum vgd_gpu_queue queue)
{
    memset(s, 0xa5, sizeof(*s)); /* the caller's struct holds anything */
    s->bench = b;
    s->completions = 0;
    s->postponements = 0;
    s->resp_bytes = 0;
    s->hdr = (struct vgd_ctrl_hdr){0};
    s->req.cmd_bytes = n_bytes;
    s->req.resp_capacity_bytes = capacity;
    s->req.queue = queue;
}

void send_bytes(struct bench *b, struct sent *s, const void *cmd, size_t n_bytes, size_t capacity,
                enum vgd_gpu_queue queue)
{
    sent_init(b, s, n_bytes, capacity, queue);
    uint8_t *exact = malloc(n_bytes != 0 ? n_bytes : 1);
    assert(exact != NULL);
    memcpy(exact, cmd, n_bytes);
    s->req.cmd = exact;
    vgd_gpu_execute(b->gpu, &s->req);
    memset(exact, 0xee, n_bytes); /* only valid during execute */
    free(exact);
}

void fail_bytes(struct bench *b, struct sent *s, const void *cmd, size_t n_bytes, size_t capacity)
{
    sent_init(b, s, n_bytes, capacity, VGD_QUEUE_CONTROL);
    s->req.cmd = cmd;
    vgd_gpu_fail(b->gpu, &s->req);
}

static void begin(struct cmd *c, const struct vgd_ctrl_hdr *hdr)
{
    c->w = vgd_writer_of(c->bytes, sizeof(c->bytes));
    vgd_ctrl_hdr_encode(&c->w, hdr);
}

void cmd_begin(struct cmd *c, uint32_t type, uint32_t ctx_id)
{
    begin(c, &(struct vgd_ctrl_hdr){.type = type, .ctx_id = ctx_id});
}

void cmd_begin_fenced(struct cmd *c, struct bench *b, uint32_t type, uint32_t ctx_id)
{
    begin(c,
          &(struct vgd_ctrl_hdr){
              .type = type, .ctx_id = ctx_id, .flags = VGD_FLAG_FENCE, .fence_id = b->fence_id++});
}

void cmd_begin_ring(struct cmd *c, struct bench *b, uint32_t type, uint32_t ctx_id, uint8_t ring)
{
    begin(c, &(struct vgd_ctrl_hdr){.type = type,
                                    .ctx_id = ctx_id,
                                    .flags = VGD_FLAG_FENCE | VGD_FLAG_INFO_RING_IDX,
                                    .ring_idx = ring,
                                    .fence_id = b->fence_id++});
}

void cmd_send(struct bench *b, struct sent *s, const struct cmd *c)
{
    assert(c->w.status == VGD_OK);
    struct vgd_reader r = vgd_reader_of(c->bytes, 4);
    uint32_t type = vgd_read_le32(&r);
    send_bytes(b, s, c->bytes, vgd_writer_used(&c->w), RESP_BYTES_MAX,
               type >> 8 == 3 ? VGD_QUEUE_CURSOR : VGD_QUEUE_CONTROL);
}

uint32_t cmd_run(struct bench *b, const struct cmd *c)
{
    struct sent s;
    cmd_send(b, &s, c);
    assert(s.completions == 1);
    return s.hdr.type;
}

uint32_t create_2d(struct bench *b, uint32_t id, uint32_t format, uint32_t w_px, uint32_t h_px)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_CREATE_2D, 0);
    vgd_cmd_resource_create_2d_encode(
        &c.w, &(struct vgd_cmd_resource_create_2d){
                  .resource_id = id, .format = format, .w_px = w_px, .h_px = h_px});
    return cmd_run(b, &c);
}

uint32_t create_3d(struct bench *b, const struct vgd_cmd_resource_create_3d *args)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_CREATE_3D, 0);
    vgd_cmd_resource_create_3d_encode(&c.w, args);
    return cmd_run(b, &c);
}

uint32_t create_texture(struct bench *b, uint32_t id, uint32_t w_px, uint32_t h_px)
{
    return create_3d(b, &(struct vgd_cmd_resource_create_3d){.resource_id = id,
                                                             .target = 2,
                                                             .format = 1,
                                                             .bind = 2,
                                                             .width = w_px,
                                                             .height = h_px,
                                                             .depth = 1,
                                                             .array_size = 1});
}

uint32_t create_query(struct bench *b, uint32_t id)
{
    return create_3d(b, &(struct vgd_cmd_resource_create_3d){.resource_id = id,
                                                             .target = 0,
                                                             .format = 64,
                                                             .bind = 1u << 17,
                                                             .width = 16,
                                                             .height = 1,
                                                             .depth = 1,
                                                             .array_size = 1});
}

uint32_t unref(struct bench *b, uint32_t id)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_UNREF, 0);
    vgd_cmd_resource_unref_encode(&c.w, &(struct vgd_cmd_resource_unref){.resource_id = id});
    return cmd_run(b, &c);
}

uint32_t attach_entries(struct bench *b, uint32_t id, uint32_t nr_entries,
                        const struct vgd_mem_entry *entries, uint32_t n_entries)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_ATTACH_BACKING, 0);
    vgd_cmd_resource_attach_backing_encode(&c.w, &(struct vgd_cmd_resource_attach_backing){
                                                     .resource_id = id, .nr_entries = nr_entries});
    for (uint32_t i = 0; i < n_entries; i++) {
        vgd_mem_entry_encode(&c.w, &entries[i]);
    }
    return cmd_run(b, &c);
}

uint32_t attach(struct bench *b, uint32_t id, uint64_t gpa, uint32_t len_bytes)
{
    return attach_entries(b, id, 1, &(struct vgd_mem_entry){.addr = gpa, .len_bytes = len_bytes},
                          1);
}

uint32_t detach(struct bench *b, uint32_t id)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_DETACH_BACKING, 0);
    vgd_cmd_resource_detach_backing_encode(
        &c.w, &(struct vgd_cmd_resource_detach_backing){.resource_id = id});
    return cmd_run(b, &c);
}

uint32_t transfer_2d(struct bench *b, uint32_t id, struct vgd_rect rect, uint64_t offset_bytes)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_TRANSFER_TO_HOST_2D, 0);
    vgd_cmd_transfer_to_host_2d_encode(
        &c.w, &(struct vgd_cmd_transfer_to_host_2d){
                  .rect = rect, .offset_bytes = offset_bytes, .resource_id = id});
    return cmd_run(b, &c);
}

uint32_t set_scanout(struct bench *b, uint32_t scanout, uint32_t id, struct vgd_rect rect)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SET_SCANOUT, 0);
    vgd_cmd_set_scanout_encode(&c.w, &(struct vgd_cmd_set_scanout){
                                         .rect = rect, .scanout_id = scanout, .resource_id = id});
    return cmd_run(b, &c);
}

uint32_t flush(struct bench *b, uint32_t id, struct vgd_rect rect)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_FLUSH, 0);
    vgd_cmd_resource_flush_encode(
        &c.w, &(struct vgd_cmd_resource_flush){.rect = rect, .resource_id = id});
    return cmd_run(b, &c);
}

uint32_t update_cursor(struct bench *b, uint32_t scanout, uint32_t id)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_UPDATE_CURSOR, 0);
    vgd_cmd_update_cursor_encode(&c.w, &(struct vgd_cmd_update_cursor){
                                           .pos = {.scanout_id = scanout, .x_px = 10, .y_px = 20},
                                           .resource_id = id,
                                           .hot_x_px = 1,
                                           .hot_y_px = 2});
    return cmd_run(b, &c);
}

uint32_t move_cursor(struct bench *b, uint32_t scanout, uint32_t x_px, uint32_t y_px)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_MOVE_CURSOR, 0);
    vgd_cmd_update_cursor_encode(&c.w,
                                 &(struct vgd_cmd_update_cursor){
                                     .pos = {.scanout_id = scanout, .x_px = x_px, .y_px = y_px}});
    return cmd_run(b, &c);
}

uint32_t ctx_create(struct bench *b, uint32_t ctx_id, uint32_t context_init)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_CTX_CREATE, ctx_id);
    vgd_cmd_ctx_create_encode(&c.w, &(struct vgd_cmd_ctx_create){.name_len_bytes = 4,
                                                                 .context_init = context_init,
                                                                 .debug_name = "test"});
    return cmd_run(b, &c);
}

uint32_t ctx_destroy(struct bench *b, uint32_t ctx_id)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_CTX_DESTROY, ctx_id);
    return cmd_run(b, &c);
}

static uint32_t ctx_resource(struct bench *b, uint32_t type, uint32_t ctx_id, uint32_t res_id)
{
    struct cmd c;
    cmd_begin(&c, type, ctx_id);
    vgd_cmd_ctx_resource_encode(&c.w, &(struct vgd_cmd_ctx_resource){.resource_id = res_id});
    return cmd_run(b, &c);
}

uint32_t ctx_attach(struct bench *b, uint32_t ctx_id, uint32_t res_id)
{
    return ctx_resource(b, VGD_CMD_CTX_ATTACH_RESOURCE, ctx_id, res_id);
}

uint32_t ctx_detach(struct bench *b, uint32_t ctx_id, uint32_t res_id)
{
    return ctx_resource(b, VGD_CMD_CTX_DETACH_RESOURCE, ctx_id, res_id);
}

uint32_t transfer_3d(struct bench *b, uint32_t type, uint32_t ctx_id,
                     const struct vgd_cmd_transfer_host_3d *args)
{
    struct cmd c;
    cmd_begin(&c, type, ctx_id);
    vgd_cmd_transfer_host_3d_encode(&c.w, args);
    return cmd_run(b, &c);
}

uint32_t create_blob(struct bench *b, uint32_t ctx_id,
                     const struct vgd_cmd_resource_create_blob *args,
                     const struct vgd_mem_entry *entries, uint32_t n_entries)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_CREATE_BLOB, ctx_id);
    vgd_cmd_resource_create_blob_encode(&c.w, args);
    for (uint32_t i = 0; i < n_entries; i++) {
        vgd_mem_entry_encode(&c.w, &entries[i]);
    }
    return cmd_run(b, &c);
}

uint32_t create_guest_blob(struct bench *b, uint32_t id, uint64_t gpa, uint32_t size_bytes)
{
    return create_blob(
        b, 0,
        &(struct vgd_cmd_resource_create_blob){.resource_id = id,
                                               .blob_mem = VGD_BLOB_MEM_GUEST,
                                               .blob_flags = VGD_BLOB_FLAG_USE_SHAREABLE,
                                               .nr_entries = 1,
                                               .size_bytes = size_bytes},
        &(struct vgd_mem_entry){.addr = gpa, .len_bytes = size_bytes}, 1);
}

uint32_t create_host_blob(struct bench *b, uint32_t id, uint32_t ctx_id, uint64_t size_bytes)
{
    return create_blob(
        b, ctx_id,
        &(struct vgd_cmd_resource_create_blob){.resource_id = id,
                                               .blob_mem = VGD_BLOB_MEM_HOST3D,
                                               .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                               .size_bytes = size_bytes},
        NULL, 0);
}

void send_map(struct bench *b, struct sent *s, uint32_t id, uint64_t offset_bytes)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_MAP_BLOB, 0);
    vgd_cmd_resource_map_blob_encode(
        &c.w, &(struct vgd_cmd_resource_map_blob){.resource_id = id, .offset_bytes = offset_bytes});
    cmd_send(b, s, &c);
}

uint32_t map_blob(struct bench *b, uint32_t id, uint64_t offset_bytes)
{
    struct sent s;
    send_map(b, &s, id, offset_bytes);
    assert(s.completions == 1);
    return s.hdr.type;
}

void send_unmap(struct bench *b, struct sent *s, uint32_t id)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_UNMAP_BLOB, 0);
    vgd_cmd_resource_unmap_blob_encode(&c.w,
                                       &(struct vgd_cmd_resource_unmap_blob){.resource_id = id});
    cmd_send(b, s, &c);
}

uint32_t unmap_blob(struct bench *b, uint32_t id)
{
    struct sent s;
    send_unmap(b, &s, id);
    assert(s.completions == 1);
    return s.hdr.type;
}

void send_unref(struct bench *b, struct sent *s, uint32_t id)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_UNREF, 0);
    vgd_cmd_resource_unref_encode(&c.w, &(struct vgd_cmd_resource_unref){.resource_id = id});
    cmd_send(b, s, &c);
}

uint32_t set_scanout_blob(struct bench *b, const struct vgd_cmd_set_scanout_blob *args)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SET_SCANOUT_BLOB, 0);
    vgd_cmd_set_scanout_blob_encode(&c.w, args);
    return cmd_run(b, &c);
}

uint32_t assign_uuid(struct bench *b, uint32_t id, uint8_t uuid[VGD_RESP_RESOURCE_UUID_SIZE])
{
    struct cmd c;
    struct sent s;
    cmd_begin(&c, VGD_CMD_RESOURCE_ASSIGN_UUID, 0);
    vgd_cmd_resource_assign_uuid_encode(&c.w,
                                        &(struct vgd_cmd_resource_assign_uuid){.resource_id = id});
    cmd_send(b, &s, &c);
    assert(s.completions == 1);
    if (s.resp_bytes == VGD_CTRL_HDR_SIZE + VGD_RESP_RESOURCE_UUID_SIZE) {
        memcpy(uuid, s.resp + VGD_CTRL_HDR_SIZE, VGD_RESP_RESOURCE_UUID_SIZE);
    }
    return s.hdr.type;
}

uint32_t submit(struct bench *b, uint32_t ctx_id, uint32_t size_bytes, uint32_t really_bytes)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SUBMIT_3D, ctx_id);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){.size_bytes = size_bytes});
    vgd_write_zeros(&c.w, really_bytes);
    return cmd_run(b, &c);
}

uint32_t pixel_at(struct bench *b, uint32_t id, uint32_t x_px, uint32_t y_px)
{
    uint8_t bytes[4];
    struct vgd_rect rect = {.x_px = x_px, .y_px = y_px, .w_px = 1, .h_px = 1};
    enum vgd_status st = b->render->ops->read_pixels(b->render, id, NULL, rect, bytes, 4);
    assert(st == VGD_OK);
    struct vgd_reader r = vgd_reader_of(bytes, 4);
    return vgd_read_le32(&r);
}

size_t bench_logged(void (*run)(struct bench *), struct bench *b, char *out, size_t n_bytes)
{
    FILE *file = tmpfile();
    assert(file != NULL);
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    (void)fflush(stderr);
    (void)dup2(fileno(file), STDERR_FILENO);
    vgd_log_setup("test", VGD_LOG_DEBUG);
    run(b);
    vgd_log_setup("test", VGD_LOG_ERROR);
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    rewind(file);
    size_t n = fread(out, 1, n_bytes - 1, file);
    out[n] = '\0';
    (void)fclose(file);
    return n;
}

/* --- the state --- */

struct record {
    const uint8_t *bytes;
    size_t n_bytes;
};

static int record_compare(const void *a, const void *b)
{
    const struct record *x = a;
    const struct record *y = b;
    size_t n_bytes = x->n_bytes < y->n_bytes ? x->n_bytes : y->n_bytes;
    int order = memcmp(x->bytes, y->bytes, n_bytes);
    return order != 0 ? order : (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

uint64_t state_of(struct bench *b)
{
    size_t area_bytes = vgd_journal_area_bytes(1 << 20);
    void *area = mmap(NULL, area_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(area != MAP_FAILED);
    struct vgd_journal *journal = vgd_journal_open(area, area_bytes);
    enum vgd_status st = vgd_record_state(b->gpu, journal);
    assert(st == VGD_OK);
    static struct record records[4096];
    size_t n = 0;
    size_t cursor = 0;
    while (vgd_journal_next(journal, &cursor, &records[n].bytes, &records[n].n_bytes) == VGD_OK) {
        n++;
        assert(n < 4096);
    }
    qsort(records, n, sizeof(records[0]), record_compare);
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < n; i++) {
        struct vgd_reader type = vgd_reader_of(records[i].bytes, records[i].n_bytes);
        if (vgd_read_le32(&type) == VGD_RECORD_UUID) { /* random: that there is one must do */
            records[i].n_bytes = VGD_CTRL_HDR_SIZE + 4;
        }
        for (size_t k = 0; k < records[i].n_bytes; k++) {
            hash = (hash ^ records[i].bytes[k]) * 0x100000001b3;
        }
    }
    vgd_journal_close(journal);
    (void)munmap(area, area_bytes);
    return hash;
}
