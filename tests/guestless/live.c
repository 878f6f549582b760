/* SPDX-License-Identifier: MIT */
/*
 * Watching, to the unit: a scripted guest keeps its own books of what it does; then vgdctl
 * counters, contexts, errors and top, and the page of vgd-exporter, say the same. Over a worker
 * that is killed with commands in its rings, and a reset of the guest.
 *
 *   live VGD VGDCTL [--exporter=PROGRAM] [--virgl] [--sanitized]
 */
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"
#include "prometheus.h"
#include "scene.h"
#include "virgl_stream.h"

#define W_PX 64u
#define H_PX 32u
#define PICTURE_BYTES ((uint64_t)W_PX * H_PX * 4)
#define PICTURES 4u
#define FENCED 6u
#define UNREFS 7u
#define SUBMITS 5u
#define STOPPED_TRANSFERS 3u /* in the ring when the worker is killed */
#define STOPPED_SUBMITS 2u
#define IN_FLIGHT 32u
#define TEXT_BYTES (1u << 20)
#define PAGE_MS 150u /* the exporter keeps a page for 100 ms */
#define ALPHA 3u
#define BETA 11u
#define TARGET_RES 21u
#define VERTEX_RES 22u
#define SMALL_RES 23u

/* The guest's books. */
struct books {
    struct json_object *commands, *responses; /* by name */
    uint64_t command_bytes, response_bytes;
    uint64_t to_host_bytes, from_host_bytes, transfers;
    uint64_t fences;
    uint64_t flushes;
    uint64_t submits, submit_bytes, timed_submits, stream_commands, stream_draws, stream_refused;
    uint64_t memory_2d, memory_3d, backing;
    uint64_t resources, contexts, contexts_lost, contexts_created, contexts_lost_ever;
    uint64_t starts, deaths;
};

static struct books books;
static struct scene scene;
static char dir[] = "/tmp/vgd-live-XXXXXX";
static char control[64], page_socket[64];
static const char *vgdctl;
static bool has_3d;
static char text[TEXT_BYTES];

/* --- the guest --- */

static void book(struct json_object *by_name, const char *name)
{
    struct json_object *count = NULL;
    int64_t n = json_object_object_get_ex(by_name, name, &count) ? json_object_get_int64(count) : 0;
    (void)json_object_object_add(by_name, name, json_object_new_int64(n + 1));
}

/* @cmd is answered, with @n_bytes as the guest sees it. @type 0: no room for an answer. */
static void book_answer(const struct vgd_guest_request *req, uint32_t type, uint64_t n_bytes)
{
    book(books.commands, vgd_cmd_name(req->hdr.type));
    book(books.responses, vgd_resp_name(type != 0 ? type : VGD_RESP_OK_NODATA));
    books.command_bytes += VGD_CTRL_HDR_SIZE + req->body_bytes + req->data_bytes - req->cut_bytes;
    books.response_bytes += n_bytes;
    bool is_error = type >= VGD_RESP_ERR_UNSPEC;
    books.fences += (req->hdr.flags & VGD_FLAG_FENCE) != 0 && !is_error;
}

/* Begin, wait, book. Returns the answer's type. */
static uint32_t send_request(const struct vgd_guest_request *req)
{
    struct vgd_guest_command *cmd = vgd_guest_gpu_begin(scene.gpu, req, true);
    if (cmd == NULL || !vgd_guest_gpu_wait(scene.gpu, cmd, 10000)) {
        tap_note("%s is not answered", vgd_cmd_name(req->hdr.type));
        vgd_guest_gpu_end(scene.gpu, cmd);
        return 0;
    }
    uint32_t type = cmd->resp.type;
    book_answer(req, type, cmd->used_bytes);
    vgd_guest_gpu_end(scene.gpu, cmd);
    return type;
}

#define BODY_OF(name, ...)                                                                         \
    uint8_t body[VGD_CMD_MAX_SIZE];                                                                \
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));                                       \
    vgd_cmd_##name##_encode(&w, &(struct vgd_cmd_##name){__VA_ARGS__})
#define VGD_CMD_MAX_SIZE 128u

