/* SPDX-License-Identifier: MIT */
/* Virtqueues: long runs, features on and off, chains cut in pieces, and rings that break the rules.
 */
#include <string.h>

#include "log.h"
#include "probe.h"

static uint8_t scanout_off[VGD_CMD_SET_SCANOUT_SIZE];

static struct vgd_guest_request cheap_request(uint64_t fence_id)
{
    return (struct vgd_guest_request){
        .hdr = {.type = VGD_CMD_SET_SCANOUT, .flags = VGD_FLAG_FENCE, .fence_id = fence_id},
        .body = scanout_off,
        .body_bytes = sizeof(scanout_off),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
}

/* @total commands, @batch in flight at a time, one kick for each batch. */
static bool run_many(struct probe *p, uint32_t total, uint32_t batch)
{
    struct vgd_guest_command *cmds[256];
    for (uint32_t sent = 0; sent < total; sent += batch) {
        for (uint32_t i = 0; i < batch; i++) {
            struct vgd_guest_request req = cheap_request(sent + i + 1);
            cmds[i] = vgd_guest_gpu_begin(p->gpu, &req, i + 1 == batch);
            if (cmds[i] == NULL) {
                probe_fail(p, "command %u does not fit", sent + i);
                return false;
            }
        }
        for (uint32_t i = 0; i < batch; i++) {
            if (!vgd_guest_gpu_wait(p->gpu, cmds[i], 5000)) {
                probe_fail(p, "command %u is never answered", sent + i);
                return false;
            }
            if (cmds[i]->resp.type != VGD_RESP_OK_NODATA ||
                cmds[i]->resp.fence_id != sent + i + 1) {
                probe_fail(p, "command %u: answered %s with fence %llu", sent + i,
                           vgd_resp_name(cmds[i]->resp.type),
                           (unsigned long long)cmds[i]->resp.fence_id);
                return false;
            }
            vgd_guest_gpu_end(p->gpu, cmds[i]);
        }
    }
    return true;
}

static void index_wrap(struct probe *p)
{
    /* One at a time: each needs its kick and its interrupt; the indices wrap at 65536. */
    (void)run_many(p, 70000, 1);
}

static void index_wrap_batches(struct probe *p)
{
    (void)run_many(p, 140000, 56);
}

static void cursor_wrap(struct probe *p)
{
    struct vgd_cmd_update_cursor move = {0};
    for (uint32_t i = 0; i < 70000; i++) {
        move.pos.x_px = i;
        if (vgd_guest_cursor(p->gpu, VGD_CMD_MOVE_CURSOR, &move) != 1) {
            probe_fail(p, "cursor command %u never comes back", i);
            return;
        }
    }
}

static void few_thousand(struct probe *p)
{
    if (run_many(p, 3000, 1)) {
        (void)run_many(p, 3000, 8);
    }
}

static void full_queue(struct probe *p)
{
    /* As many as the queue has descriptors, indirect: nothing is lost, nothing comes twice. */
    uint32_t size = vgd_guest_queue_size(vgd_guest_gpu_queue(p->gpu, VGD_GUEST_CONTROL));
    (void)run_many(p, size * 20, size);
}

static void interrupts_are_needed(struct probe *p)
{
    /* With EVENT_IDX a batch may raise few interrupts, but the one that is owed comes, and without
     * used entries there is none. */
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(p->gpu);
    vgd_guest_gpu_settle(p->gpu, 20);
    uint64_t before = vgd_guest_frontend_calls(fe, VGD_GUEST_CONTROL);
    vgd_guest_gpu_turn(p->gpu, 100);
    PROBE_CHECK(p, vgd_guest_frontend_calls(fe, VGD_GUEST_CONTROL) == before);
    PROBE_REQUIRE(p, run_many(p, 10, 1));
    uint64_t after = vgd_guest_frontend_calls(fe, VGD_GUEST_CONTROL);
    if (after - before > 10) {
        probe_fail(p, "%llu interrupts for 10 commands", (unsigned long long)(after - before));
    }
}

static void pieces(struct probe *p)
{
    /* Header, body and response cut at any place: descriptors carry no meaning. */
    static const uint32_t sizes[] = {1, 2, 3, 5, 7, 8, 23, 24, 25, 31};
    struct vgd_resp_display_info info;
    for (size_t r = 0; r < sizeof(sizes) / sizeof(sizes[0]); r++) {
        for (size_t w = 0; w < sizeof(sizes) / sizeof(sizes[0]); w++) {
            struct vgd_guest_request req = cheap_request(1 + r * 100 + w);
            req.req_piece_bytes = sizes[r];
            req.resp_piece_bytes = sizes[w];
            struct vgd_guest_command *cmd = vgd_guest_gpu_begin(p->gpu, &req, true);
            PROBE_REQUIRE(p, cmd != NULL);
            if (!vgd_guest_gpu_wait(p->gpu, cmd, 5000) || cmd->resp.type != VGD_RESP_OK_NODATA ||
                cmd->resp.fence_id != 1 + r * 100 + w) {
                probe_fail(p, "request in pieces of %u, response in pieces of %u: %s", sizes[r],
                           sizes[w], cmd->done ? vgd_resp_name(cmd->resp.type) : "never answered");
                return;
            }
            vgd_guest_gpu_end(p->gpu, cmd);
        }
    }
    /* A long response in pieces. */
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_GET_DISPLAY_INFO},
        .resp_bytes = VGD_CTRL_HDR_SIZE + VGD_RESP_DISPLAY_INFO_SIZE,
        .resp_piece_bytes = 13,
    };
    uint8_t body[VGD_RESP_DISPLAY_INFO_SIZE];
    (void)probe_resp(p, "GET_DISPLAY_INFO in pieces",
                     vgd_guest_gpu_call(p->gpu, &req, body, sizeof(body)),
                     VGD_RESP_OK_DISPLAY_INFO);
    struct vgd_reader r = vgd_reader_of(body, sizeof(body));
    PROBE_CHECK(p, vgd_resp_display_info_decode(&r, &info) == VGD_OK &&
                       info.pmodes[0].rect.w_px == 1280);
}

