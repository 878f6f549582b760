// Keeps many allocations of mapped memory alive, and makes and frees many: every one is a map of
// the host-visible window.
//
//   vk-maps [--live N] [--kib N] [--hold] [--churn SECONDS] [--any]
//
// --live N   N allocations (1000), all mapped at once. The processor writes into each, the GPU
//            copies out of each and fills a part of each, the processor checks all of it.
// --kib N    the size of each (128); every seventh is a page larger, so that sizes differ
// --hold     prints "holding", then checks all again for each line "verify" on standard input and
//            prints "verified N: N wrong"; when that ends it frees all and goes on
// --churn S  then allocates, maps, writes, checks and frees one after the other; prints "cycles: N"
// --any      takes the first Vulkan device, not only venus
//
// Exit status: 0 all right, 1 wrong contents, 2 an allocation or a map failed, or the device was
// lost.
#include "vk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096
#define WORDS_PER_PAGE (PAGE_BYTES / 4)

struct maps {
    struct vk vk;
    struct vk_buffer *live;
    struct vk_buffer gathered; // one page of each, copied there by the GPU
    uint32_t n_live;
    VkDeviceSize bytes;
};

static const VkBufferUsageFlags usage =
    VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;

static uint32_t written(uint32_t index, uint32_t word)
{
    return (index + 1) * UINT32_C(2654435761) ^ word * UINT32_C(40503);
}

/// The last page of each allocation is the GPU's: filled with one word.
static uint32_t filled(uint32_t index)
{
    return ~index;
}

static VkDeviceSize last_page(const struct vk_buffer *buffer)
{
    return buffer->n_bytes - PAGE_BYTES;
}

static void write_first_page(const struct vk_buffer *buffer, uint32_t index)
{
    for (uint32_t word = 0; word < WORDS_PER_PAGE; word++) {
        ((uint32_t *)buffer->map)[word] = written(index, word);
    }
}

static bool page_is_right(const uint32_t *words, uint32_t index)
{
    for (uint32_t word = 0; word < WORDS_PER_PAGE; word++) {
        if (words[word] != written(index, word)) {
            printf("wrong: allocation %" PRIu32 " word %" PRIu32 " is 0x%" PRIx32 ", not 0x%" PRIx32
                   "\n",
                   index, word, words[word], written(index, word));
            return false;
        }
    }
    return true;
}

static bool fill_is_right(const struct vk_buffer *buffer, uint32_t index)
{
    const uint32_t *words = (const uint32_t *)((const char *)buffer->map + last_page(buffer));
    for (uint32_t word = 0; word < WORDS_PER_PAGE; word++) {
        if (words[word] != filled(index)) {
            printf("wrong: allocation %" PRIu32 ": the GPU's word %" PRIu32 " is 0x%" PRIx32
                   ", not 0x%" PRIx32 "\n",
                   index, word, words[word], filled(index));
            return false;
        }
    }
    return true;
}

/// Lets the GPU read the first page of each and, with fill, write the last one. Returns how many
/// have wrong contents.
static uint32_t check_all(struct maps *m, bool fill)
{
    memset(m->gathered.map, 0x5a, m->gathered.n_bytes);
    vk_begin(&m->vk);
    vk_barrier(&m->vk);
    for (uint32_t i = 0; i < m->n_live; i++) {
        VkBufferCopy page = {.dstOffset = (VkDeviceSize)i * PAGE_BYTES, .size = PAGE_BYTES};
        vkCmdCopyBuffer(m->vk.commands, m->live[i].buffer, m->gathered.buffer, 1, &page);
        if (fill) {
            vkCmdFillBuffer(m->vk.commands, m->live[i].buffer, last_page(&m->live[i]), PAGE_BYTES,
                            filled(i));
        }
    }
    vk_finish(&m->vk);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < m->n_live; i++) {
        const char *seen = (const char *)m->gathered.map + (size_t)i * PAGE_BYTES;
        bool right = page_is_right((const uint32_t *)seen, i) && page_is_right(m->live[i].map, i) &&
                     fill_is_right(&m->live[i], i);
        wrong += !right;
    }
    return wrong;
}

