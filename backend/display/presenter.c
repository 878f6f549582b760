/* SPDX-License-Identifier: MIT */
/*
 * A scanout is off, or on in one of two ways: as pixels (read back into frame slots) or as a
 * dma-buf (passed once, then only "this part changed"). Damage waits in one rectangle until it may
 * go: a picture as pixels when the pace and a free slot allow, a dma-buf when the VMM has shown the
 * one before. What cannot go now is merged; the newest pixels are read when it goes.
 *
 * Accounts with the supervisor are exact and outlive display channels: each UPDATE is answered by
 * one FRAME_DONE, each DMABUF_UPDATE by one DMABUF_DONE, shown or dropped. One file: pixels and
 * dma-bufs are two ways of the same damage, and a scanout changes between them.
 */
#include "presenter.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "edid.h"
#include "fd.h"
#include "frames.h"
#include "log.h"
#include "scanout_limits.h"

#define FALLBACK_W_PX 1280u
#define FALLBACK_H_PX 800u

#define SLOTS_PER_SCANOUT_MAX 2u

/* Answers that the device waits for; more are answered here at once. The queues hold 512 chains. */
#define QUESTIONS_MAX 1024u

/* A guest can move its cursor as fast as it can write to a ring. */
#define CURSOR_INTERVAL_NS 4000000ull

#define CURSOR_BYTES ((size_t)VGD_CURSOR_BYTES)

#define NOBODY UINT32_MAX

struct cursor {
    struct vgd_cursor_pos pos;
    uint32_t hot_x_px, hot_y_px;
    bool visible;
    bool moved, drawn; /* not told to the supervisor yet; drawn: @pixels too */
    uint8_t *pixels;   /* owned; CURSOR_BYTES once there was a picture */
    uint64_t sent_ns;
};

struct scanout {
    bool on;
    uint32_t res_id;        /* while on */
    bool is_blob;           /* while on */
    struct vgd_image image; /* while on and a blob: how it is a picture */
    struct vgd_rect src;    /* while on; of the resource */
    bool announced;         /* the supervisor knows this state */
    bool shown;             /* the supervisor was told of a picture that was not turned off since */

    struct vgd_dmabuf dmabuf; /* fd -1: goes as pixels */
    bool dmabuf_busy;         /* a DMABUF_UPDATE is unanswered */

    struct vgd_rect damage; /* in the scanout; w_px 0: none */
    struct vgd_rect rest;   /* of a picture larger than a slot, still to be sent */
    uint64_t sent_ns;       /* when the last picture went */
    uint64_t hold_ns;       /* not before: a new resource, whose flush is about to come */
    uint32_t slots_count;   /* in flight */
    bool reading_fails;     /* said so in the log */

    struct cursor cursor;
};

struct question {
    uint32_t id;
    bool is_edid;
    uint32_t scanout_idx; /* is_edid only */
    vgd_display_info_fn info_fn;
    vgd_display_edid_fn edid_fn;
    void *user;
    uint64_t due_ns;
    struct question *next; /* in the order asked, so due_ns grows */
};

struct vgd_presenter {
    struct vgd_display display; /* first */
    struct vgd_presenter_config config;
    bool exports_dmabuf; /* the renderer may */
    struct vgd_link_display_state state;

    struct scanout scanouts[VGD_MAX_SCANOUTS];
    uint32_t turn;                               /* whose damage goes first next time */
    uint32_t slot_owners[VGD_FRAME_SLOTS_COUNT]; /* scanout index, or NOBODY */
    struct vgd_timer *pace_timer;
    vgd_presenter_look_fn look; /* NULL: nobody watches */
    void *look_user;
    bool link_fails;                /* said so in the log */
    struct vgd_log_limit log_limit; /* for pictures that a guest sets */

    struct question *questions, **questions_end;
    uint32_t questions_count;
    uint32_t last_question_id;
    struct vgd_timer *reply_timer;
};