static struct vgd_guest_request request_of(uint32_t type, uint32_t ctx_id, bool fenced,
                                           const uint8_t *body, const struct vgd_writer *w)
{
    return (struct vgd_guest_request){
        .hdr = {.type = type,
                .ctx_id = ctx_id,
                .flags = fenced ? VGD_FLAG_FENCE : 0,
                .fence_id = fenced ? 77 : 0},
        .body = body,
        .body_bytes = (uint32_t)vgd_writer_used(w),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
}

static uint32_t create_2d(uint32_t id, uint32_t format)
{
    BODY_OF(resource_create_2d, .resource_id = id, .format = format, .w_px = W_PX, .h_px = H_PX);
    struct vgd_guest_request req = request_of(VGD_CMD_RESOURCE_CREATE_2D, 0, false, body, &w);
    uint32_t got = send_request(&req);
    if (got == VGD_RESP_OK_NODATA) {
        books.memory_2d += PICTURE_BYTES;
        books.resources++;
    }
    return got;
}

static uint32_t attach(uint32_t id, const struct vgd_guest_backing *backing)
{
    BODY_OF(resource_attach_backing, .resource_id = id, .nr_entries = 1);
    vgd_mem_entry_encode(&w, &backing->entries[0]);
    struct vgd_guest_request req = request_of(VGD_CMD_RESOURCE_ATTACH_BACKING, 0, false, body, &w);
    books.backing += backing->size_bytes;
    return send_request(&req);
}

static struct vgd_rect whole(void)
{
    return (struct vgd_rect){.w_px = W_PX, .h_px = H_PX};
}

static uint32_t transfer_2d(uint32_t id, struct vgd_rect rect, bool fenced)
{
    BODY_OF(transfer_to_host_2d, .rect = rect, .resource_id = id);
    struct vgd_guest_request req = request_of(VGD_CMD_TRANSFER_TO_HOST_2D, 0, fenced, body, &w);
    uint32_t got = send_request(&req);
    if (got == VGD_RESP_OK_NODATA) {
        books.to_host_bytes += (uint64_t)rect.w_px * rect.h_px * 4;
        books.transfers++;
    }
    return got;
}

static uint32_t unref(uint32_t id)
{
    BODY_OF(resource_unref, .resource_id = id);
    struct vgd_guest_request req = request_of(VGD_CMD_RESOURCE_UNREF, 0, false, body, &w);
    return send_request(&req);
}

static uint32_t cursor(uint32_t type)
{
    BODY_OF(update_cursor, .pos = {.x_px = 5, .y_px = 6});
    struct vgd_guest_request req = request_of(type, 0, false, body, &w);
    req.queue = VGD_GUEST_CURSOR;
    req.resp_bytes = 0;
    return send_request(&req);
}

static uint32_t set_scanout(void)
{
    BODY_OF(set_scanout, .rect = whole(), .scanout_id = 0, .resource_id = 1);
    struct vgd_guest_request req = request_of(VGD_CMD_SET_SCANOUT, 0, false, body, &w);
    return send_request(&req);
}

static uint32_t flush(void)
{
    BODY_OF(resource_flush, .rect = whole(), .resource_id = 1);
    struct vgd_guest_request req = request_of(VGD_CMD_RESOURCE_FLUSH, 0, false, body, &w);
    books.flushes++;
    return send_request(&req);
}

/* Pictures, each seen to arrive before the next: how many pixels, the guest's screen counts. */
static bool show_pictures(const struct vgd_guest_backing *backing)
{
    struct vgd_guest_display *display = vgd_guest_gpu_display(scene.gpu);
    bool ok = set_scanout() == VGD_RESP_OK_NODATA;
    for (uint32_t n = 0; n < PICTURES; n++) {
        uint32_t pixels[W_PX * H_PX];
        for (uint32_t i = 0; i < W_PX * H_PX; i++) {
            pixels[i] = (i + n * 1000003) & 0xffffff;
        }
        vgd_guest_backing_write(scene.gpu, backing, 0, pixels, sizeof(pixels));
        ok = transfer_2d(1, whole(), false) == VGD_RESP_OK_NODATA && ok;
        ok = flush() == VGD_RESP_OK_NODATA && ok;
        uint64_t end_ns = vgd_now_ns() + UINT64_C(5000000000);
        while (vgd_guest_display_compare(display, 0, whole(), pixels, W_PX, 0) != 0 &&
               vgd_now_ns() < end_ns) {
            vgd_guest_gpu_turn(scene.gpu, 5);
        }
        ok = vgd_now_ns() < end_ns && ok;
    }
    return ok;
}

static bool do_2d(void)
{
    struct vgd_guest_backing one, two;
    bool ok = vgd_guest_backing_create(scene.gpu, PICTURE_BYTES, 1, &one) &&
              vgd_guest_backing_create(scene.gpu, PICTURE_BYTES, 1, &two);
    for (uint32_t id = 1; id <= 3; id++) {
        ok = create_2d(id, VGD_FORMAT_B8G8R8X8_UNORM) == VGD_RESP_OK_NODATA && ok;
    }
    ok = create_2d(4, 77) == VGD_RESP_ERR_INVALID_PARAMETER && ok;
    ok = create_2d(1, VGD_FORMAT_B8G8R8X8_UNORM) == VGD_RESP_ERR_INVALID_RESOURCE_ID && ok;
    ok = attach(1, &one) == VGD_RESP_OK_NODATA && ok;
    ok = attach(2, &two) == VGD_RESP_OK_NODATA && ok;
    ok = show_pictures(&one) && ok;
    for (uint32_t i = 0; i < FENCED; i++) {
        struct vgd_rect rect = {.w_px = W_PX / 2, .h_px = 3};
        ok = transfer_2d(2, rect, true) == VGD_RESP_OK_NODATA && ok;
    }
    struct vgd_rect wide = {.w_px = W_PX + 1, .h_px = 1};
    ok = transfer_2d(2, wide, false) == VGD_RESP_ERR_INVALID_PARAMETER && ok;
    for (uint32_t i = 0; i < UNREFS; i++) {
        ok = unref(900 + i) == VGD_RESP_ERR_INVALID_RESOURCE_ID && ok;
    }
    (void)cursor(VGD_CMD_UPDATE_CURSOR);
    (void)cursor(VGD_CMD_MOVE_CURSOR);
    (void)cursor(VGD_CMD_MOVE_CURSOR);
    uint8_t nothing[8] = {0};
    struct vgd_guest_request req = {.hdr = {.type = 0x999},
                                    .body = nothing,
                                    .body_bytes = sizeof(nothing),
                                    .resp_bytes = VGD_CTRL_HDR_SIZE};
    ok = send_request(&req) == VGD_RESP_ERR_UNSPEC && ok;
    ok = send_request(&req) == VGD_RESP_ERR_UNSPEC && ok;
    req = (struct vgd_guest_request){.hdr = {.type = VGD_CMD_GET_DISPLAY_INFO},
                                     .resp_bytes = VGD_CTRL_HDR_SIZE + VGD_RESP_DISPLAY_INFO_SIZE};
    ok = send_request(&req) == VGD_RESP_OK_DISPLAY_INFO && ok;
    free(one.entries);
    free(two.entries);
    return ok;
}

/* --- 3D --- */

static uint32_t ctx_create(uint32_t id, const char *name, uint32_t n_bytes)
{
    struct vgd_cmd_ctx_create create = {.name_len_bytes = n_bytes};
    memcpy(create.debug_name, name, n_bytes);
    uint8_t body[VGD_CMD_MAX_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_ctx_create_encode(&w, &create);
    struct vgd_guest_request req = request_of(VGD_CMD_CTX_CREATE, id, false, body, &w);
    books.contexts++;
    books.contexts_created++;
    return send_request(&req);
}

static uint32_t create_3d(uint32_t id, uint32_t target, uint32_t format, uint32_t bind,
                          uint32_t w_px, uint32_t h_px)
{
    BODY_OF(resource_create_3d, .resource_id = id, .target = target, .format = format, .bind = bind,
            .width = w_px, .height = h_px, .depth = 1, .array_size = 1);
    struct vgd_guest_request req = request_of(VGD_CMD_RESOURCE_CREATE_3D, 0, false, body, &w);
    books.resources++;
    books.memory_3d += target == VGD_VIRGL_TARGET_BUFFER ? w_px : (uint64_t)w_px * h_px * 4;
    return send_request(&req);
}

static uint32_t ctx_attach(uint32_t ctx_id, uint32_t res_id)
{
    BODY_OF(ctx_resource, .resource_id = res_id);
    struct vgd_guest_request req = request_of(VGD_CMD_CTX_ATTACH_RESOURCE, ctx_id, false, body, &w);
    return send_request(&req);
}

static uint32_t transfer_3d(uint32_t type, uint32_t res_id, uint32_t w_px, uint32_t h_px,
                            uint32_t texel_bytes)
{
    BODY_OF(transfer_host_3d, .box = {.w = w_px, .h = h_px, .d = 1}, .resource_id = res_id);
    struct vgd_guest_request req = request_of(type, ALPHA, false, body, &w);
    uint64_t n_bytes = (uint64_t)w_px * h_px * texel_bytes;
    *(type == VGD_CMD_TRANSFER_TO_HOST_3D ? &books.to_host_bytes : &books.from_host_bytes) +=
        n_bytes;
    books.transfers++;
    return send_request(&req);
}

static uint32_t submit(uint32_t ctx_id, const struct vgd_virgl_stream *s, bool fenced)
{
    BODY_OF(submit_3d, .size_bytes = s->n_dwords * 4);
    struct vgd_guest_request req = request_of(VGD_CMD_SUBMIT_3D, ctx_id, fenced, body, &w);
    req.data = s->dwords;
    req.data_bytes = s->n_dwords * 4;
    return send_request(&req);
}

static void book_submit(const struct vgd_virgl_stream *s, uint64_t commands, uint64_t draws)
{
    books.submits++;
    books.timed_submits++;
    books.submit_bytes += s->n_dwords * 4;
    books.stream_commands += commands;
    books.stream_draws += draws;
}

static uint32_t setup_bytes, draw_bytes; /* of streams */

static bool do_streams(void)
{
    static const float black[4] = {0, 0, 0, 1};
    struct vgd_virgl_stream s = {0};
    /* 18 commands, which make 7 objects. */
    vgd_virgl_triangle_setup(&s, TARGET_RES, VGD_VIRGL_FORMAT_B8G8R8X8_UNORM, 64, 64, VERTEX_RES,
                             false);
    setup_bytes = s.n_dwords * 4;
    bool ok = submit(ALPHA, &s, false) == VGD_RESP_OK_NODATA;
    book_submit(&s, 18, 0);
    vgd_virgl_stream_clear(&s);
    vgd_virgl_clear_color(&s, black);
    vgd_virgl_draw_triangles(&s, 0, 3);
    draw_bytes = s.n_dwords * 4;
    for (uint32_t i = 0; i < SUBMITS; i++) {
        ok = submit(ALPHA, &s, true) == VGD_RESP_OK_NODATA && ok;
        book_submit(&s, 2, 2);
    }
    ok = submit(99, &s, false) == VGD_RESP_ERR_INVALID_CONTEXT_ID && ok;
    ok = submit(99, &s, true) == VGD_RESP_ERR_INVALID_CONTEXT_ID && ok;
    /* A stream of which the second command is wrong: the first one counts. */
    vgd_virgl_stream_clear(&s);
    vgd_virgl_create_sub_ctx(&s, 1);
    vgd_virgl_bind_object(&s, VGD_VIRGL_OBJECT_BLEND, 12345);
    ok = submit(BETA, &s, false) >= VGD_RESP_ERR_UNSPEC && ok;
    book_submit(&s, 1, 0);
    books.stream_refused++;
    vgd_virgl_stream_finish(&s);
    return ok;
}

static bool do_3d(void)
{
    struct vgd_guest_backing target, small, vertices;
    bool ok = vgd_guest_backing_create(scene.gpu, 64 * 64 * 4, 1, &target) &&
              vgd_guest_backing_create(scene.gpu, 64 * 64, 1, &small) &&
              vgd_guest_backing_create(scene.gpu, 4096, 1, &vertices);
    ok = ctx_create(ALPHA, "glmark2", 7) == VGD_RESP_OK_NODATA && ok;
    ok = ctx_create(BETA, "e\x1bvil\n\"", 7) == VGD_RESP_OK_NODATA && ok;
    ok = create_3d(TARGET_RES, VGD_VIRGL_TARGET_TEXTURE_2D, VGD_VIRGL_FORMAT_B8G8R8X8_UNORM,
                   VGD_VIRGL_BIND_RENDER_TARGET, 64, 64) == VGD_RESP_OK_NODATA &&
         create_3d(VERTEX_RES, VGD_VIRGL_TARGET_BUFFER, VGD_VIRGL_FORMAT_R8_UNORM,
                   VGD_VIRGL_BIND_VERTEX_BUFFER, 4096, 1) == VGD_RESP_OK_NODATA &&
         create_3d(SMALL_RES, VGD_VIRGL_TARGET_TEXTURE_2D, VGD_VIRGL_FORMAT_R8_UNORM,
                   VGD_VIRGL_BIND_SAMPLER_VIEW, 64, 64) == VGD_RESP_OK_NODATA &&
         ok;
    ok = attach(TARGET_RES, &target) == VGD_RESP_OK_NODATA && ok;
    ok = attach(VERTEX_RES, &vertices) == VGD_RESP_OK_NODATA && ok;
    ok = attach(SMALL_RES, &small) == VGD_RESP_OK_NODATA && ok;
    for (uint32_t id = TARGET_RES; id <= SMALL_RES; id++) {
        ok = ctx_attach(ALPHA, id) == VGD_RESP_OK_NODATA && ok;
    }
    ok = do_streams() && ok;
    for (int i = 0; i < 2; i++) {
        ok = transfer_3d(VGD_CMD_TRANSFER_TO_HOST_3D, SMALL_RES, 64, 10, 1) == VGD_RESP_OK_NODATA &&
             ok;
    }
    ok =
        transfer_3d(VGD_CMD_TRANSFER_TO_HOST_3D, VERTEX_RES, 100, 1, 1) == VGD_RESP_OK_NODATA && ok;
    ok = transfer_3d(VGD_CMD_TRANSFER_FROM_HOST_3D, TARGET_RES, 16, 16, 4) == VGD_RESP_OK_NODATA &&
         ok;
    free(target.entries);
    free(small.entries);
    free(vertices.entries);
    return ok;
}

/* --- what is said of it --- */

/* The output of "vgdctl -c SOCKET @words", in text; false: it failed. */
static bool ask(const char *words)
{
    char command[1024];
    (void)snprintf(command, sizeof(command), "'%s' -c '%s' %s 2>&1", vgdctl, control, words);
    FILE *from = popen(command, "re");
    size_t n = from != NULL ? fread(text, 1, sizeof(text) - 1, from) : 0;
    text[n] = '\0';
    return from != NULL && pclose(from) == 0;
}

/* The value at @path ("part/key") of @value, or NULL. */
static struct json_object *at(struct json_object *value, const char *path)
{
    char part[64];
    while (value != NULL && *path != '\0') {
        size_t n = strcspn(path, "/");
        (void)snprintf(part, sizeof(part), "%.*s", (int)n, path);
        if (!json_object_object_get_ex(value, part, &value)) {
            return NULL;
        }
        path += n + (path[n] == '/');
    }
    return value;
}

static bool is(struct json_object *counters, const char *path, uint64_t expect)
{
    struct json_object *value = at(counters, path);
    bool right =
        json_object_is_type(value, json_type_int) && json_object_get_uint64(value) == expect;
    if (!right) {
        tap_note("%s is %s, not %" PRIu64, path,
                 value != NULL ? json_object_get_string(value) : "not there", expect);
    }
    return right;
}

static bool same(struct json_object *counters, const char *path, struct json_object *expect)
{
    bool right = json_object_equal(at(counters, path), expect);
    if (!right) {
        tap_note("%s: %s, not", path, json_object_to_json_string(at(counters, path)));
        tap_note("%s", json_object_to_json_string(expect));
    }
    return right;
}

/* What each number has to be. NULL: the end. */
static const struct expectation {
    const char *path;
    const char *series; /* of the exporter */
    const uint64_t *value;
} expectations[] = {
    {"bytes/commands", "vgd_bytes_total{vm=\"c\",direction=\"commands\"}", &books.command_bytes},
    {"bytes/responses", "vgd_bytes_total{vm=\"c\",direction=\"responses\"}", &books.response_bytes},
    {"bytes/to_host", "vgd_bytes_total{vm=\"c\",direction=\"to_host\"}", &books.to_host_bytes},
    {"bytes/from_host", "vgd_bytes_total{vm=\"c\",direction=\"from_host\"}",
     &books.from_host_bytes},
    {"fences/created", "vgd_fences_created_total{vm=\"c\"}", &books.fences},
    {"fences/done", "vgd_fences_done_total{vm=\"c\"}", &books.fences},
    {"fence_latency/count", "vgd_fence_latency_seconds_count{vm=\"c\"}", &books.fences},
    {"submit_time/count", "vgd_submit_time_seconds_count{vm=\"c\"}", &books.timed_submits},
    {"flushes", "vgd_flushes_total{vm=\"c\"}", &books.flushes},
    {"stream/commands", "vgd_stream_commands_total{vm=\"c\"}", &books.stream_commands},
    {"stream/draws", "vgd_stream_draws_total{vm=\"c\"}", &books.stream_draws},
    {"stream/refused", "vgd_stream_refused_total{vm=\"c\"}", &books.stream_refused},
    {"ever/submits", "vgd_submits_total{vm=\"c\"}", &books.submits},
    {"ever/submit_bytes", "vgd_submit_bytes_total{vm=\"c\"}", &books.submit_bytes},
    {"ever/transfers", "vgd_transfers_total{vm=\"c\"}", &books.transfers},
    {"ever/contexts", "vgd_contexts_created_total{vm=\"c\"}", &books.contexts_created},
    {"ever/contexts_lost", "vgd_contexts_lost_total{vm=\"c\"}", &books.contexts_lost_ever},
    {"memory/resources_2d", "vgd_memory_bytes{vm=\"c\",kind=\"resources_2d\"}", &books.memory_2d},
    {"memory/resources_3d", "vgd_memory_bytes{vm=\"c\",kind=\"resources_3d\"}", &books.memory_3d},
    {"memory/backing", "vgd_memory_bytes{vm=\"c\",kind=\"backing\"}", &books.backing},
    {"live/resources", "vgd_resources{vm=\"c\"}", &books.resources},
    {"live/contexts", "vgd_contexts{vm=\"c\"}", &books.contexts},
    {"live/contexts_lost", "vgd_lost_contexts{vm=\"c\"}", &books.contexts_lost},
    {"worker/starts", "vgd_worker_starts_total{vm=\"c\"}", &books.starts},
    {"worker/deaths", "vgd_worker_deaths_total{vm=\"c\"}", &books.deaths},
};
#define EXPECTATIONS_COUNT (sizeof(expectations) / sizeof(expectations[0]))

static bool counters_are_right(void)
{
    struct json_object *counters = ask("counters --json") ? json_tokener_parse(text) : NULL;
    if (counters == NULL) {
        tap_note("vgdctl counters: %s", text);
        return false;
    }
    bool ok = same(counters, "commands", books.commands);
    ok = same(counters, "responses", books.responses) && ok;
    for (size_t i = 0; i < EXPECTATIONS_COUNT; i++) {
        ok = is(counters, expectations[i].path, *expectations[i].value) && ok;
    }
    struct vgd_guest_display_counters screen;
    vgd_guest_display_counters(vgd_guest_gpu_display(scene.gpu), &screen);
    ok = is(counters, "bytes/pictures", screen.pixel_bytes) && ok;
    ok = is(counters, "fences/outstanding", 0) && ok;
    ok = is(counters, "stream/unknown", 0) && is(counters, "ever/bad_chains", 0) && ok;
    ok = is(counters, "memory/blobs_host", 0) && is(counters, "memory/blobs_guest", 0) && ok;
    (void)json_object_put(counters);
    return ok;
}

/* GET /metrics, its body in text. */
static bool fetch(void)
{
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: vgd\r\nConnection: close\r\n\r\n";
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", page_socket);
    VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool there = false;
    for (uint32_t i = 0; i < 200 && !there; i++) { /* it may just be starting */
        there = connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0;
        if (!there) {
            sleep_ms(20);
        }
    }
    size_t n = 0;
    ssize_t got = send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);
    while (got > 0 && n < sizeof(text) - 1 &&
           (got = recv(fd, text + n, sizeof(text) - 1 - n, 0)) > 0) {
        n += (size_t)got;
    }
    text[n] = '\0';
    char *body = strstr(text, "\r\n\r\n");
    if (strncmp(text, "HTTP/1.1 200 ", 13) != 0 || body == NULL ||
        strstr(text, "Content-Type: text/plain; version=0.0.4") == NULL) {
        return false;
    }
    memmove(text, body + 4, strlen(body + 4) + 1);
    return true;
}

static bool sample_is(const struct prom_page *page, const char *series, uint64_t expect)
{
    char number[32];
    (void)snprintf(number, sizeof(number), "%" PRIu64, expect);
    const char *value = prom_value(page, series);
    bool right = value != NULL && strcmp(value, number) == 0;
    if (!right) {
        tap_note("%s is %s, not %s", series, value != NULL ? value : "not there", number);
    }
    return right;
}

static bool samples_are_right(const struct prom_page *page, const char *family, const char *label,
                              struct json_object *by_name)
{
    bool ok = true;
    char series[256];
    json_object_object_foreach(by_name, name, count)
    {
        (void)snprintf(series, sizeof(series), "%s{vm=\"c\",%s=\"%s\"}", family, label, name);
        ok = sample_is(page, series, json_object_get_uint64(count)) && ok;
    }
    return ok;
}

static bool page_is_right(void)
{
    static struct prom_page page;
    const char *why = NULL;
    sleep_ms(PAGE_MS);
    if (!fetch() || !prom_read(text, &page, &why)) {
        tap_note("the page: %s", why != NULL ? why : text);
        return false;
    }
    bool ok = samples_are_right(&page, "vgd_commands_total", "command", books.commands) &&
              samples_are_right(&page, "vgd_responses_total", "response", books.responses) &&
              sample_is(&page, "vgd_up{vm=\"c\"}", 1) &&
              sample_is(&page, "vgd_worker_running{vm=\"c\"}", 1) &&
              sample_is(&page, "vgd_fences_outstanding{vm=\"c\"}", 0);
    for (size_t i = 0; i < EXPECTATIONS_COUNT; i++) {
        ok = sample_is(&page, expectations[i].series, *expectations[i].value) && ok;
    }
    prom_finish(&page);
    return ok;
}

/* One of a list: the object in which each of the @n @keys is the number beside it. */
static struct json_object *find(struct json_object *list, const char *key, const char *value)
{
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        struct json_object *member = at(one, key);
        if (member != NULL && strcmp(json_object_get_string(member), value) == 0) {
            return one;
        }
    }
    return NULL;
}

