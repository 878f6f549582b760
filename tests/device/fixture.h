/* SPDX-License-Identifier: MIT */
/*
 * What the device tests share: a device over the fake renderer, a display that records, a VMM with
 * a host-visible region, guest memory in three regions (two of them touch), and a hand for each
 * command.
 */
#ifndef DEVICE_FIXTURE_H
#define DEVICE_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "display.h"
#include "fake.h"
#include "gpu.h"
#include "journal.h"
#include "leaks.h"

/* Guest memory. LOW ends where MIDDLE begins, at another place of the host; HIGH lies alone. */
#define LOW_GPA 0x0ull
#define MIDDLE_GPA 0x100000ull
#define HIGH_GPA 0x10000000ull
#define REGION_BYTES 0x100000u
#define REGIONS_COUNT 3u
#define HOLE_GPA 0x800000ull

#define CAPSET_VIRGL_BYTES 308u
#define CAPSET_VIRGL2_BYTES 1380u

enum event_kind {
    EVENT_SET,
    EVENT_DISABLE,
    EVENT_FLUSH,
    EVENT_CURSOR,
    EVENT_CURSOR_HIDDEN,
    EVENT_CURSOR_MOVE,
};
struct event {
    enum event_kind kind;
    uint32_t scanout_idx, res_id;
    struct vgd_rect rect;
    bool is_blob;
    struct vgd_image image; /* when is_blob */
    uint32_t hot_x_px, hot_y_px;
    struct vgd_cursor_pos pos;
};

#define EVENTS_MAX 64u
#define QUESTIONS_MAX 16u
struct recorder {
    struct vgd_display base;
    struct event events[EVENTS_MAX]; /* the first ones since events_clear */
    uint32_t events_count;
    uint8_t pixels[VGD_CURSOR_BYTES]; /* of the last cursor */
    bool defer;                       /* keep questions until recorder_answer */
    bool no_edid;
    struct {
        vgd_display_info_fn info;
        vgd_display_edid_fn edid;
        void *user;
    } questions[QUESTIONS_MAX];
    uint32_t questions_count;
};
void recorder_init(struct recorder *d);
void recorder_answer(struct recorder *d);

/* The VMM behind the device's window: it asserts what gpu.h promises of each request. */
#define WINDOW_BYTES 0x1000000ull
#define WINDOW_ASKS_MAX 64u
#define WINDOW_MAPS_MAX 256u
struct window_range {
    uint64_t offset_bytes, len_bytes;
    int fd; /* owned; -1 of an unmap */
    uint64_t file_offset_bytes;
    uint32_t generation; /* of the worker that asked for it */
};
struct window {
    bool later;             /* keep requests until window_answer */
    enum vgd_status status; /* of the answers that are given at once */
    struct {
        uint64_t token;
        bool is_map;
        struct window_range range;
    } asks[WINDOW_ASKS_MAX]; /* unanswered, oldest first */
    uint32_t asks_count;
    struct window_range maps[WINDOW_MAPS_MAX]; /* what the guest sees */
    uint32_t maps_count;
    uint32_t asked_maps, asked_unmaps; /* ever */
    uint64_t last_token;
    uint32_t generation;
};

struct bench {
    struct vgd_gpu *gpu;
    struct vgd_render *render;
    struct recorder display;
    struct window window;
    uint8_t *ram[REGIONS_COUNT];
    bool ram_gone[REGIONS_COUNT];
    bool blobs_gone; /* the next worker's renderer makes none */
    struct vgd_gpu_counters counters;
    struct vgd_gpu_config config;
    struct vgd_journal *journal;
    void *area; /* of the journal; owned unless lent */
    size_t area_bytes;
    bool area_lent;
    uint64_t fence_id; /* of the next fenced command */
};

struct bench_setup {
    struct vgd_gpu_limits limits;
    bool no_3d;
    bool without_features; /* the guest acked nothing */
    uint64_t features;     /* 0: all that is offered */
    bool with_journal;
    void *area; /* lent: a journal that somebody left */
    size_t area_bytes;
    uint8_t rings_count;
    bool unbound_kills;
    bool capsets_are_zero;
    bool no_window;
    uint32_t blob_mems; /* 0: all */
    bool no_blobs;
    bool with_venus; /* as the third capset */
    bool strict_streams;
};

/** NULL is a plain 3D device with 4 scanouts. */
void bench_open(struct bench *b, const struct bench_setup *setup);
void bench_close(struct bench *b);
/** The guest resets the device: the VMM drops every map, and what it was asked for is forgotten. */
void bench_reset(struct bench *b);
/** The worker dies: all but the journal's area is gone, and a new one starts. Not restored yet. */
void bench_replace_worker(struct bench *b, bool no_3d);

/* One command on its way. The command's bytes are an exact copy, freed right after execute. */
#define RESP_BYTES_MAX 2048u
struct sent {
    struct vgd_gpu_request req;
    struct bench *bench;
    uint32_t completions, postponements;
    size_t resp_bytes;
    uint8_t resp[RESP_BYTES_MAX];
    struct vgd_ctrl_hdr hdr; /* of the response; zero if it has none */
};
/** @capacity: room for the response. */
void send_bytes(struct bench *b, struct sent *s, const void *cmd, size_t n_bytes, size_t capacity,
                enum vgd_gpu_queue queue);
/** As send_bytes for a command that a dead worker had taken. */
void fail_bytes(struct bench *b, struct sent *s, const void *cmd, size_t n_bytes, size_t capacity);

