/* SPDX-License-Identifier: MIT */
/*
 * What a recording says against what the guest did: each command, each answer, each byte of guest
 * memory that a transfer read or wrote, and the state that one begun in mid-life starts with.
 *
 *   recorded VGD VGDCTL [--virgl]
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "scene.h"
#include "trace_reader.h"

#define ACTS_MAX 2048u
#define ROWS_MAX 64u
#define RESOURCES 4u
#define SIDE_PX 64u
#define STRIDE_BYTES (SIDE_PX * 4u)
#define PICTURE_BYTES (STRIDE_BYTES * SIDE_PX)
#define TEXTURE 20u
#define CTX 5u
#define ROUNDS 300u
#define TIMEOUT_MS 10000

/* A row of a transfer: what lay in guest memory. */
struct row {
    uint64_t offset_bytes;
    uint32_t n_bytes;
    uint8_t bytes[STRIDE_BYTES];
};

/* One command, as the guest knows of it. */
struct act {
    uint8_t *cmd, *resp;
    size_t cmd_bytes, resp_bytes;
    struct row *rows; /* read, or written */
    uint32_t n_rows, res_id;
    bool writes, is_fenced;
};

static struct {
    const char *vgd, *vgdctl;
    bool virgl;
    char dir[32], file[64], socket[64];
    struct scene s;
    struct vgd_guest_backing backings[RESOURCES + 1];
    struct act acts[ACTS_MAX];
    uint32_t n_acts;
    uint64_t fence_id;
    uint32_t seed;
} t;

static uint32_t random_below(uint32_t n)
{
    t.seed = t.seed * 1664525u + 1013904223u;
    return (t.seed >> 8) % n;
}

/* ---- the guest --------------------------------------------------------------------------------
 */

static struct act *act(uint32_t queue, uint32_t type, uint32_t ctx_id, bool fenced,
                       const void *body, uint32_t body_bytes, const void *data, uint32_t data_bytes)
{
    struct act *a = &t.acts[t.n_acts++];
    *a = (struct act){.is_fenced = fenced};
    struct vgd_ctrl_hdr hdr = {.type = type, .ctx_id = ctx_id};
    if (fenced) {
        hdr.flags = VGD_FLAG_FENCE;
        hdr.fence_id = ++t.fence_id;
    }
    a->cmd_bytes = VGD_CTRL_HDR_SIZE + body_bytes + data_bytes;
    a->cmd = malloc(a->cmd_bytes);
    struct vgd_writer w = vgd_writer_of(a->cmd, a->cmd_bytes);
    vgd_ctrl_hdr_encode(&w, &hdr);
    vgd_write_bytes(&w, body, body_bytes);
    vgd_write_bytes(&w, data, data_bytes);
    struct vgd_guest_request req = {
        .queue = queue,
        .hdr = hdr,
        .body = body,
        .body_bytes = body_bytes,
        .data = data,
        .data_bytes = data_bytes,
        .resp_bytes = queue == VGD_GUEST_CURSOR ? 0 : VGD_GUEST_RESP_MAX,
    };
    struct vgd_guest_command *c = vgd_guest_gpu_begin(t.s.gpu, &req, true);
    if (c != NULL && vgd_guest_gpu_wait(t.s.gpu, c, TIMEOUT_MS)) {
        a->resp_bytes = c->used_bytes;
        a->resp = malloc(a->resp_bytes + VGD_CTRL_HDR_SIZE);
        struct vgd_writer out = vgd_writer_of(a->resp, a->resp_bytes);
        if (a->resp_bytes >= VGD_CTRL_HDR_SIZE) {
            vgd_ctrl_hdr_encode(&out, &c->resp);
            vgd_write_bytes(&out, c->resp_body, a->resp_bytes - VGD_CTRL_HDR_SIZE);
        }
    }
    if (c != NULL) {
        vgd_guest_gpu_end(t.s.gpu, c);
    }
    return a;
}

static bool answered(const struct act *a, uint32_t type)
{
    struct vgd_reader r = vgd_reader_of(a->resp, a->resp_bytes);
    return a->resp != NULL && vgd_read_le32(&r) == type;
}