static uint32_t keep_alive(struct maps *m, bool hold)
{
    m->live = calloc(m->n_live, sizeof(*m->live));
    if (m->live == NULL) {
        vk_die(&m->vk, "out of memory");
    }
    vk_buffer_create(&m->vk, (VkDeviceSize)m->n_live * PAGE_BYTES, usage, HOST_MEMORY,
                     &m->gathered);
    double begin = vk_now_s();
    for (uint32_t i = 0; i < m->n_live; i++) {
        vk_buffer_create(&m->vk, m->bytes + (i % 7 == 0 ? PAGE_BYTES : 0), usage, HOST_MEMORY,
                         &m->live[i]);
        write_first_page(&m->live[i], i);
    }
    double made = vk_now_s();
    uint32_t wrong = check_all(m, true);
    printf("live: %" PRIu32 " allocations, %" PRIu32 " wrong, %.3f ms each\n", m->n_live, wrong,
           (made - begin) * 1e3 / m->n_live);
    char line[64];
    if (hold) {
        puts("holding");
        for (uint32_t n = 1; fgets(line, sizeof(line), stdin) != NULL; n++) {
            uint32_t now_wrong = check_all(m, false);
            printf("verified %" PRIu32 ": %" PRIu32 " wrong\n", n, now_wrong);
            wrong += now_wrong;
        }
    }
    for (uint32_t i = 0; i < m->n_live; i++) {
        vk_buffer_destroy(&m->vk, &m->live[i]);
    }
    vk_buffer_destroy(&m->vk, &m->gathered);
    free(m->live);
    return wrong;
}

static uint32_t churn(struct maps *m, double seconds)
{
    uint32_t wrong = 0, cycles = 0;
    double end = vk_now_s() + seconds, told = 0;
    for (; vk_now_s() < end; cycles++) {
        struct vk_buffer buffer;
        vk_buffer_create(&m->vk, m->bytes + cycles % 7 * PAGE_BYTES, usage, HOST_MEMORY, &buffer);
        write_first_page(&buffer, cycles);
        vk_begin(&m->vk);
        vkCmdFillBuffer(m->vk.commands, buffer.buffer, last_page(&buffer), PAGE_BYTES,
                        filled(cycles));
        vk_finish(&m->vk);
        wrong += !(page_is_right(buffer.map, cycles) && fill_is_right(&buffer, cycles));
        vk_buffer_destroy(&m->vk, &buffer);
        if (vk_now_s() > told + 0.2) {
            printf("cycles: %" PRIu32 "\n", cycles + 1);
            told = vk_now_s();
        }
    }
    printf("churn: %" PRIu32 " cycles, %" PRIu32 " wrong\n", cycles, wrong);
    return wrong;
}

int main(int argc, char **argv)
{
    bool any = false, hold = false;
    double churn_s = 0;
    struct maps m = {.n_live = 1000, .bytes = 128 * 1024};
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--any") == 0) {
            any = true;
        } else if (strcmp(argv[i], "--hold") == 0) {
            hold = true;
        } else if (strcmp(argv[i], "--live") == 0 && more) {
            m.n_live = (uint32_t)atoi(argv[++i]);
        } else if (strcmp(argv[i], "--kib") == 0 && more && atoi(argv[i + 1]) >= 8) {
            m.bytes = (VkDeviceSize)atoi(argv[++i]) * 1024;
        } else if (strcmp(argv[i], "--churn") == 0 && more) {
            churn_s = atof(argv[++i]);
        } else {
            fputs("usage: vk-maps [--live N] [--kib N] [--hold] [--churn SECONDS] [--any]\n",
                  stderr);
            return EXIT_COULD_NOT;
        }
    }
    vk_open(&m.vk, "vk-maps", any);
    uint32_t wrong = m.n_live > 0 ? keep_alive(&m, hold) : 0;
    if (churn_s > 0) {
        wrong += churn(&m, churn_s);
    }
    vk_close(&m.vk);
    return wrong == 0 ? EXIT_RIGHT : EXIT_WRONG;
}