/* A command being built. */
struct cmd {
    uint8_t bytes[4096];
    struct vgd_writer w;
};
void cmd_begin(struct cmd *c, uint32_t type, uint32_t ctx_id);
void cmd_begin_fenced(struct cmd *c, struct bench *b, uint32_t type, uint32_t ctx_id);
void cmd_begin_ring(struct cmd *c, struct bench *b, uint32_t type, uint32_t ctx_id, uint8_t ring);
void cmd_send(struct bench *b, struct sent *s, const struct cmd *c);
/** Send, expect one answer at once, return its type. */
uint32_t cmd_run(struct bench *b, const struct cmd *c);

/* Each returns the type of the answer. */
uint32_t create_2d(struct bench *b, uint32_t id, uint32_t format, uint32_t w_px, uint32_t h_px);
uint32_t create_3d(struct bench *b, const struct vgd_cmd_resource_create_3d *args);
uint32_t create_texture(struct bench *b, uint32_t id, uint32_t w_px, uint32_t h_px);
uint32_t create_query(struct bench *b, uint32_t id);
uint32_t unref(struct bench *b, uint32_t id);
uint32_t attach(struct bench *b, uint32_t id, uint64_t gpa, uint32_t len_bytes);
uint32_t attach_entries(struct bench *b, uint32_t id, uint32_t nr_entries,
                        const struct vgd_mem_entry *entries, uint32_t n_entries);
uint32_t detach(struct bench *b, uint32_t id);
uint32_t transfer_2d(struct bench *b, uint32_t id, struct vgd_rect rect, uint64_t offset_bytes);
uint32_t set_scanout(struct bench *b, uint32_t scanout, uint32_t id, struct vgd_rect rect);
uint32_t flush(struct bench *b, uint32_t id, struct vgd_rect rect);
uint32_t update_cursor(struct bench *b, uint32_t scanout, uint32_t id);
uint32_t move_cursor(struct bench *b, uint32_t scanout, uint32_t x_px, uint32_t y_px);
uint32_t ctx_create(struct bench *b, uint32_t ctx_id, uint32_t context_init);
uint32_t ctx_destroy(struct bench *b, uint32_t ctx_id);
uint32_t ctx_attach(struct bench *b, uint32_t ctx_id, uint32_t res_id);
uint32_t ctx_detach(struct bench *b, uint32_t ctx_id, uint32_t res_id);
uint32_t transfer_3d(struct bench *b, uint32_t type, uint32_t ctx_id,
                     const struct vgd_cmd_transfer_host_3d *args);
uint32_t create_blob(struct bench *b, uint32_t ctx_id,
                     const struct vgd_cmd_resource_create_blob *args,
                     const struct vgd_mem_entry *entries, uint32_t n_entries);
/* Of guest pages at @gpa. */
uint32_t create_guest_blob(struct bench *b, uint32_t id, uint64_t gpa, uint32_t size_bytes);
/* Mappable memory of context @ctx_id; blob_id 0. */
uint32_t create_host_blob(struct bench *b, uint32_t id, uint32_t ctx_id, uint64_t size_bytes);
uint32_t map_blob(struct bench *b, uint32_t id, uint64_t offset_bytes);
uint32_t unmap_blob(struct bench *b, uint32_t id);
/* These wait for the window, in @s. */
void send_map(struct bench *b, struct sent *s, uint32_t id, uint64_t offset_bytes);
void send_unmap(struct bench *b, struct sent *s, uint32_t id);
void send_unref(struct bench *b, struct sent *s, uint32_t id);
uint32_t set_scanout_blob(struct bench *b, const struct vgd_cmd_set_scanout_blob *args);
uint32_t assign_uuid(struct bench *b, uint32_t id, uint8_t uuid[VGD_RESP_RESOURCE_UUID_SIZE]);
uint32_t submit(struct bench *b, uint32_t ctx_id, uint32_t size_bytes, uint32_t really_bytes);

/** Host address of guest memory inside one region. */
uint8_t *ram_at(struct bench *b, uint64_t gpa);
/** Resource @id's pixel, as B G R A read from the renderer. */
uint32_t pixel_at(struct bench *b, uint32_t id, uint32_t x_px, uint32_t y_px);
/** Answer the @nth oldest request of the window. A good answer to a map that overlaps, or to an
 *  unmap that names none, becomes VGD_RANGE. */
void window_answer(struct bench *b, uint32_t nth, enum vgd_status status);
/** The guest's view of the region: @n_bytes at @offset_bytes of one map. False: nothing is there.
 */
bool window_read(struct bench *b, uint64_t offset_bytes, void *out, size_t n_bytes);
bool window_write(struct bench *b, uint64_t offset_bytes, const void *data, size_t n_bytes);
/** What the log says while @run runs: @n_bytes at most with the ending 0. Returns their number. */
size_t bench_logged(void (*run)(struct bench *), struct bench *b, char *out, size_t n_bytes);
void events_clear(struct bench *b);
/** How many events of @kind were recorded since events_clear. */
uint32_t events_of(const struct bench *b, enum event_kind kind);

/** A number that stands for the device's whole state, in whatever order its tables are walked. */
uint64_t state_of(struct bench *b);

/* A test whose body must give back every byte and every fd. */
#define DEVICE_TEST(name)                                                                          \
    static void name##_body(void);                                                                 \
    Test(device, name)                                                                             \
    {                                                                                              \
        unsigned fds = open_fds_count();                                                           \
        name##_body();                                                                             \
        cr_assert_eq(open_fds_count(), fds, "fds leak");                                           \
        cr_assert(!leaked(), "memory leaks");                                                      \
    }                                                                                              \
    static void name##_body(void)

#define cr_assert_resp(actual, name)                                                               \
    do {                                                                                           \
        uint32_t resp_ = (actual);                                                                 \
        cr_assert_eq(resp_, VGD_RESP_##name, "%s is 0x%x", #actual, resp_);                        \
    } while (0)

#endif