static bool context_is_right(struct json_object *list, const char *id, const char *name, bool lost,
                             uint64_t submits, uint64_t bytes, uint64_t commands, uint64_t draws,
                             uint64_t resources, uint64_t objects)
{
    struct json_object *ctx = find(list, "id", id);
    if (ctx == NULL || strcmp(json_object_get_string(at(ctx, "name")), name) != 0 ||
        json_object_get_boolean(at(ctx, "lost")) != lost) {
        tap_note("context %s: %s", id, json_object_to_json_string(ctx));
        return false;
    }
    bool ok = is(ctx, "submits", submits) && is(ctx, "submit_bytes", bytes) &&
              is(ctx, "commands", commands) && is(ctx, "draws", draws) &&
              is(ctx, "resources", resources) && is(ctx, "objects", objects);
    return ok && (json_object_get_uint64(at(ctx, "state_bytes")) != 0) == (objects != 0) &&
           json_object_get_uint64(at(ctx, "busy_ns")) != 0;
}

static bool contexts_are_right(bool lost)
{
    struct json_object *list = ask("contexts --json") ? json_tokener_parse(text) : NULL;
    bool ok = list != NULL && json_object_array_length(list) == 2 &&
              context_is_right(list, "3", "glmark2", lost, 1 + SUBMITS,
                               setup_bytes + SUBMITS * draw_bytes, 18 + 2 * SUBMITS, 2 * SUBMITS, 3,
                               lost ? 0 : 7) &&
              (lost || is(find(list, "id", "11"), "submits", 1)) &&
              strcmp(json_object_get_string(at(find(list, "id", "11"), "name")), "e?vil?\"") == 0;
    if (!ok) {
        tap_note("contexts: %s", text);
    }
    (void)json_object_put(list);
    return ok;
}

