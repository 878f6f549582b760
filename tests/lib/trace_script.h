/* SPDX-License-Identifier: MIT */
/* Trace files from lists of what a guest does, for tests of those who read and play them: each call
 * appends what a recorder would have written. Failures end the test program. */
#ifndef TRACE_SCRIPT_H
#define TRACE_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace_out.h"
#include "virtio_gpu.h"

struct script {
    struct vgd_trace_out *out;
    int fd;
    uint64_t time_ns;
    uint64_t last_id; /* of a command */
    uint64_t n_records;
    bool in_state;     /* commands are made up */
    uint32_t response; /* of the next command; 0: OK_NODATA */
};

/** Begin a file at @path: the device has @features and one scanout of @w_px * @h_px. */
void script_begin(struct script *s, const char *path, uint64_t features, uint64_t window_bytes,
                  uint32_t w_px, uint32_t h_px);
void script_end(struct script *s);
/** Any record. */
void script_put(struct script *s, struct vgd_trace_record record, const void *data, size_t n_bytes);
/** A command: header, @body, then @tail; its answer behind it. */
void script_command(struct script *s, const struct vgd_ctrl_hdr *hdr, const void *body,
                    size_t body_bytes, const void *tail, size_t tail_bytes);

void script_create_2d(struct script *s, uint32_t res_id, uint32_t w_px, uint32_t h_px);
void script_create_3d(struct script *s, const struct vgd_cmd_resource_create_3d *create);
/** CREATE_BLOB with @n_entries pages somewhere (0: none). */
void script_create_blob(struct script *s, uint32_t ctx_id, uint32_t res_id, uint32_t mem,
                        uint64_t blob_id, uint64_t size_bytes, uint32_t n_entries);
void script_unref(struct script *s, uint32_t res_id);
/** ATTACH_BACKING of @n_entries pieces, @n_bytes in all. */
void script_attach(struct script *s, uint32_t res_id, uint32_t n_bytes, uint32_t n_entries);
void script_scanout(struct script *s, uint32_t res_id, uint32_t w_px, uint32_t h_px);
/** BACKING (READ) of @pixels, TRANSFER_TO_HOST_2D and a flush, of the whole resource. */
void script_show_2d(struct script *s, uint32_t res_id, const uint32_t *pixels, uint32_t w_px,
                    uint32_t h_px);
void script_flush(struct script *s, uint32_t res_id, uint32_t w_px, uint32_t h_px);
void script_ctx_create(struct script *s, uint32_t ctx_id, uint32_t capset);
void script_ctx_attach(struct script *s, uint32_t ctx_id, uint32_t res_id);
void script_submit(struct script *s, uint32_t ctx_id, const uint32_t *dwords, uint32_t n_dwords,
                   uint64_t fence_id);
/** PICTURE of the whole scanout 0, hashed; @with_pixels: and with its pixels. */
void script_picture(struct script *s, uint32_t res_id, const uint32_t *pixels, uint32_t w_px,
                    uint32_t h_px, bool with_pixels);
void script_state(struct script *s, uint32_t reason);
void script_state_end(struct script *s);
/** CONTENT of the whole first level. */
void script_content(struct script *s, uint32_t res_id, uint32_t w, uint32_t h, const void *texels,
                    uint32_t stride_bytes);

#endif
