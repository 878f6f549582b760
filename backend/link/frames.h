/* SPDX-License-Identifier: MIT */
/*
 * Frame memory: pixels on their way from the worker to the VMM's display. The worker writes a free
 * slot and hands it over with UPDATE; the supervisor sends from it and gives it back with
 * FRAME_DONE. A sealed memfd that both map (the supervisor read-only); only touched pages exist.
 */
#ifndef VGD_FRAMES_H
#define VGD_FRAMES_H

#define VGD_FRAME_SLOTS_COUNT 4u
#define VGD_FRAME_SLOT_BYTES (64u << 20) /* larger damage goes in bands */
#define VGD_FRAMES_BYTES ((uint64_t)VGD_FRAME_SLOTS_COUNT * VGD_FRAME_SLOT_BYTES)

#endif
