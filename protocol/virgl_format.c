/* SPDX-License-Identifier: MIT */
#include "virgl_format.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

#include "virgl_wire.h"

struct block {
    uint8_t w_px, h_px, bytes;
};

/* Compressed families by the beginning of their names; the first that fits. */
static const struct {
    const char *name;
    struct block block;
} compressed[] = {
    {"DXT1_", {4, 4, 8}},      {"DXT", {4, 4, 16}},      {"RGTC1_", {4, 4, 8}},
    {"RGTC2_", {4, 4, 16}},    {"LATC1_", {4, 4, 8}},    {"LATC2_", {4, 4, 16}},
    {"ETC1_", {4, 4, 8}},      {"ETC2_RGB8", {4, 4, 8}}, {"ETC2_SRGB8", {4, 4, 8}},
    {"ETC2_R11_", {4, 4, 8}},  {"ETC2_", {4, 4, 16}},    {"BPTC_", {4, 4, 16}},
    {"ATC_RGBA_", {4, 4, 16}}, {"ATC_RGB", {4, 4, 8}},   {"FXT1_", {8, 4, 16}},
};

static uint32_t number(const char **at)
{
    uint32_t value = 0;
    while (isdigit((unsigned char)**at) && value < 1000) {
        value = value * 10 + (uint32_t)(*(*at)++ - '0');
    }
    return value;
}

/* "ASTC_10X5", "ASTC_10X5_SRGB"; not "ASTC_4X4X3", whose blocks have a depth. */
static bool astc_block(const char *name, struct block *out)
{
    uint32_t w_px = number(&name);
    if (*name++ != 'X') {
        return false;
    }
    uint32_t h_px = number(&name);
    if (*name == 'X') {
        return false;
    }
    *out = (struct block){(uint8_t)w_px, (uint8_t)h_px, 16};
    return true;
}

/* The sum of all "letter, number" in the channels: "B5G6R5_UNORM" has 16. What stands behind _AS_
 * is another view of the same bits. */
static uint32_t channel_bits(const char *name)
{
    const char *end = strstr(name, "_AS_");
    uint32_t bits = 0;
    while (*name != '\0' && name != end) {
        bool letter = isalpha((unsigned char)*name++) != 0;
        if (isdigit((unsigned char)*name)) {
            uint32_t value = number(&name);
            bits += letter ? value : 0;
        }
    }
    return bits;
}

static bool is_prefix(const char *prefix, const char *name)
{
    return strncmp(prefix, name, strlen(prefix)) == 0;
}

static bool block_of(const char *name, struct block *out)
{
    for (size_t i = 0; i < sizeof(compressed) / sizeof(compressed[0]); i++) {
        if (is_prefix(compressed[i].name, name)) {
            *out = compressed[i].block;
            return true;
        }
    }
    if (is_prefix("ASTC_", name)) {
        return astc_block(name + strlen("ASTC_"), out);
    }
    uint32_t bits = channel_bits(name);
    if (strstr(name, "_422_") != NULL && (bits == 32 || bits == 64)) {
        *out = (struct block){2, 1, (uint8_t)(bits / 8)};
        return true;
    }
    static const char *const sampled[] = {"_400_", "_420_", "_422_", "_440_", "_444_"};
    for (size_t i = 0; i < sizeof(sampled) / sizeof(sampled[0]); i++) {
        if (strstr(name, sampled[i]) != NULL) {
            return false;
        }
    }
    *out = (struct block){1, 1, (uint8_t)(bits / 8)};
    return bits != 0 && bits % 8 == 0;
}

bool vgd_virgl_format_block(uint32_t format, uint32_t *w_px, uint32_t *h_px, uint32_t *bytes)
{
    struct block block = {0};
    if (!block_of(vgd_virgl_format_name(format), &block)) {
        return false;
    }
    *w_px = block.w_px;
    *h_px = block.h_px;
    *bytes = block.bytes;
    return true;
}
