/* SPDX-License-Identifier: MIT */
/*
 * What is learned of a context (virgl_state.h) is enough to make it again, on the real renderer:
 * recordings of Mesa's programs are played, and at some command, in the middle of a stream, the
 * context is made anew from its state, with the same resources attached; the old one is destroyed
 * and the rest runs in the new one. All that is read back, and all pictures at the end, must be
 * those of an undisturbed run, bit by bit.
 *
 * VGD_REBUILD_TRACES: a folder with other recordings.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xxhash.h>

#include "device.h"
#include "display.h"
#include "iov.h"
#include "log.h"
#include "loop.h"
#include "rebuild_scene.h"
#include "trace_reader.h"
#include "virgl.h"
#include "virgl_wire.h"

#define RAM_BYTES (16ull << 30) /* of address space */
#define STEPS_MAX 20000u
#define DIGESTS_MAX 4096u
#define CUTS 5u /* runs with one new context each */
#define PART_DWORDS 1024u
#define BIND_RENDER_TARGET (1u << 1)
#define BIND_VERTEX_BUFFER (1u << 4)
#define BIND_QUERY (1u << 17)
#define FIRST_NEW_CTX 1000u

/* What the recording says, one after the other. */
struct step {
    enum { STEP_COMMAND, STEP_BACKING } kind;
    uint8_t *bytes; /* owned; 8-byte aligned */
    size_t n_bytes;
    uint32_t queue_idx;
    uint32_t res_id; /* BACKING */
    uint64_t offset_bytes;
};

/* What was seen in a run. */
struct digests {
    uint64_t of[DIGESTS_MAX];
    uint32_t n;
};

struct player {
    struct vgd_display display;
    struct vgd_gpu *gpu;
    struct step steps[STEPS_MAX];
    uint32_t n_steps;
    uint8_t *ram;
    struct vgd_gpu_counters counters;
    uint32_t resp_type; /* of the last command */
    struct digests seen;
    /* The context that the guest calls 1 is this one now. */
    struct {
        uint32_t guest_id, id;
        const struct step *create;
    } contexts[64];
    uint32_t contexts_count, next_ctx;
    uint64_t commands_count; /* in streams */
    uint64_t every;          /* a new context after so many commands; 0: never */
    uint64_t at;             /* the next one after this command */
    uint32_t rebuilds_count;
};

static struct vgd_loop *loop;
static struct vgd_render *render;

/* --- what the device needs ---------------------------------------------------------------------
 */

static void no_set(struct vgd_display *d, uint32_t idx, uint32_t res_id,
                   const struct vgd_image *image, struct vgd_rect src)
{
    (void)d, (void)idx, (void)res_id, (void)image, (void)src;
}
static void no_disable(struct vgd_display *d, uint32_t idx)
{
    (void)d, (void)idx;
}
static void no_flush(struct vgd_display *d, uint32_t idx, struct vgd_rect damage)
{
    (void)d, (void)idx, (void)damage;
}
static void no_cancel(struct vgd_display *d)
{
    (void)d;
}

static enum vgd_status translate(void *user, uint64_t addr, uint64_t len_bytes, struct iovec *iov,
                                 uint32_t *n_iov, uint32_t max)
{
    const struct player *p = user;
    if (addr > RAM_BYTES || len_bytes > RAM_BYTES - addr || *n_iov >= max) {
        return VGD_RANGE;
    }
    iov[(*n_iov)++] = (struct iovec){.iov_base = p->ram + addr, .iov_len = len_bytes};
    return VGD_OK;
}

static void complete(void *user, struct vgd_gpu_request *req, const uint8_t *resp, size_t n_bytes)
{
    struct player *p = user;
    (void)req;
    p->resp_type = 0;
    if (n_bytes >= sizeof(p->resp_type)) {
        memcpy(&p->resp_type, resp, sizeof(p->resp_type));
    }
}

static void on_lost(void *user, uint32_t ctx_id)
{
    (void)user;
    cr_assert_fail("context %u lost", ctx_id);
}

