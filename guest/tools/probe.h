/* SPDX-License-Identifier: MIT */
/*
 * vgd-probe's harness. A test opens a guest, does one thing, and says what it found wrong; the
 * harness adds what must hold after every test (backend alive, rings clean, display content) and
 * prints TAP.
 */
#ifndef VGD_PROBE_H
#define VGD_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "guest_gpu.h"
#include "guest_process.h"

/* What a test asks for. */
enum probe_need {
    PROBE_ANY = 0,
    PROBE_3D = 1 << 0,      /* skipped when the backend does not offer VIRGL */
    PROBE_EXEC = 1 << 1,    /* opens connections of its own, or ends the backend: needs --exec */
    PROBE_RAW = 1 << 2,     /* the harness opens no guest: p->gpu is NULL at the start */
    PROBE_HOSTILE = 1 << 3, /* the backend may close the connection; it must not crash */
    PROBE_BLOB = 1 << 4,    /* skipped when RESOURCE_BLOB is not negotiated */
    PROBE_WINDOW = 1 << 5,  /* skipped when there is no host-visible region */
    PROBE_VENUS = 1 << 6,   /* skipped when Vulkan contexts with mapped blobs are not offered */
    PROBE_DISPLAY = 1 << 7, /* skipped with a profile that has no display */
    PROBE_BAD_VMM = 1 << 8, /* the VMM itself breaks rules: what is left mapped is not counted */
};

struct probe {
    const char *exec;               /* NULL: --socket-path */
    const char *socket_path;        /* NULL: --exec */
    enum vgd_guest_profile profile; /* of tests that name none */
    int log_fd;                     /* of the backend; -1: ours */
    struct vgd_guest_process process;
    struct vgd_guest_gpu *gpu; /* the guest of the running test */
    bool failed, skipped;
    bool lost_ring_allowed;          /* the test broke the ring on purpose */
    uint32_t maps_before;            /* in the host-visible region when the test began */
    char notes[4096];                /* diagnostics of the running test, "# ..." lines */
    uint64_t seed;                   /* of --hostile */
    uint32_t seconds, attacks_count; /* of --hostile: for all together, and how many */
    uint32_t next_id;                /* ids are never used twice on one connection */
};

struct probe_test {
    const char *name;
    void (*run)(struct probe *p);
    unsigned needs; /* of enum probe_need */
    struct vgd_guest_gpu_config config;
};

struct probe_suite {
    const struct probe_test *tests;
    uint32_t n_tests;
};

extern const struct probe_suite probe_2d, probe_errors, probe_3d, probe_control, probe_rings,
    probe_hostile_frontend, probe_blob, probe_window, probe_venus, probe_bad_vmm, probe_streams,
    probe_streams_work, probe_hostile;

/** Say what is wrong; the test has failed. */
void probe_fail(struct probe *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** A line of diagnosis. */
void probe_note(struct probe *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** The test does not apply here. */
void probe_skip(struct probe *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Start a backend where needed and open a guest on it as p->gpu. False: the test has failed. */
bool probe_open(struct probe *p, const struct vgd_guest_gpu_config *config);
/** Start a backend where needed; its connected socket, owned by the caller, or -1 (failed). */
int probe_connect(struct probe *p);
/** Close the guest and the backend. The backend has to end without a signal. */
void probe_close(struct probe *p);
/** Does the device answer a harmless command? Fails the test if not. */
bool probe_goes_on(struct probe *p);
uint32_t probe_id(struct probe *p);

/* Fail with the condition's text and stay in the test. */
#define PROBE_CHECK(p, condition) ((condition) ? true : (probe_fail((p), "%s", #condition), false))
/* The same, and leave the test. */
#define PROBE_REQUIRE(p, condition)                                                                \
    do {                                                                                           \
        if (!PROBE_CHECK(p, condition)) {                                                          \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/** @got, a response type, has to be @want; says both and @what. */
bool probe_resp(struct probe *p, const char *what, uint32_t got, uint32_t want);
/** @got has to be any error. */
bool probe_err(struct probe *p, const char *what, uint32_t got);
#define PROBE_OK(p, call) probe_resp((p), #call, (call), VGD_RESP_OK_NODATA)
#define PROBE_OK_OR_RETURN(p, call)                                                                \
    do {                                                                                           \
        if (!PROBE_OK(p, call)) {                                                                  \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* A resource with backing in guest RAM, and what its pixels should look like. */
struct probe_image {
    uint32_t res_id, w_px, h_px;
    struct vgd_guest_backing backing;
    uint32_t *pixels; /* owned; what the guest wrote to the backing */
};

/** Create 2D (@format 4 bytes), attach @n_entries pieces, fill with a picture of @seed (B8G8R8X8
 *  order), transfer nothing. False: the test has failed. */
bool probe_image_create(struct probe *p, struct probe_image *img, uint32_t format, uint32_t w_px,
                        uint32_t h_px, uint32_t n_entries, uint32_t seed);
/** New pixels in the backing. */
void probe_image_paint(struct probe *p, struct probe_image *img, uint32_t seed);
/** Unref (checked) and free. */
void probe_image_destroy(struct probe *p, struct probe_image *img);
/** Free only what the guest holds. */
void probe_image_forget(struct probe *p, struct probe_image *img);
struct vgd_rect probe_whole(const struct probe_image *img);
uint32_t probe_pixel(uint32_t seed, uint32_t x_px, uint32_t y_px);
/** Transfer and flush the rectangle, checked. */
bool probe_image_show(struct probe *p, const struct probe_image *img, struct vgd_rect rect);
/** Wait until scanout @idx shows @rect of the image at its place; fails the test after 3 s. */
bool probe_expect_picture(struct probe *p, uint32_t idx, const struct probe_image *img,
                          struct vgd_rect rect);

#endif
