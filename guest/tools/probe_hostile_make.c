/* SPDX-License-Identifier: MIT */
/* What the attacks of --hostile are made of. */
#include <string.h>

#include "probe_hostile.h"

uint64_t hostile_next(struct hostile_rng *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint32_t hostile_below(struct hostile_rng *r, uint32_t n)
{
    return (uint32_t)(hostile_next(r) % n);
}

bool hostile_one_in(struct hostile_rng *r, uint32_t n)
{
    return hostile_below(r, n) == 0;
}

#define PICK(r, array) ((array)[hostile_below((r), sizeof(array) / sizeof((array)[0]))])

/* Numbers at which arithmetic goes wrong. */
static const uint32_t odd_numbers[] = {
    0,          1,          2,          3,          4,          7,          15,         16,
    63,         64,         255,        256,        4095,       4096,       4097,       0x10000,
    0x3fffffff, 0x40000000, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffff0, 0xfffffffe, 0xffffffff,
};
/* Sides of pictures: none between 257 and 65535, since a guest may really have a gigabyte, and the
 * machine that runs this may not. */
static const uint32_t sides[] = {1, 2, 15, 16, 64, 64, 64, 64, 100, 255, 256, 0, 0x10000};
static const uint32_t formats[] = {1, 2, 3, 4, 67, 68, 121, 134, 0, 5, 16, 18, 31, 64, 255, 0xffff};
static const uint32_t capsets[] = {0, 1, 2, 3, 4, 5, 6, 255, 0x80000001};

/*
 * The body of each command, a letter for each 32 bits:
 *   i resource  s scanout  f format  x position  w side  l length or offset  h its upper half
 *   c capset    t target   n small number        0 zero  * anything
 */
static const struct {
    uint32_t type;
    const char *body;
    bool is_3d;
} shapes[] = {
    {VGD_CMD_GET_DISPLAY_INFO, "", false},
    {VGD_CMD_RESOURCE_CREATE_2D, "ifww", false},
    {VGD_CMD_RESOURCE_CREATE_2D, "ifww", false},
    {VGD_CMD_RESOURCE_UNREF, "i0", false},
    {VGD_CMD_SET_SCANOUT, "xxwwsi", false},
    {VGD_CMD_RESOURCE_FLUSH, "xxwwi0", false},
    {VGD_CMD_TRANSFER_TO_HOST_2D, "xxwwlhi0", false},
    {VGD_CMD_RESOURCE_ATTACH_BACKING, "in", false},
    {VGD_CMD_RESOURCE_ATTACH_BACKING, "in", false},
    {VGD_CMD_RESOURCE_DETACH_BACKING, "i0", false},
    {VGD_CMD_GET_CAPSET_INFO, "n0", false},
    {VGD_CMD_GET_CAPSET, "cn", false},
    {VGD_CMD_GET_EDID, "s0", false},
    {VGD_CMD_RESOURCE_ASSIGN_UUID, "i0", false},
    {VGD_CMD_RESOURCE_CREATE_BLOB, "innnnhlh", false},
    {VGD_CMD_SET_SCANOUT_BLOB, "xxwwsiwwf0llllllll", false},
    {VGD_CMD_UPDATE_CURSOR, "sxx0inn0", false},
    {VGD_CMD_MOVE_CURSOR, "sxx0inn0", false},
    {VGD_CMD_CTX_CREATE, "nc****************", true},
    {VGD_CMD_CTX_DESTROY, "", true},
    {VGD_CMD_CTX_ATTACH_RESOURCE, "i0", true},
    {VGD_CMD_CTX_ATTACH_RESOURCE, "i0", true},
    {VGD_CMD_CTX_DETACH_RESOURCE, "i0", true},
    {VGD_CMD_RESOURCE_CREATE_3D, "itfnwwnnnn00", true},
    {VGD_CMD_RESOURCE_CREATE_3D, "itfnwwnnnn00", true},
    {VGD_CMD_TRANSFER_TO_HOST_3D, "xxnwwnlhinll", true},
    {VGD_CMD_TRANSFER_FROM_HOST_3D, "xxnwwnlhinll", true},
    {VGD_CMD_SUBMIT_3D, "l0", true},
    {VGD_CMD_RESOURCE_MAP_BLOB, "i0lh", true},
    {VGD_CMD_RESOURCE_UNMAP_BLOB, "i0", true},
};

static uint32_t field(struct hostile_rng *r, char kind)
{
    if (hostile_one_in(r, 24)) {
        return PICK(r, odd_numbers);
    }
    switch (kind) {
    case 'i':
        return hostile_below(r, HOSTILE_IDS);
    case 's':
        return hostile_one_in(r, 6) ? hostile_below(r, 20) : 0;
    case 'f':
        return PICK(r, formats);
    case 'x':
        return hostile_one_in(r, 3) ? hostile_below(r, 300) : 0;
    case 'w':
        return PICK(r, sides);
    case 'l':
        return hostile_one_in(r, 2) ? hostile_below(r, 1u << 16) & ~3u : PICK(r, odd_numbers);
    case 'h':
        return hostile_one_in(r, 12) ? PICK(r, odd_numbers) : 0;
    case 'c':
        return PICK(r, capsets);
    case 't':
        return hostile_below(r, 10);
    case 'n':
        return hostile_one_in(r, 6) ? hostile_below(r, 70) : hostile_below(r, 4);
    case '0':
        return 0;
    default:
        return (uint32_t)hostile_next(r);
    }
}

static void put_word(uint8_t *at, uint32_t word)
{
    struct vgd_writer w = vgd_writer_of(at, 4);
    vgd_write_le32(&w, word);
}

/* Entries of pages that the guest can spare, some of them nowhere. */
static uint32_t make_entries(struct hostile_rng *r, const struct hostile_ram *ram, uint32_t n,
                             uint8_t *data)
{
    struct vgd_writer w = vgd_writer_of(data, 64 * VGD_MEM_ENTRY_SIZE);
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_mem_entry entry = {.addr = ram->gpa + (hostile_below(r, ram->n_bytes) & ~0xfffu),
                                      .len_bytes = 1u << (12 + hostile_below(r, 6))};
        if (hostile_one_in(r, 12)) {
            entry.addr = hostile_one_in(r, 2) ? ram->end - hostile_below(r, 8192)
                                              : UINT64_MAX - hostile_below(r, 8192);
        }
        if (hostile_one_in(r, 12)) {
            entry.len_bytes = PICK(r, odd_numbers);
        }
        vgd_mem_entry_encode(&w, &entry);
    }
    return (uint32_t)vgd_writer_used(&w);
}