static void on_fence(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    (void)user, (void)ctx_id, (void)ring_idx, (void)seq;
}

/* --- the recording -----------------------------------------------------------------------------
 */

static void load(struct player *p, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0, "%s", path);
    struct vgd_trace_reader *reader = NULL;
    struct vgd_trace_fault fault;
    cr_assert_eq(vgd_trace_reader_open(&fd, &reader, &fault), VGD_OK, "%s: %s", path, fault.text);
    struct vgd_trace_item item;
    while (vgd_trace_reader_next(reader, &item) == VGD_OK) {
        bool command = item.record.kind == VGD_TRACE_KIND_COMMAND;
        bool backing = item.record.kind == VGD_TRACE_KIND_BACKING &&
                       item.record.as.backing.reason != VGD_TRACE_BACKING_WRITTEN;
        if (!command && !backing) {
            continue;
        }
        cr_assert_lt(p->n_steps, STEPS_MAX);
        struct step *step = &p->steps[p->n_steps++];
        *step = (struct step){.kind = command ? STEP_COMMAND : STEP_BACKING,
                              .n_bytes = item.data.total_bytes};
        step->bytes = aligned_alloc(8, (step->n_bytes + 15) / 8 * 8);
        cr_assert_not_null(step->bytes);
        cr_assert_eq(vgd_trace_reader_data(reader, &item.data, 0, step->bytes, step->n_bytes),
                     VGD_OK);
        if (command) {
            step->queue_idx = item.record.as.command.queue_idx;
        } else {
            step->res_id = item.record.as.backing.resource_id;
            step->offset_bytes = item.record.as.backing.offset_bytes;
        }
    }
    vgd_trace_reader_close(reader);
    cr_assert_gt(p->n_steps, 0, "%s is empty", path);
}

/* --- seeing ------------------------------------------------------------------------------------
 */

static void see(struct player *p, uint64_t digest)
{
    cr_assert_lt(p->seen.n, DIGESTS_MAX);
    p->seen.of[p->seen.n++] = digest;
}

static uint64_t backing_digest(const struct vgd_resource *res)
{
    XXH64_hash_t digest = res->id;
    for (uint32_t i = 0; res->backing.iov != NULL && i < res->backing.n_iov; i++) {
        digest = XXH64(res->backing.iov[i].iov_base, res->backing.iov[i].iov_len, digest);
    }
    return digest;
}

static uint64_t picture_digest(const struct vgd_resource *res)
{
    struct vgd_rect whole = {.w_px = res->w_px, .h_px = res->h_px};
    uint8_t *pixels = calloc(res->h_px, (size_t)res->w_px * 4);
    cr_assert_not_null(pixels);
    uint64_t digest = 0;
    if (render->ops->read_pixels(render, res->id, NULL, whole, pixels, (size_t)res->w_px * 4) ==
        VGD_OK) {
        digest = XXH64(pixels, (size_t)res->w_px * res->h_px * 4, res->id);
    }
    free(pixels);
    return digest;
}

/* All guest memory and all pictures, except what is a query's result. */
static void see_all(struct player *p)
{
    for (uint32_t id = 1; id < 65536; id++) {
        const struct vgd_resource *res = vgd_resource_find(p->gpu, id);
        if (res == NULL || res->kind != VGD_RESOURCE_3D || res->as.args_3d.bind == BIND_QUERY) {
            continue;
        }
        see(p, backing_digest(res));
        if ((res->as.args_3d.bind & BIND_RENDER_TARGET) != 0 && res->as.args_3d.nr_samples <= 1) {
            see(p, picture_digest(res));
        }
    }
}

/* --- playing -----------------------------------------------------------------------------------
 */

