/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the test "live" share: the guest with its books (live_guest.c), and how what is
 * said of it agrees with them (live_check.c).
 */
#ifndef VGD_TESTS_LIVE_H
#define VGD_TESTS_LIVE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "scene.h"

#define W_PX 64u
#define H_PX 32u
#define PICTURE_BYTES ((uint64_t)W_PX * H_PX * 4)
#define PICTURES 4u
#define FENCED 6u
#define UNREFS 7u
#define SUBMITS 5u
#define STOPPED_TRANSFERS 3u /* in the ring when the worker is killed */
#define STOPPED_SUBMITS 2u
#define IN_FLIGHT 32u
#define RATED 50u /* commands while top looks */
#define TEXT_BYTES (1u << 20)
#define PAGE_MS 150u /* the exporter keeps a page for 100 ms */
#define ALPHA 3u
#define BETA 11u
#define TARGET_RES 21u
#define VERTEX_RES 22u
#define SMALL_RES 23u

/* The guest's books. */
struct books {
    struct json_object *commands, *responses; /* by name */
    uint64_t command_bytes, response_bytes;
    uint64_t to_host_bytes, from_host_bytes, transfers;
    uint64_t fences;
    uint64_t flushes;
    uint64_t submits, submit_bytes, timed_submits, stream_commands, stream_draws, stream_refused;
    uint64_t memory_2d, memory_3d, backing;
    uint64_t resources, contexts, contexts_lost, contexts_created, contexts_lost_ever;
    uint64_t starts, deaths;
};

extern struct books books;
extern struct scene scene;
extern bool has_3d;
extern uint32_t setup_bytes, draw_bytes; /* of streams */
extern char control[64], page_socket[64];
extern const char *vgdctl;
extern char text[TEXT_BYTES]; /* what was heard last */

/* --- live_guest.c --- */

#define BODY_OF(name, ...)                                                                         \
    uint8_t body[VGD_CMD_MAX_SIZE];                                                                \
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));                                       \
    vgd_cmd_##name##_encode(&w, &(struct vgd_cmd_##name){__VA_ARGS__})
#define VGD_CMD_MAX_SIZE 128u

/** @req is answered, with @n_bytes as the guest sees it. @type 0: no room for an answer. */
void live_book_answer(const struct vgd_guest_request *req, uint32_t type, uint64_t n_bytes);
struct vgd_guest_request live_request_of(uint32_t type, uint32_t ctx_id, bool fenced,
                                         const uint8_t *body, const struct vgd_writer *w);
struct vgd_rect live_whole(void);
/** Each returns the type of the answer. */
uint32_t live_unref(uint32_t id);
uint32_t live_get_display_info(void);
/** The script. False: the guest was not answered as it should be. */
bool live_do_2d(void);
bool live_do_3d(void);

/* --- live_check.c --- */

/** The output of "vgdctl -c SOCKET @words" into text; false: it failed. */
bool live_ask(const char *words);
/** The value at @path ("part/key") of @value, or NULL. */
struct json_object *live_at(struct json_object *value, const char *path);
bool live_is(struct json_object *counters, const char *path, uint64_t expect);
/** TAP lines for counters and the exporter's page. */
void live_all_are_right(const char *when, bool has_exporter);
/** @stopped: submits whose context was lost with its worker. */
bool live_errors_are_right(uint64_t stopped);
bool live_contexts_are_right(bool lost);
bool live_top_is_right(void);

#endif
