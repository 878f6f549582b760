/* SPDX-License-Identifier: MIT */
/*
 * Several threads that record, while another asks, stops and lets go. For the thread sanitizer, so
 * without Criterion. Prints TAP.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fd.h"
#include "trace_reader.h"
#include "trace_writer.h"

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("not ok - %s:%d: %s ", __FILE__, __LINE__, #cond);                              \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define N_THREADS 4u
#define WAIT_MS 30000u

struct producer {
    struct vgd_trace_writer *writer;
    atomic_bool *go_on;
    uint32_t idx;
    uint64_t n_taken, n_lost;
};

static void *produce(void *user)
{
    struct producer *p = user;
    uint8_t data[9000];
    memset(data, (int)p->idx, sizeof(data));
    struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
    for (uint64_t i = 0; atomic_load(p->go_on); i++) {
        data[0] = (uint8_t)i;
        struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_COMMAND};
        record.as.command.command_id = (uint64_t)p->idx << 32 | i;
        if (vgd_trace_writer_put(p->writer, &record, &iov, 1, 0, i % sizeof(data))) {
            p->n_taken++;
        } else {
            p->n_lost++;
        }
        (void)vgd_trace_writer_room_bytes(p->writer);
    }
    return NULL;
}

/* Each thread's records in its order, as many as were taken. */
static uint64_t check_file(int *fd, const struct producer *producers)
{
    struct vgd_trace_reader *reader = NULL;
    struct vgd_trace_fault fault;
    enum vgd_status st = vgd_trace_reader_open(fd, &reader, &fault);
    CHECK(st == VGD_OK, "%s", fault.text);
    struct vgd_trace_item item;
    uint64_t n[N_THREADS] = {0}, last[N_THREADS], lost = 0;
    while ((st = vgd_trace_reader_next(reader, &item)) == VGD_OK) {
        if (item.record.kind == VGD_TRACE_KIND_GAP) {
            lost += item.record.as.gap.lost_records;
        } else if (item.record.kind == VGD_TRACE_KIND_COMMAND) {
            uint64_t id = item.record.as.command.command_id;
            uint32_t idx = (uint32_t)(id >> 32);
            CHECK(idx < N_THREADS, "%u", idx);
            CHECK(n[idx] == 0 || (id & UINT32_MAX) > last[idx], "out of order");
            uint8_t bytes[9000];
            st = vgd_trace_reader_data(reader, &item.data, 0, bytes, (size_t)item.data.total_bytes);
            CHECK(st == VGD_OK, "%s", vgd_trace_reader_fault(reader)->text);
            CHECK(item.data.total_bytes < 2 || bytes[1] == idx, "mixed up");
            last[idx] = id & UINT32_MAX;
            n[idx]++;
        }
    }
    CHECK(st == VGD_CLOSED, "%s", vgd_trace_reader_fault(reader)->text);
    for (uint32_t i = 0; i < N_THREADS; i++) {
        CHECK(n[i] == producers[i].n_taken, "thread %u: %llu of %llu", i, (unsigned long long)n[i],
              (unsigned long long)producers[i].n_taken);
    }
    vgd_trace_reader_close(reader);
    return lost;
}

/* Stop comes in the middle: before the threads know, or after. */
static void round_of(unsigned pause_us)
{
    int fd = memfd_create("trace", MFD_CLOEXEC);
    int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    CHECK(fd >= 0 && kept >= 0, "%s", "");
    struct vgd_trace_writer_config config = {
        .memory_max_bytes = (size_t)8 << 20, .flush_ms = 1, .out = {.dedup_count = 64}};
    struct vgd_trace_writer *w = NULL;
    enum vgd_status st = vgd_trace_writer_create(&config, &fd, &w);
    CHECK(st == VGD_OK, "%d", st);
    atomic_bool go_on = true;
    struct producer producers[N_THREADS];
    pthread_t threads[N_THREADS];
    for (uint32_t i = 0; i < N_THREADS; i++) {
        producers[i] = (struct producer){.writer = w, .go_on = &go_on, .idx = i};
        CHECK(pthread_create(&threads[i], NULL, produce, &producers[i]) == 0, "%s", "");
    }
    (void)usleep(pause_us);
    (void)vgd_trace_writer_stats(w);
    vgd_trace_writer_stop(w);
    (void)vgd_trace_writer_stats(w);
    CHECK(vgd_trace_writer_wait(w, WAIT_MS), "it did not end");
    atomic_store(&go_on, false);
    for (uint32_t i = 0; i < N_THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    struct vgd_trace_writer_stats stats = vgd_trace_writer_stats(w);
    CHECK(stats.state == VGD_TRACE_ENDED, "%d", stats.error);
    vgd_trace_writer_destroy(w);
    uint64_t lost = check_file(&kept, producers);
    CHECK(lost == stats.lost_records, "%llu in gaps, %llu lost", (unsigned long long)lost,
          (unsigned long long)stats.lost_records);
    vgd_fd_closep(&kept);
}

/* Records that come one by one, each from a writer that sleeps: none is forgotten. */
static void no_wake_up_is_lost(void)
{
    int fd = memfd_create("trace", MFD_CLOEXEC);
    struct vgd_trace_writer_config config = {.flush_ms = 1, .out = {.dedup_count = 64}};
    struct vgd_trace_writer *w = NULL;
    enum vgd_status st = vgd_trace_writer_create(&config, &fd, &w);
    CHECK(st == VGD_OK, "%d", st);
    for (uint32_t i = 1; i <= 300; i++) {
        struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_STATE_END};
        CHECK(vgd_trace_writer_put(w, &record, NULL, 0, 0, 0), "%s", "");
        unsigned turns = 0;
        while (vgd_trace_writer_stats(w).out.records < i) {
            CHECK(turns++ < 100000, "record %u was not seen", i);
            (void)usleep(100);
        }
        if (i % 3 == 0) {
            (void)usleep(2000); /* until its frame is written, and it sleeps without an end */
        }
    }
    vgd_trace_writer_destroy(w);
}

int main(void)
{
    printf("1..2\n");
    for (unsigned i = 0; i < 40; i++) {
        round_of(i * 300);
    }
    printf("ok - stop at any time\n");
    no_wake_up_is_lost();
    printf("ok - no wake-up is lost\n");
    return 0;
}