void hostile_command_make(struct hostile_rng *r, const struct hostile_ram *ram, bool has_3d,
                          struct hostile_command *out)
{
    uint32_t n;
    do {
        n = hostile_below(r, sizeof(shapes) / sizeof(shapes[0]));
    } while (shapes[n].is_3d && !has_3d && !hostile_one_in(r, 8));
    uint32_t n_words = (uint32_t)strlen(shapes[n].body);
    for (uint32_t i = 0; i < n_words; i++) {
        put_word(out->body + 4 * i, field(r, shapes[n].body[i]));
    }
    uint32_t type = shapes[n].type;
    bool cursor = type == VGD_CMD_UPDATE_CURSOR || type == VGD_CMD_MOVE_CURSOR;
    out->req = (struct vgd_guest_request){
        .queue = cursor ? VGD_GUEST_CURSOR : VGD_GUEST_CONTROL,
        .hdr = {.type = type, .ctx_id = hostile_below(r, HOSTILE_CONTEXTS)},
        .body = out->body,
        .body_bytes = 4 * n_words,
        .data = out->data,
        .resp_bytes = 1200,
    };
    uint32_t data_bytes = 0;
    if (type == VGD_CMD_RESOURCE_ATTACH_BACKING || type == VGD_CMD_RESOURCE_CREATE_BLOB) {
        uint32_t entries = hostile_below(r, 6);
        data_bytes = make_entries(r, ram, entries, out->data);
        put_word(out->body + (type == VGD_CMD_RESOURCE_ATTACH_BACKING ? 4 : 12),
                 hostile_one_in(r, 10) ? PICK(r, odd_numbers) : entries);
    } else if (type == VGD_CMD_SUBMIT_3D) {
        uint32_t dwords[HOSTILE_STREAM_DWORDS];
        data_bytes = 4 * hostile_stream_make(r, dwords);
        for (uint32_t i = 0; i < data_bytes / 4; i++) {
            put_word(out->data + (size_t)4 * i, dwords[i]);
        }
        put_word(out->body, hostile_one_in(r, 10) ? PICK(r, odd_numbers) : data_bytes);
    }
    out->req.data_bytes = data_bytes;
    /* Around the body: fences, rings, other types, other queues, cut and long ones. */
    if (hostile_one_in(r, 3)) {
        out->req.hdr.flags = VGD_FLAG_FENCE;
        out->req.hdr.fence_id = hostile_next(r);
        if (hostile_one_in(r, 4)) {
            out->req.hdr.flags |= VGD_FLAG_INFO_RING_IDX;
            out->req.hdr.ring_idx = (uint8_t)(hostile_one_in(r, 3) ? hostile_next(r) : 0);
        }
    }
    if (hostile_one_in(r, 40)) {
        out->req.hdr.flags = (uint32_t)hostile_next(r);
    }
    if (hostile_one_in(r, 40)) {
        out->req.hdr.ctx_id = PICK(r, odd_numbers);
    }
    if (hostile_one_in(r, 40)) {
        out->req.hdr.type = hostile_below(r, 0x400);
    }
    if (hostile_one_in(r, 60)) {
        out->req.queue = VGD_GUEST_CONTROL + VGD_GUEST_CURSOR - out->req.queue;
    }
    if (hostile_one_in(r, 25)) {
        out->req.cut_bytes = hostile_below(r, VGD_CTRL_HDR_SIZE + out->req.body_bytes);
        out->req.data_bytes = 0;
    } else if (hostile_one_in(r, 25) && data_bytes < sizeof(out->data) - 64) {
        out->req.data_bytes += 1 + hostile_below(r, 63);
    }
    if (hostile_one_in(r, 20)) {
        out->req.resp_bytes = hostile_below(r, 60);
    }
    if (hostile_one_in(r, 20)) {
        out->req.req_piece_bytes = 1 + hostile_below(r, 40);
        out->req.resp_piece_bytes = 1 + hostile_below(r, 40);
    }
}

