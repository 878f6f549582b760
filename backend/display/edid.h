/* SPDX-License-Identifier: MIT */
/*
 * The EDID of a monitor that is not there: what a guest reads when no VMM can say what its display
 * is like. Pure; any thread.
 */
#ifndef VGD_EDID_H
#define VGD_EDID_H

#include <stdint.h>

#define VGD_EDID_BYTES 128u
#define VGD_EDID_SIDE_PX_MAX 4095u /* 12 bits in a detailed timing */

/**
 * One EDID 1.4 block: "vgd", preferred mode @w_px x @h_px at 60 Hz (CVT, reduced blanking; at a
 * lower rate where the pixel clock would not fit its field), and a few common modes.
 *
 * @w_px, @h_px  1..VGD_EDID_SIDE_PX_MAX
 * @serial       tells monitors of one guest apart; the scanout index will do
 */
void vgd_edid_make(uint32_t w_px, uint32_t h_px, uint32_t serial, uint8_t out[VGD_EDID_BYTES]);

#endif