static bool is_empty(struct vgd_rect r)
{
    return r.w_px == 0 || r.h_px == 0;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* The smallest rectangle around both. They lie inside a scanout, so nothing can wrap. */
static struct vgd_rect around(struct vgd_rect a, struct vgd_rect b)
{
    if (is_empty(a)) {
        return b;
    }
    if (is_empty(b)) {
        return a;
    }
    uint32_t x_px = smaller(a.x_px, b.x_px);
    uint32_t y_px = smaller(a.y_px, b.y_px);
    return (struct vgd_rect){
        .x_px = x_px,
        .y_px = y_px,
        .w_px = larger(a.x_px + a.w_px, b.x_px + b.w_px) - x_px,
        .h_px = larger(a.y_px + a.h_px, b.y_px + b.h_px) - y_px,
    };
}

static struct vgd_rect whole(const struct scanout *s)
{
    return (struct vgd_rect){.w_px = s->src.w_px, .h_px = s->src.h_px};
}

static bool same_rect(struct vgd_rect a, struct vgd_rect b)
{
    return a.x_px == b.x_px && a.y_px == b.y_px && a.w_px == b.w_px && a.h_px == b.h_px;
}

static bool tell(struct vgd_presenter *p, enum vgd_link_type type, const void *payload,
                 size_t n_bytes, int fd)
{
    enum vgd_status st =
        vgd_link_send(p->config.link, type, payload, n_bytes, fd >= 0 ? &fd : NULL, fd >= 0);
    if (st != VGD_OK && !p->link_fails) {
        vgd_log(VGD_LOG_WARNING, "display", "the supervisor takes no messages: %s",
                vgd_status_text(st));
    }
    p->link_fails = st != VGD_OK;
    return st == VGD_OK;
}

/* --- Scanouts. --- */

/* As the renderer wants it. */
static const struct vgd_image *image_of(const struct scanout *s)
{
    return s->is_blob ? &s->image : NULL;
}

static bool same_image(const struct scanout *s, const struct vgd_image *image)
{
    return s->is_blob == (image != NULL) &&
           (image == NULL ||
            (s->image.w_px == image->w_px && s->image.h_px == image->h_px &&
             s->image.format == image->format && s->image.stride_bytes == image->stride_bytes &&
             s->image.offset_bytes == image->offset_bytes));
}

/* Make it go as a dma-buf if the channel, the renderer and the rectangle allow, else as pixels. */
static void choose_path(struct vgd_presenter *p, struct scanout *s)
{
    vgd_fd_closep(&s->dmabuf.fd);
    s->announced = false;
    if (!p->state.dmabuf || !p->exports_dmabuf) {
        return;
    }
    if (s->src.x_px != 0 || s->src.y_px != 0) {
        return; /* QEMU shows a dma-buf from its corner, whatever we say */
    }
    const struct vgd_render_ops *ops = p->config.render->ops;
    struct vgd_dmabuf got = {.fd = -1};
    if (ops->export_scanout(p->config.render, s->res_id, image_of(s), &got) != VGD_OK ||
        got.fd < 0) {
        return;
    }
    if (got.offset_bytes != 0 || !vgd_scanout_rect_ok(s->src, got.w_px, got.h_px) ||
        !vgd_scanout_size_ok(got.w_px, got.h_px)) {
        vgd_fd_closep(&got.fd); /* the channel has no word for an offset */
        return;
    }
    s->dmabuf = got;
}

static void announce(struct vgd_presenter *p, uint32_t idx)
{
    struct scanout *s = &p->scanouts[idx];
    if (s->dmabuf.fd >= 0) {
        struct vgd_link_dmabuf_scanout msg = {
            .scanout_idx = idx,
            .rect = s->src,
            .fd_w_px = s->dmabuf.w_px,
            .fd_h_px = s->dmabuf.h_px,
            .fd_stride_bytes = s->dmabuf.stride_bytes,
            .fourcc = s->dmabuf.fourcc,
            .modifier = s->dmabuf.modifier,
            .y0_top = s->dmabuf.y0_top,
        };
        s->announced = tell(p, VGD_LINK_DMABUF_SCANOUT, &msg, sizeof(msg), s->dmabuf.fd);
    } else {
        struct vgd_link_scanout msg = {
            .scanout_idx = idx, .w_px = s->src.w_px, .h_px = s->src.h_px};
        s->announced = tell(p, VGD_LINK_SCANOUT, &msg, sizeof(msg), -1);
    }
    s->shown = s->shown || s->announced;
}

static void turn_off(struct vgd_presenter *p, uint32_t idx)
{
    struct vgd_link_scanout msg = {.scanout_idx = idx};
    p->scanouts[idx].shown = !tell(p, VGD_LINK_SCANOUT, &msg, sizeof(msg), -1);
}

/* A slot that scanout @s may take, or VGD_FRAME_SLOTS_COUNT. A second one is taken only when a
 * free one remains for another scanout. The lowest is taken, so that few pages are ever touched. */
static uint32_t free_slot(const struct vgd_presenter *p, const struct scanout *s)
{
    uint32_t first = VGD_FRAME_SLOTS_COUNT;
    uint32_t free_count = 0;
    for (uint32_t i = VGD_FRAME_SLOTS_COUNT; i-- > 0;) {
        if (p->slot_owners[i] == NOBODY) {
            first = i;
            free_count++;
        }
    }
    bool may = s->slots_count == 0 || (s->slots_count < SLOTS_PER_SCANOUT_MAX && free_count > 1);
    return may ? first : VGD_FRAME_SLOTS_COUNT;
}

static void look_at(struct vgd_presenter *p, uint32_t idx, struct vgd_rect rect,
                    const uint8_t *pixels)
{
    const struct scanout *s = &p->scanouts[idx];
    struct vgd_presenter_look look = {.scanout_idx = idx,
                                      .res_id = s->res_id,
                                      .image = image_of(s),
                                      .src = s->src,
                                      .rect = rect,
                                      .pixels = pixels};
    p->look(p->look_user, &look);
}

/* Read what of s->rest fits into @slot, and send it. False: it stays in s->rest. */
static bool send_pixels(struct vgd_presenter *p, uint32_t idx, uint32_t slot)
{
    struct scanout *s = &p->scanouts[idx];
    struct vgd_rect part = s->rest;
    assert(!is_empty(part));
    size_t stride_bytes = (size_t)part.w_px * VGD_SCANOUT_PIXEL_BYTES;
    part.h_px = smaller(part.h_px, VGD_FRAME_SLOT_BYTES / VGD_SCANOUT_PIXEL_BYTES / part.w_px);

    struct vgd_rect from = {.x_px = s->src.x_px + part.x_px,
                            .y_px = s->src.y_px + part.y_px,
                            .w_px = part.w_px,
                            .h_px = part.h_px};
    uint8_t *out = p->config.frames + (size_t)slot * VGD_FRAME_SLOT_BYTES;
    enum vgd_status st = p->config.render->ops->read_pixels(p->config.render, s->res_id,
                                                            image_of(s), from, out, stride_bytes);
    if (st == VGD_OK && p->look != NULL) {
        look_at(p, idx, part, out);
    }
    if (st == VGD_OK) {
        struct vgd_link_update msg = {.scanout_idx = idx, .rect = part, .slot_idx = slot};
        if (!tell(p, VGD_LINK_UPDATE, &msg, sizeof(msg), -1)) {
            return false;
        }
        p->slot_owners[slot] = idx;
        s->slots_count++;
        if (p->config.counters != NULL) {
            vgd_count(&p->config.counters->pictures, 1);
            vgd_count(&p->config.counters->picture_bytes, stride_bytes * part.h_px);
        }
    } else if (!s->reading_fails) {
        vgd_log_guest(&p->log_limit, "display", "scanout=%u res=%u %ux%u+%u+%u cannot be read: %s",
                      idx, s->res_id, from.w_px, from.h_px, from.x_px, from.y_px,
                      vgd_status_text(st));
    }
    s->reading_fails = st != VGD_OK;
    s->rest.y_px += part.h_px;
    s->rest.h_px -= part.h_px;
    return true;
}

static void advance_pixels(struct vgd_presenter *p, uint32_t idx, uint64_t now_ns, uint64_t *due_ns)
{
    struct scanout *s = &p->scanouts[idx];
    for (;;) {
        if (is_empty(s->rest)) {
            if (is_empty(s->damage)) {
                return;
            }
            uint64_t may_ns = s->sent_ns == 0 ? 0 : s->sent_ns + VGD_FRAME_INTERVAL_NS;
            may_ns = s->hold_ns > may_ns ? s->hold_ns : may_ns;
            if (now_ns < may_ns) {
                *due_ns = may_ns < *due_ns ? may_ns : *due_ns;
                return;
            }
        }
        uint32_t slot = free_slot(p, s);
        if (slot == VGD_FRAME_SLOTS_COUNT) {
            return; /* FRAME_DONE brings us back */
        }
        if (is_empty(s->rest)) {
            s->rest = s->damage;
            s->damage = (struct vgd_rect){0};
            s->sent_ns = now_ns;
        }
        if (!send_pixels(p, idx, slot)) {
            return; /* the next flush or message brings us back */
        }
    }
}

static void advance_dmabuf(struct vgd_presenter *p, uint32_t idx, uint64_t now_ns, uint64_t *due_ns)
{
    /* No pace of our own: the guest may draw into the buffer before this one as soon as this one
     * is flushed, and the VMM's answer tells how fast it can show. */
    struct scanout *s = &p->scanouts[idx];
    if (is_empty(s->damage) || s->dmabuf_busy) {
        return;
    }
    if (now_ns < s->hold_ns) {
        *due_ns = s->hold_ns < *due_ns ? s->hold_ns : *due_ns;
        return;
    }
    struct vgd_link_damage msg = {.scanout_idx = idx, .rect = s->damage};
    if (tell(p, VGD_LINK_DMABUF_UPDATE, &msg, sizeof(msg), -1)) {
        s->dmabuf_busy = true;
        s->damage = (struct vgd_rect){0};
    }
}

static void advance_cursor(struct vgd_presenter *p, uint32_t idx, uint64_t now_ns, uint64_t *due_ns)
{
    struct cursor *c = &p->scanouts[idx].cursor;
    if (!c->moved) {
        return;
    }
    if (c->sent_ns != 0 && now_ns - c->sent_ns < CURSOR_INTERVAL_NS) {
        uint64_t may_ns = c->sent_ns + CURSOR_INTERVAL_NS;
        *due_ns = may_ns < *due_ns ? may_ns : *due_ns;
        return;
    }
    struct vgd_link_cursor_pos pos = {
        .scanout_idx = idx, .x_px = c->pos.x_px, .y_px = c->pos.y_px, .hide = !c->visible};
    bool told;
    if (c->drawn && c->visible) {
        struct vgd_link_cursor_update msg = {
            .pos = pos, .hot_x_px = c->hot_x_px, .hot_y_px = c->hot_y_px};
        memcpy(msg.pixels, c->pixels, sizeof(msg.pixels));
        told = tell(p, VGD_LINK_CURSOR_UPDATE, &msg, sizeof(msg), -1);
    } else {
        told = tell(p, VGD_LINK_CURSOR_MOVE, &pos, sizeof(pos), -1);
    }
    if (told) {
        c->moved = false;
        c->drawn = c->drawn && !c->visible;
        c->sent_ns = now_ns;
    }
}

/* Send all that may go now; set the timer for what may go later. */
static void advance(struct vgd_presenter *p)
{
    if (!p->state.connected) {
        vgd_timer_stop(p->pace_timer);
        return;
    }
    uint64_t now_ns = vgd_now_ns();
    uint64_t due_ns = UINT64_MAX;
    assert(p->config.n_scanouts > 0);
    for (uint32_t i = 0; i < p->config.n_scanouts; i++) {
        uint32_t idx = (p->turn + i) % p->config.n_scanouts;
        struct scanout *s = &p->scanouts[idx];
        advance_cursor(p, idx, now_ns, &due_ns);
        if (!s->on) {
            continue;
        }
        if (!s->announced) {
            announce(p, idx);
        }
        if (s->announced && s->dmabuf.fd >= 0) {
            advance_dmabuf(p, idx, now_ns, &due_ns);
        } else if (s->announced) {
            advance_pixels(p, idx, now_ns, &due_ns);
        }
    }
    p->turn = (p->turn + 1) % p->config.n_scanouts;
    if (due_ns == UINT64_MAX) {
        vgd_timer_stop(p->pace_timer);
    } else {
        vgd_timer_start(p->pace_timer, due_ns - now_ns);
    }
}

static void pace_elapsed(void *user)
{
    advance(user);
}

static struct vgd_presenter *presenter_of(struct vgd_display *d)
{
    return (struct vgd_presenter *)d; /* the first member */
}

static void forget_picture(struct scanout *s)
{
    vgd_fd_closep(&s->dmabuf.fd);
    s->on = false;
    s->announced = false;
    s->damage = (struct vgd_rect){0};
    s->rest = (struct vgd_rect){0};
}

static void scanout_disable(struct vgd_display *d, uint32_t idx)
{
    struct vgd_presenter *p = presenter_of(d);
    assert(idx < p->config.n_scanouts);
    struct scanout *s = &p->scanouts[idx];
    forget_picture(s);
    if (s->shown && p->state.connected) {
        turn_off(p, idx);
    }
}

static void scanout_set(struct vgd_display *d, uint32_t idx, uint32_t res_id,
                        const struct vgd_image *image, struct vgd_rect src)
{
    struct vgd_presenter *p = presenter_of(d);
    assert(idx < p->config.n_scanouts);
    struct scanout *s = &p->scanouts[idx];
    if (!vgd_scanout_size_ok(src.w_px, src.h_px)) {
        vgd_log_guest(&p->log_limit, "display", "scanout=%u res=%u %ux%u is too large to show", idx,
                      res_id, src.w_px, src.h_px);
        scanout_disable(d, idx);
        return;
    }
    /* A resource lives as long as it is on a scanout, so an equal id is the same resource. */
    if (s->on && s->res_id == res_id && same_image(s, image) && same_rect(s->src, src)) {
        return;
    }
    bool same_size = s->on && s->src.w_px == src.w_px && s->src.h_px == src.h_px;
    bool was_pixels = s->announced && s->dmabuf.fd < 0;
    s->on = true;
    s->res_id = res_id;
    s->is_blob = image != NULL;
    s->image = image != NULL ? *image : (struct vgd_image){0};
    s->src = src;
    s->damage = whole(s);
    s->rest = (struct vgd_rect){0};
    if (!p->state.connected) {
        return;
    }
    choose_path(p, s);
    /* A guest that flips between two buffers changes nothing that the VMM has to know. */
    s->announced = same_size && was_pixels && s->dmabuf.fd < 0;
    s->hold_ns = vgd_now_ns() + VGD_FRAME_INTERVAL_NS;
    advance(p);
}

static void flush(struct vgd_display *d, uint32_t idx, struct vgd_rect damage)
{
    struct vgd_presenter *p = presenter_of(d);
    assert(idx < p->config.n_scanouts);
    struct scanout *s = &p->scanouts[idx];
    if (!s->on) {
        return;
    }
    assert(vgd_scanout_rect_ok(damage, s->src.w_px, s->src.h_px));
    if (p->look != NULL && (!p->state.connected || s->dmabuf.fd >= 0)) {
        look_at(p, idx, damage, NULL);
    }
    if (!p->state.connected) {
        return;
    }
    s->damage = around(s->damage, damage);
    s->hold_ns = 0;
    advance(p);
}

static void cursor_move(struct vgd_display *d, struct vgd_cursor_pos pos)
{
    struct vgd_presenter *p = presenter_of(d);
    assert(pos.scanout_id < p->config.n_scanouts);
    struct cursor *c = &p->scanouts[pos.scanout_id].cursor;
    c->pos = pos;
    c->moved = true;
    advance(p);
}

static void cursor_update(struct vgd_display *d, struct vgd_cursor_pos pos, uint32_t hot_x_px,
                          uint32_t hot_y_px, const uint8_t *pixels)
{
    struct vgd_presenter *p = presenter_of(d);
    assert(pos.scanout_id < p->config.n_scanouts);
    struct cursor *c = &p->scanouts[pos.scanout_id].cursor;
    if (pixels != NULL && c->pixels == NULL) {
        c->pixels = malloc(CURSOR_BYTES);
    }
    c->visible = pixels != NULL && c->pixels != NULL;
    if (c->visible) {
        memcpy(c->pixels, pixels, CURSOR_BYTES);
        c->hot_x_px = hot_x_px;
        c->hot_y_px = hot_y_px;
        c->drawn = true;
    }
    cursor_move(d, pos);
}

/* --- Questions. --- */

static void fallback_info(struct vgd_resp_display_info *out)
{
    memset(out, 0, sizeof(*out));
    out->pmodes[0].rect = (struct vgd_rect){.w_px = FALLBACK_W_PX, .h_px = FALLBACK_H_PX};
    out->pmodes[0].enabled = 1;
}

/* Answer @q here. It is no longer in the list: the callback may ask again, or cancel. */
static void answer_here(const struct vgd_presenter *p, const struct question *q)
{
    if (!q->is_edid) {
        struct vgd_resp_display_info info;
        fallback_info(&info);
        q->info_fn(q->user, &info);
    } else if (q->scanout_idx < p->config.n_scanouts) {
        uint8_t edid[VGD_EDID_BYTES];
        vgd_edid_make(FALLBACK_W_PX, FALLBACK_H_PX, q->scanout_idx, edid);
        q->edid_fn(q->user, edid, sizeof(edid));
    } else {
        q->edid_fn(q->user, NULL, 0);
    }
}

static void arm_reply_timer(struct vgd_presenter *p)
{
    if (p->questions == NULL) {
        vgd_timer_stop(p->reply_timer);
        return;
    }
    uint64_t now_ns = vgd_now_ns();
    uint64_t due_ns = p->questions->due_ns;
    vgd_timer_start(p->reply_timer, due_ns > now_ns ? due_ns - now_ns : 0);
}

/* Out of the list, or NULL. The caller frees it. */
static struct question *take_question(struct vgd_presenter *p, uint32_t id)
{
    for (struct question **at = &p->questions; *at != NULL; at = &(*at)->next) {
        struct question *q = *at;
        if (q->id == id) {
            *at = q->next;
            if (p->questions_end == &q->next) {
                p->questions_end = at;
            }
            p->questions_count--;
            arm_reply_timer(p);
            return q;
        }
    }
    return NULL;
}

static void reply_late(void *user)
{
    struct vgd_presenter *p = user;
    uint64_t now_ns = vgd_now_ns();
    while (p->questions != NULL && p->questions->due_ns <= now_ns) {
        struct question *q = take_question(p, p->questions->id);
        vgd_log(VGD_LOG_DEBUG, "display", "no answer to %s in %u ms", q->is_edid ? "EDID" : "info",
                VGD_DISPLAY_REPLY_MS);
        answer_here(p, q);
        free(q);
    }
    arm_reply_timer(p);
}

/* The channel is gone: nobody else will answer what is asked now. */
static void answer_all(struct vgd_presenter *p)
{
    uint32_t last_id = p->last_question_id;
    while (p->questions != NULL && (int32_t)(last_id - p->questions->id) >= 0) {
        struct question *q = take_question(p, p->questions->id);
        answer_here(p, q);
        free(q);
    }
}

/* Send a question that waits in the list; one that cannot be sent is answered here. */
static void send_question(struct vgd_presenter *p, const struct question *waiting)
{
    struct vgd_link_question msg = {.question = waiting->id, .scanout_idx = waiting->scanout_idx};
    bool is_edid = waiting->is_edid;
    if ((is_edid && !p->state.edid) ||
        !tell(p, is_edid ? VGD_LINK_GET_EDID : VGD_LINK_GET_INFO, &msg, sizeof(msg), -1)) {
        struct question *q = take_question(p, msg.question);
        answer_here(p, q);
        free(q);
    }
}

static void ask(struct vgd_presenter *p, struct question asked)
{
    bool remote = (p->state.connected || p->state.pending) && p->questions_count < QUESTIONS_MAX;
    if (asked.is_edid &&
        ((p->state.connected && !p->state.edid) || asked.scanout_idx >= p->config.n_scanouts)) {
        remote = false;
    }
    struct question *q = remote ? malloc(sizeof(*q)) : NULL;
    if (q == NULL) {
        answer_here(p, &asked);
        return;
    }
    asked.id = ++p->last_question_id;
    asked.due_ns = vgd_now_ns() + VGD_DISPLAY_REPLY_MS * 1000000ull;
    *q = asked;
    *p->questions_end = q;
    p->questions_end = &q->next;
    p->questions_count++;
    arm_reply_timer(p);
    if (p->state.connected) {
        send_question(p, q);
    }
}

static void get_info(struct vgd_display *d, vgd_display_info_fn fn, void *user)
{
    ask(presenter_of(d), (struct question){.info_fn = fn, .user = user});
}

static void get_edid(struct vgd_display *d, uint32_t idx, vgd_display_edid_fn fn, void *user)
{
    ask(presenter_of(d),
        (struct question){.is_edid = true, .scanout_idx = idx, .edid_fn = fn, .user = user});
}

static void cancel(struct vgd_display *d)
{
    struct vgd_presenter *p = presenter_of(d);
    while (p->questions != NULL) {
        free(take_question(p, p->questions->id));
    }
}

/* --- Messages from the supervisor. --- */

static enum vgd_status info_reply(struct vgd_presenter *p, const struct vgd_link_info_reply *msg)
{
    struct question *q = take_question(p, msg->question);
    if (q == NULL) {
        return VGD_OK; /* late: answered here, or cancelled */
    }
    enum vgd_status st = VGD_RANGE;
    if (!q->is_edid) {
        struct vgd_resp_display_info info = msg->info;
        for (uint32_t i = p->config.n_scanouts; i < VGD_MAX_SCANOUTS; i++) {
            info.pmodes[i] = (struct vgd_display_one){0}; /* the guest was told of fewer */
        }
        q->info_fn(q->user, &info);
        st = VGD_OK;
    } else {
        answer_here(p, q);
    }
    free(q);
    return st;
}

static enum vgd_status edid_reply(struct vgd_presenter *p, const struct vgd_link_edid_reply *msg)
{
    struct question *q = take_question(p, msg->question);
    if (q == NULL) {
        return VGD_OK;
    }
    enum vgd_status st = VGD_RANGE;
    if (q->is_edid && msg->size_bytes <= sizeof(msg->edid)) {
        q->edid_fn(q->user, msg->size_bytes > 0 ? msg->edid : NULL, msg->size_bytes);
        st = VGD_OK;
    } else {
        answer_here(p, q);
    }
    free(q);
    return st;
}

static enum vgd_status display_state(struct vgd_presenter *p,
                                     const struct vgd_link_display_state *state)
{
    bool was_connected = p->state.connected;
    bool was_pending = p->state.pending;
    p->state = *state;
    p->state.connected = state->connected && p->config.frames != NULL;
    p->state.pending = state->pending && p->config.frames != NULL;
    if (p->state.connected && was_pending) {
        const struct question *next;
        for (const struct question *q = p->questions; q != NULL; q = next) {
            next = q->next;
            send_question(p, q);
        }
    }
    if (p->state.pending) {
        return VGD_OK;
    }
    if (!p->state.connected) {
        for (uint32_t i = 0; i < p->config.n_scanouts; i++) {
            vgd_fd_closep(&p->scanouts[i].dmabuf.fd);
            p->scanouts[i].announced = false;
        }
        answer_all(p);
    } else if (state->fresh || !was_connected) {
        for (uint32_t i = 0; i < p->config.n_scanouts; i++) {
            struct scanout *s = &p->scanouts[i];
            s->rest = (struct vgd_rect){0};
            s->hold_ns = 0;
            s->sent_ns = 0;
            if (s->on) {
                s->damage = whole(s);
                choose_path(p, s);
            } else {
                turn_off(p, i); /* it may still show what a dead worker left */
            }
        }
    }
    advance(p);
    return VGD_OK;
}

static enum vgd_status frame_done(struct vgd_presenter *p, uint64_t slot)
{
    if (slot >= VGD_FRAME_SLOTS_COUNT || p->slot_owners[slot] == NOBODY) {
        return VGD_RANGE;
    }
    p->scanouts[p->slot_owners[slot]].slots_count--;
    p->slot_owners[slot] = NOBODY;
    advance(p);
    return VGD_OK;
}

static enum vgd_status dmabuf_done(struct vgd_presenter *p, uint64_t idx)
{
    if (idx >= p->config.n_scanouts || !p->scanouts[idx].dmabuf_busy) {
        return VGD_RANGE;
    }
    p->scanouts[idx].dmabuf_busy = false;
    advance(p);
    return VGD_OK;
}

static enum vgd_status take_snapshot(struct vgd_presenter *p, uint32_t idx, int *out_fd,
                                     struct vgd_link_snapshot_reply *reply)
{
    if (idx >= p->config.n_scanouts || !p->scanouts[idx].on) {
        return VGD_NO_SCANOUT;
    }
    const struct scanout *s = &p->scanouts[idx];
    size_t stride_bytes = (size_t)s->src.w_px * VGD_SCANOUT_PIXEL_BYTES;
    size_t n_bytes = stride_bytes * s->src.h_px; /* at most VGD_SCANOUT_BYTES_MAX */
    VGD_AUTO_FD fd = vgd_memfd_create("vgd-snapshot", n_bytes);
    if (fd < 0) {
        return VGD_NO_MEMORY;
    }
    void *pixels = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (pixels == MAP_FAILED) {
        return VGD_NO_MEMORY;
    }
    struct vgd_render *render = p->config.render;
    enum vgd_status st =
        render->ops->read_pixels(render, s->res_id, image_of(s), s->src, pixels, stride_bytes);
    (void)munmap(pixels, n_bytes);
    if (st == VGD_OK) {
        reply->w_px = s->src.w_px;
        reply->h_px = s->src.h_px;
        *out_fd = vgd_fd_take(&fd);
    }
    return st;
}

static enum vgd_status snapshot(struct vgd_presenter *p, const struct vgd_link_question *msg)
{
    struct vgd_link_snapshot_reply reply = {.question = msg->question};
    VGD_AUTO_FD fd = -1;
    reply.status = take_snapshot(p, msg->scanout_idx, &fd, &reply);
    (void)tell(p, VGD_LINK_SNAPSHOT_REPLY, &reply, sizeof(reply), fd);
    return VGD_OK;
}

enum vgd_status vgd_presenter_message(struct vgd_presenter *p, struct vgd_link_message *msg)
{
    static const struct {
        uint32_t type;
        size_t n_bytes;
    } known[] = {
        {VGD_LINK_DISPLAY_STATE, sizeof(struct vgd_link_display_state)},
        {VGD_LINK_FRAME_DONE, sizeof(struct vgd_link_u64)},
        {VGD_LINK_DMABUF_DONE, sizeof(struct vgd_link_u64)},
        {VGD_LINK_INFO_REPLY, sizeof(struct vgd_link_info_reply)},
        {VGD_LINK_EDID_REPLY, sizeof(struct vgd_link_edid_reply)},
        {VGD_LINK_SNAPSHOT, sizeof(struct vgd_link_question)},
    };
    const void *payload = NULL;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && payload == NULL; i++) {
        if (known[i].type == msg->type) {
            payload = vgd_link_payload(msg, known[i].n_bytes);
        }
    }
    if (payload == NULL) {
        return VGD_RANGE;
    }
    switch (msg->type) {
    case VGD_LINK_DISPLAY_STATE:
        return display_state(p, payload);
    case VGD_LINK_FRAME_DONE:
        return frame_done(p, ((const struct vgd_link_u64 *)payload)->value);
    case VGD_LINK_DMABUF_DONE:
        return dmabuf_done(p, ((const struct vgd_link_u64 *)payload)->value);
    case VGD_LINK_INFO_REPLY:
        return info_reply(p, payload);
    case VGD_LINK_EDID_REPLY:
        return edid_reply(p, payload);
    default:
        return snapshot(p, payload);
    }
}