/* Body of a command into a buffer of its own. */
#define BODY(size, encode)                                                                         \
    uint8_t body[size];                                                                            \
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));                                       \
    encode

static bool create(uint32_t i)
{
    uint32_t id = i + 1;
    BODY(VGD_CMD_RESOURCE_CREATE_2D_SIZE,
         vgd_cmd_resource_create_2d_encode(
             &w, &(struct vgd_cmd_resource_create_2d){.resource_id = id,
                                                      .format = VGD_FORMAT_B8G8R8A8_UNORM,
                                                      .w_px = SIDE_PX,
                                                      .h_px = SIDE_PX}));
    return answered(act(0, VGD_CMD_RESOURCE_CREATE_2D, 0, false, body, sizeof(body), NULL, 0),
                    VGD_RESP_OK_NODATA);
}

static bool attach(uint32_t res_id, const struct vgd_guest_backing *backing)
{
    uint8_t entries[32 * VGD_MEM_ENTRY_SIZE];
    struct vgd_writer e = vgd_writer_of(entries, sizeof(entries));
    for (uint32_t i = 0; i < backing->n_entries; i++) {
        vgd_mem_entry_encode(&e, &backing->entries[i]);
    }
    BODY(VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE,
         vgd_cmd_resource_attach_backing_encode(
             &w, &(struct vgd_cmd_resource_attach_backing){.resource_id = res_id,
                                                           .nr_entries = backing->n_entries}));
    return answered(act(0, VGD_CMD_RESOURCE_ATTACH_BACKING, 0, false, body, sizeof(body), entries,
                        (uint32_t)vgd_writer_used(&e)),
                    VGD_RESP_OK_NODATA);
}

static void scribble(const struct vgd_guest_backing *backing)
{
    uint8_t bytes[PICTURE_BYTES];
    for (uint32_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)random_below(256);
    }
    vgd_guest_backing_write(t.s.gpu, backing, 0, bytes, sizeof(bytes));
}

/* What lies in guest memory where a box of @w_px by @h_px is, rows @stride apart. */
static struct row *rows_of(const struct vgd_guest_backing *backing, uint64_t offset_bytes,
                           uint32_t w_px, uint32_t h_px, uint32_t stride)
{
    struct row *rows = calloc(h_px, sizeof(*rows));
    for (uint32_t y = 0; y < h_px; y++) {
        rows[y].offset_bytes = offset_bytes + (uint64_t)y * stride;
        rows[y].n_bytes = w_px * 4;
        vgd_guest_backing_read(t.s.gpu, backing, rows[y].offset_bytes, rows[y].bytes, w_px * 4);
    }
    return rows;
}

static struct vgd_rect random_rect(void)
{
    struct vgd_rect r = {.x_px = random_below(SIDE_PX), .y_px = random_below(SIDE_PX)};
    r.w_px = 1 + random_below(SIDE_PX - r.x_px);
    r.h_px = 1 + random_below(SIDE_PX - r.y_px);
    return r;
}

static bool transfer_2d(uint32_t i)
{
    struct vgd_rect r = random_rect();
    uint64_t offset = (uint64_t)r.y_px * STRIDE_BYTES + r.x_px * 4;
    scribble(&t.backings[i]);
    struct row *rows = rows_of(&t.backings[i], offset, r.w_px, r.h_px, STRIDE_BYTES);
    BODY(VGD_CMD_TRANSFER_TO_HOST_2D_SIZE,
         vgd_cmd_transfer_to_host_2d_encode(
             &w, &(struct vgd_cmd_transfer_to_host_2d){
                     .rect = r, .offset_bytes = offset, .resource_id = i + 1}));
    struct act *a =
        act(0, VGD_CMD_TRANSFER_TO_HOST_2D, 0, random_below(2) != 0, body, sizeof(body), NULL, 0);
    a->rows = rows;
    a->n_rows = r.h_px;
    a->res_id = i + 1;
    return answered(a, VGD_RESP_OK_NODATA);
}