static void no_kick_needed(struct probe *p)
{
    /* A chain published after the kick for an earlier one is found without another. */
    for (uint32_t i = 0; i < 200; i++) {
        struct vgd_guest_request req = cheap_request(i + 1);
        struct vgd_guest_command *a = vgd_guest_gpu_begin(p->gpu, &req, true);
        struct vgd_guest_command *b = vgd_guest_gpu_begin(p->gpu, &req, true);
        PROBE_REQUIRE(p, a != NULL && b != NULL);
        if (!vgd_guest_gpu_wait(p->gpu, a, 3000) || !vgd_guest_gpu_wait(p->gpu, b, 3000)) {
            probe_fail(p, "stalled after %u pairs", i);
            return;
        }
        vgd_guest_gpu_end(p->gpu, a);
        vgd_guest_gpu_end(p->gpu, b);
    }
}

/* --- rings that break the rules --- */

/* Room in guest RAM that raw chains point at: a command and space for its response. */
struct raw {
    struct vgd_guest_queue *q;
    struct vgd_guest_queue_raw ring;
    uint64_t req_gpa, resp_gpa, table_gpa;
    struct vgd_guest_desc *table;
    uint64_t ram_end;
};

static bool raw_begin(struct probe *p, struct raw *raw)
{
    struct vgd_guest_ram *ram = vgd_guest_gpu_ram(p->gpu);
    raw->q = vgd_guest_gpu_queue(p->gpu, VGD_GUEST_CONTROL);
    raw->ring = vgd_guest_queue_raw(raw->q);
    raw->ram_end = vgd_guest_ram_end(ram);
    uint8_t *req = vgd_guest_ram_alloc(ram, 4096, &raw->req_gpa);
    uint8_t *resp = vgd_guest_ram_alloc(ram, 4096, &raw->resp_gpa);
    raw->table = vgd_guest_ram_alloc(ram, 65536, &raw->table_gpa);
    if (req == NULL || resp == NULL || raw->table == NULL) {
        probe_fail(p, "no room");
        return false;
    }
    struct vgd_writer w = vgd_writer_of(req, 4096);
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_SET_SCANOUT});
    return probe_goes_on(p);
}

