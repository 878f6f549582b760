/* SPDX-License-Identifier: MIT */
#include "shmem.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "fd.h"
#include "shmem_priv.h"

#define NS_PER_MS 1000000ull
#define LOOK_MAX_NS 500000000ull

/* ---- the queue --------------------------------------------------------------------------------
 */

static struct vgd_shmem_op *pop(struct vgd_shmem *sh)
{
    struct vgd_shmem_op *op = sh->first;
    sh->first = op->next;
    if (sh->first == NULL) {
        sh->last = &sh->first;
    }
    sh->n_ops--;
    sh->n_queued_maps -= op->unmap ? 0 : 1;
    return op;
}

static void op_free(struct vgd_shmem_op *op)
{
    vgd_fd_closep(&op->range.fd);
    free(op);
}

static void finish(struct vgd_shmem *sh, struct vgd_shmem_op *op, enum vgd_status status)
{
    uint64_t token = op->token;
    op_free(op);
    vgd_shmem_answer(sh, token, status);
}

/* The head of the queue, with nothing asked and everything doomed or parked dealt with. False: no
 * further now. */
static bool next_op(struct vgd_shmem *sh)
{
    struct vgd_shmem_op *op = sh->first;
    struct vgd_shmem_entry *range = &op->range;
    enum vgd_status st;
    if (op->unmap) {
        struct vgd_shmem_entry *e;
        st = vgd_shmem_find_for_unmap(sh, op, &e);
        if (e == NULL || e->state == VGD_SHMEM_PARKED) {
            if (e != NULL) {
                vgd_shmem_drop(sh, e);
            }
            finish(sh, pop(sh), st);
            return true;
        }
    } else {
        st = vgd_shmem_fits(sh, op);
        if (st != VGD_OK) {
            finish(sh, pop(sh), st);
            return true;
        }
        if (sh->n_doomed > 0) {
            return true; /* of an older worker, in its way: first */
        }
    }
    if (!vgd_shmem_ask(sh, op->unmap, range)) {
        return false;
    }
    (void)pop(sh);
    if (sh->asked.phase == VGD_SHMEM_NOTHING) { /* it broke at once */
        finish(sh, op, VGD_HOST_FAILED);
        return false;
    }
    sh->asked.has_token = true;
    sh->asked.token = op->token;
    sh->asked.deadline_ns = op->deadline_ns;
    op_free(op);
    return true;
}

/* Unmap what a VMM that could not start the device has to lose; held. False: that was all. */
static bool next_to_park(struct vgd_shmem *sh)
{
    for (uint32_t i = 0; i < sh->n_entries; i++) {
        if (sh->entries[i].to_park) {
            return vgd_shmem_ask(sh, true, &sh->entries[i]);
        }
    }
    sh->parking = false;
    return false;
}

static bool next_parked(struct vgd_shmem *sh)
{
    struct vgd_shmem_entry *e = vgd_shmem_find_state(sh, VGD_SHMEM_PARKED);
    struct vgd_shmem_entry range = *e;
    e->fd = -1;
    vgd_shmem_drop(sh, e); /* back as live when the VMM has it */
    bool asked = vgd_shmem_ask(sh, false, &range);
    if (!asked) {
        vgd_shmem_add(sh, &range, VGD_SHMEM_PARKED);
    }
    return asked;
}

/* One step of what is to be asked. False: nothing, or not now. */
static bool step(struct vgd_shmem *sh)
{
    if (sh->n_doomed > 0) {
        return vgd_shmem_ask(sh, true, vgd_shmem_find_state(sh, VGD_SHMEM_DOOMED));
    }
    if (sh->parking) {
        return next_to_park(sh);
    }
    if (sh->n_parked > 0) {
        return next_parked(sh);
    }
    return sh->first != NULL && next_op(sh);
}

static void arm_timer(struct vgd_shmem *sh)
{
    uint64_t due_ns = sh->first != NULL ? sh->first->deadline_ns : UINT64_MAX;
    if (sh->asked.phase != VGD_SHMEM_NOTHING && sh->asked.has_token &&
        sh->asked.deadline_ns < due_ns) {
        due_ns = sh->asked.deadline_ns;
    }
    uint64_t now_ns = vgd_now_ns();
    if (sh->asked.phase == VGD_SHMEM_BEGUN && now_ns + sh->asked.look_ns < due_ns) {
        due_ns = now_ns + sh->asked.look_ns;
    }
    if (vgd_shmem_blocked(sh) && now_ns + LOOK_MAX_NS < due_ns) {
        due_ns = now_ns + LOOK_MAX_NS; /* where it is not the socket that is full */
    }
    if (due_ns == UINT64_MAX) {
        vgd_timer_stop(sh->timer);
        return;
    }
    vgd_timer_start(sh->timer, due_ns > now_ns ? due_ns - now_ns : 0);
}