static bool transfer_3d(bool from_host)
{
    struct vgd_rect r = random_rect();
    const struct vgd_guest_backing *backing = &t.backings[RESOURCES];
    uint64_t offset = random_below(64) * 4;
    scribble(backing);
    struct row *rows = from_host ? NULL : rows_of(backing, offset, r.w_px, r.h_px, STRIDE_BYTES);
    struct vgd_cmd_transfer_host_3d cmd = {
        .box = {.x = r.x_px, .y = r.y_px, .w = r.w_px, .h = r.h_px, .d = 1},
        .offset_bytes = offset,
        .resource_id = TEXTURE,
        .stride_bytes = STRIDE_BYTES,
    };
    BODY(VGD_CMD_TRANSFER_HOST_3D_SIZE, vgd_cmd_transfer_host_3d_encode(&w, &cmd));
    uint32_t type = from_host ? VGD_CMD_TRANSFER_FROM_HOST_3D : VGD_CMD_TRANSFER_TO_HOST_3D;
    struct act *a = act(0, type, CTX, random_below(2) != 0, body, sizeof(body), NULL, 0);
    a->rows = from_host ? rows_of(backing, offset, r.w_px, r.h_px, STRIDE_BYTES) : rows;
    a->n_rows = r.h_px;
    a->res_id = TEXTURE;
    a->writes = from_host;
    return answered(a, VGD_RESP_OK_NODATA);
}

static bool flush(uint32_t i, bool good)
{
    struct vgd_rect r = random_rect();
    r.w_px += good ? 0 : SIDE_PX;
    BODY(VGD_CMD_RESOURCE_FLUSH_SIZE,
         vgd_cmd_resource_flush_encode(
             &w, &(struct vgd_cmd_resource_flush){.rect = r, .resource_id = i + 1}));
    const struct act *a = act(0, VGD_CMD_RESOURCE_FLUSH, 0, false, body, sizeof(body), NULL, 0);
    return answered(a, good ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_INVALID_PARAMETER);
}

static bool cursor(uint32_t i)
{
    struct vgd_cmd_update_cursor cmd = {.pos = {.x_px = random_below(100), .y_px = i},
                                        .resource_id = i + 1};
    BODY(VGD_CMD_UPDATE_CURSOR_SIZE, vgd_cmd_update_cursor_encode(&w, &cmd));
    const struct act *a = act(1, random_below(2) ? VGD_CMD_UPDATE_CURSOR : VGD_CMD_MOVE_CURSOR, 0,
                              false, body, sizeof(body), NULL, 0);
    return a->resp != NULL;
}

static bool unknown_command(void)
{
    uint8_t body[8] = {1, 2, 3};
    return answered(act(0, 0x01ff, 0, true, body, sizeof(body), NULL, 0), VGD_RESP_ERR_UNSPEC);
}

static bool make_3d(void)
{
    uint8_t name[VGD_CMD_CTX_CREATE_SIZE];
    struct vgd_writer n = vgd_writer_of(name, sizeof(name));
    vgd_cmd_ctx_create_encode(
        &n, &(struct vgd_cmd_ctx_create){.name_len_bytes = 4, .debug_name = "test"});
    struct vgd_cmd_resource_create_3d cmd = {.resource_id = TEXTURE,
                                             .target = 2,
                                             .format = VGD_FORMAT_B8G8R8A8_UNORM,
                                             .bind = 2,
                                             .width = SIDE_PX,
                                             .height = SIDE_PX,
                                             .depth = 1,
                                             .array_size = 1};
    BODY(VGD_CMD_RESOURCE_CREATE_3D_SIZE, vgd_cmd_resource_create_3d_encode(&w, &cmd));
    bool ok = answered(act(0, VGD_CMD_CTX_CREATE, CTX, false, name, sizeof(name), NULL, 0),
                       VGD_RESP_OK_NODATA) &&
              answered(act(0, VGD_CMD_RESOURCE_CREATE_3D, 0, false, body, sizeof(body), NULL, 0),
                       VGD_RESP_OK_NODATA);
    uint8_t attachment[VGD_CMD_CTX_RESOURCE_SIZE];
    n = vgd_writer_of(attachment, sizeof(attachment));
    vgd_cmd_ctx_resource_encode(&n, &(struct vgd_cmd_ctx_resource){.resource_id = TEXTURE});
    return ok && attach(TEXTURE, &t.backings[RESOURCES]) &&
           answered(act(0, VGD_CMD_CTX_ATTACH_RESOURCE, CTX, false, attachment, sizeof(attachment),
                        NULL, 0),
                    VGD_RESP_OK_NODATA);
}