static struct vgd_guest_desc desc(uint64_t gpa, uint32_t len_bytes, uint32_t flags, uint32_t next)
{
    return (struct vgd_guest_desc){
        .gpa = gpa, .len_bytes = len_bytes, .flags = (uint16_t)flags, .next = (uint16_t)next};
}

/* Push @head, kick, and see: it has to come back, and the next command has to work. */
static void raw_try(struct probe *p, struct raw *raw, const char *what, uint16_t head)
{
    if (p->failed && vgd_guest_frontend_is_closed(vgd_guest_gpu_frontend(p->gpu))) {
        return;
    }
    uint32_t used_before = vgd_guest_queue_raw_used_count(raw->q);
    vgd_guest_queue_raw_push(raw->q, head);
    vgd_guest_gpu_kick(p->gpu, VGD_GUEST_CONTROL);
    uint32_t got = vgd_guest_set_scanout(p->gpu, 0, 0, (struct vgd_rect){0});
    if (got != VGD_RESP_OK_NODATA) {
        probe_fail(p, "%s: the next command gets %s", what,
                   got == 0 ? "no answer" : vgd_resp_name(got));
        return;
    }
    uint64_t deadline_ns = vgd_now_ns() + UINT64_C(500000000);
    while (head < raw->ring.size && vgd_guest_queue_raw_used_count(raw->q) == used_before) {
        if (vgd_now_ns() > deadline_ns) {
            probe_fail(p, "%s: the chain never comes back", what);
            return;
        }
        vgd_guest_gpu_turn(p->gpu, 10);
    }
}

static void bad_next(struct probe *p)
{
    struct raw raw;
    PROBE_REQUIRE(p, raw_begin(p, &raw));
    uint16_t a = vgd_guest_queue_raw_take(raw.q);
    uint16_t b = vgd_guest_queue_raw_take(raw.q);
    uint32_t size = raw.ring.size;
    raw.ring.desc[a] = desc(raw.req_gpa, 48, VGD_GUEST_DESC_NEXT, size);
    raw_try(p, &raw, "next = queue size", a);
    raw.ring.desc[a].next = 0xffff;
    raw_try(p, &raw, "next = 65535", a);
    raw.ring.desc[a].next = a;
    raw_try(p, &raw, "a descriptor that names itself", a);
    raw.ring.desc[a].next = b;
    raw.ring.desc[b] = desc(raw.resp_gpa, 24, VGD_GUEST_DESC_NEXT | VGD_GUEST_DESC_WRITE, a);
    raw_try(p, &raw, "a loop of two descriptors", a);
}

static void bad_head(struct probe *p)
{
    struct raw raw;
    PROBE_REQUIRE(p, raw_begin(p, &raw));
    raw_try(p, &raw, "head = queue size", (uint16_t)raw.ring.size);
    raw_try(p, &raw, "head = 65535", 0xffff);
}

static void bad_address(struct probe *p)
{
    struct raw raw;
    PROBE_REQUIRE(p, raw_begin(p, &raw));
    uint16_t a = vgd_guest_queue_raw_take(raw.q);
    uint16_t b = vgd_guest_queue_raw_take(raw.q);
    const struct {
        const char *what;
        uint64_t gpa;
        uint32_t len_bytes;
    } table[] = {
        {"address behind RAM", raw.ram_end, 48},
        {"address far behind RAM", UINT64_C(1) << 52, 48},
        {"address across the end of RAM", raw.ram_end - 24, 48},
        {"address + length wraps 2^64", UINT64_MAX - 20, 48},
        {"address 2^64 - 1", UINT64_MAX, 1},
        {"length 4 GiB - 1", raw.req_gpa, 0xffffffff},
        {"length 2 GiB", raw.req_gpa, 0x80000000},
        {"length 0", raw.req_gpa, 0},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        raw.ring.desc[a] = desc(table[i].gpa, table[i].len_bytes, VGD_GUEST_DESC_NEXT, b);
        raw.ring.desc[b] = desc(raw.resp_gpa, 24, VGD_GUEST_DESC_WRITE, 0);
        raw_try(p, &raw, table[i].what, a);
        raw.ring.desc[a] = desc(raw.req_gpa, 48, VGD_GUEST_DESC_NEXT, b);
        raw.ring.desc[b] = desc(table[i].gpa, table[i].len_bytes, VGD_GUEST_DESC_WRITE, 0);
        raw_try(p, &raw, table[i].what, a);
    }
}

