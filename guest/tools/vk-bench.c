/* SPDX-License-Identifier: MIT */
/*
 * What a Vulkan device does, checked, and how fast: the same program natively, through venus in a
 * guest, and through venus without a VM. No window, Vulkan 1.1, no extension.
 *
 *   vk-bench [--checks] [--seconds S] [--device SUBSTRING]
 *
 * --checks   only the checks
 * --seconds  how long each measurement runs (default 1)
 * --device   the first device whose name contains this
 *
 * Prints "PASS name" or "FAIL name: why", then "name value unit" lines. Exit status: the number of
 * failed checks, 100 if there is no device to use.
 */
#include "vk-bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPEED_BYTES (256u << 20) /* a buffer that bandwidth is measured on */
#define SOURCE_BYTES (1u << 20)  /* what is written into it: stays in the processor's cache */
#define CYCLE_BYTES (1u << 20)   /* an allocation that is mapped, touched and freed */
#define DRAWS 10000u             /* in one command buffer */
#define MAX_SAMPLES 100000u      /* of one latency */

static double seconds = 1.0;

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* How long @once takes: median and 99th percentile. */
static void latency(const char *name, void (*once)(void))
{
    uint64_t *samples = calloc(MAX_SAMPLES, sizeof(*samples));
    if (samples == NULL) {
        no_device("out of memory");
    }
    for (unsigned warm = 0; warm < 20; warm++) {
        once();
    }
    size_t n = 0;
    uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    do {
        uint64_t start_ns = now_ns();
        once();
        samples[n++] = now_ns() - start_ns;
    } while (n < MAX_SAMPLES && now_ns() < end_ns);
    qsort(samples, n, sizeof(*samples), by_size);
    printf("%s %.1f us\n%s-p99 %.1f us\n", name, (double)samples[n / 2] / 1e3, name,
           (double)samples[n * 99 / 100] / 1e3);
    (void)fflush(stdout);
    free(samples);
}

/* How much @once moves a second: the best of its runs, as for any bandwidth on a shared machine. */
static void bandwidth(const char *name, uint64_t n_bytes, void (*once)(void))
{
    once(); /* first touch of the pages */
    uint64_t best_ns = UINT64_MAX;
    uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    do {
        uint64_t start_ns = now_ns();
        once();
        uint64_t took_ns = now_ns() - start_ns;
        best_ns = took_ns < best_ns ? took_ns : best_ns;
    } while (now_ns() < end_ns);
    printf("%s %.2f GB/s\n", name, (double)n_bytes / (double)best_ns);
    (void)fflush(stdout);
}

/* ---- what is measured ---- */

static struct buffer host, local;
static uint32_t *source; /* SOURCE_BYTES */
static volatile uint64_t sum;

static void submit_nothing(void)
{
    submit_and_wait(NULL);
}

/* There and back: the device writes a word into mapped memory, the processor reads it. */
static void round_trip(void)
{
    static uint32_t value = 1;
    value++;
    begin();
    vkCmdFillBuffer(vk.commands, host.buffer, 0, 4, value);
    end_submit_wait();
    if (*(volatile uint32_t *)host.words != value) {
        verdict("round-trip", 1, 1);
        exit((int)vk.n_failed);
    }
}

static void write_mapped(void)
{
    for (size_t at = 0; at < SPEED_BYTES; at += SOURCE_BYTES) {
        memcpy((uint8_t *)host.words + at, source, SOURCE_BYTES);
    }
}

static void read_mapped(void)
{
    const uint64_t *words = (const uint64_t *)(const void *)host.words;
    uint64_t total[4] = {0};
    for (size_t i = 0; i < SPEED_BYTES / 8; i += 4) {
        for (size_t lane = 0; lane < 4; lane++) {
            total[lane] += words[i + lane];
        }
    }
    sum += total[0] + total[1] + total[2] + total[3];
}

static void upload(void)
{
    copy_once(&host, &local, SPEED_BYTES);
}

static void download(void)
{
    copy_once(&local, &host, SPEED_BYTES);
}

static void allocate_cycle(void)
{
    struct buffer b;
    buffer_host(&b, CYCLE_BYTES);
    b.words[0] = 1;
    buffer_destroy(&b);
}

static void bandwidths(uint32_t type)
{
    char name[64];
    if (!buffer_create(&host, SPEED_BYTES, type)) {
        return;
    }
    const struct {
        const char *name;
        void (*once)(void);
    } ways[] = {{"mapped-write", write_mapped},
                {"mapped-read", read_mapped},
                {"upload", upload},
                {"download", download}};
    for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
        (void)snprintf(name, sizeof(name), "%s-type-%u", ways[w].name, (unsigned)type);
        bandwidth(name, SPEED_BYTES, ways[w].once);
    }
    buffer_destroy(&host);
}

/* Recorded anew for each submission, as most programs do. */
static void draws(void)
{
    uint64_t n = 0;
    uint64_t start_ns = now_ns();
    uint64_t took_ns;
    do {
        draw_begin();
        for (uint32_t i = 0; i < DRAWS; i++) {
            float at = (float)(i % 128) / 64.0f - 1.0f;
            struct push push = {{at, at, at + 0.01f, at + 0.01f}, {1.0f, 0.5f, 0.25f, 1.0f}};
            draw_rect(&push);
        }
        draw_end();
        end_submit_wait();
        n += DRAWS;
        took_ns = now_ns() - start_ns;
    } while (took_ns < (uint64_t)(seconds * 1e9));
    printf("draws %.0f k/s\n", (double)n * 1e6 / (double)took_ns);
    (void)fflush(stdout);
}

static void measure(void)
{
    source = malloc(SOURCE_BYTES);
    if (source == NULL) {
        no_device("out of memory");
    }
    memset(source, 0x33, SOURCE_BYTES);
    latency("empty-submit", submit_nothing);
    buffer_host(&host, 4096);
    latency("round-trip", round_trip);
    buffer_destroy(&host);
    latency("allocate-map-free", allocate_cycle);
    buffer_device(&local, SPEED_BYTES);
    for (uint32_t t = 0; t < vk.memory.memoryTypeCount; t++) {
        if (is_type(t, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)) {
            bandwidths(t);
        }
    }
    buffer_destroy(&local);
    draws();
    free(source);
}

static void usage(void)
{
    (void)fputs("usage: vk-bench [--checks] [--seconds S] [--device SUBSTRING]\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    bool only_checks = false;
    const char *device = "";
    for (int a = 1; a < argc; a++) {
        bool has_value = a + 1 < argc;
        if (strcmp(argv[a], "--checks") == 0) {
            only_checks = true;
        } else if (strcmp(argv[a], "--seconds") == 0 && has_value) {
            seconds = strtod(argv[++a], NULL);
        } else if (strcmp(argv[a], "--device") == 0 && has_value) {
            device = argv[++a];
        } else {
            usage();
        }
    }
    open_device(device);
    for (uint32_t t = 0; t < vk.memory.memoryTypeCount; t++) {
        VkMemoryPropertyFlags flags = vk.memory.memoryTypes[t].propertyFlags;
        printf("memory-type-%u 0x%x heap %u\n", (unsigned)t, (unsigned)flags,
               (unsigned)vk.memory.memoryTypes[t].heapIndex);
        if ((flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) != 0) {
            check_mapped_type(t);
        }
    }
    check_compute();
    scene_create();
    check_picture();
    if (!only_checks) {
        measure();
    }
    scene_destroy();
    close_device();
    return (int)vk.n_failed;
}
