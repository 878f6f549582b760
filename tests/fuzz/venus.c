/* SPDX-License-Identifier: MIT */
/*
 * Bytes of a venus context's SUBMIT_3D: 2 bytes of our own, then the stream.
 *
 * Properties: commands lie one behind the other and end inside the stream; it is told when the last
 * one is cut; only the last can be opaque; a line stays in its room and is printable.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "venus_stream.h"

#define OWN_BYTES 2u
#define HEADER_BYTES 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    if (len_bytes < OWN_BYTES) {
        return 0;
    }
    size_t room = (size_t)(data[0] | data[1] << 8) % (VGD_COMMAND_LINE_BYTES_MAX + 2);
    size_t n_bytes = len_bytes - OWN_BYTES;
    uint8_t *bytes = malloc(n_bytes != 0 ? n_bytes : 1);
    assert(bytes != NULL);
    if (n_bytes != 0) {
        memcpy(bytes, data + OWN_BYTES, n_bytes);
    }
    struct vgd_venus_stream s = vgd_venus_stream_of(bytes, n_bytes);
    struct vgd_venus_command cmd;
    size_t at = 0;
    while (vgd_venus_next(&s, &cmd)) {
        assert(cmd.at_bytes == at && cmd.body == bytes + at + HEADER_BYTES);
        at += HEADER_BYTES + cmd.n_body_bytes;
        assert(at <= n_bytes && (!cmd.opaque || at == n_bytes));
        assert(!cmd.opaque || (cmd.ring == 0 && cmd.seqno == 0 && cmd.resource_id == 0));
        char *line = malloc(room != 0 ? room : 1);
        assert(line != NULL);
        size_t n = vgd_venus_print(&cmd, line, room);
        assert(room == 0 ? n == 0 : n < room && line[n] == '\0');
        for (size_t i = 0; i < n; i++) {
            assert(line[i] >= ' ' && line[i] < 0x7f);
        }
        free(line);
    }
    assert((s.status == VGD_OK) == (at == n_bytes));
    free(bytes);
    return 0;
}
