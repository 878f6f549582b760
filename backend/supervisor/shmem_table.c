/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/stat.h>

#include "fd.h"
#include "shmem_priv.h"

static void count(struct vgd_shmem *sh, const struct vgd_shmem_entry *e, uint32_t by)
{
    uint32_t *counts[] = {&sh->n_live, &sh->n_doomed, &sh->n_parked};
    *counts[e->state] += by;
    if (e->state == VGD_SHMEM_LIVE) {
        sh->live_bytes += by == 1 ? e->len_bytes : -e->len_bytes;
    }
    sh->n_to_park += e->to_park ? by : 0;
}

void vgd_shmem_add(struct vgd_shmem *sh, const struct vgd_shmem_entry *range,
                   enum vgd_shmem_state state)
{
    struct vgd_shmem_entry *e = &sh->entries[sh->n_entries++];
    *e = *range;
    e->state = state;
    e->to_park = false;
    if (state == VGD_SHMEM_DOOMED) {
        vgd_fd_closep(&e->fd);
    }
    count(sh, e, 1);
}

void vgd_shmem_set_state(struct vgd_shmem *sh, struct vgd_shmem_entry *e,
                         enum vgd_shmem_state state)
{
    count(sh, e, (uint32_t)-1);
    e->state = state;
    e->to_park = false;
    if (state == VGD_SHMEM_DOOMED) {
        vgd_fd_closep(&e->fd);
    }
    count(sh, e, 1);
}

void vgd_shmem_drop(struct vgd_shmem *sh, struct vgd_shmem_entry *e)
{
    count(sh, e, (uint32_t)-1);
    vgd_fd_closep(&e->fd);
    *e = sh->entries[--sh->n_entries];
}

static bool overlap(const struct vgd_shmem_entry *a, const struct vgd_shmem_entry *b)
{
    return a->offset_bytes <
               b->offset_bytes + b->len_bytes && /* both were found inside the region */
           b->offset_bytes < a->offset_bytes + a->len_bytes;
}

bool vgd_shmem_equal(const struct vgd_shmem_entry *a, const struct vgd_shmem_entry *b)
{
    return a->offset_bytes == b->offset_bytes && a->len_bytes == b->len_bytes;
}

bool vgd_shmem_going(const struct vgd_shmem *sh, const struct vgd_shmem_entry *e)
{
    return sh->asked.phase == VGD_SHMEM_SENT && sh->asked.unmap && !e->to_park &&
           e->state != VGD_SHMEM_PARKED && vgd_shmem_equal(e, &sh->asked.range);
}

/* A map that is asked for, or will be, and is not in the table. */
static bool is_coming(const struct vgd_shmem *sh, const struct vgd_shmem_entry *range)
{
    bool may_come = sh->asked.phase == VGD_SHMEM_SENT ||
                    (sh->asked.phase == VGD_SHMEM_BEGUN && sh->asked.wanted);
    return may_come && !sh->asked.unmap && !sh->asked.answered && overlap(&sh->asked.range, range);
}

struct vgd_shmem_entry *vgd_shmem_find_state(struct vgd_shmem *sh, enum vgd_shmem_state state)
{
    for (uint32_t i = 0; i < sh->n_entries; i++) {
        if (sh->entries[i].state == state) {
            return &sh->entries[i];
        }
    }
    return NULL;
}

struct vgd_shmem_entry *vgd_shmem_find_mapped(struct vgd_shmem *sh,
                                              const struct vgd_shmem_entry *range)
{
    for (uint32_t i = 0; i < sh->n_entries; i++) {
        struct vgd_shmem_entry *e = &sh->entries[i];
        if (e->state != VGD_SHMEM_PARKED && vgd_shmem_equal(e, range)) {
            return e;
        }
    }
    return NULL;
}

void vgd_shmem_complain(struct vgd_shmem *sh, const struct vgd_shmem_op *op, const char *why)
{
    vgd_log_guest(&sh->limit, "window", "%s of [%#llx, +%#llx), file offset %#llx: %s",
                  op->unmap ? "unmap" : "map", (unsigned long long)op->range.offset_bytes,
                  (unsigned long long)op->range.len_bytes,
                  (unsigned long long)op->range.file_offset_bytes, why);
}