static bool begin(const char *name, bool record)
{
    char options[256];
    (void)unlink(t.file);
    (void)snprintf(options, sizeof(options), "%s --control-path=%s%s%s", t.virgl ? "--virgl" : "",
                   t.socket, record ? " --record-pictures=0 --record=" : "", record ? t.file : "");
    if (!scene_open(&t.s, t.vgd, options, name)) {
        return false;
    }
    bool ok = true;
    for (uint32_t i = 0; i <= RESOURCES; i++) {
        /* With room behind the picture, so that a transfer may begin later. */
        ok = ok && vgd_guest_backing_create(t.s.gpu, 2 * PICTURE_BYTES, i == 0 ? 1 : 5 + i,
                                            &t.backings[i]);
    }
    for (uint32_t i = 0; i < RESOURCES && ok; i++) {
        ok = create(i) && attach(i + 1, &t.backings[i]);
    }
    BODY(VGD_CMD_SET_SCANOUT_SIZE,
         vgd_cmd_set_scanout_encode(
             &w, &(struct vgd_cmd_set_scanout){.rect = {.w_px = SIDE_PX, .h_px = SIDE_PX},
                                               .resource_id = 1}));
    ok = ok && answered(act(0, VGD_CMD_SET_SCANOUT, 0, false, body, sizeof(body), NULL, 0),
                        VGD_RESP_OK_NODATA);
    return ok && (!t.virgl || make_3d());
}

static bool live(uint32_t rounds)
{
    bool ok = true;
    for (uint32_t i = 0; i < rounds && ok; i++) {
        uint32_t res = random_below(RESOURCES);
        switch (random_below(t.virgl ? 8 : 6)) {
        case 0:
            ok = flush(res, true);
            break;
        case 1:
            ok = flush(res, false);
            break;
        case 2:
            ok = cursor(res);
            break;
        case 3:
            ok = unknown_command();
            break;
        case 6:
            ok = transfer_3d(false);
            break;
        case 7:
            ok = transfer_3d(true);
            break;
        default:
            ok = transfer_2d(res);
            break;
        }
    }
    return ok;
}

static void forget_acts(void)
{
    for (uint32_t i = 0; i < t.n_acts; i++) {
        free(t.acts[i].cmd);
        free(t.acts[i].resp);
        free(t.acts[i].rows);
    }
    t.n_acts = 0;
}

static bool end(void)
{
    for (uint32_t i = 0; i <= RESOURCES; i++) {
        vgd_guest_backing_destroy(t.s.gpu, &t.backings[i]);
    }
    return scene_close(&t.s);
}

/* ---- the file ---------------------------------------------------------------------------------
 */

/* BACKING records of a command. */
struct span {
    uint64_t offset_bytes;
    size_t n_bytes;
    uint8_t *bytes;
    uint32_t res_id;
};
#define SPANS_MAX 128u

static bool row_is_in(const struct row *row, uint32_t res_id, const struct span *spans, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct span *s = &spans[i];
        if (s->res_id == res_id && row->offset_bytes >= s->offset_bytes &&
            row->offset_bytes + row->n_bytes <= s->offset_bytes + s->n_bytes) {
            return memcmp(row->bytes, s->bytes + (row->offset_bytes - s->offset_bytes),
                          row->n_bytes) == 0;
        }
    }
    return false;
}