static uint32_t execute(struct player *p, const void *bytes, size_t n_bytes, uint32_t ctx_id,
                        uint32_t queue_idx)
{
    uint8_t *copy = aligned_alloc(8, (n_bytes + 15) / 8 * 8);
    cr_assert_not_null(copy);
    memcpy(copy, bytes, n_bytes);
    uint32_t flags = 0; /* no fence: answered at once */
    memcpy(copy + 4, &flags, sizeof(flags));
    memcpy(copy + 16, &ctx_id, sizeof(ctx_id));
    struct vgd_gpu_request req = {.cmd = copy,
                                  .cmd_bytes = n_bytes,
                                  .resp_capacity_bytes = 65536,
                                  .queue = (enum vgd_gpu_queue)queue_idx};
    vgd_gpu_execute(p->gpu, &req);
    cr_assert_eq(vgd_gpu_pending_count(p->gpu), 0);
    free(copy);
    return p->resp_type;
}

static uint32_t submit(struct player *p, uint32_t ctx_id, const uint32_t *dwords, uint32_t n_dwords)
{
    uint8_t *bytes = malloc(VGD_CTRL_HDR_SIZE + 8 + (size_t)n_dwords * 4);
    cr_assert_not_null(bytes);
    struct vgd_writer w = vgd_writer_of(bytes, VGD_CTRL_HDR_SIZE + 8);
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_SUBMIT_3D});
    vgd_cmd_submit_3d_encode(&w, &(struct vgd_cmd_submit_3d){.size_bytes = n_dwords * 4});
    memcpy(bytes + VGD_CTRL_HDR_SIZE + 8, dwords, (size_t)n_dwords * 4);
    uint32_t type = execute(p, bytes, VGD_CTRL_HDR_SIZE + 8 + (size_t)n_dwords * 4, ctx_id, 0);
    free(bytes);
    return type;
}

static uint32_t context_of(const struct player *p, uint32_t guest_id)
{
    for (uint32_t i = 0; i < p->contexts_count; i++) {
        if (p->contexts[i].guest_id == guest_id) {
            return p->contexts[i].id;
        }
    }
    return guest_id;
}

struct new_context {
    struct player *p;
    uint32_t id;
};

static bool submit_part(void *user, const uint32_t *dwords, uint32_t n_dwords)
{
    const struct new_context *n = user;
    cr_assert_eq(submit(n->p, n->id, dwords, n_dwords), VGD_RESP_OK_NODATA);
    return true;
}

/* The context that the guest calls @guest_id is made again, and its old self is gone. */
static void rebuild(struct player *p, uint32_t guest_id)
{
    uint32_t i = 0;
    while (p->contexts[i].guest_id != guest_id) {
        i++;
        cr_assert_lt(i, p->contexts_count);
    }
    struct new_context n = {.p = p, .id = p->next_ctx++};
    const struct step *create = p->contexts[i].create;
    const struct vgd_context *old = vgd_context_find(p->gpu, p->contexts[i].id);
    cr_assert_not_null(old);
    cr_assert_eq(execute(p, create->bytes, create->n_bytes, n.id, 0), VGD_RESP_OK_NODATA);
    uint32_t cursor = 0, res_id;
    while (vgd_idmap_next(&old->attachments, &cursor, &res_id) != NULL) {
        uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_CTX_RESOURCE_SIZE];
        struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
        vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_CTX_ATTACH_RESOURCE});
        vgd_cmd_ctx_resource_encode(&w, &(struct vgd_cmd_ctx_resource){.resource_id = res_id});
        cr_assert_eq(execute(p, bytes, sizeof(bytes), n.id, 0), VGD_RESP_OK_NODATA);
    }
    cr_assert_eq(vgd_virgl_state_emit(old->stream, PART_DWORDS, submit_part, &n), VGD_OK);
    uint8_t bytes[VGD_CTRL_HDR_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_CTX_DESTROY});
    cr_assert_eq(execute(p, bytes, sizeof(bytes), old->id, 0), VGD_RESP_OK_NODATA);
    p->contexts[i].id = n.id;
    p->rebuilds_count++;
}