static bool error_is(struct json_object *list, const char *command, const char *response,
                     uint64_t ctx, uint64_t count, const char *last)
{
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        if (strcmp(json_object_get_string(at(one, "command")), command) == 0 &&
            strcmp(json_object_get_string(at(one, "response")), response) == 0 &&
            json_object_get_uint64(at(one, "ctx")) == ctx) {
            const char *said = json_object_get_string(at(one, "text"));
            bool right =
                json_object_get_uint64(at(one, "count")) == count && strstr(said, last) != NULL;
            if (!right) {
                tap_note("%s", json_object_to_json_string(one));
            }
            return right;
        }
    }
    tap_note("no %s %s", command, response);
    return false;
}

/* @stopped: submits whose context was lost with its worker. */
static bool errors_are_right(uint64_t stopped)
{
    struct json_object *list = ask("errors --json") ? json_tokener_parse(text) : NULL;
    size_t n = 5;
    bool ok = error_is(list, "RESOURCE_CREATE_2D", "ERR_INVALID_PARAMETER", 0, 1, "res=4") &&
              error_is(list, "RESOURCE_CREATE_2D", "ERR_INVALID_RESOURCE_ID", 0, 1, "in use") &&
              error_is(list, "TRANSFER_TO_HOST_2D", "ERR_INVALID_PARAMETER", 0, 1, "outside") &&
              error_is(list, "RESOURCE_UNREF", "ERR_INVALID_RESOURCE_ID", 0, UNREFS, "res=906") &&
              error_is(list, "0x999", "ERR_UNSPEC", 0, 2, "type 0x999");
    if (has_3d) {
        n += 2;
        ok = error_is(list, "SUBMIT_3D", "ERR_INVALID_CONTEXT_ID", 99, 2, "ctx=99") &&
             error_is(list, "SUBMIT_3D", "ERR_INVALID_PARAMETER", BETA, 1, "12345") && ok;
    }
    if (stopped != 0) {
        n++;
        ok = error_is(list, "SUBMIT_3D", "ERR_UNSPEC", ALPHA, stopped, "is lost") && ok;
    }
    ok = ok && json_object_array_length(list) == n;
    if (!ok) {
        tap_note("errors: %s", text);
    }
    (void)json_object_put(list);
    return ok;
}