static void address_in_hole(struct probe *p)
{
    struct raw raw;
    PROBE_REQUIRE(p, raw_begin(p, &raw));
    const struct vgd_guest_region *first = vgd_guest_ram_region(vgd_guest_gpu_ram(p->gpu), 0);
    uint64_t hole = first->gpa + first->size_bytes;
    uint16_t a = vgd_guest_queue_raw_take(raw.q);
    uint16_t b = vgd_guest_queue_raw_take(raw.q);
    raw.ring.desc[a] = desc(hole, 48, VGD_GUEST_DESC_NEXT, b);
    raw.ring.desc[b] = desc(raw.resp_gpa, 24, VGD_GUEST_DESC_WRITE, 0);
    raw_try(p, &raw, "a buffer in a hole", a);
    raw.ring.desc[a].gpa = hole - 24;
    raw_try(p, &raw, "a buffer that reaches into a hole", a);
}

static void wrong_order(struct probe *p)
{
    struct raw raw;
    PROBE_REQUIRE(p, raw_begin(p, &raw));
    uint16_t a = vgd_guest_queue_raw_take(raw.q);
    uint16_t b = vgd_guest_queue_raw_take(raw.q);
    uint16_t c = vgd_guest_queue_raw_take(raw.q);
    raw.ring.desc[a] = desc(raw.resp_gpa, 24, VGD_GUEST_DESC_NEXT | VGD_GUEST_DESC_WRITE, b);
    raw.ring.desc[b] = desc(raw.req_gpa, 48, 0, 0);
    raw_try(p, &raw, "a writable descriptor before a readable one", a);
    raw.ring.desc[a] = desc(raw.req_gpa, 24, VGD_GUEST_DESC_NEXT, b);
    raw.ring.desc[b] = desc(raw.resp_gpa, 24, VGD_GUEST_DESC_NEXT | VGD_GUEST_DESC_WRITE, c);
    raw.ring.desc[c] = desc(raw.req_gpa + 24, 24, 0, 0);
    raw_try(p, &raw, "a readable descriptor after a writable one", a);
    raw.ring.desc[a] = desc(raw.req_gpa, 48, 0, 0);
    raw_try(p, &raw, "no writable descriptor", a);
    raw.ring.desc[a] = desc(raw.resp_gpa, 24, VGD_GUEST_DESC_WRITE, 0);
    raw_try(p, &raw, "no readable descriptor", a);
    raw.ring.desc[a] = desc(raw.req_gpa, 48, 0xfff8, 0);
    raw_try(p, &raw, "unknown descriptor flags", a);
}

