/* SPDX-License-Identifier: MIT */
/* What a worker counts, as the supervisor tells it: any bytes in the vault give good JSON that fits
 * a reply. */
#include <criterion/criterion.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "live_json.h"

#define REPLY_HEAD_BYTES 64u /* "v" and the key */

static struct vgd_gpu_live live;
static struct vgd_gpu_counters counters;
static const struct vgd_live_worker worker = {
    .uptime_ns = UINT64_MAX, .starts = UINT64_MAX, .deaths = UINT64_MAX, .pid = UINT64_MAX};

static void fill(void *at, size_t n_bytes, unsigned seed)
{
    srand(seed);
    for (size_t i = 0; i < n_bytes; i++) {
        ((uint8_t *)at)[i] = (uint8_t)rand();
    }
}

/* Its length; parsed again and put. */
static size_t checked(struct json_object *value)
{
    size_t n_bytes;
    const char *text = json_object_to_json_string_length(value, JSON_C_TO_STRING_PLAIN, &n_bytes);
    for (size_t i = 0; i < n_bytes; i++) {
        cr_assert(text[i] >= ' ' && text[i] <= '~');
    }
    cr_assert_lt(n_bytes + REPLY_HEAD_BYTES, VGD_CONTROL_REPLY_BYTES_MAX);
    struct json_object *again = json_tokener_parse(text);
    cr_assert(json_object_equal(again, value));
    (void)json_object_put(again);
    (void)json_object_put(value);
    return n_bytes;
}

static struct json_object *at(struct json_object *array, size_t i, const char *key)
{
    return json_object_object_get(json_object_array_get_idx(array, i), key);
}

/* All parts of the list; how many contexts. */
static size_t walk(void)
{
    size_t n = 0;
    int64_t from_id = 0;
    for (uint32_t parts = 0;; parts++) {
        int64_t next_id = -2;
        struct json_object *part = vgd_live_contexts(&live, (uint32_t)from_id, &next_id);
        cr_assert_leq(json_object_array_length(part), VGD_LIVE_CONTEXTS_MAX);
        for (size_t i = 0; i < json_object_array_length(part); i++) {
            cr_assert_geq(json_object_get_int64(at(part, i, "id")), from_id);
        }
        n += json_object_array_length(part);
        (void)checked(part);
        if (next_id == -1) {
            return n;
        }
        cr_assert_gt(next_id, from_id);
        cr_assert_lt(parts, VGD_CONTEXT_SLOTS_COUNT);
        from_id = next_id;
    }
}

Test(live_json, any_bytes_are_good_json)
{
    for (unsigned seed = 0; seed < 40; seed++) {
        fill(&live, sizeof(live), seed);
        fill(&counters, sizeof(counters), seed + 1000);
        for (uint32_t i = 0; i < VGD_CONTEXT_SLOTS_COUNT; i++) {
            live.contexts[i].id &= seed % 2 == 0 ? UINT32_MAX : 0xff;
        }
        (void)walk();
        (void)checked(vgd_live_errors(&live, seed));
        (void)checked(vgd_live_counters(&counters, &worker));
    }
}

Test(live_json, the_longest_replies_fit)
{
    memset(&live, 0xff, sizeof(live));
    memset(&counters, 0xff, sizeof(counters));
    for (uint32_t i = 0; i < VGD_CONTEXT_SLOTS_COUNT; i++) {
        struct vgd_gpu_context_slot *slot = &live.contexts[i];
        slot->seq = 2;
        slot->id = UINT32_MAX - i;
        memset(slot->name, '"', sizeof(slot->name)); /* two characters in JSON */
    }
    for (uint32_t i = 0; i < VGD_ERRORS_COUNT; i++) {
        live.errors[i].seq = 2;
        memset(live.errors[i].text, '/', sizeof(live.errors[i].text));
    }
    cr_assert_eq(walk(), VGD_CONTEXT_SLOTS_COUNT);
    int64_t next_id;
    struct json_object *part = vgd_live_contexts(&live, 0, &next_id);
    cr_assert_eq(json_object_array_length(part), VGD_LIVE_CONTEXTS_MAX);
    cr_assert_gt(checked(part), VGD_CONTROL_REPLY_BYTES_MAX / 2);
    struct json_object *errors = vgd_live_errors(&live, 5);
    cr_assert_eq(json_object_array_length(errors), VGD_ERRORS_COUNT);
    cr_assert_eq(json_object_get_int64(at(errors, 0, "age_ms")), 0);
    (void)checked(errors);
    (void)checked(vgd_live_counters(&counters, &worker));
}

