/* SPDX-License-Identifier: MIT */
/* How the texels of virgl's formats lie in memory. Thread: any. */
#ifndef VGD_PROTOCOL_VIRGL_FORMAT_H
#define VGD_PROTOCOL_VIRGL_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

/**
 * The block of @format (VGD_VIRGL_FORMAT_*, any value is safe): so many bytes hold so many pixels.
 * 1 by 1 but for compressed formats and packed 4:2:2. Follows from the format's name in the schema.
 *
 * false: newer than ours, or not of one row of blocks after the other (several planes, blocks with
 * a depth, bits); then the outputs are untouched.
 */
bool vgd_virgl_format_block(uint32_t format, uint32_t *w_px, uint32_t *h_px, uint32_t *bytes);

#endif
