/* SPDX-License-Identifier: MIT */
/*
 * The device's state as the list of commands that would make it: what a new worker replays after
 * the old one died. It lives in shared memory (the vault) and must be whole at every instruction:
 * the writer can be killed at any point, and may have been taken over before.
 *
 * Layout: a header and two halves. Records are appended to the active half, each [u32 bytes][bytes]
 * padded to 8, the header's length last (release). When the half has grown to several times what
 * the live state needs, the device writes its state as fresh records to the other half, and one
 * store makes that the active one.
 *
 * A record is a virtio-gpu command as the guest sent it (header and body), or as the device would
 * have been sent it.
 * Thread: loop.
 */
#ifndef VGD_JOURNAL_H
#define VGD_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* A journal shorter than this is left alone. */
#define VGD_JOURNAL_COMPACT_BYTES (256u << 10)

struct vgd_journal;

/** Bytes of shared memory that a journal whose live state is at most @live_bytes needs. Most of it
 *  is never touched: pages in use stay near four times what the live state takes, and at least
 *  VGD_JOURNAL_COMPACT_BYTES. */
size_t vgd_journal_area_bytes(size_t live_bytes);

/** Wrap @area (8-byte aligned, @area_bytes, outlives the journal). Contents are kept as found:
 *  zeroes are a valid empty journal; one whose header lies gives VGD_RANGE from
 *  vgd_journal_next and has no room until it is cleared. NULL when out of memory or the area is too
 * small. */
struct vgd_journal *vgd_journal_open(void *area, size_t area_bytes);
void vgd_journal_close(struct vgd_journal *journal);

/** Would a record of @n_bytes fit now? */
bool vgd_journal_has_room(const struct vgd_journal *journal, size_t n_bytes);
/**
 * Append one record in place: write all @n_bytes to the returned memory, then call append_end with
 * the same number. NULL: no room.
 */
uint8_t *vgd_journal_append_begin(struct vgd_journal *journal, size_t n_bytes);
void vgd_journal_append_end(struct vgd_journal *journal, size_t n_bytes);
/** Append one record. VGD_LIMIT: the half is full, compact and try again. */
VGD_MUST_CHECK enum vgd_status vgd_journal_append(struct vgd_journal *journal, const void *record,
                                                  size_t n_bytes);
/** Would a compaction now pay? (length well above what the last one left) */
bool vgd_journal_wants_compaction(const struct vgd_journal *journal);
/** Begin writing the other half; appends go there until commit or abort. */
void vgd_journal_compact_begin(struct vgd_journal *journal);
void vgd_journal_compact_commit(struct vgd_journal *journal);
void vgd_journal_compact_abort(struct vgd_journal *journal);
/** Forget everything. */
void vgd_journal_clear(struct vgd_journal *journal);

/**
 * Walk the active half: *cursor starts at 0. VGD_OK with *out, *out_bytes (borrowed from the area:
 * copy before believing), VGD_AGAIN at the end, VGD_TRUNCATED or VGD_RANGE for a journal that lies.
 */
VGD_MUST_CHECK enum vgd_status vgd_journal_next(const struct vgd_journal *journal, size_t *cursor,
                                                const uint8_t **out, size_t *out_bytes);

#endif