/* virgl_protocol.h */
#define DRAW_VBO 8u
#define LAUNCH_GRID 37u

/* A guest may keep its GPU busy for as long as it likes (case G20): what makes a draw or a launch
 * long is cut, where the decoder will find it. */
static void keep_short(uint32_t *dwords, uint32_t n)
{
    for (uint32_t at = 0; at < n;) {
        uint32_t len = dwords[at] >> 16;
        uint32_t command = dwords[at] & 0xff;
        for (uint32_t i = 1; i <= len && at + i < n; i++) {
            if (command == DRAW_VBO && (i <= 2 || i == 5)) { /* start, count, instances */
                dwords[at + i] &= 0xff;
            } else if (command == LAUNCH_GRID) {
                dwords[at + i] &= 0xf;
            }
        }
        at += 1 + len;
    }
}

uint32_t hostile_stream_make(struct hostile_rng *r, uint32_t *out)
{
    struct vgd_virgl_stream s = {0};
    uint32_t pieces = 1 + hostile_below(r, 3);
    for (uint32_t piece = 0; piece < pieces; piece++) {
        /* Mostly one of the textures that are there (odd ids; even ones are buffers). */
        uint32_t id =
            hostile_one_in(r, 8) ? hostile_below(r, HOSTILE_IDS) : 1 + 2 * hostile_below(r, 4);
        uint32_t format = hostile_one_in(r, 4) ? PICK(r, formats) : 1;
        switch (hostile_below(r, 5)) {
        case 0:
            vgd_virgl_triangle_setup(&s, id, format, 64, 64, 1 + id, true);
            vgd_virgl_draw_triangles(&s, hostile_below(r, 4), hostile_below(r, 64));
            break;
        case 1:
        case 2: {
            static const float grey[4] = {0.5f, 0.5f, 0.5f, 1.0f};
            vgd_virgl_create_surface(&s, 1 + id, id, format);
            vgd_virgl_set_framebuffer(&s, 1 + id);
            vgd_virgl_clear_color(&s, grey);
            if (hostile_one_in(r, 3)) {
                vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SURFACE, 1 + id);
            }
            break;
        }
        default: {
            /* Any command with any payload. */
            uint32_t payload[20];
            uint32_t n = hostile_below(r, 20);
            for (uint32_t i = 0; i < n; i++) {
                payload[i] = hostile_one_in(r, 2) ? hostile_below(r, 16) : PICK(r, odd_numbers);
            }
            vgd_virgl_command(&s, hostile_below(r, 66), hostile_below(r, 13), payload, n);
            break;
        }
        }
    }
    uint32_t n = s.failed ? 0 : s.n_dwords;
    n = n < HOSTILE_STREAM_DWORDS ? n : HOSTILE_STREAM_DWORDS;
    if (n > 0) {
        memcpy(out, s.dwords, (size_t)4 * n);
        for (uint32_t flips = hostile_one_in(r, 2) ? hostile_below(r, 4) : 0; flips > 0; flips--) {
            uint32_t at = hostile_below(r, n);
            out[at] =
                hostile_one_in(r, 2) ? out[at] ^ 1u << hostile_below(r, 32) : PICK(r, odd_numbers);
        }
        if (hostile_one_in(r, 8)) {
            n = hostile_below(r, n);
        }
        keep_short(out, n);
    }
    vgd_virgl_stream_finish(&s);
    return n;
}

