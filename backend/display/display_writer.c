/* SPDX-License-Identifier: MIT */
/*
 * The channel: none -> asked for its features -> ready; an end of file, an error or a new channel
 * leads back to none. What workers say is accepted in every state, and is kept as state rather
 * than queued: for each scanout what is to be shown, one cursor, one dma-buf damage, and what waits
 * in frame slots. So nothing here can grow, and a slow VMM gets the newest of everything. Only
 * questions are a queue.
 *
 * One message is on its way at a time. Once its first byte is out it is always finished, from the
 * frame mapping if need be: the VMM reads the rest blocking, with its main loop.
 */
#include "display_writer_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fd.h"

void vgd_display_writer_tell_worker(struct vgd_display_writer *w, enum vgd_link_type type,
                                    const void *payload, size_t n_bytes)
{
    if (w->has_worker) {
        w->config.to_worker(w->config.user, type, payload, n_bytes);
    }
}

void vgd_display_writer_tell_worker_u64(struct vgd_display_writer *w, enum vgd_link_type type,
                                        uint64_t value)
{
    struct vgd_link_u64 msg = {.value = value};
    vgd_display_writer_tell_worker(w, type, &msg, sizeof(msg));
}

void vgd_display_writer_tell_state(struct vgd_display_writer *w)
{
    struct vgd_link_display_state msg = {
        .connected = w->ready,
        .dmabuf = w->ready && !w->config.pixels_only,
        .fresh = w->ready,
        .edid = w->ready && (w->features >> VGD_DISP_F_EDID & 1) != 0,
        .pending = w->fd >= 0 && !w->ready,
    };
    vgd_display_writer_tell_worker(w, VGD_LINK_DISPLAY_STATE, &msg, sizeof(msg));
}

/* --- What waits. --- */

void vgd_display_writer_end_slot(struct vgd_display_writer *w, uint32_t slot)
{
    assert(w->slots[slot].used);
    w->slots[slot].used = false;
    vgd_display_writer_tell_worker_u64(w, VGD_LINK_FRAME_DONE, slot);
}

void vgd_display_writer_drop_pictures(struct vgd_display_writer *w, uint32_t idx)
{
    struct scanout *s = &w->scanouts[idx];
    for (uint32_t i = 0; i < VGD_FRAME_SLOTS_COUNT; i++) {
        struct slot *slot = &w->slots[i];
        if (!slot->used || slot->scanout_idx != idx) {
            continue;
        }
        const uint8_t *start = w->config.frames + (size_t)i * VGD_FRAME_SLOT_BYTES;
        bool is_going = w->out.active && w->out.owned == NULL && w->out.body >= start &&
                        w->out.body < start + VGD_FRAME_SLOT_BYTES;
        if (is_going) {
            slot->rows_sent = slot->rect.h_px;
            w->out.slot = i;
        } else {
            vgd_display_writer_end_slot(w, i);
        }
    }
    if (s->damaged) {
        s->damaged = false;
        vgd_display_writer_tell_worker_u64(w, VGD_LINK_DMABUF_DONE, idx);
    }
}

void vgd_display_writer_drop_cursor(struct scanout *s)
{
    s->cursor_moved = false;
    free(s->picture);
    s->picture = NULL;
}

/* --- Messages from the worker. --- */

static enum vgd_status scanout_message(struct vgd_display_writer *w,
                                       const struct vgd_link_scanout *msg)
{
    if (msg->scanout_idx >= w->config.n_scanouts) {
        return VGD_RANGE;
    }
    struct scanout *s = &w->scanouts[msg->scanout_idx];
    if (msg->w_px != 0 && !vgd_scanout_size_ok(msg->w_px, msg->h_px)) {
        return VGD_RANGE;
    }
    vgd_display_writer_drop_pictures(w, msg->scanout_idx);
    vgd_fd_closep(&s->dmabuf_fd);
    s->want = msg->w_px != 0 ? SHOWS_PIXELS : SHOWS_NOTHING;
    s->w_px = msg->w_px;
    s->h_px = msg->h_px;
    s->is_new = true;
    return VGD_OK;
}