/* A stream, in one or in pieces. */
static void play_stream(struct player *p, const struct step *step, uint32_t guest_id)
{
    const uint32_t *dwords = (const uint32_t *)(const void *)(step->bytes + VGD_CTRL_HDR_SIZE + 8);
    uint32_t n_dwords = (uint32_t)((step->n_bytes - VGD_CTRL_HDR_SIZE - 8) / 4), from = 0;
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd;
    while (vgd_stream_next(&s, &cmd)) {
        p->commands_count++;
        if (p->every != 0 && p->commands_count == p->at) {
            cr_assert_eq(submit(p, context_of(p, guest_id), dwords + from, s.at - from),
                         VGD_RESP_OK_NODATA);
            from = s.at;
            rebuild(p, guest_id);
            p->at += p->every;
        }
    }
    if (from < n_dwords) {
        uint32_t type = submit(p, context_of(p, guest_id), dwords + from, n_dwords - from);
        cr_assert_eq(type, VGD_RESP_OK_NODATA, "a stream was refused: 0x%x", type);
    }
}

static void play_command(struct player *p, const struct step *step)
{
    struct vgd_reader r = vgd_reader_of(step->bytes, step->n_bytes);
    struct vgd_ctrl_hdr hdr;
    cr_assert_eq(vgd_ctrl_hdr_decode(&r, &hdr), VGD_OK);
    struct vgd_context *ctx = vgd_context_find(p->gpu, context_of(p, hdr.ctx_id));
    if (hdr.type == VGD_CMD_SUBMIT_3D && ctx != NULL && ctx->stream != NULL) {
        play_stream(p, step, hdr.ctx_id);
        return;
    }
    if (hdr.type == VGD_CMD_CTX_DESTROY) {
        see_all(p);
    }
    if (hdr.type == VGD_CMD_CTX_CREATE) {
        cr_assert_lt(p->contexts_count, sizeof(p->contexts) / sizeof(p->contexts[0]));
        p->contexts[p->contexts_count].guest_id = p->contexts[p->contexts_count].id = hdr.ctx_id;
        p->contexts[p->contexts_count++].create = step;
    }
    (void)execute(p, step->bytes, step->n_bytes, context_of(p, hdr.ctx_id), step->queue_idx);
    if (hdr.type == VGD_CMD_CTX_DESTROY) {
        for (uint32_t i = 0; i < p->contexts_count; i++) {
            if (p->contexts[i].guest_id == hdr.ctx_id) {
                p->contexts[i] = p->contexts[--p->contexts_count];
            }
        }
    }
    struct vgd_cmd_transfer_host_3d cmd;
    if (hdr.type == VGD_CMD_TRANSFER_FROM_HOST_3D &&
        vgd_cmd_transfer_host_3d_decode(&r, &cmd) == VGD_OK) {
        const struct vgd_resource *res = vgd_resource_find(p->gpu, cmd.resource_id);
        if (res != NULL && res->kind == VGD_RESOURCE_3D && res->as.args_3d.bind != BIND_QUERY) {
            see(p, backing_digest(res));
        }
    }
}

/* The whole recording, on an empty device; @every and @at as in the player. */
static void play(struct player *p, uint64_t at, uint64_t every)
{
    vgd_gpu_reset(p->gpu);
    cr_assert_eq(madvise(p->ram, RAM_BYTES, MADV_DONTNEED), 0);
    p->seen.n = 0;
    p->contexts_count = 0;
    p->next_ctx = FIRST_NEW_CTX;
    p->commands_count = 0;
    p->rebuilds_count = 0;
    p->at = at;
    p->every = every;
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const struct step *step = &p->steps[i];
        if (step->kind == STEP_COMMAND) {
            play_command(p, step);
            continue;
        }
        const struct vgd_resource *res = vgd_resource_find(p->gpu, step->res_id);
        if (res != NULL && res->backing.iov != NULL) {
            (void)vgd_iov_copy_in(res->backing.iov, res->backing.n_iov, step->offset_bytes,
                                  step->bytes, step->n_bytes);
        }
    }
    see_all(p);
}