static void all_are_right(const char *when, bool has_exporter)
{
    char name[128];
    vgd_guest_gpu_settle(scene.gpu, 50);
    (void)snprintf(name, sizeof(name), "counters %s", when);
    (void)tap_ok(counters_are_right(), name, NULL);
    (void)snprintf(name, sizeof(name), "the exporter's page %s", when);
    if (has_exporter) {
        (void)tap_ok(page_is_right(), name, NULL);
    } else {
        tap_skip(name, "no libmicrohttpd: vgd-exporter was not built");
    }
}

/* --- deaths and a reset --- */

/* The worker is stopped, finds commands in its ring no more, and is killed: the next one carries
 * out what it can. */
static bool kill_with_work(void)
{
    struct vgd_guest_command *cmds[STOPPED_TRANSFERS + STOPPED_SUBMITS] = {0};
    struct vgd_guest_request reqs[STOPPED_TRANSFERS + STOPPED_SUBMITS];
    uint32_t n = 0;
    uint32_t nop = 0;
    pid_t worker = scene_worker(&scene, 0, 5000);
    (void)kill(worker, SIGSTOP);
    BODY_OF(transfer_to_host_2d, .rect = whole(), .resource_id = 1);
    for (; n < STOPPED_TRANSFERS; n++) {
        reqs[n] = request_of(VGD_CMD_TRANSFER_TO_HOST_2D, 0, true, body, &w);
        cmds[n] = vgd_guest_gpu_begin(scene.gpu, &reqs[n], true);
        books.transfers++;
        books.to_host_bytes += PICTURE_BYTES;
    }
    uint8_t submit_body[VGD_CMD_SUBMIT_3D_SIZE];
    for (uint32_t i = 0; has_3d && i < STOPPED_SUBMITS; i++, n++) {
        reqs[n] = vgd_guest_submit_request(ALPHA, &nop, 1, 0, submit_body);
        cmds[n] = vgd_guest_gpu_begin(scene.gpu, &reqs[n], true);
    }
    (void)kill(worker, SIGKILL);
    bool ok = worker > 0;
    for (uint32_t i = 0; i < n; i++) {
        if (cmds[i] == NULL || !vgd_guest_gpu_wait(scene.gpu, cmds[i], 10000)) {
            ok = false;
            continue;
        }
        uint32_t expect = i < STOPPED_TRANSFERS ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_UNSPEC;
        ok = cmds[i]->resp.type == expect && ok;
        book_answer(&reqs[i], cmds[i]->resp.type, cmds[i]->used_bytes);
        vgd_guest_gpu_end(scene.gpu, cmds[i]);
    }
    books.starts++;
    books.deaths++;
    books.contexts_lost = books.contexts;
    books.contexts_lost_ever += books.contexts;
    return ok;
}

