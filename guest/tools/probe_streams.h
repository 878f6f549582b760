/* SPDX-License-Identifier: MIT */
/*
 * What the tests of streams share (probe_streams.c, probe_streams_work.c). Each sends what is wrong
 * in a context of its own, which may be lost; after each the worker is the same, and another
 * context draws what it should. (Where a stream is refused, and by whom, is for the tests of the
 * decoder.)
 */
#ifndef VGD_PROBE_STREAMS_H
#define VGD_PROBE_STREAMS_H

#include "probe.h"
#include "virgl_stream.h"

#define BGRA VGD_VIRGL_FORMAT_B8G8R8A8_UNORM
#define BAD_CTX 1u /* gets what is wrong */
#define TARGET_2D VGD_VIRGL_TARGET_TEXTURE_2D

/* A texture of 32 x 32. */
extern const struct vgd_cmd_resource_create_3d streams_plain;

/** The process whose end would be a finding; 0 where the backend has none. */
pid_t streams_worker(const struct probe *p);
/** Make the bad context. */
bool streams_begin(struct probe *p);
/** A texture or buffer, attached to @ctx_id; with backing of @n_bytes unless @out is NULL, which is
 *  the caller's. 0: refused. */
uint32_t streams_make(struct probe *p, uint32_t ctx_id, struct vgd_cmd_resource_create_3d create,
                      uint64_t n_bytes, struct vgd_guest_backing *out);
/** The type of the answer, or 0; @s is empty then. */
uint32_t streams_submit(struct probe *p, uint32_t ctx_id, struct vgd_virgl_stream *s);
/** Submit to the bad context, which must be answered, and give it a fresh start. */
void streams_try(struct probe *p, struct vgd_virgl_stream *s, const char *what);
/** Clear and read back in a context that never saw anything wrong. */
void streams_check_draws(struct probe *p, const char *after, pid_t worker);

#endif
