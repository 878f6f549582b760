/* SPDX-License-Identifier: MIT */
/* The EDID that we make, read by a decoder that shares no code with it. */
#include "display_fixture.h"

#include <string.h>

#include "edid.h"

struct mode {
    uint32_t clock_khz, w_px, h_px, h_total, v_total, h_front, h_sync, v_front, v_sync;
};

static struct mode detailed_mode(const uint8_t *d)
{
    struct mode m;
    m.clock_khz = (uint32_t)(d[0] | d[1] << 8) * 10;
    m.w_px = d[2] | (uint32_t)(d[4] & 0xf0) << 4;
    m.h_total = m.w_px + (d[3] | (uint32_t)(d[4] & 0x0f) << 8);
    m.h_px = d[5] | (uint32_t)(d[7] & 0xf0) << 4;
    m.v_total = m.h_px + (d[6] | (uint32_t)(d[7] & 0x0f) << 8);
    m.h_front = d[8] | (uint32_t)(d[11] & 0xc0) << 2;
    m.h_sync = d[9] | (uint32_t)(d[11] & 0x30) << 4;
    m.v_front = d[10] >> 4 | (uint32_t)(d[11] & 0x0c) << 2;
    m.v_sync = (d[10] & 0x0f) | (uint32_t)(d[11] & 0x03) << 4;
    return m;
}

static uint8_t sum(const uint8_t *edid)
{
    uint8_t s = 0;
    for (unsigned i = 0; i < VGD_EDID_BYTES; i++) {
        s = (uint8_t)(s + edid[i]);
    }
    return s;
}

/* What Linux checks before it believes a block (drm_edid_block_valid), and the fields that it uses.
 */
TIDY_TEST(display_edid, block_is_valid)
{
    uint8_t edid[VGD_EDID_BYTES];
    memset(edid, 0xee, sizeof(edid));
    vgd_edid_make(1280, 800, 3, edid);
    static const uint8_t header[8] = {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0};
    cr_assert_arr_eq(edid, header, 8);
    cr_assert_eq(sum(edid), 0);
    cr_assert_eq(edid[18], 1);
    cr_assert_eq(edid[19], 4);
    cr_assert_eq(edid[126], 0, "no extension follows");

    unsigned maker = (unsigned)(edid[8] << 8 | edid[9]);
    cr_assert_eq('@' + (maker >> 10 & 31), 'V');
    cr_assert_eq('@' + (maker >> 5 & 31), 'G');
    cr_assert_eq('@' + (maker & 31), 'D');
    cr_assert_eq(edid[12], 3, "the serial number");
    cr_assert(edid[20] & 0x80, "digital");
    cr_assert(edid[24] & 0x02, "the first timing is the preferred one");
}

TIDY_TEST(display_edid, name_is_vgd)
{
    uint8_t edid[VGD_EDID_BYTES];
    vgd_edid_make(1280, 800, 0, edid);
    bool found = false;
    for (unsigned at = 54; at < 126; at += 18) {
        if (edid[at] == 0 && edid[at + 1] == 0 && edid[at + 3] == 0xfc) {
            found = memcmp(edid + at + 5, "vgd\n         ", 13) == 0;
        }
    }
    cr_assert(found);
}

/* Against the tables of VESA CVT (reduced blanking). */
TIDY_TEST(display_edid, preferred_modes_are_those_of_cvt)
{
    static const struct mode cases[] = {
        {71000, 1280, 800, 1440, 823, 48, 32, 3, 6},
        {138500, 1920, 1080, 2080, 1111, 48, 32, 3, 5},
        {56000, 1024, 768, 1184, 790, 48, 32, 3, 4},
        {154000, 1920, 1200, 2080, 1235, 48, 32, 3, 6},
        {91000, 1280, 1024, 1440, 1054, 48, 32, 3, 7},
        {533250, 3840, 2160, 4000, 2222, 48, 32, 3, 5},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t edid[VGD_EDID_BYTES];
        vgd_edid_make(cases[i].w_px, cases[i].h_px, 0, edid);
        struct mode m = detailed_mode(edid + 54);
        cr_assert_eq(memcmp(&m, &cases[i], sizeof(m)), 0, "%ux%u: clock %u total %ux%u sync %u",
                     m.w_px, m.h_px, m.clock_khz, m.h_total, m.v_total, m.v_sync);
    }
}

/* Every size that may be asked for: valid, its own, and a rate between 29 and 61 Hz. */
TIDY_TEST(display_edid, every_size_is_sound)
{
    static const uint32_t sides[] = {1, 2, 63, 64, 255, 256, 640, 1000, 2047, 2048, 4000, 4095};
    for (unsigned i = 0; i < sizeof(sides) / sizeof(sides[0]); i++) {
        for (unsigned j = 0; j < sizeof(sides) / sizeof(sides[0]); j++) {
            uint8_t edid[VGD_EDID_BYTES];
            vgd_edid_make(sides[i], sides[j], UINT32_MAX, edid);
            struct mode m = detailed_mode(edid + 54);
            cr_assert_eq(sum(edid), 0);
            cr_assert(m.w_px == sides[i] && m.h_px == sides[j], "%ux%u", sides[i], sides[j]);
            cr_assert_lt(m.h_front + m.h_sync, m.h_total - m.w_px);
            cr_assert_lt(m.v_front + m.v_sync, m.v_total - m.h_px);
            double hz = m.clock_khz * 1000.0 / m.h_total / m.v_total;
            bool tiny = sides[i] < 64 && sides[j] < 640; /* below the clock's step */
            cr_assert(tiny || (hz > 29 && hz < 61), "%ux%u: %f Hz", sides[i], sides[j], hz);
        }
    }
}
