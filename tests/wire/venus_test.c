/* SPDX-License-Identifier: MIT */
/* Bytes of venus, written by hand from venus-protocol. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "venus_stream.h"
#include "venus_wire.h"

#define LARGEST_WORDS 64u

static uint32_t parse(const char *text, uint32_t *words)
{
    uint32_t n = 0;
    for (char *p = (char *)text, *end; *p != '\0'; p = end) {
        cr_assert(n < LARGEST_WORDS);
        words[n++] = (uint32_t)strtoul(p, &end, 16);
    }
    return n;
}

/* In words of 32 bits; the lines of all commands, one behind the other. */
static const struct {
    const char *words, *lines;
} streams[] = {
    {"be 0 11 22 5 0", "NOTIFY_RING ring=0x2200000011 seqno=5;"},
    {"fb 0 1 0 7 1", "SUBMIT_VIRTQUEUE_SEQNO ring=0x1 seqno=4294967303;"},
    {"fc 0 9 0  fd 1 1 0 3 0",
     "WAIT_VIRTQUEUE_SEQNO seqno=9;WAIT_RING_SEQNO flags=0x1 ring=0x1 seqno=3;"},
    {"b2 0 1 0 2a 0 0 1000 0  b3 0 40 0",
     "SET_REPLY_COMMAND_STREAM resource=42;SEEK_REPLY_COMMAND_STREAM;"},
    {"bd 0 1 0  bf 0 1 0 8 0 77", "DESTROY_RING ring=0x1;WRITE_RING_EXTRA ring=0x1;"},
    /* without an extension, and with monitor and priority */
    {"bc 0 1 0 1 0 3ba0a600 0 0  0 2b 0 0 1000 0 0 0 0 0 40 0 80 0 c0 0 800 0 0 0 0 0",
     "CREATE_RING ring=0x1 resource=43;"},
    {"bc 0 1 0 1 0 3ba0a600 1 0 3ba0a606 1 0 3ba0a607 0 0  5 64"
     "  0 2b 0 0 1000 0 0 0 0 0 40 0 80 0 c0 0 800 0 0 0 0 0  be 0 1 0 5 0",
     "CREATE_RING ring=0x1 resource=43;NOTIFY_RING ring=0x1 seqno=5;"},
    {"bc 0 1 0 1 0 3ba0a600 1 0 12345 0 0 0", "CREATE_RING (44 bytes, not looked into);"},
    /* two streams, one position each, one dependency */
    {"b4 0 2 2 0 5 0 0 8 0 6 0 0 8 0 2 0 0 0 10 0 1 1 0 0 1 0  bd 0 1 0",
     "EXECUTE_COMMAND_STREAMS;DESTROY_RING ring=0x1;"},
    {"b4 0 2 3 0 5 0 0 8 0", "EXECUTE_COMMAND_STREAMS (32 bytes, not looked into);"},
    /* Vulkan, and what is newer */
    {"0 1 2 3", "vulkan-0 flags=0x1 (8 bytes, not looked into);"},
    {"159 0", "vulkan-345 (0 bytes, not looked into);"},
    {"15a 0 1", "unknown-346 (4 bytes, not looked into);"},
    {"f4 0 1", "RESET_FENCE_RESOURCE (4 bytes, not looked into);"},
    {"", ""},
};

static void lines_of(const void *bytes, size_t n_bytes, enum vgd_status want, char *out,
                     size_t room)
{
    struct vgd_venus_stream s = vgd_venus_stream_of(bytes, n_bytes);
    struct vgd_venus_command cmd;
    out[0] = '\0';
    size_t at = 0;
    while (vgd_venus_next(&s, &cmd)) {
        cr_assert(cmd.at_bytes == at && cmd.body == (const uint8_t *)bytes + at + 8);
        at += 8 + cmd.n_body_bytes;
        size_t used = strlen(out);
        used += vgd_venus_print(&cmd, out + used, room - used - 1);
        strcpy(out + used, ";");
    }
    cr_assert(s.status == want && (want != VGD_OK || at == n_bytes));
    cr_assert(!vgd_venus_next(&s, &cmd));
}

Test(venus, commands_of_the_transport)
{
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        uint32_t words[LARGEST_WORDS];
        uint32_t n = parse(streams[i].words, words);
        char lines[1024];
        lines_of(words, n * 4, VGD_OK, lines, sizeof(lines));
        cr_assert_str_eq(lines, streams[i].lines, "%s\n%s", lines, streams[i].lines);
    }
}

/* Cut anywhere, in memory of exactly that size: what is whole is there, and it is told. */
Test(venus, a_cut_stream)
{
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        uint32_t words[LARGEST_WORDS];
        size_t n_bytes = parse(streams[i].words, words) * 4;
        for (size_t n = 0; n < n_bytes; n++) {
            uint8_t *exact = malloc(n != 0 ? n : 1);
            cr_assert(exact != NULL);
            if (n != 0) {
                memcpy(exact, words, n);
            }
            struct vgd_venus_stream s = vgd_venus_stream_of(exact, n);
            struct vgd_venus_command cmd;
            size_t at = 0;
            bool opaque = false;
            while (vgd_venus_next(&s, &cmd)) {
                at += 8 + cmd.n_body_bytes;
                opaque = cmd.opaque;
            }
            cr_assert(at <= n && (s.status == VGD_OK) == (at == n), "stream %zu, %zu bytes", i, n);
            cr_assert(!opaque || at == n);
            free(exact);
        }
    }
}

Test(venus, a_line_never_leaves_its_room)
{
    const struct vgd_venus_command cmd = {.type = UINT32_MAX,
                                          .flags = UINT32_MAX,
                                          .ring = UINT64_MAX,
                                          .seqno = UINT64_MAX,
                                          .resource_id = UINT32_MAX,
                                          .opaque = true};
    for (size_t room = 0; room < 256; room++) {
        char *line = malloc(room != 0 ? room : 1);
        size_t n = vgd_venus_print(&cmd, line, room);
        cr_assert(room == 0 ? n == 0 : n < room && line[n] == '\0');
        free(line);
    }
}