static void bad_indirect(struct probe *p)
{
    struct raw raw;
    PROBE_REQUIRE(p, raw_begin(p, &raw));
    uint16_t a = vgd_guest_queue_raw_take(raw.q);
    uint16_t b = vgd_guest_queue_raw_take(raw.q);
    const uint32_t indirect = VGD_GUEST_DESC_INDIRECT;
    raw.table[0] = desc(raw.req_gpa, 48, VGD_GUEST_DESC_NEXT, 1);
    raw.table[1] = desc(raw.resp_gpa, 24, VGD_GUEST_DESC_WRITE, 0);
    const struct {
        const char *what;
        struct vgd_guest_desc head;
    } table[] = {
        {"a table of length 0", desc(raw.table_gpa, 0, indirect, 0)},
        {"a table of 8 bytes", desc(raw.table_gpa, 8, indirect, 0)},
        {"a table of 17 bytes", desc(raw.table_gpa, 17, indirect, 0)},
        {"a table of 4 GiB - 16", desc(raw.table_gpa, 0xfffffff0, indirect, 0)},
        {"a table behind RAM", desc(raw.ram_end, 32, indirect, 0)},
        {"a table across the end of RAM", desc(raw.ram_end - 16, 32, indirect, 0)},
        {"a table that ends at 2^64", desc(UINT64_MAX - 31, 32, indirect, 0)},
        {"a table with NEXT beside it", desc(raw.table_gpa, 32, indirect | VGD_GUEST_DESC_NEXT, b)},
        {"a table whose next leads out of it", desc(raw.table_gpa, 16, indirect, 0)},
        {"a writable table", desc(raw.table_gpa, 32, indirect | VGD_GUEST_DESC_WRITE, 0)},
    };
    raw.ring.desc[b] = desc(raw.resp_gpa, 24, VGD_GUEST_DESC_WRITE, 0);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        raw.ring.desc[a] = table[i].head;
        raw_try(p, &raw, table[i].what, a);
    }
    raw.ring.desc[a] = desc(raw.table_gpa, 32, indirect, 0);
    raw.table[0] = desc(raw.table_gpa + 64, 32, indirect, 0);
    raw_try(p, &raw, "a table in a table", a);
    raw.table[0] = desc(raw.req_gpa, 48, VGD_GUEST_DESC_NEXT, 0);
    raw_try(p, &raw, "a table whose first entry names itself", a);
    raw.table[0] = desc(raw.req_gpa, 48, VGD_GUEST_DESC_NEXT, 0xffff);
    raw_try(p, &raw, "a table with next = 65535", a);
    /* 4096 entries that all are one long loop-free chain of empty bytes. */
    for (uint32_t i = 0; i < 4096; i++) {
        raw.table[i] = desc(raw.req_gpa, 1, i + 1 < 4096 ? VGD_GUEST_DESC_NEXT : 0, i + 1);
    }
    raw.ring.desc[a] = desc(raw.table_gpa, 4096 * 16, indirect, 0);
    raw_try(p, &raw, "a table of 4096 entries", a);
}

static void avail_jump(struct probe *p)
{
    /* The available index jumps by more than the queue size: nothing there can be believed. The
     * queue may stay dead, but a reset brings it back and the process lives. */
    struct raw raw;
    PROBE_REQUIRE(p, raw_begin(p, &raw));
    p->lost_ring_allowed = true; /* old slots may come back as if they were new */
    __atomic_store_n(&raw.ring.avail[1], (uint16_t)(raw.ring.avail[1] + raw.ring.size + 7),
                     __ATOMIC_RELEASE);
    vgd_guest_frontend_kick(vgd_guest_gpu_frontend(p->gpu), VGD_GUEST_CONTROL);
    vgd_guest_gpu_turn(p->gpu, 100);
    if (vgd_guest_frontend_is_closed(vgd_guest_gpu_frontend(p->gpu))) {
        probe_fail(p, "the backend closed the connection");
        return;
    }
    PROBE_REQUIRE(p, vgd_guest_gpu_reset(p->gpu) == VGD_OK);
    probe_goes_on(p);
}

