/* SPDX-License-Identifier: MIT */
/*
 * vgd-probe --hostile: guests and front-ends that send what no driver sends, at random, from a
 * seed. A "life" is one connection to a fresh backend; all that is random in it follows from its
 * seed.
 */
#ifndef VGD_PROBE_HOSTILE_H
#define VGD_PROBE_HOSTILE_H

#include "probe.h"
#include "virgl_stream.h"

/* What a guest of ours makes for itself; the attacks use small ids. */
#define HOSTILE_IDS 24u
#define HOSTILE_CONTEXTS 6u
#define HOSTILE_OWN_RES 0x70000000u
#define HOSTILE_OWN_CTX 0x70000000u
#define HOSTILE_STREAM_DWORDS 2048u

/* Random numbers that a seed repeats (splitmix64). */
struct hostile_rng {
    uint64_t state;
};
uint64_t hostile_next(struct hostile_rng *r);
/** 0 to @n - 1; @n above 0. */
uint32_t hostile_below(struct hostile_rng *r, uint32_t n);
bool hostile_one_in(struct hostile_rng *r, uint32_t n);

/* Guest RAM that the attacks may use: the device writes where they say, so not what the guest
 * itself needs. */
struct hostile_ram {
    uint64_t gpa;
    uint32_t n_bytes;
    uint64_t end; /* of all RAM */
};

/** A command, mostly well formed, of ids and sizes that mean something, with lies in it. @body and
 *  @data are what *out points to. */
struct hostile_command {
    struct vgd_guest_request req;
    uint8_t body[256];
    uint8_t data[HOSTILE_STREAM_DWORDS * 4];
};
void hostile_command_make(struct hostile_rng *r, const struct hostile_ram *ram, bool has_3d,
                          struct hostile_command *out);
/** A stream of virgl: a scene that is right, then mutated, cut and interleaved with noise. Returns
 *  its dwords, at most HOSTILE_STREAM_DWORDS. */
uint32_t hostile_stream_make(struct hostile_rng *r, uint32_t *out);
/** A descriptor with something wrong about it, mostly. Of @n. */
struct vgd_guest_desc hostile_desc_make(struct hostile_rng *r, const struct hostile_ram *ram,
                                        uint32_t n);
/** A vhost-user message; @payload has room for 512 bytes. *out_said is the size that its header
 *  announces, the result what it has. *out_n_fds: how many descriptors to send with it (up to 8).
 */
uint32_t hostile_message_make(struct hostile_rng *r, uint32_t *out_request, uint32_t *out_flags,
                              uint32_t *out_said, uint8_t *payload, uint32_t *out_n_fds);

#endif