static uint32_t differing(const struct digests *a, const struct digests *b)
{
    uint32_t i = 0;
    while (i < a->n && i < b->n && a->of[i] == b->of[i]) {
        i++;
    }
    return i < a->n || i < b->n ? i : UINT32_MAX;
}

/* --- the tests ---------------------------------------------------------------------------------
 */

static struct player *player_open(void)
{
    static struct player player;
    static const struct vgd_display_ops display_ops = {.scanout_set = no_set,
                                                       .scanout_disable = no_disable,
                                                       .flush = no_flush,
                                                       .cancel = no_cancel};
    struct player *p = &player;
    vgd_log_setup("test", VGD_LOG_ERROR);
    loop = vgd_loop_create();
    cr_assert_not_null(loop);
    char why[256] = "";
    struct vgd_virgl_options options = {
        .want_virgl = true,
        .loop = loop,
        .callbacks = {.fence_done = on_fence, .context_lost = on_lost},
    };
    if (vgd_virgl_create(&options, &render, why, sizeof(why)) != VGD_OK) {
        vgd_loop_destroy(loop);
        cr_skip("no OpenGL on this host: %s", why);
        return NULL;
    }
    p->display.ops = &display_ops;
    p->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert_neq(p->ram, MAP_FAILED);
    p->gpu = vgd_gpu_create(&(struct vgd_gpu_config){
        .render = render,
        .display = &p->display,
        .memory = {.translate = translate, .user = p},
        .counters = &p->counters,
        .n_scanouts = 1,
        .complete = complete,
        .user = p,
    });
    cr_assert_not_null(p->gpu);
    vgd_gpu_set_features(p->gpu, vgd_gpu_features(p->gpu));
    return p;
}

static void player_close(struct player *p)
{
    vgd_gpu_destroy(p->gpu);
    render->ops->destroy(render);
    vgd_loop_destroy(loop);
    (void)munmap(p->ram, RAM_BYTES);
    for (uint32_t i = 0; i < p->n_steps; i++) {
        free(p->steps[i].bytes);
    }
}

/* Undisturbed twice, then with one new context at several places, then with many. */
static void made_again_it_looks_the_same(struct player *p, const char *name)
{
    static struct digests undisturbed;
    play(p, 0, 0);
    undisturbed = p->seen;
    uint64_t n_commands = p->commands_count;
    cr_assert_gt(undisturbed.n, 0, "nothing to see");
    cr_assert_gt(n_commands, 10);
    cr_assert_eq(p->counters.stream_refused, 0);
    play(p, 0, 0);
    cr_assert_eq(differing(&undisturbed, &p->seen), UINT32_MAX, "%s: no two runs are equal", name);
    for (uint32_t i = 0; i < CUTS; i++) {
        uint64_t at = n_commands * (i + 1) / (CUTS + 1) + 1;
        play(p, at, UINT64_MAX / 2);
        cr_assert_eq(p->rebuilds_count, 1);
        uint32_t which = differing(&undisturbed, &p->seen);
        cr_expect_eq(which, UINT32_MAX,
                     "%s: made again after command %" PRIu64 " of %" PRIu64
                     ", what is seen %u. of %u times differs",
                     name, at, n_commands, which, undisturbed.n);
    }
    uint64_t every = n_commands / 20 + 3;
    play(p, 2, every);
    cr_assert_gt(p->rebuilds_count, 2);
    uint32_t which = differing(&undisturbed, &p->seen);
    cr_expect_eq(which, UINT32_MAX, "%s: made again every %" PRIu64 " commands, %u. of %u", name,
                 every, which, undisturbed.n);
}

struct trace_name {
    char path[512];
};

ParameterizedTestParameters(render_rebuild, a_context_is_made_again)
{
    static struct trace_name names[256];
    size_t n = 0;
    const char *dir = getenv("VGD_REBUILD_TRACES");
    char pattern[512];
    (void)snprintf(pattern, sizeof(pattern), "%s/*.vgdtrace", dir != NULL ? dir : TRACES_DIR);
    glob_t found;
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (; n < found.gl_pathc && n < sizeof(names) / sizeof(names[0]); n++) {
            (void)snprintf(names[n].path, sizeof(names[n].path), "%s", found.gl_pathv[n]);
        }
        globfree(&found);
    }
    return cr_make_param_array(struct trace_name, names, n);
}