struct vgd_guest_desc hostile_desc_make(struct hostile_rng *r, const struct hostile_ram *ram,
                                        uint32_t n)
{
    struct vgd_guest_desc d = {
        .gpa = ram->gpa + hostile_below(r, 256),
        .len_bytes = hostile_below(r, 128),
        .flags = (uint16_t)(hostile_one_in(r, 12) ? hostile_next(r) : hostile_below(r, 4)),
        .next = (uint16_t)hostile_below(r, n),
    };
    if (hostile_one_in(r, 6)) {
        static const uint32_t lengths[] = {0, 16, 32, 48, 160, 4096};
        d.flags = VGD_GUEST_DESC_INDIRECT;
        d.gpa = ram->gpa;
        d.len_bytes = PICK(r, lengths);
    }
    if (hostile_one_in(r, 12)) {
        d.gpa = hostile_one_in(r, 2) ? ram->end - hostile_below(r, 64)
                                     : UINT64_MAX - hostile_below(r, 64);
    }
    if (hostile_one_in(r, 12)) {
        d.len_bytes = PICK(r, odd_numbers);
    }
    if (hostile_one_in(r, 16)) {
        d.next = (uint16_t)PICK(r, odd_numbers);
    }
    return d;
}

uint32_t hostile_message_make(struct hostile_rng *r, uint32_t *out_request, uint32_t *out_flags,
                              uint32_t *out_said, uint8_t *payload, uint32_t *out_n_fds)
{
    static const uint32_t sizes[] = {0, 4, 8, 12, 16, 40, 48, 268, 296, 32};
    uint32_t n_bytes = PICK(r, sizes);
    *out_request = hostile_one_in(r, 30) ? PICK(r, odd_numbers) : 1 + hostile_below(r, 45);
    *out_flags = VGD_VU_FLAG_VERSION;
    if (hostile_one_in(r, 4)) {
        *out_flags |= VGD_VU_FLAG_NEED_REPLY;
    }
    if (hostile_one_in(r, 30)) {
        *out_flags = (uint32_t)hostile_next(r);
    }
    for (uint32_t i = 0; i < n_bytes / 4; i++) {
        uint32_t word = hostile_one_in(r, 2) ? hostile_below(r, 4) : PICK(r, odd_numbers);
        put_word(payload + (size_t)4 * i, word);
    }
    *out_said = hostile_one_in(r, 30) ? PICK(r, odd_numbers) : n_bytes;
    *out_n_fds = hostile_one_in(r, 2) ? 0 : hostile_below(r, 3);
    if (hostile_one_in(r, 30)) {
        *out_n_fds = 8;
    }
    return n_bytes;
}