Test(live_json, contexts_come_by_id_in_parts)
{
    memset(&live, 0, sizeof(live));
    cr_assert_eq(walk(), 0);
    for (uint32_t i = 0; i < 300; i++) {
        live.contexts[(i * 7) % 1024].id = 300 - i; /* in any order */
    }
    int64_t next_id;
    struct json_object *part = vgd_live_contexts(&live, 10, &next_id);
    for (uint32_t i = 0; i < VGD_LIVE_CONTEXTS_MAX; i++) {
        cr_assert_eq(json_object_get_int64(at(part, i, "id")), 10 + i);
    }
    cr_assert_eq(next_id, 10 + VGD_LIVE_CONTEXTS_MAX);
    (void)checked(part);
    cr_assert_eq(walk(), 300);
    part = vgd_live_contexts(&live, 301, &next_id);
    cr_assert_eq(json_object_array_length(part), 0);
    cr_assert_eq(next_id, -1);
    (void)checked(part);
}

Test(live_json, texts_are_printable_and_changing_slots_left_out)
{
    memset(&live, 0, sizeof(live));
    live.contexts[3].id = 5;
    memcpy(live.contexts[3].name, "a\x1b[2J\"\xff", 8);
    live.contexts[4].id = 6;
    live.contexts[4].seq = 7; /* odd, and stays so */
    live.errors[2] = (struct vgd_gpu_error_slot){
        .command = VGD_CMD_SUBMIT_3D,
        .response = VGD_RESP_ERR_UNSPEC,
        .ctx_id = 9,
        .count = 3,
        .last_ns = 1000000000,
    };
    live.errors[9] = live.errors[2];
    live.errors[9].command = 0x999;
    live.errors[9].last_ns++;
    memcpy(live.errors[2].text, "line\nline\0hidden", 16);
    int64_t next_id;
    struct json_object *part = vgd_live_contexts(&live, 0, &next_id);
    cr_assert_eq(json_object_array_length(part), 1);
    cr_assert_str_eq(json_object_get_string(at(part, 0, "name")), "a?[2J\"?");
    (void)checked(part);
    struct json_object *errors = vgd_live_errors(&live, 3500000000);
    cr_assert_eq(json_object_array_length(errors), 2);
    cr_assert_str_eq(json_object_get_string(at(errors, 0, "command")), "0x999");
    cr_assert_str_eq(json_object_get_string(at(errors, 1, "command")), "SUBMIT_3D");
    cr_assert_str_eq(json_object_get_string(at(errors, 1, "response")), "ERR_UNSPEC");
    cr_assert_str_eq(json_object_get_string(at(errors, 1, "text")), "line?line");
    cr_assert_eq(json_object_get_int64(at(errors, 1, "age_ms")), 2500);
    cr_assert_eq(json_object_get_int64(at(errors, 1, "count")), 3);
    (void)checked(errors);
}

Test(live_json, counters_by_name)
{
    memset(&counters, 0, sizeof(counters));
    counters.by_command[vgd_command_place(VGD_CMD_SUBMIT_3D)] = 7;
    counters.by_command[vgd_command_place(0x10f)] = 2; /* no such command: a worker that lies */
    counters.by_command[VGD_COMMAND_PLACES - 1] = 3;
    counters.by_response[vgd_response_place(VGD_RESP_OK_NODATA)] = 12;
    counters.fences = 10;
    counters.fences_done = 8;
    vgd_histogram_add(&counters.submit_time, 1500);
    vgd_histogram_add(&counters.submit_time, UINT64_C(1) << 40);
    struct json_object *all = vgd_live_counters(&counters, &worker);
    struct json_object *commands = json_object_object_get(all, "commands");
    cr_assert_eq(json_object_object_length(commands), 2);
    cr_assert_eq(json_object_get_int64(json_object_object_get(commands, "SUBMIT_3D")), 7);
    cr_assert_eq(json_object_get_int64(json_object_object_get(commands, "unknown")), 5);
    struct json_object *fences = json_object_object_get(all, "fences");
    cr_assert_eq(json_object_get_int64(json_object_object_get(fences, "outstanding")), 2);
    struct json_object *time = json_object_object_get(all, "submit_time");
    struct json_object *counts = json_object_object_get(time, "counts");
    struct json_object *le_ns = json_object_object_get(time, "le_ns");
    cr_assert_eq(json_object_array_length(counts), json_object_array_length(le_ns) + 1);
    cr_assert_eq(json_object_get_int64(json_object_array_get_idx(le_ns, 0)), 1024);
    cr_assert_eq(json_object_get_int64(json_object_array_get_idx(counts, 1)), 1);
    cr_assert_eq(json_object_get_int64(json_object_array_get_idx(counts, 24)), 1);
    cr_assert_eq(json_object_get_int64(json_object_object_get(time, "count")), 2);
    (void)checked(all);
}