ParameterizedTest(struct trace_name *name, render_rebuild, a_context_is_made_again, .timeout = 120)
{
    struct player *p = player_open();
    if (p != NULL) {
        load(p, name->path);
        made_again_it_looks_the_same(p, name->path);
        player_close(p);
    }
}

/* A step of our own; what follows is written to *out. */
static struct vgd_writer add_step(struct player *p, uint32_t type, size_t body_bytes)
{
    struct step *step = &p->steps[p->n_steps++];
    step->kind = STEP_COMMAND;
    step->n_bytes = VGD_CTRL_HDR_SIZE + body_bytes;
    step->bytes = aligned_alloc(8, (step->n_bytes + 15) / 8 * 8);
    cr_assert_not_null(step->bytes);
    struct vgd_writer w = vgd_writer_of(step->bytes, step->n_bytes);
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = type, .ctx_id = 1});
    return w;
}

static void add_resource(struct player *p, const struct vgd_cmd_resource_create_3d *cmd)
{
    struct vgd_writer w = add_step(p, VGD_CMD_RESOURCE_CREATE_3D, VGD_CMD_RESOURCE_CREATE_3D_SIZE);
    vgd_cmd_resource_create_3d_encode(&w, cmd);
    w = add_step(p, VGD_CMD_CTX_ATTACH_RESOURCE, VGD_CMD_CTX_RESOURCE_SIZE);
    vgd_cmd_ctx_resource_encode(&w,
                                &(struct vgd_cmd_ctx_resource){.resource_id = cmd->resource_id});
}

Test(render_rebuild, what_was_destroyed_while_it_was_bound_still_draws, .timeout = 120)
{
    enum { TARGET = 1, VERTICES = 2, DWORDS_MAX = 16384 };
    struct player *p = player_open();
    if (p == NULL) {
        return;
    }
    struct vgd_writer w = add_step(p, VGD_CMD_CTX_CREATE, VGD_CMD_CTX_CREATE_SIZE);
    vgd_cmd_ctx_create_encode(&w, &(struct vgd_cmd_ctx_create){.name_len_bytes = 0});
    add_resource(p, &(struct vgd_cmd_resource_create_3d){.resource_id = TARGET,
                                                         .target = VGD_VIRGL_TARGET_2D,
                                                         .format = VGD_FORMAT_B8G8R8A8_UNORM,
                                                         .bind = BIND_RENDER_TARGET,
                                                         .width = REBUILD_SCENE_PX,
                                                         .height = REBUILD_SCENE_PX,
                                                         .depth = 1,
                                                         .array_size = 1});
    add_resource(p, &(struct vgd_cmd_resource_create_3d){.resource_id = VERTICES,
                                                         .format = VGD_VIRGL_FORMAT_R8_UNORM,
                                                         .bind = BIND_VERTEX_BUFFER,
                                                         .width = REBUILD_SCENE_VERTEX_BYTES,
                                                         .height = 1,
                                                         .depth = 1,
                                                         .array_size = 1});
    static uint32_t dwords[DWORDS_MAX];
    uint32_t n = rebuild_scene(dwords, DWORDS_MAX, TARGET, VERTICES);
    w = add_step(p, VGD_CMD_SUBMIT_3D, VGD_CMD_SUBMIT_3D_SIZE + (size_t)n * 4);
    vgd_cmd_submit_3d_encode(&w, &(struct vgd_cmd_submit_3d){.size_bytes = n * 4});
    vgd_write_bytes(&w, dwords, (size_t)n * 4);
    cr_assert_eq(w.status, VGD_OK);
    made_again_it_looks_the_same(p, "the scene");
    player_close(p);
}