/* A file being held against the acts. */
struct check {
    struct vgd_trace_reader *reader;
    struct span reads[SPANS_MAX],
        writes[SPANS_MAX]; /* of the command that comes, or was the last */
    uint32_t n_reads, n_writes;
    uint64_t ids[ACTS_MAX];
    bool has_answer[ACTS_MAX];
    uint32_t n, answers, fences, want_fences, pictures;
    char why[256]; /* "" as long as they agree */
};

static void forget_spans(struct check *c)
{
    while (c->n_reads > 0) {
        free(c->reads[--c->n_reads].bytes);
    }
    while (c->n_writes > 0) {
        free(c->writes[--c->n_writes].bytes);
    }
}

static void expect_rows(struct check *c, uint32_t i, const struct span *spans, uint32_t n_spans)
{
    const struct act *a = &t.acts[i];
    for (uint32_t y = 0; y < a->n_rows && c->why[0] == '\0'; y++) {
        if (!row_is_in(&a->rows[y], a->res_id, spans, n_spans)) {
            (void)snprintf(c->why, sizeof(c->why), "command %u: row %u of memory", i, y);
        }
    }
}

/* False: @data is not kept. */
static bool on_backing(struct check *c, const struct vgd_trace_backing *backing, uint8_t *data,
                       size_t n_bytes)
{
    if (backing->reason == VGD_TRACE_BACKING_STATE) {
        return false;
    }
    bool written = backing->reason == VGD_TRACE_BACKING_WRITTEN;
    uint32_t *count = written ? &c->n_writes : &c->n_reads;
    struct span *to = written ? c->writes : c->reads;
    if (*count == SPANS_MAX) {
        return false;
    }
    to[(*count)++] = (struct span){.offset_bytes = backing->offset_bytes,
                                   .n_bytes = n_bytes,
                                   .bytes = data,
                                   .res_id = backing->resource_id};
    return true;
}

static void on_command(struct check *c, uint64_t id, const uint8_t *data, size_t n_bytes)
{
    if (c->n > 0 && t.acts[c->n - 1].writes) { /* behind it */
        expect_rows(c, c->n - 1, c->writes, c->n_writes);
    }
    const struct act *a = &t.acts[c->n];
    if (c->n >= t.n_acts || n_bytes != a->cmd_bytes || memcmp(data, a->cmd, n_bytes) != 0) {
        (void)snprintf(c->why, sizeof(c->why), "command %u of %u is another", c->n, t.n_acts);
        return;
    }
    if (!a->writes) {
        expect_rows(c, c->n, c->reads, c->n_reads);
    }
    forget_spans(c);
    c->want_fences += a->is_fenced && answered(a, VGD_RESP_OK_NODATA);
    c->ids[c->n++] = id;
}

static void on_response(struct check *c, uint64_t id, const uint8_t *data, size_t n_bytes)
{
    uint32_t i = 0;
    while (i < c->n && c->ids[i] != id) {
        i++;
    }
    if (i == c->n || c->has_answer[i] || n_bytes != t.acts[i].resp_bytes ||
        memcmp(data, t.acts[i].resp, n_bytes) != 0) {
        (void)snprintf(c->why, sizeof(c->why), "the answer to command %u is another", i);
        return;
    }
    c->has_answer[i] = true;
    c->answers++;
}

static void on_record(struct check *c, const struct vgd_trace_item *item)
{
    const struct vgd_trace_record *record = &item->record;
    size_t n_bytes = (size_t)item->data.total_bytes;
    uint8_t *data = malloc(n_bytes + 1);
    bool kept = false;
    if (vgd_trace_reader_data(c->reader, &item->data, 0, data, n_bytes) != VGD_OK) {
        (void)snprintf(c->why, sizeof(c->why), "%s", vgd_trace_reader_fault(c->reader)->text);
    } else if (record->kind == VGD_TRACE_KIND_BACKING) {
        kept = on_backing(c, &record->as.backing, data, n_bytes);
    } else if (record->kind == VGD_TRACE_KIND_COMMAND && record->as.command.flags == 0) {
        on_command(c, record->as.command.command_id, data, n_bytes);
    } else if (record->kind == VGD_TRACE_KIND_RESPONSE) {
        on_response(c, record->as.response.command_id, data, n_bytes);
    } else if (record->kind == VGD_TRACE_KIND_GAP) {
        (void)snprintf(c->why, sizeof(c->why), "a gap");
    }
    c->fences += record->kind == VGD_TRACE_KIND_FENCE;
    c->pictures += record->kind == VGD_TRACE_KIND_PICTURE;
    if (!kept) {
        free(data);
    }
}