/* All counters of @part together. */
static uint64_t sum_of(const char *part)
{
    struct json_object *counters = ask("counters --json") ? json_tokener_parse(text) : NULL;
    struct json_object *by_name = at(counters, part);
    uint64_t sum = 0;
    if (by_name != NULL) {
        json_object_object_foreach(by_name, name, count)
        {
            (void)name;
            sum += json_object_get_uint64(count);
        }
    }
    (void)json_object_put(counters);
    return sum;
}

/* A worker that dies at any moment: each command counts, and the one that it was just about to give
 * back may count twice. */
static bool kill_in_the_middle(void)
{
    uint64_t before = sum_of("commands");
    struct vgd_guest_command *cmds[IN_FLIGHT];
    BODY_OF(transfer_to_host_2d, .rect = whole(), .resource_id = 1);
    struct vgd_guest_request req = request_of(VGD_CMD_TRANSFER_TO_HOST_2D, 0, true, body, &w);
    uint32_t n = 0;
    pid_t worker = scene_worker(&scene, 0, 5000);
    while (n < IN_FLIGHT && (cmds[n] = vgd_guest_gpu_begin(scene.gpu, &req, true)) != NULL) {
        n++;
    }
    (void)kill(worker, SIGKILL);
    bool ok = n == IN_FLIGHT;
    for (uint32_t i = 0; i < n; i++) {
        ok = vgd_guest_gpu_wait(scene.gpu, cmds[i], 10000) && ok;
        vgd_guest_gpu_end(scene.gpu, cmds[i]);
    }
    uint64_t counted = sum_of("commands") - before;
    tap_note("%u commands, %" PRIu64 " counted", n, counted);
    struct json_object *counters = ask("counters --json") ? json_tokener_parse(text) : NULL;
    ok = is(counters, "fences/outstanding", 0) && ok;
    (void)json_object_put(counters);
    return ok && (counted == n || counted == n + 1) && sum_of("responses") == before + counted;
}