enum vgd_status vgd_shmem_fits(struct vgd_shmem *sh, const struct vgd_shmem_op *op)
{
    if (sh->n_entries + (sh->asked.phase != VGD_SHMEM_NOTHING ? 1u : 0u) >= sh->config.maps_max) {
        vgd_shmem_complain(sh, op, "too many maps");
        return VGD_LIMIT;
    }
    const struct vgd_shmem_entry *r = &op->range;
    for (uint32_t i = 0; i < sh->n_entries; i++) {
        const struct vgd_shmem_entry *e = &sh->entries[i];
        if (overlap(e, r) && e->state != VGD_SHMEM_DOOMED && e->generation == sh->generation &&
            !vgd_shmem_going(sh, e)) {
            vgd_shmem_complain(sh, op, "something is there");
            return VGD_RANGE;
        }
    }
    if (is_coming(sh, r)) {
        vgd_shmem_complain(sh, op, "something is being put there");
        return VGD_RANGE;
    }
    for (uint32_t i = 0; i < sh->n_entries; i++) {
        struct vgd_shmem_entry *e = &sh->entries[i];
        if (overlap(e, r) && e->state == VGD_SHMEM_LIVE && e->generation != sh->generation) {
            vgd_shmem_set_state(sh, e, VGD_SHMEM_DOOMED);
        } else if (overlap(e, r) && e->state == VGD_SHMEM_PARKED) {
            vgd_shmem_drop(sh, e);
            i--;
        }
    }
    return VGD_OK;
}

enum vgd_status vgd_shmem_find_for_unmap(struct vgd_shmem *sh, const struct vgd_shmem_op *op,
                                         struct vgd_shmem_entry **out)
{
    *out = NULL;
    for (uint32_t i = 0; i < sh->n_entries; i++) {
        struct vgd_shmem_entry *e = &sh->entries[i];
        if (e->state == VGD_SHMEM_DOOMED || !overlap(e, &op->range) || vgd_shmem_going(sh, e)) {
            continue;
        }
        if (!vgd_shmem_equal(e, &op->range)) {
            vgd_shmem_complain(sh, op, "not the range that was mapped");
            *out = NULL;
            return VGD_RANGE;
        }
        *out = e;
    }
    return VGD_OK;
}

enum vgd_status vgd_shmem_let_go(struct vgd_shmem *sh, const struct vgd_shmem_op *op)
{
    struct vgd_shmem_entry *e;
    enum vgd_status st = vgd_shmem_find_for_unmap(sh, op, &e);
    if (e != NULL && e->state == VGD_SHMEM_PARKED) {
        vgd_shmem_drop(sh, e);
    } else if (e != NULL) {
        vgd_shmem_set_state(sh, e, VGD_SHMEM_DOOMED);
    } else if (st == VGD_OK && is_coming(sh, &op->range)) {
        if (!vgd_shmem_equal(&sh->asked.range, &op->range)) {
            vgd_shmem_complain(sh, op, "not the range that is being mapped");
            return VGD_RANGE;
        }
        sh->asked.wanted = false; /* not carried out, or undone */
        vgd_shmem_answer_asked(sh, VGD_OK);
    }
    return st;
}

static bool same_file(const struct vgd_shmem_entry *e, const struct stat *st, uint64_t size_bytes,
                      uint64_t file_offset_bytes)
{
    return e->dev == st->st_dev && e->ino == st->st_ino && e->len_bytes == size_bytes &&
           e->file_offset_bytes == file_offset_bytes;
}

bool vgd_shmem_is_ours(struct vgd_shmem *sh, uint64_t size_bytes, uint64_t file_offset_bytes,
                       int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return false;
    }
    /* The VMM may have mapped it before we have read its answer. */
    bool ours = sh->asked.phase == VGD_SHMEM_SENT && !sh->asked.unmap && !sh->asked.answered &&
                same_file(&sh->asked.range, &st, size_bytes, file_offset_bytes);
    for (uint32_t i = 0; i < sh->n_entries && !ours; i++) {
        ours = same_file(&sh->entries[i], &st, size_bytes, file_offset_bytes);
    }
    sh->announces |= ours;
    return ours;
}

uint32_t vgd_shmem_excess(const struct vgd_shmem *sh, uint32_t n_regions, uint32_t n_max)
{
    uint32_t n = n_regions + sh->n_live + sh->n_doomed;
    return sh->announces && n > n_max ? n - n_max : 0;
}
