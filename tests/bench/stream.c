/* SPDX-License-Identifier: MIT */
/*
 * What it costs to look at a virgl command stream: ns for each command and for each draw.
 *
 *   bench-stream [ROUNDS]
 *
 * The stream is that of a program with many small draws, as Mesa makes it: for each draw one
 * constant buffer, vertex buffers, sometimes a texture, a state object or a shader, and the draw.
 * It is gone through again and again, so it is in the cache, as it is when a worker has just copied
 * it out of guest memory. Prints the median and the best of the rounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bytes.h"
#include "stream.h"
#include "virgl_wire.h"

#define DRAWS 1000u
#define STREAM_BYTES (DRAWS * 512u)
#define ROUNDS 21u
#define ROUNDS_MAX 1001u
#define PASSES 20u /* of a round */

static uint32_t n_commands;
static volatile uint64_t sink; /* so that nothing is optimised away */

static void constants(struct vgd_writer *w, uint32_t stage, uint32_t i)
{
    uint32_t values[16];
    for (uint32_t k = 0; k < 16; k++) {
        values[k] = 0x3f800000 + i + k;
    }
    vgd_virgl_set_constant_buffer_encode(
        w, &(struct vgd_virgl_set_constant_buffer){
               .stage = stage, .n_values_dwords = 16, .values = values});
}

static uint32_t make_stream(uint32_t *dwords)
{
    struct vgd_writer w = vgd_writer_of(dwords, STREAM_BYTES);
    for (uint32_t i = 0; i < DRAWS; i++) {
        constants(&w, VGD_VIRGL_STAGE_VERTEX, i);
        const uint32_t buffers[] = {24, 0, 5 + i % 7, 16, 4096, 12};
        vgd_virgl_set_vertex_buffers_encode(
            &w, &(struct vgd_virgl_set_vertex_buffers){.n_buffers = 2, .buffers = buffers});
        n_commands += 3;
        if (i % 3 == 0) {
            const uint32_t views[] = {100 + i % 5, 200};
            vgd_virgl_set_sampler_views_encode(
                &w, &(struct vgd_virgl_set_sampler_views){
                        .stage = VGD_VIRGL_STAGE_FRAGMENT, .n_views = 2, .views = views});
            constants(&w, VGD_VIRGL_STAGE_FRAGMENT, i);
            n_commands += 2;
        }
        if (i % 5 == 0) {
            vgd_virgl_bind_object_encode(
                &w, &(struct vgd_virgl_bind_object){.object = VGD_VIRGL_OBJECT_DSA, .handle = 7});
            vgd_virgl_bind_shader_encode(
                &w, &(struct vgd_virgl_bind_shader){.handle = 9, .stage = i % 2});
            n_commands += 2;
        }
        vgd_virgl_draw_vbo_encode(&w, &(struct vgd_virgl_draw_vbo){.form_dwords = 12,
                                                                   .count = 6,
                                                                   .mode = VGD_VIRGL_PRIM_TRIANGLES,
                                                                   .indexed = true,
                                                                   .instances = 1,
                                                                   .max_index = 3});
    }
    if (w.status != VGD_OK) {
        abort();
    }
    return (uint32_t)(vgd_writer_used(&w) / sizeof(*dwords));
}

static void check_one(const struct vgd_command *cmd)
{
    struct vgd_command_fault fault;
    if (vgd_command_check(cmd, &fault) != VGD_OK) {
        (void)fprintf(stderr, "%s: %s\n", vgd_command_name(cmd), fault.what);
        exit(1);
    }
}

static void step_over(const struct vgd_command *cmd)
{
    sink += cmd->opcode;
}

static void check_and_refs(const struct vgd_command *cmd)
{
    check_one(cmd);
    struct vgd_command_refs refs = vgd_command_refs_of(cmd);
    struct vgd_command_ref ref;
    while (vgd_command_refs_next(&refs, &ref)) {
        sink += ref.id;
    }
}

static void check_and_decode(const struct vgd_command *cmd)
{
    check_one(cmd);
    struct vgd_virgl_draw_vbo draw;
    if (cmd->opcode == VGD_VIRGL_CMD_DRAW_VBO && vgd_virgl_draw_vbo_decode(cmd, &draw) == VGD_OK) {
        sink += draw.count;
    }
}

static void print_one(const struct vgd_command *cmd)
{
    char line[VGD_COMMAND_LINE_BYTES_MAX];
    sink += vgd_command_print(cmd, line, sizeof(line));
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void measure(const char *name, void (*look)(const struct vgd_command *),
                    const uint32_t *dwords, uint32_t n_dwords, uint32_t rounds)
{
    static double ns[ROUNDS_MAX];
    for (uint32_t r = 0; r < rounds; r++) {
        struct timespec begin, end;
        (void)clock_gettime(CLOCK_MONOTONIC, &begin);
        for (uint32_t p = 0; p < PASSES; p++) {
            struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
            struct vgd_command cmd;
            while (vgd_stream_next(&s, &cmd)) {
                look(&cmd);
            }
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &end);
        ns[r] =
            ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) /
            PASSES;
    }
    qsort(ns, rounds, sizeof(ns[0]), by_value);
    double median = ns[rounds / 2];
    printf("%-24s %7.1f ns a command (best %5.1f), %7.1f ns a draw\n", name, median / n_commands,
           ns[0] / n_commands, median / DRAWS);
}

int main(int argc, char **argv)
{
    uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : ROUNDS;
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        (void)fprintf(stderr, "usage: bench-stream [ROUNDS]   (1 to %u)\n", ROUNDS_MAX);
        return 2;
    }
    uint32_t *dwords = calloc(1, STREAM_BYTES);
    if (dwords == NULL) {
        return 1;
    }
    uint32_t n_dwords = make_stream(dwords);
    printf("%u draws, %u commands, %u dwords\n", DRAWS, n_commands, n_dwords);
    measure("step over", step_over, dwords, n_dwords, rounds);
    measure("check", check_one, dwords, n_dwords, rounds);
    measure("check, decode draws", check_and_decode, dwords, n_dwords, rounds);
    measure("check, ids", check_and_refs, dwords, n_dwords, rounds);
    measure("print", print_one, dwords, n_dwords, rounds);
    free(dwords);
    return 0;
}