/* It will not be asked for; what an unmap was for must not stay all the same. */
static void give_up(struct vgd_shmem *sh, struct vgd_shmem_op *op, enum vgd_status status)
{
    if (op->unmap) {
        (void)!vgd_shmem_let_go(sh, op);
    }
    finish(sh, op, status);
}

static void fail_ops(struct vgd_shmem *sh, enum vgd_status status)
{
    while (sh->first != NULL) {
        give_up(sh, pop(sh), status);
    }
}

void vgd_shmem_advance(struct vgd_shmem *sh)
{
    while (sh->asked.phase == VGD_SHMEM_NOTHING && vgd_shmem_may_send(sh) && step(sh)) {
    }
    if (sh->channel == NULL || !sh->usable) {
        fail_ops(sh, VGD_UNSUPPORTED);
    }
    vgd_shmem_watch(sh);
    arm_timer(sh);
}

/* Without asking anybody: as far as the table goes an unmap is done, and a map was never asked for.
 */
static void settle(struct vgd_shmem *sh, struct vgd_shmem_op *op)
{
    enum vgd_status st = op->unmap ? vgd_shmem_let_go(sh, op) : vgd_shmem_fits(sh, op);
    finish(sh, op, st == VGD_OK && !op->unmap ? VGD_AGAIN : st);
}

static void timer_due(void *user)
{
    struct vgd_shmem *sh = user;
    uint64_t now_ns = vgd_now_ns();
    /* The VMM's main loop stands still until a message that it has begun to read is whole: should a
     * wake-up be lost, it is not lost for long. */
    vgd_shmem_look(sh);
    if (sh->asked.phase == VGD_SHMEM_BEGUN && sh->asked.look_ns < LOOK_MAX_NS) {
        sh->asked.look_ns *= 2;
    }
    if (sh->asked.phase != VGD_SHMEM_NOTHING && sh->asked.has_token &&
        sh->asked.deadline_ns <= now_ns) {
        vgd_log_guest(&sh->limit, "window", "the VMM does not answer within %u ms: [%#llx, +%#llx)",
                      sh->config.deadline_ms, (unsigned long long)sh->asked.range.offset_bytes,
                      (unsigned long long)sh->asked.range.len_bytes);
        vgd_shmem_take_back(sh); /* the range stays reserved until it does answer */
        vgd_shmem_answer_asked(sh, VGD_HOST_FAILED);
    }
    while (sh->first != NULL && sh->first->deadline_ns <= now_ns) {
        give_up(sh, pop(sh), VGD_HOST_FAILED);
    }
    vgd_shmem_advance(sh);
}

static uint32_t queued_maps_max(const struct vgd_shmem *sh)
{
    return sh->config.maps_max < VGD_SHMEM_QUEUED_MAPS_MAX ? sh->config.maps_max
                                                           : VGD_SHMEM_QUEUED_MAPS_MAX;
}

