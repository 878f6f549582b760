/* SPDX-License-Identifier: MIT */
/*
 * Fences of OpenGL; those of Vulkan contexts are in virgl_venus.c.
 *
 * All of virglrenderer's OpenGL is one stream on one thread, and its per-context fences are
 * the same GL sync objects as its ctx0 fences, only that they are dropped without a callback when
 * their context is destroyed. So every timeline here rides on ctx0 fences: one queue of (context,
 * ring, seq), each with the 32-bit library id that retires it. Where no GL work was asked for
 * since the last fence, none is made: the fence shares that one's id, or is done at once. No sync
 * thread: its two wake-ups cost more than most fences take (measured on llvmpipe, clears of 16x16
 * to 1024x1024: this is as fast or faster at the median and takes up to a third less CPU time). The
 * library is asked at batch_end, for SPIN_NS where everything pending is new, then by a timer whose
 * delay grows with the wait.
 */
#include "virgl_priv.h"

#include <stdlib.h>

#include "log.h"

#define POLL_FASTEST_NS 20000u
#define POLL_SLOWEST_NS 1000000u
#define POLL_WAIT_SHARE 4u /* the next look comes after this part of the wait so far */
#define FENCES_FIRST_COUNT 64u

void vgd_virgl_write_fence(void *cookie, uint32_t id)
{
    struct virgl *v = cookie;
    v->retired_lib_id = id; /* ids come in order; delivered once the library has returned */
}

static struct fence *fence_at(const struct virgl *v, uint32_t i)
{
    return &v->fences[(v->fences_first + i) & (v->fences_capacity - 1)];
}

static enum vgd_status fence_push(struct virgl *v, struct fence f)
{
    if (v->fences_count == v->fences_capacity) {
        uint32_t capacity = v->fences_capacity == 0 ? FENCES_FIRST_COUNT : v->fences_capacity * 2;
        struct fence *grown = calloc(capacity, sizeof(*grown));
        if (grown == NULL) {
            return VGD_NO_MEMORY;
        }
        for (uint32_t i = 0; i < v->fences_count; i++) {
            grown[i] = *fence_at(v, i);
        }
        free(v->fences);
        v->fences = grown;
        v->fences_first = 0;
        v->fences_capacity = capacity;
    }
    v->fences_count++;
    *fence_at(v, v->fences_count - 1) = f;
    return VGD_OK;
}

/* Ids wrap: "a is b or came before it". */
static bool lib_id_reached(uint32_t a, uint32_t b)
{
    return (int32_t)(b - a) >= 0;
}

/* Tell the device of everything the library has retired. It may call any operation meanwhile. */
static void deliver_fences(struct virgl *v)
{
    while (v->fences_count > 0 && lib_id_reached(fence_at(v, 0)->lib_id, v->retired_lib_id)) {
        struct fence f = *fence_at(v, 0);
        v->fences_first = (v->fences_first + 1) & (v->fences_capacity - 1);
        v->fences_count--;
        v->callbacks.fence_done(v->callbacks.user, f.ctx_id, f.ring_idx, f.seq);
    }
}

static void poll_fences(struct virgl *v)
{
    uint32_t before = v->retired_lib_id;
    v->venus_looks++; /* it looks at their fences as well */
    virgl_renderer_poll();
    if (v->retired_lib_id != before) {
        v->wait_start_ns = vgd_now_ns();
        deliver_fences(v);
    }
    vgd_virgl_venus_deliver(v); /* the library polled those too */
}

uint64_t vgd_virgl_look_delay_ns(uint64_t wait_start_ns)
{
    uint64_t delay_ns = (vgd_now_ns() - wait_start_ns) / POLL_WAIT_SHARE;
    delay_ns = delay_ns > POLL_FASTEST_NS ? delay_ns : POLL_FASTEST_NS;
    return delay_ns < POLL_SLOWEST_NS ? delay_ns : POLL_SLOWEST_NS;
}

static void poll_later(struct virgl *v)
{
    if (v->fences_count == 0) {
        vgd_timer_stop(v->poll_timer);
        return;
    }
    vgd_timer_start(v->poll_timer, vgd_virgl_look_delay_ns(v->wait_start_ns));
}

void vgd_virgl_poll_timer_fired(void *user)
{
    struct virgl *v = user;
    if (v->fences_count > 0) {
        poll_fences(v);
    }
    poll_later(v);
}

void vgd_virgl_batch_end(struct vgd_render *r)
{
    struct virgl *v = virgl_of(r);
    vgd_virgl_venus_batch_end(v);
    if (v->fences_count == 0) {
        return;
    }
    bool all_new = v->new_fences_count >= v->fences_count;
    v->new_fences_count = 0;
    poll_fences(v);
    /* What is older has been looked for before and takes long: then nothing here is quick. */
    uint64_t end_ns = v->wait_start_ns + SPIN_NS;
    while (all_new && v->fences_count > 0 && vgd_now_ns() < end_ns) {
        poll_fences(v);
    }
    poll_later(v);
}

enum vgd_status vgd_virgl_fence(struct vgd_render *r, uint32_t ctx_id, uint8_t ring_idx,
                                uint64_t seq, bool *out_done)
{
    struct virgl *v = virgl_of(r);
    struct context *ctx = ctx_id != 0 ? vgd_idmap_find(&v->contexts, ctx_id) : NULL;
    if (ctx != NULL && ctx->venus != NULL) {
        return vgd_virgl_venus_fence(v, ctx, ring_idx, seq, out_done);
    }
    if (!v->gl_work && v->fences_count == 0) {
        *out_done = true;
        return VGD_OK;
    }
    struct fence f = {.seq = seq, .ctx_id = ctx_id, .ring_idx = ring_idx, .lib_id = v->last_lib_id};
    if (v->gl_work) {
        f.lib_id++;
    }
    enum vgd_status st = fence_push(v, f);
    if (st != VGD_OK) {
        return st;
    }
    if (v->gl_work) {
        if (virgl_renderer_create_fence((int)f.lib_id, 0) != 0) {
            v->fences_count--;
            return VGD_HOST_FAILED;
        }
        v->last_lib_id = f.lib_id;
        v->gl_work = false;
    }
    if (v->fences_count == 1) {
        v->wait_start_ns = vgd_now_ns();
    }
    v->new_fences_count++;
    *out_done = false;
    return VGD_OK;
}