/* What is in the file that is not in the acts, or the other way round; "" if they agree. */
static const char *compare(void)
{
    static struct check c;
    c = (struct check){0};
    VGD_AUTO_FD fd = open(t.file, O_RDONLY | O_CLOEXEC);
    struct vgd_trace_fault fault;
    if (vgd_trace_reader_open(&fd, &c.reader, &fault) != VGD_OK) {
        (void)snprintf(c.why, sizeof(c.why), "%s", fault.text);
        return c.why;
    }
    struct vgd_trace_item item;
    enum vgd_status st = VGD_OK;
    while (c.why[0] == '\0' && (st = vgd_trace_reader_next(c.reader, &item)) == VGD_OK) {
        on_record(&c, &item);
    }
    forget_spans(&c);
    vgd_trace_reader_close(c.reader);
    if (c.why[0] == '\0' && (st != VGD_CLOSED || c.n != t.n_acts || c.answers != c.n ||
                             c.fences != c.want_fences || c.pictures == 0)) {
        (void)snprintf(c.why, sizeof(c.why),
                       "status %d, %u of %u commands, %u answers, %u of %u fences, %u pictures",
                       (int)st, c.n, t.n_acts, c.answers, c.fences, c.want_fences, c.pictures);
    }
    return c.why;
}

/* ---- mid-life ---------------------------------------------------------------------------------
 */