static void request(struct vgd_shmem *sh, bool unmap, const struct vgd_link_window *m, int *fd)
{
    struct vgd_shmem_op *op = calloc(1, sizeof(*op));
    VGD_AUTO_FD file = fd != NULL ? vgd_fd_take(fd) : -1;
    if (op == NULL) {
        vgd_shmem_answer(sh, m->token, VGD_NO_MEMORY);
        return;
    }
    *op = (struct vgd_shmem_op){
        .unmap = unmap,
        .token = m->token,
        .deadline_ns = vgd_now_ns() + sh->config.deadline_ms * NS_PER_MS,
        .range = {.offset_bytes = m->offset_bytes,
                  .len_bytes = m->len_bytes,
                  .file_offset_bytes = unmap ? 0 : m->file_offset_bytes,
                  .fd = vgd_fd_take(&file),
                  .generation = sh->generation},
    };
    const char *why = "outside the region, empty, or not whole pages";
    enum vgd_status st = vgd_shmem_range_ok(sh->config.size_bytes, m->offset_bytes, m->len_bytes)
                             ? VGD_OK
                             : VGD_RANGE;
    if (st == VGD_OK && !unmap) {
        st = vgd_shmem_file_check(op->range.fd, m->file_offset_bytes, m->len_bytes, &why);
    }
    if (st == VGD_OK && (sh->n_ops >= VGD_SHMEM_QUEUED_MAX ||
                         (!unmap && sh->n_queued_maps >= queued_maps_max(sh)))) {
        st = VGD_LIMIT;
        why = "too many requests wait";
    }
    if (st != VGD_OK) {
        vgd_shmem_complain(sh, op, why);
        finish(sh, op, st);
        return;
    }
    struct stat file_stat = {0};
    if (!unmap) {
        (void)fstat(op->range.fd, &file_stat);
    }
    op->range.dev = file_stat.st_dev;
    op->range.ino = file_stat.st_ino;
    if (sh->channel == NULL || !sh->usable) {
        give_up(sh, op, VGD_UNSUPPORTED);
        return;
    }
    if (sh->held) {
        settle(sh, op);
        return;
    }
    *sh->last = op;
    sh->last = &op->next;
    sh->n_ops++;
    sh->n_queued_maps += op->unmap ? 0 : 1;
    vgd_shmem_advance(sh);
}

/* ---- what others call -------------------------------------------------------------------------
 */

void vgd_shmem_map(struct vgd_shmem *sh, const struct vgd_link_window *m, int *fd)
{
    request(sh, false, m, fd);
}

void vgd_shmem_unmap(struct vgd_shmem *sh, const struct vgd_link_window *m)
{
    request(sh, true, m, NULL);
}

void vgd_shmem_worker_gone(struct vgd_shmem *sh)
{
    sh->generation++;
    if (sh->asked.phase != VGD_SHMEM_NOTHING && sh->asked.has_token) {
        /* A map that nobody knows of is taken back; an unmap that its guest asked for goes on. */
        vgd_shmem_take_back(sh);
        sh->asked.has_token = false;
    }
    while (sh->first != NULL) {
        struct vgd_shmem_op *op = pop(sh);
        if (op->unmap) {
            (void)!vgd_shmem_let_go(sh, op); /* its guest has let go of it */
        }
        op_free(op);
    }
    vgd_shmem_advance(sh);
}

void vgd_shmem_set_channel(struct vgd_shmem *sh, int *fd)
{
    vgd_shmem_close_channel(sh);
    sh->channel = vgd_channel_create(fd);
    if (sh->channel != NULL) {
        sh->watch = vgd_loop_watch(sh->config.loop, vgd_channel_fd(sh->channel), EPOLLIN,
                                   vgd_shmem_channel_ready, sh);
    }
    if (sh->watch == NULL) {
        vgd_channel_destroy(sh->channel); /* not a socket, or no memory */
        sh->channel = NULL;
    }
    vgd_shmem_advance(sh);
}

void vgd_shmem_set_usable(struct vgd_shmem *sh, bool usable)
{
    sh->usable = usable;
    vgd_shmem_advance(sh);
}

/* What was to be parked and is not yet stays where it is. */
static void stop_parking(struct vgd_shmem *sh)
{
    sh->parking = false;
    struct vgd_shmem_entry *begun = sh->asked.phase == VGD_SHMEM_BEGUN && sh->asked.unmap
                                        ? vgd_shmem_find_mapped(sh, &sh->asked.range)
                                        : NULL;
    if (begun != NULL && begun->to_park) {
        vgd_shmem_withdraw(sh);
    }
    for (uint32_t i = 0; i < sh->n_entries && sh->n_to_park > 0; i++) {
        struct vgd_shmem_entry *e = &sh->entries[i];
        bool asked = sh->asked.phase == VGD_SHMEM_SENT && vgd_shmem_equal(e, &sh->asked.range);
        if (!asked) {
            vgd_shmem_set_state(sh, e, e->state);
        }
    }
}

void vgd_shmem_hold(struct vgd_shmem *sh)
{
    sh->held = true;
    stop_parking(sh);
    if (sh->asked.phase == VGD_SHMEM_BEGUN && sh->asked.wanted) {
        vgd_shmem_withdraw(sh); /* it goes where the waiting ones go */
        vgd_shmem_answer_asked(sh, sh->asked.unmap ? VGD_OK : VGD_AGAIN);
    }
    if (sh->asked.phase == VGD_SHMEM_SENT && sh->asked.answered) {
        /* A VMM that stops has carried out what it had answered, and reads no more until it has. */
        vgd_shmem_answer_asked(sh, sh->asked.ok ? VGD_OK : VGD_HOST_FAILED);
    }
    while (sh->first != NULL) {
        settle(sh, pop(sh));
    }
    vgd_shmem_advance(sh);
}