/* What was counted stays, what there was is gone. */
static bool reset_keeps_counters(void)
{
    uint64_t before = sum_of("commands");
    struct json_object *counters = NULL;
    bool ok = vgd_guest_gpu_reset(scene.gpu) == VGD_OK && scene_worker(&scene, 0, 5000) > 0;
    ok = unref(900) == VGD_RESP_ERR_INVALID_RESOURCE_ID && ok;
    ok = sum_of("commands") == before + 1 && ok;
    counters = ask("counters --json") ? json_tokener_parse(text) : NULL;
    ok = is(counters, "live/resources", 0) && is(counters, "live/contexts", 0) &&
         is(counters, "live/contexts_lost", 0) && is(counters, "memory/resources_2d", 0) &&
         is(counters, "memory/backing", 0) && ok;
    (void)json_object_put(counters);
    return ask("contexts --json") && strcmp(text, "[]\n") == 0 && ok;
}

/* "top" tells the same, for people. */
static bool top_tells(const char *format, ...) __attribute__((format(printf, 1, 2)));

static bool top_tells(const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    bool there = strstr(text, line) != NULL;
    if (!there) {
        tap_note("top does not tell: %s", line);
    }
    return there;
}

/* The sum of all counts in @by_name but of what begins with @but. */
static uint64_t sum_but(struct json_object *by_name, const char *but)
{
    uint64_t sum = 0;
    json_object_object_foreach(by_name, name, count)
    {
        sum += strncmp(name, but, strlen(but)) != 0 ? json_object_get_uint64(count) : 0;
    }
    return sum;
}