/* --- Life. --- */

static const struct vgd_display_ops presenter_ops = {
    .scanout_set = scanout_set,
    .scanout_disable = scanout_disable,
    .flush = flush,
    .cursor_update = cursor_update,
    .cursor_move = cursor_move,
    .get_info = get_info,
    .get_edid = get_edid,
    .cancel = cancel,
};

struct vgd_presenter *vgd_presenter_create(const struct vgd_presenter_config *config)
{
    assert(config->n_scanouts >= 1 && config->n_scanouts <= VGD_MAX_SCANOUTS);
    struct vgd_presenter *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    p->display.ops = &presenter_ops;
    p->config = *config;
    p->questions_end = &p->questions;
    struct vgd_render_info info = {0};
    config->render->ops->info(config->render, &info);
    p->exports_dmabuf = info.exports_dmabuf;
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        p->scanouts[i].dmabuf.fd = -1;
    }
    for (uint32_t i = 0; i < VGD_FRAME_SLOTS_COUNT; i++) {
        p->slot_owners[i] = NOBODY;
    }
    p->pace_timer = vgd_timer_create(config->loop, pace_elapsed, p);
    p->reply_timer = vgd_timer_create(config->loop, reply_late, p);
    if (p->pace_timer == NULL || p->reply_timer == NULL) {
        vgd_presenter_destroy(p);
        return NULL;
    }
    return p;
}

void vgd_presenter_destroy(struct vgd_presenter *p)
{
    if (p == NULL) {
        return;
    }
    cancel(&p->display);
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        vgd_fd_closep(&p->scanouts[i].dmabuf.fd);
        free(p->scanouts[i].cursor.pixels);
    }
    vgd_timer_destroy(&p->pace_timer);
    vgd_timer_destroy(&p->reply_timer);
    free(p);
}

void vgd_presenter_watch(struct vgd_presenter *p, vgd_presenter_look_fn fn, void *user)
{
    p->look = fn;
    p->look_user = user;
}

struct vgd_display *vgd_presenter_display(struct vgd_presenter *p)
{
    return &p->display;
}