void vgd_shmem_release(struct vgd_shmem *sh)
{
    sh->held = false;
    stop_parking(sh);
    vgd_shmem_advance(sh);
}

void vgd_shmem_forget(struct vgd_shmem *sh)
{
    while (sh->n_entries > 0) {
        vgd_shmem_drop(sh, &sh->entries[0]);
    }
    fail_ops(sh, VGD_LOST);
    if (sh->asked.phase != VGD_SHMEM_NOTHING) {
        sh->asked.wanted = false; /* should the VMM map it after all, it is taken back */
        vgd_shmem_answer_asked(sh, VGD_LOST);
    }
    vgd_shmem_advance(sh);
}

void vgd_shmem_park(struct vgd_shmem *sh, uint32_t count)
{
    if (!sh->held) {
        return; /* it has started after all */
    }
    while (count > sh->n_doomed + sh->n_to_park && sh->n_to_park < sh->n_live) {
        struct vgd_shmem_entry *largest = NULL;
        for (uint32_t i = 0; i < sh->n_entries; i++) {
            struct vgd_shmem_entry *e = &sh->entries[i];
            if (e->state == VGD_SHMEM_LIVE && !e->to_park && !vgd_shmem_going(sh, e) &&
                (largest == NULL || e->len_bytes > largest->len_bytes)) {
                largest = e;
            }
        }
        if (largest == NULL) {
            break;
        }
        largest->to_park = true;
        sh->n_to_park++;
    }
    sh->parking = true;
    vgd_shmem_advance(sh);
}

void vgd_shmem_get_status(const struct vgd_shmem *sh, struct vgd_shmem_status *out)
{
    *out = (struct vgd_shmem_status){
        .usable = sh->channel != NULL && sh->usable,
        .live_count = sh->n_live,
        .quarantined_count =
            sh->n_doomed + (sh->asked.phase == VGD_SHMEM_SENT && !sh->asked.unmap &&
                                    !sh->asked.wanted && !sh->asked.answered
                                ? 1u
                                : 0u),
        .parked_count = sh->n_parked,
        .waiting_count =
            sh->n_ops + (sh->asked.phase != VGD_SHMEM_NOTHING && sh->asked.has_token ? 1u : 0u),
        .live_bytes = sh->live_bytes,
        .maps_total = sh->maps_total,
        .refused_total = sh->refused_total,
        .withdrawn_total = sh->withdrawn_total,
    };
}

struct vgd_shmem *vgd_shmem_create(const struct vgd_shmem_config *config)
{
    struct vgd_shmem *sh = calloc(1, sizeof(*sh));
    if (sh == NULL) {
        return NULL;
    }
    sh->config = *config;
    sh->config.maps_max = config->maps_max != 0 ? config->maps_max : VGD_SHMEM_MAPS_MAX;
    sh->config.deadline_ms = config->deadline_ms != 0 ? config->deadline_ms : VGD_SHMEM_DEADLINE_MS;
    sh->held = true;
    sh->last = &sh->first;
    sh->asked.range.fd = -1;
    /* Two more than the limit: what is asked may come back as doomed, or parked. */
    sh->entries = calloc((size_t)sh->config.maps_max + 2, sizeof(*sh->entries));
    sh->timer = vgd_timer_create(config->loop, timer_due, sh);
    if (sh->entries == NULL || sh->timer == NULL) {
        vgd_shmem_destroy(sh);
        return NULL;
    }
    return sh;
}

void vgd_shmem_destroy(struct vgd_shmem *sh)
{
    if (sh == NULL) {
        return;
    }
    vgd_watch_remove(&sh->watch);
    vgd_channel_destroy(sh->channel);
    vgd_timer_destroy(&sh->timer);
    while (sh->first != NULL) {
        op_free(pop(sh));
    }
    while (sh->n_entries > 0) {
        vgd_shmem_drop(sh, &sh->entries[0]);
    }
    vgd_fd_closep(&sh->asked.range.fd);
    free(sh->entries);
    free(sh);
}