static bool top_is_right(void)
{
    if (!ask("top --once --interval 0.1")) {
        tap_note("%s", text);
        return false;
    }
    struct json_object *submits = at(books.commands, "SUBMIT_3D");
    bool ok = top_tells(
        "\ncommands   0/s (%" PRIu64 "), errors 0/s (%" PRIu64 "), flushes 0/s (%" PRIu64 ")\n",
        sum_but(books.commands, "-"), sum_but(books.responses, "OK_"), books.flushes);
    ok = top_tells("\nstreams    draws 0/s (%" PRIu64 "), submits 0/s (%" PRIu64
                   "), unknown 0, refused %" PRIu64 ", commands 0/s (%" PRIu64 ")\n",
                   books.stream_draws, json_object_get_uint64(submits), books.stream_refused,
                   books.stream_commands) &&
         ok;
    ok = top_tells("\nfences     0/s (%" PRIu64 "), 0 outstanding; ", books.fences) && ok;
    ok = top_tells("\nlive       resources %" PRIu64 ", contexts %" PRIu64 " (%" PRIu64
                   " lost), maps 0\n",
                   books.resources, books.contexts, books.contexts_lost) &&
         ok;
    ok = top_tells(" is ready, %" PRIu64 " started, %" PRIu64 " died; ", books.starts,
                   books.deaths) &&
         ok;
    ok = top_tells("RESOURCE_UNREF") && top_tells("0x999") && ok;
    ok = ok && (!has_3d || (top_tells("glmark2") && top_tells("e?vil?\"")));
    if (!ok) {
        tap_note("%s", text);
    }
    return ok;
}

static pid_t start_exporter(const char *program)
{
    char where[96];
    (void)snprintf(where, sizeof(where), "unix:%s", page_socket);
    pid_t pid = fork();
    if (pid == 0) {
        (void)execl(program, program, "--listen", where, "--control", control, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void play(bool has_exporter)
{
    (void)tap_ok(do_2d(), "2D and its errors", NULL);
    if (has_3d) {
        (void)tap_ok(do_3d(), "contexts, streams and their errors", NULL);
    } else {
        tap_skip("contexts, streams and their errors", "no 3D");
    }
    all_are_right("after the script", has_exporter);
    (void)tap_ok(errors_are_right(0), "errors after the script", NULL);
    if (has_3d) {
        (void)tap_ok(contexts_are_right(false), "contexts after the script", NULL);
    }
    (void)tap_ok(top_is_right(), "top after the script", NULL);
    (void)tap_ok(kill_with_work(), "a worker is killed with commands in its ring", NULL);
    all_are_right("after the death", has_exporter);
    (void)tap_ok(errors_are_right(has_3d ? STOPPED_SUBMITS : 0), "errors after the death", NULL);
    if (has_3d) {
        (void)tap_ok(contexts_are_right(true), "contexts after the death", NULL);
    }
    (void)tap_ok(top_is_right(), "top after the death", NULL);
    (void)tap_ok(kill_in_the_middle(), "a worker is killed while it works", NULL);
    (void)tap_ok(reset_keeps_counters(), "a reset of the guest keeps what was counted", NULL);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"virgl", no_argument, NULL, 'v'},
        {"exporter", required_argument, NULL, 'e'},
        {NULL, 0, NULL, 0},
    };
    const char *exporter = NULL;
    bool virgl = false;
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (option == '?') {
            return 1;
        }
        virgl = virgl || option == 'v';
        exporter = option == 'e' ? optarg : exporter;
    }
    if (argc - optind != 2 || mkdtemp(dir) == NULL) {
        return 1;
    }
    vgdctl = argv[optind + 1];
    (void)snprintf(control, sizeof(control), "%s/c.sock", dir);
    (void)snprintf(page_socket, sizeof(page_socket), "%s/page.sock", dir);
    books.commands = json_object_new_object();
    books.responses = json_object_new_object();
    books.starts = 1;

    char words[128];
    (void)snprintf(words, sizeof(words), "--control-path=%s %s", control, virgl ? "--virgl" : "");
    pid_t exporter_pid = exporter != NULL ? start_exporter(exporter) : 0;
    if (scene_open(&scene, argv[optind], words, "start")) {
        has_3d = vgd_guest_gpu_has_3d(scene.gpu);
        play(exporter_pid > 0);
        (void)tap_ok(scene_close(&scene), "the end", NULL);
    }
    if (exporter_pid > 0) {
        int status = 0;
        (void)kill(exporter_pid, SIGTERM);
        (void)waitpid(exporter_pid, &status, 0);
        (void)tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the exporter ends", NULL);
    }
    (void)json_object_put(books.commands);
    (void)json_object_put(books.responses);
    (void)tap_ok(rmdir(dir) == 0, "no socket is left", NULL);
    return tap_done();
}