static void rewritten_while_read(struct probe *p)
{
    /* The guest rewrites descriptors while the device walks them: whichever it reads, it reads
     * once, and goes on. */
    struct raw raw;
    PROBE_REQUIRE(p, raw_begin(p, &raw));
    uint16_t a = vgd_guest_queue_raw_take(raw.q);
    uint16_t b = vgd_guest_queue_raw_take(raw.q);
    for (uint32_t round = 0; round < 300; round++) {
        raw.ring.desc[a] = desc(raw.req_gpa, 48, VGD_GUEST_DESC_NEXT, b);
        raw.ring.desc[b] = desc(raw.resp_gpa, 24, VGD_GUEST_DESC_WRITE, 0);
        uint32_t used_before = vgd_guest_queue_raw_used_count(raw.q);
        vgd_guest_queue_raw_push(raw.q, a);
        vgd_guest_gpu_kick(p->gpu, VGD_GUEST_CONTROL);
        for (uint32_t i = 0; i < 50 * (round % 20); i++) {
            volatile struct vgd_guest_desc *d = &raw.ring.desc[i % 2 == 0 ? a : b];
            d->len_bytes = i % 3 == 0 ? 0xffffffff : 24;
            d->gpa = i % 5 == 0 ? UINT64_MAX - 7 : raw.req_gpa;
        }
        uint64_t deadline_ns = vgd_now_ns() + UINT64_C(2000000000);
        while (vgd_guest_queue_raw_used_count(raw.q) == used_before) {
            if (vgd_now_ns() > deadline_ns ||
                vgd_guest_frontend_is_closed(vgd_guest_gpu_frontend(p->gpu))) {
                probe_fail(p, "round %u: the chain never comes back", round);
                return;
            }
            vgd_guest_gpu_turn(p->gpu, 10);
        }
    }
    probe_goes_on(p);
}

#define CONFIG(...) .config = {__VA_ARGS__}

static const struct probe_test tests[] = {
    {"rings/few-thousand", few_thousand, PROBE_ANY},
    {"rings/no-event-idx", few_thousand, PROBE_EXEC, CONFIG(.no_event_idx = true)},
    {"rings/no-indirect", few_thousand, PROBE_EXEC,
     CONFIG(.no_indirect = true, .control_queue_size = 64)},
    {"rings/no-indirect-no-event-idx", few_thousand, PROBE_EXEC,
     CONFIG(.no_indirect = true, .no_event_idx = true)},
    {"rings/small-queue", few_thousand, PROBE_EXEC, CONFIG(.control_queue_size = 8)},
    {"rings/queue-of-1024", few_thousand, PROBE_EXEC, CONFIG(.control_queue_size = 1024)},
    {"rings/full-queue", full_queue, PROBE_ANY},
    {"rings/index-wrap", index_wrap, PROBE_ANY},
    {"rings/index-wrap-batches", index_wrap_batches, PROBE_ANY},
    {"rings/index-wrap-no-event-idx", index_wrap, PROBE_EXEC, CONFIG(.no_event_idx = true)},
    {"rings/cursor-wrap", cursor_wrap, PROBE_ANY},
    {"rings/interrupts-are-needed", interrupts_are_needed, PROBE_ANY},
    {"rings/no-kick-needed", no_kick_needed, PROBE_ANY},
    {"rings/pieces", pieces, PROBE_ANY},
    {"rings/pieces-no-indirect", pieces, PROBE_EXEC, CONFIG(.no_indirect = true)},
    {"rings/bad-next", bad_next, PROBE_EXEC, CONFIG(.command_timeout_ms = 2000)},
    {"rings/bad-head", bad_head, PROBE_EXEC, CONFIG(.command_timeout_ms = 2000)},
    {"rings/bad-address", bad_address, PROBE_EXEC, CONFIG(.command_timeout_ms = 2000)},
    {"rings/address-in-hole", address_in_hole, PROBE_EXEC,
     CONFIG(.command_timeout_ms = 2000, .n_regions = 2, .region_hole_bytes = 1u << 20)},
    {"rings/wrong-order", wrong_order, PROBE_EXEC, CONFIG(.command_timeout_ms = 2000)},
    {"rings/bad-indirect", bad_indirect, PROBE_EXEC, CONFIG(.command_timeout_ms = 2000)},
    {"rings/avail-jump", avail_jump, PROBE_EXEC, CONFIG(.command_timeout_ms = 2000)},
    {"rings/rewritten-while-read", rewritten_while_read, PROBE_EXEC,
     CONFIG(.command_timeout_ms = 2000)},
};

const struct probe_suite probe_rings = {tests, sizeof(tests) / sizeof(tests[0])};
