/* SPDX-License-Identifier: MIT */
/* Spec: VESA E-EDID standard, release A2 (EDID 1.4); VESA CVT 1.2 for the timing. */
#include "edid.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

/* Offsets in the block. */
#define MAKER_AT 8
#define SERIAL_AT 12
#define VERSION_AT 18
#define BASICS_AT 20
#define COLOURS_AT 25
#define ESTABLISHED_AT 35
#define STANDARD_AT 38
#define DESCRIPTORS_AT 54
#define DESCRIPTOR_BYTES 18
#define CHECKSUM_AT 127

/* CVT reduced blanking, version 1. */
#define H_BLANK_PX 160u
#define H_FRONT_PX 48u
#define H_SYNC_PX 32u
#define V_FRONT_LINES 3u
#define V_BACK_MIN_LINES 6u
#define V_BLANK_MIN_NS 460000u
#define CLOCK_STEP_HZ 250000u
#define CLOCK_MAX_HZ 655350000u /* 16 bits of 10 kHz */

struct timing {
    uint32_t clock_hz;
    uint32_t v_sync_lines, v_blank_lines;
};

/* CVT tells aspect ratios apart by the length of the vertical sync. */
static uint32_t v_sync_lines(uint32_t w_px, uint32_t h_px)
{
    if (w_px * 3 == h_px * 4) {
        return 4;
    }
    if (w_px * 9 == h_px * 16) {
        return 5;
    }
    if (w_px * 10 == h_px * 16) {
        return 6;
    }
    if (w_px * 4 == h_px * 5 || w_px * 9 == h_px * 15) {
        return 7;
    }
    return 10;
}

static struct timing timing_of(uint32_t w_px, uint32_t h_px, uint32_t rate_hz)
{
    struct timing t = {.v_sync_lines = v_sync_lines(w_px, h_px)};
    uint32_t line_ns = (1000000000u / rate_hz - V_BLANK_MIN_NS) / h_px;
    t.v_blank_lines = V_BLANK_MIN_NS / line_ns + 1;
    uint32_t least = V_FRONT_LINES + t.v_sync_lines + V_BACK_MIN_LINES;
    if (t.v_blank_lines < least) {
        t.v_blank_lines = least;
    }
    uint64_t clock_hz = (uint64_t)rate_hz * (h_px + t.v_blank_lines) * (w_px + H_BLANK_PX);
    clock_hz -= clock_hz % CLOCK_STEP_HZ;
    t.clock_hz = clock_hz > UINT32_MAX ? UINT32_MAX : (uint32_t)clock_hz;
    return t;
}

static uint8_t low8(uint32_t v)
{
    return (uint8_t)(v & 0xff);
}

/* The high nibbles of two 12-bit numbers share a byte. */
static uint8_t highs(uint32_t a, uint32_t b)
{
    return (uint8_t)((a >> 8 & 0xf) << 4 | (b >> 8 & 0xf));
}

static uint32_t px_to_mm(uint32_t px)
{
    return px * 254 / 960; /* 96 dots an inch: guests then scale nothing */
}

static void put_timing(uint8_t *d, uint32_t w_px, uint32_t h_px)
{
    uint32_t rate_hz = 60;
    struct timing t = timing_of(w_px, h_px, rate_hz);
    while (t.clock_hz > CLOCK_MAX_HZ) {
        rate_hz -= 10; /* 4095 x 4095 fits at 30 Hz */
        t = timing_of(w_px, h_px, rate_hz);
    }
    uint32_t clock_10khz = t.clock_hz / 10000;
    uint32_t w_mm = px_to_mm(w_px), h_mm = px_to_mm(h_px);
    d[0] = low8(clock_10khz);
    d[1] = low8(clock_10khz >> 8);
    d[2] = low8(w_px);
    d[3] = low8(H_BLANK_PX);
    d[4] = highs(w_px, H_BLANK_PX);
    d[5] = low8(h_px);
    d[6] = low8(t.v_blank_lines);
    d[7] = highs(h_px, t.v_blank_lines);
    d[8] = H_FRONT_PX;
    d[9] = H_SYNC_PX;
    d[10] = (uint8_t)(V_FRONT_LINES << 4 | (t.v_sync_lines & 0xf));
    d[11] = 0; /* the high bits of the four above */
    d[12] = low8(w_mm);
    d[13] = low8(h_mm);
    d[14] = highs(w_mm, h_mm);
    d[17] = 0x1a; /* digital separate sync, horizontal positive: as CVT asks for reduced blanking */
}