static bool vgdctl(const char *word, const char *file)
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(null, STDOUT_FILENO);
        (void)execl(t.vgdctl, t.vgdctl, "--control", t.socket, "trace", word, file, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        vgd_guest_gpu_turn(t.s.gpu, 5);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Does the state have @texels of resource @res_id, and @pages of its memory? */
static bool state_has(uint32_t res_id, const uint8_t *texels, const uint8_t *pages)
{
    VGD_AUTO_FD fd = open(t.file, O_RDONLY | O_CLOEXEC);
    struct vgd_trace_reader *reader = NULL;
    struct vgd_trace_fault fault;
    if (vgd_trace_reader_open(&fd, &reader, &fault) != VGD_OK) {
        return false;
    }
    uint8_t got_texels[PICTURE_BYTES] = {0}, got_pages[2 * PICTURE_BYTES] = {0};
    struct vgd_trace_item item;
    bool ok = true, began = false;
    while (ok && vgd_trace_reader_next(reader, &item) == VGD_OK &&
           item.record.kind != VGD_TRACE_KIND_STATE_END) {
        const struct vgd_trace_record *record = &item.record;
        size_t n_bytes = (size_t)item.data.total_bytes;
        began = began || record->kind == VGD_TRACE_KIND_STATE_BEGIN;
        if (record->kind == VGD_TRACE_KIND_CONTENT && record->as.content.resource_id == res_id) {
            size_t at = (size_t)record->as.content.y * STRIDE_BYTES;
            ok = at + n_bytes <= sizeof(got_texels) &&
                 vgd_trace_reader_data(reader, &item.data, 0, got_texels + at, n_bytes) == VGD_OK;
        } else if (record->kind == VGD_TRACE_KIND_BACKING &&
                   record->as.backing.resource_id == res_id) {
            size_t at = (size_t)record->as.backing.offset_bytes;
            ok = record->as.backing.reason == VGD_TRACE_BACKING_STATE &&
                 at + n_bytes <= sizeof(got_pages) &&
                 vgd_trace_reader_data(reader, &item.data, 0, got_pages + at, n_bytes) == VGD_OK;
        }
    }
    vgd_trace_reader_close(reader);
    return ok && began && memcmp(got_texels, texels, sizeof(got_texels)) == 0 &&
           memcmp(got_pages, pages, sizeof(got_pages)) == 0;
}

/* Fill resource @res_id, whose pages are @backing, then scribble over the pages. */
static bool set_texels(uint32_t res_id, const struct vgd_guest_backing *backing, uint8_t *texels,
                       uint8_t *pages)
{
    struct vgd_rect whole = {.w_px = SIDE_PX, .h_px = SIDE_PX};
    scribble(backing);
    vgd_guest_backing_read(t.s.gpu, backing, 0, texels, PICTURE_BYTES);
    uint32_t type;
    if (res_id == TEXTURE) {
        struct vgd_cmd_transfer_host_3d cmd = {.box = {.w = SIDE_PX, .h = SIDE_PX, .d = 1},
                                               .resource_id = res_id};
        type = vgd_guest_transfer_3d(t.s.gpu, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &cmd);
    } else {
        type = vgd_guest_transfer_2d(t.s.gpu, res_id, whole, 0);
    }
    scribble(backing);
    vgd_guest_backing_read(t.s.gpu, backing, 0, pages, 2 * PICTURE_BYTES);
    return type == VGD_RESP_OK_NODATA;
}

static void mid_life(void)
{
    static uint8_t texels[2][PICTURE_BYTES], pages[2][2 * PICTURE_BYTES];
    if (!begin("mid-life", false)) {
        return;
    }
    bool set = set_texels(3, &t.backings[2], texels[0], pages[0]) &&
               (!t.virgl || set_texels(TEXTURE, &t.backings[RESOURCES], texels[1], pages[1]));
    forget_acts();
    bool ok = set && vgdctl("start", t.file) && live(ROUNDS / 3);
    (void)tap_ok(ok && vgdctl("stop", NULL), "a recording in mid-life", NULL);
    forget_acts();
    ok = live(5); /* none of this is in it */
    (void)tap_ok(ok, "the guest goes on", NULL);
    (void)tap_ok(state_has(3, texels[0], pages[0]),
                 "its state has what a 2D resource and its pages hold", NULL);
    if (t.virgl) {
        (void)tap_ok(state_has(TEXTURE, texels[1], pages[1]), "and a texture", NULL);
    }
    forget_acts();
    (void)tap_ok(end(), "all ends", NULL);
}

static void mid_life_commands(void)
{
    if (!begin("commands of mid-life", false)) {
        return;
    }
    forget_acts();
    bool ok = vgdctl("start", t.file) && live(ROUNDS / 3) && vgdctl("stop", NULL);
    const char *why = compare();
    (void)tap_ok(ok && why[0] == '\0', "what follows the state is what the guest did", "%s", why);
    forget_acts();
    (void)tap_ok(end(), "all ends", NULL);
}

static void from_the_beginning(void)
{
    if (!begin("from the beginning", true)) {
        return;
    }
    bool ok = live(ROUNDS);
    (void)tap_ok(ok, "the guest gets its answers", NULL);
    (void)tap_ok(end(), "the file ends with the connection", NULL);
    const char *why = compare();
    (void)tap_ok(why[0] == '\0', "each command, answer and byte of memory is in the file", "%s",
                 why);
    forget_acts();
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 4) {
        (void)fprintf(stderr, "usage: recorded VGD VGDCTL [--virgl]\n");
        return 2;
    }
    t.vgd = argv[1];
    t.vgdctl = argv[2];
    t.virgl = argc == 4;
    t.seed = 12345;
    (void)strcpy(t.dir, "/tmp/vgd-recorded-XXXXXX");
    if (mkdtemp(t.dir) == NULL) {
        return 2;
    }
    (void)snprintf(t.file, sizeof(t.file), "%s/guest.vgdtrace", t.dir);
    (void)snprintf(t.socket, sizeof(t.socket), "%s/control", t.dir);
    from_the_beginning();
    mid_life_commands();
    mid_life();
    (void)unlink(t.file);
    (void)unlink(t.socket);
    (void)rmdir(t.dir);
    return tap_done();
}