static enum vgd_status dmabuf_scanout_message(struct vgd_display_writer *w,
                                              struct vgd_link_message *from,
                                              const struct vgd_link_dmabuf_scanout *msg)
{
    if (msg->scanout_idx >= w->config.n_scanouts || from->n_fds != 1 ||
        !vgd_scanout_size_ok(msg->fd_w_px, msg->fd_h_px) ||
        !vgd_scanout_rect_ok(msg->rect, msg->fd_w_px, msg->fd_h_px) || msg->fd_stride_bytes == 0) {
        return VGD_RANGE;
    }
    struct scanout *s = &w->scanouts[msg->scanout_idx];
    vgd_display_writer_drop_pictures(w, msg->scanout_idx);
    vgd_fd_closep(&s->dmabuf_fd);
    s->want = SHOWS_DMABUF;
    s->w_px = msg->rect.w_px;
    s->h_px = msg->rect.h_px;
    s->dmabuf = *msg;
    s->is_new = w->ready && !w->config.pixels_only;
    if (s->is_new) {
        s->dmabuf_fd = vgd_fd_take(&from->fds[0]);
    }
    return VGD_OK;
}

static enum vgd_status update_message(struct vgd_display_writer *w,
                                      const struct vgd_link_update *msg)
{
    if (msg->scanout_idx >= w->config.n_scanouts || msg->slot_idx >= VGD_FRAME_SLOTS_COUNT) {
        return VGD_RANGE;
    }
    const struct scanout *s = &w->scanouts[msg->scanout_idx];
    struct slot *slot = &w->slots[msg->slot_idx];
    uint64_t n_bytes = (uint64_t)msg->rect.w_px * msg->rect.h_px * VGD_SCANOUT_PIXEL_BYTES;
    if (slot->used || s->want != SHOWS_PIXELS ||
        !vgd_scanout_rect_ok(msg->rect, s->w_px, s->h_px) || n_bytes > VGD_FRAME_SLOT_BYTES) {
        return VGD_RANGE;
    }
    *slot = (struct slot){
        .used = true, .scanout_idx = msg->scanout_idx, .rect = msg->rect, .order = ++w->last_order};
    if (!w->ready) {
        vgd_display_writer_end_slot(
            w, msg->slot_idx); /* sent before the worker knew that there is no channel */
    }
    return VGD_OK;
}

static enum vgd_status dmabuf_update_message(struct vgd_display_writer *w,
                                             const struct vgd_link_damage *msg)
{
    if (msg->scanout_idx >= w->config.n_scanouts) {
        return VGD_RANGE;
    }
    struct scanout *s = &w->scanouts[msg->scanout_idx];
    bool is_busy = s->damaged;
    for (uint32_t i = 0; i < w->dmabuf_updates_count; i++) {
        is_busy = is_busy || w->dmabuf_updates[i] == msg->scanout_idx;
    }
    if (is_busy || s->want != SHOWS_DMABUF || !vgd_scanout_rect_ok(msg->rect, s->w_px, s->h_px)) {
        return VGD_RANGE;
    }
    bool may_be_shown = s->is_new || s->told == SHOWS_DMABUF;
    if (w->ready && may_be_shown) {
        s->damaged = true;
        s->damage = msg->rect;
    } else {
        vgd_display_writer_tell_worker_u64(w, VGD_LINK_DMABUF_DONE, msg->scanout_idx);
    }
    return VGD_OK;
}

static enum vgd_status cursor_message(struct vgd_display_writer *w,
                                      const struct vgd_link_cursor_pos *pos,
                                      const struct vgd_link_cursor_update *update)
{
    if (pos->scanout_idx >= w->config.n_scanouts) {
        return VGD_RANGE;
    }
    struct scanout *s = &w->scanouts[pos->scanout_idx];
    if (!w->ready) {
        return VGD_OK;
    }
    if (update != NULL && s->picture == NULL) {
        s->picture = malloc(CURSOR_PICTURE_BYTES);
    }
    if (update != NULL && s->picture != NULL) {
        memcpy(s->picture, update->pixels, CURSOR_PICTURE_BYTES);
        s->hot_x_px = update->hot_x_px;
        s->hot_y_px = update->hot_y_px;
    }
    s->cursor = *pos;
    s->cursor_moved = true;
    return VGD_OK;
}

static enum vgd_status question_message(struct vgd_display_writer *w, uint32_t request,
                                        const struct vgd_link_question *msg)
{
    struct question q = {.request = request, .id = msg->question, .for_them = true};
    if (!w->ready) {
        return VGD_OK; /* the worker answers by itself as soon as it knows */
    }
    if (request == VGD_DISP_GET_DISPLAY_INFO) {
        (void)vgd_display_writer_push_question(w, q);
        return VGD_OK;
    }
    if (msg->scanout_idx >= w->config.n_scanouts) {
        return VGD_RANGE;
    }
    q.scanout_idx = msg->scanout_idx;
    bool may_exist =
        msg->scanout_idx < w->edid_end_idx || (w->enabled >> msg->scanout_idx & 1) != 0;
    if (!may_exist || (w->features >> VGD_DISP_F_EDID & 1) == 0) {
        vgd_display_writer_answer_edid(w, q.id, NULL);
    } else if (w->questions_count + 2 <= QUESTIONS_MAX) {
        (void)vgd_display_writer_push_question(w, q);
        (void)vgd_display_writer_push_question(
            w, (struct question){.request = VGD_DISP_GET_DISPLAY_INFO});
    }
    return VGD_OK;
}