/* @text without its newline, at most 13 characters. */
static void put_text(uint8_t *d, uint8_t tag, const char *text)
{
    d[3] = tag;
    memset(d + 5, ' ', 13);
    for (size_t i = 0; i < 13; i++) {
        d[5 + i] = (uint8_t)(text[i] != '\0' ? text[i] : '\n');
        if (text[i] == '\0') {
            break;
        }
    }
}

void vgd_edid_make(uint32_t w_px, uint32_t h_px, uint32_t serial, uint8_t out[VGD_EDID_BYTES])
{
    assert(w_px >= 1 && w_px <= VGD_EDID_SIDE_PX_MAX);
    assert(h_px >= 1 && h_px <= VGD_EDID_SIDE_PX_MAX);
    static const uint8_t header[8] = {0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00};
    static const uint8_t srgb[10] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
    /* {w / 8 - 31, aspect << 6 | rate - 60}: aspect 0 is 16:10, 1 is 4:3, 2 is 5:4, 3 is 16:9. */
    static const uint8_t standard[16] = {
        0xd1, 0xc0, /* 1920 x 1080 */
        0xd1, 0x00, /* 1920 x 1200 */
        0xb3, 0x00, /* 1680 x 1050 */
        0xa9, 0xc0, /* 1600 x 900 */
        0x95, 0x00, /* 1440 x 900 */
        0x81, 0x80, /* 1280 x 1024 */
        0x81, 0x00, /* 1280 x 800 */
        0x81, 0xc0, /* 1280 x 720 */
    };
    memset(out, 0, VGD_EDID_BYTES);
    memcpy(out, header, sizeof(header));
    uint32_t maker = ('V' - '@') << 10 | ('G' - '@') << 5 | ('D' - '@');
    out[MAKER_AT] = low8(maker >> 8);
    out[MAKER_AT + 1] = low8(maker);
    out[MAKER_AT + 2] = 1; /* product */
    for (unsigned i = 0; i < 4; i++) {
        out[SERIAL_AT + i] = low8(serial >> (8 * i));
    }
    out[16] = 0xff; /* the next byte is a model year */
    out[17] = 2026 - 1990;
    out[VERSION_AT] = 1;
    out[VERSION_AT + 1] = 4;
    out[BASICS_AT] = 0xa0; /* digital, 8 bits a colour */
    uint32_t w_cm = px_to_mm(w_px) / 10, h_cm = px_to_mm(h_px) / 10;
    out[BASICS_AT + 1] = (uint8_t)(w_cm < 255 ? w_cm : 255);
    out[BASICS_AT + 2] = (uint8_t)(h_cm < 255 ? h_cm : 255);
    out[BASICS_AT + 3] = 120;  /* gamma 2.20 */
    out[BASICS_AT + 4] = 0x06; /* sRGB; the first timing is the preferred and native one */
    memcpy(out + COLOURS_AT, srgb, sizeof(srgb));
    out[ESTABLISHED_AT] = 0x21;     /* 640 x 480 and 800 x 600 at 60 Hz */
    out[ESTABLISHED_AT + 1] = 0x08; /* 1024 x 768 at 60 Hz */
    memcpy(out + STANDARD_AT, standard, sizeof(standard));

    uint8_t *d = out + DESCRIPTORS_AT;
    put_timing(d, w_px, h_px);
    put_text(d + DESCRIPTOR_BYTES, 0xfc, "vgd");
    d[2 * DESCRIPTOR_BYTES + 3] = 0x10; /* dummy */
    d[3 * DESCRIPTOR_BYTES + 3] = 0x10;

    uint32_t sum = 0;
    for (unsigned i = 0; i < CHECKSUM_AT; i++) {
        sum += out[i];
    }
    out[CHECKSUM_AT] = low8(0x100 - (sum & 0xff));
}
