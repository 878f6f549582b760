/* SPDX-License-Identifier: MIT */
/* A map from guest-chosen 32-bit ids to objects. Open addressing; the hash is keyed at random for
 * each map, so a guest cannot choose ids that collide. Id 0 is an ordinary key. One thread. */
#ifndef VGD_BASE_IDMAP_H
#define VGD_BASE_IDMAP_H

#include <stdint.h>

#include "status.h"

struct vgd_idmap_slot {
    uint32_t id;
    void *object; /* NULL: free */
};

struct vgd_idmap {
    struct vgd_idmap_slot *slots; /* owned; NULL while empty */
    uint32_t capacity_count;      /* 0 or a power of two */
    uint32_t used_count;
    uint64_t key;
};

/** Free the table, not the objects. Zero-initialised maps are valid and empty. */
void vgd_idmap_finish(struct vgd_idmap *map);

/** The object of @id, borrowed, or NULL. */
void *vgd_idmap_find(const struct vgd_idmap *map, uint32_t id);

/** Add @object (not NULL) under @id. VGD_RANGE if the id is taken, VGD_NO_MEMORY. */
VGD_MUST_CHECK enum vgd_status vgd_idmap_add(struct vgd_idmap *map, uint32_t id, void *object);

/** Remove @id and return its object, or NULL. */
void *vgd_idmap_remove(struct vgd_idmap *map, uint32_t id);

/**
 * Walk: *@cursor starts at 0; returns the next object or NULL at the end. @out_id may be NULL.
 * Removing any object invalidates the walk: start again from 0.
 */
void *vgd_idmap_next(const struct vgd_idmap *map, uint32_t *cursor, uint32_t *out_id);

#endif