enum vgd_status vgd_display_writer_message(struct vgd_display_writer *w,
                                           struct vgd_link_message *msg)
{
    static const struct {
        uint32_t type;
        size_t n_bytes;
    } known[] = {
        {VGD_LINK_SCANOUT, sizeof(struct vgd_link_scanout)},
        {VGD_LINK_UPDATE, sizeof(struct vgd_link_update)},
        {VGD_LINK_DMABUF_SCANOUT, sizeof(struct vgd_link_dmabuf_scanout)},
        {VGD_LINK_DMABUF_UPDATE, sizeof(struct vgd_link_damage)},
        {VGD_LINK_CURSOR_UPDATE, sizeof(struct vgd_link_cursor_update)},
        {VGD_LINK_CURSOR_MOVE, sizeof(struct vgd_link_cursor_pos)},
        {VGD_LINK_GET_INFO, sizeof(struct vgd_link_question)},
        {VGD_LINK_GET_EDID, sizeof(struct vgd_link_question)},
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
    enum vgd_status st = VGD_OK;
    switch (msg->type) {
    case VGD_LINK_SCANOUT:
        st = scanout_message(w, payload);
        break;
    case VGD_LINK_UPDATE:
        st = update_message(w, payload);
        break;
    case VGD_LINK_DMABUF_SCANOUT:
        st = dmabuf_scanout_message(w, msg, payload);
        break;
    case VGD_LINK_DMABUF_UPDATE:
        st = dmabuf_update_message(w, payload);
        break;
    case VGD_LINK_CURSOR_UPDATE: {
        const struct vgd_link_cursor_update *update = payload;
        st = cursor_message(w, &update->pos, update);
        break;
    }
    case VGD_LINK_CURSOR_MOVE:
        st = cursor_message(w, payload, NULL);
        break;
    case VGD_LINK_GET_INFO:
        st = question_message(w, VGD_DISP_GET_DISPLAY_INFO, payload);
        break;
    default:
        st = question_message(w, VGD_DISP_GET_EDID, payload);
        break;
    }
    vgd_display_writer_pump(w);
    return st;
}

/* --- Life. --- */

void vgd_display_writer_worker_gone(struct vgd_display_writer *w)
{
    w->has_worker = false;
    for (uint32_t idx = 0; idx < VGD_MAX_SCANOUTS; idx++) {
        struct scanout *s = &w->scanouts[idx];
        vgd_display_writer_drop_pictures(w, idx);
        vgd_display_writer_drop_cursor(s);
        vgd_fd_closep(&s->dmabuf_fd);
        /* The VMM keeps showing the last picture until the next worker says otherwise. */
        s->want = SHOWS_NOTHING;
        s->is_new = false;
    }
    /* A message from a slot goes to its end by itself; the next worker may have the slot. */
    w->out.slot = NO_SLOT;
    for (uint32_t i = 0; i < VGD_FRAME_SLOTS_COUNT; i++) {
        w->slots[i].used = false;
    }
    for (uint32_t i = 0; i < w->questions_count; i++) {
        w->questions[(w->questions_first + i) % QUESTIONS_MAX].for_them = false;
    }
    for (uint32_t i = 0; i < w->dmabuf_updates_count; i++) {
        w->dmabuf_updates[i] = VGD_MAX_SCANOUTS;
    }
}

void vgd_display_writer_worker_started(struct vgd_display_writer *w)
{
    w->has_worker = true;
    vgd_display_writer_tell_state(w);
}

struct vgd_display_writer *vgd_display_writer_create(const struct vgd_display_writer_config *config)
{
    struct vgd_display_writer *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return NULL;
    }
    w->config = *config;
    w->fd = -1;
    w->out.fd = -1;
    w->out.slot = NO_SLOT;
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        w->scanouts[i].dmabuf_fd = -1;
    }
    w->features_timer = vgd_timer_create(config->loop, vgd_display_writer_features_late, w);
    if (w->features_timer == NULL) {
        vgd_display_writer_destroy(w);
        return NULL;
    }
    return w;
}

void vgd_display_writer_destroy(struct vgd_display_writer *w)
{
    if (w == NULL) {
        return;
    }
    w->has_worker = false;
    if (w->features_timer != NULL) {
        vgd_display_writer_drop_channel(w);
    }
    vgd_timer_destroy(&w->features_timer);
    free(w);
}
