/* SPDX-License-Identifier: MIT */
/* Rule: whoever records never waits for the file, and what the file did not get is said in it. */
#include "trace_fixture.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "log.h"
#include "trace_writer.h"

#define WAIT_MS 20000u
#define PUMP_IDLE_MS 20
/* A put is a copy: far below this, also with a sanitizer on a busy machine. */
#define PUT_MAX_NS (UINT64_C(2000) * MS)

static struct vgd_trace_writer *writer_begin(int *fd, size_t buffer_bytes)
{
    /* Small frames: a disk that stands still is noticed soon. */
    struct vgd_trace_writer_config config = {
        .out = {.dedup_count = 256, .frame_raw_bytes = 64 << 10}};
    struct vgd_trace_writer *w = NULL;
    if (buffer_bytes != 0) { /* by way of the total */
        int probe = file_create();
        cr_assert_eq(vgd_trace_writer_create(&config, &probe, &w), VGD_OK);
        struct vgd_trace_writer_stats stats = vgd_trace_writer_stats(w);
        config.memory_max_bytes = stats.memory_bytes - stats.buffer_bytes + buffer_bytes;
        vgd_trace_writer_stop(w);
        cr_assert(vgd_trace_writer_wait(w, WAIT_MS));
        vgd_trace_writer_destroy(w);
    }
    cr_assert_eq(vgd_trace_writer_create(&config, fd, &w), VGD_OK);
    cr_assert_eq(*fd, -1, "taken");
    return w;
}

static bool put_bytes(struct vgd_trace_writer *w, uint64_t id, const void *data, size_t n_bytes)
{
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_COMMAND,
                                      .as.command = {.command_id = id}};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = n_bytes};
    uint64_t before_ns = vgd_now_ns();
    bool taken = vgd_trace_writer_put(w, &record, &iov, 1, 0, n_bytes);
    cr_assert_lt(vgd_now_ns() - before_ns, PUT_MAX_NS, "a put waited");
    return taken;
}

static struct vgd_trace_writer_stats writer_end(struct vgd_trace_writer *w)
{
    vgd_trace_writer_stop(w);
    cr_assert(vgd_trace_writer_wait(w, WAIT_MS), "it did not end");
    struct vgd_trace_writer_stats stats = vgd_trace_writer_stats(w);
    vgd_trace_writer_destroy(w);
    return stats;
}

Test(trace_writer, round_trip)
{
    unsigned fds_before = open_fds_count();
    int fd = file_create();
    int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct vgd_trace_writer *w = writer_begin(&fd, 0);
    static uint8_t data[300000];
    noise(data, sizeof(data), 3);
    for (uint64_t i = 1; i <= 200; i++) {
        cr_assert(put_bytes(w, i, data + i, i * 1000));
    }
    struct vgd_trace_writer_stats stats = writer_end(w);
    cr_assert(stats.state == VGD_TRACE_ENDED && stats.error == 0);
    cr_assert(stats.gaps == 0 && stats.lost_records == 0 && stats.lost_bytes == 0);
    cr_assert_eq(stats.out.records, 201, "and the end");
    cr_assert_eq(stats.out.bytes_out, file_size(kept));
    struct vgd_trace_reader *reader = reader_open(kept);
    struct vgd_trace_item item;
    uint64_t last_ns = 0;
    for (uint64_t i = 1; i <= 200; i++) {
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        cr_assert_eq(item.record.as.command.command_id, i);
        cr_assert(item.record.time_ns >= last_ns && item.record.time_ns < 60000 * MS);
        last_ns = item.record.time_ns;
        uint8_t *got = item_data(reader, &item);
        cr_assert(item.data.total_bytes == i * 1000 && memcmp(got, data + i, i * 1000) == 0);
        free(got);
    }
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
    cr_assert(item.record.kind == VGD_TRACE_KIND_END &&
              item.record.as.end.reason == VGD_TRACE_END_STOPPED);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_CLOSED);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&kept);
    cr_assert_eq(open_fds_count(), fds_before);
}

/* The data can lie in pieces, as guest memory does; what is missing of them becomes zeros. */
Test(trace_writer, data_from_an_iovec)
{
    int fd = file_create();
    int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct vgd_trace_writer *w = writer_begin(&fd, 0);
    char a[] = "..Hello", b[] = ", world";
    struct iovec iov[] = {{.iov_base = a, .iov_len = 7}, {.iov_base = b, .iov_len = 7}};
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_BACKING};
    cr_assert(vgd_trace_writer_put(w, &record, iov, 2, 2, 12));
    cr_assert(vgd_trace_writer_put(w, &record, iov, 2, 10, 6));
    cr_assert(vgd_trace_writer_put(w, &record, NULL, 0, 0, 3));
    (void)writer_end(w);
    struct vgd_trace_reader *reader = reader_open(kept);
    struct vgd_trace_item item;
    const struct {
        const char *bytes;
        size_t n;
    } want[] = {{"Hello, world", 12}, {"orld\0", 6}, {"\0\0", 3}};
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        cr_assert_eq(item.data.total_bytes, want[i].n);
        cr_assert_arr_eq(item.data.head, want[i].bytes, want[i].n);
    }
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&kept);
}

/* All that was promised: the buffer, zstd, tables, frames. */
Test(trace_writer, memory_is_bounded)
{
    cr_assert_leq(VGD_TRACE_MEMORY_DEFAULT_BYTES, 64000000);
    for (int level = 1; level <= VGD_TRACE_LEVEL_MAX; level += 4) {
        struct vgd_trace_writer_config config = {.out = {.level = level}};
        int fd = file_create();
        struct vgd_trace_writer *w = NULL;
        cr_assert_eq(vgd_trace_writer_create(&config, &fd, &w), VGD_OK);
        struct vgd_trace_writer_stats stats = vgd_trace_writer_stats(w);
        cr_assert_leq(stats.memory_bytes, VGD_TRACE_MEMORY_DEFAULT_BYTES);
        cr_assert_gt(stats.buffer_bytes, (size_t)VGD_TRACE_DATA_MAX, "level %d: %zu", level,
                     stats.buffer_bytes);
        (void)writer_end(w);
    }
    struct vgd_trace_writer_config small = {.memory_max_bytes = 1 << 20};
    int fd = file_create();
    struct vgd_trace_writer *w = NULL;
    cr_assert_eq(vgd_trace_writer_create(&small, &fd, &w), VGD_RANGE);
    cr_assert(fd >= 0, "still the caller's");
    vgd_fd_closep(&fd);
}

/* ---- slow ---- */

/* A pipe that is read when told to: to its end, or until nothing comes for a while. Its contents go
 * to a file, to be looked at. */
static void pump(int from, int to, size_t max_bytes)
{
    static uint8_t chunk[65536];
    struct pollfd p = {.fd = from, .events = POLLIN};
    while (max_bytes > 0 && (max_bytes > SIZE_MAX / 2 || poll(&p, 1, PUMP_IDLE_MS) == 1)) {
        ssize_t n = read(from, chunk, max_bytes < sizeof(chunk) ? max_bytes : sizeof(chunk));
        if (n <= 0) {
            break;
        }
        cr_assert_eq(write(to, chunk, (size_t)n), n);
        max_bytes -= (size_t)n;
    }
}

/* Reads up to the command @last_id. Commands have their numbers, but for those in @n_gaps gaps, and
 * the last one. Returns how many are in the gaps. */
static uint64_t count_with_gaps(struct vgd_trace_reader *reader, uint64_t last_id, uint64_t n_gaps)
{
    struct vgd_trace_item item;
    uint64_t expected = 0, lost = 0, gaps = 0;
    for (;;) {
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        if (item.record.kind == VGD_TRACE_KIND_GAP) {
            const struct vgd_trace_gap *gap = &item.record.as.gap;
            cr_assert(gap->lost_records > 0 && gap->since_ns <= item.record.time_ns);
            expected += gap->lost_records;
            lost += gap->lost_records;
            gaps++;
            continue;
        }
        cr_assert_eq(item.record.kind, VGD_TRACE_KIND_COMMAND);
        if (item.record.as.command.command_id == last_id) {
            break;
        }
        cr_assert_eq(item.record.as.command.command_id, expected, "a gap is elsewhere");
        expected++;
    }
    cr_assert_eq(gaps, n_gaps);
    return lost;
}

Test(trace_writer, a_full_buffer_makes_a_gap, .timeout = 60)
{
    int pipe_fds[2];
    cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    struct vgd_trace_writer *w = writer_begin(&pipe_fds[1], (size_t)1 << 20);
    static uint8_t data[50000];
    uint64_t taken = 0, lost = 0;
    for (uint64_t i = 0; i < 400; i++) { /* 20 MB, and nobody reads */
        noise(data, sizeof(data), i);
        bool there = put_bytes(w, i, data, sizeof(data));
        taken += there;
        lost += !there;
    }
    struct vgd_trace_writer_stats stats = vgd_trace_writer_stats(w);
    cr_assert(taken > 10 && lost > 200, "%llu taken", (unsigned long long)taken);
    cr_assert(stats.lost_records == lost && stats.lost_bytes == lost * sizeof(data));
    cr_assert_leq(stats.buffer_peak_bytes, stats.buffer_bytes);
    cr_assert_lt(vgd_trace_writer_room_bytes(w), sizeof(data));
    cr_assert_eq(stats.state, VGD_TRACE_RUNNING);

    /* The disk wakes up: the gap is told without another record to push it. */
    int copy = file_create();
    for (int i = 0; i < 1000 && vgd_trace_writer_stats(w).gaps == 0; i++) {
        pump(pipe_fds[0], copy, 1 << 20);
    }
    cr_assert_geq(vgd_trace_writer_stats(w).gaps, 1);
    cr_assert(put_bytes(w, 1000, data, 10));
    vgd_trace_writer_stop(w);
    pump(pipe_fds[0], copy, SIZE_MAX);
    cr_assert(vgd_trace_writer_wait(w, WAIT_MS));
    stats = vgd_trace_writer_stats(w);
    cr_assert_eq(stats.state, VGD_TRACE_ENDED);
    vgd_trace_writer_destroy(w);

    struct vgd_trace_reader *reader = reader_open(copy);
    struct vgd_trace_item item;
    cr_assert_eq(count_with_gaps(reader, 1000, stats.gaps), lost);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
    cr_assert(item.record.kind == VGD_TRACE_KIND_END && item.record.as.end.lost_records == lost &&
              item.record.as.end.lost_bytes == lost * sizeof(data));
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_CLOSED);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&pipe_fds[0]);
    vgd_fd_closep(&copy);
}

/* Gaps stand where the records would have stood, and add up. */
Test(trace_writer, gaps_add_up, .timeout = 60)
{
    int pipe_fds[2];
    cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    struct vgd_trace_writer *w = writer_begin(&pipe_fds[1], (size_t)256 << 10);
    int copy = file_create();
    static uint8_t data[20000];
    uint64_t id = 0;
    for (uint32_t turn = 0; turn < 5; turn++) {
        do {
            noise(data, sizeof(data), id);
        } while (put_bytes(w, id++, data, sizeof(data)));
        while (vgd_trace_writer_room_bytes(w) < 100000) {
            pump(pipe_fds[0], copy, 65536);
        }
    }
    cr_assert(put_bytes(w, id, data, sizeof(data)));
    vgd_trace_writer_stop(w);
    pump(pipe_fds[0], copy, SIZE_MAX);
    cr_assert(vgd_trace_writer_wait(w, WAIT_MS));
    struct vgd_trace_writer_stats stats = vgd_trace_writer_stats(w);
    vgd_trace_writer_destroy(w);
    struct vgd_trace_reader *reader = reader_open(copy);
    cr_assert_eq(stats.lost_records, 5);
    cr_assert_eq(count_with_gaps(reader, id, 5), 5);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&pipe_fds[0]);
    vgd_fd_closep(&copy);
}

/* Stop and destroy do not wait for a disk that does nothing. */
Test(trace_writer, destroy_does_not_wait, .timeout = 60)
{
    unsigned fds_before = open_fds_count();
    int pipe_fds[2];
    cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    struct vgd_trace_writer *w = writer_begin(&pipe_fds[1], 0);
    static uint8_t data[1 << 20];
    for (uint64_t i = 0; i < 10; i++) {
        noise(data, sizeof(data), i);
        cr_assert(put_bytes(w, i, data, sizeof(data)));
    }
    uint64_t before_ns = vgd_now_ns();
    vgd_trace_writer_stop(w);
    cr_assert_not(put_bytes(w, 11, data, 1), "not any more");
    cr_assert_not(vgd_trace_writer_wait(w, 50));
    cr_assert_eq(vgd_trace_writer_stats(w).state, VGD_TRACE_STOPPING);
    vgd_trace_writer_destroy(w);
    cr_assert_lt(vgd_now_ns() - before_ns, 5000 * MS);
    int copy = file_create();
    pump(pipe_fds[0], copy, SIZE_MAX); /* what was put comes all the same, then the end */
    struct vgd_trace_reader *reader = reader_open(copy);
    struct vgd_trace_item item;
    uint64_t n = 0;
    while (vgd_trace_reader_next(reader, &item) == VGD_OK) {
        n++;
    }
    cr_assert_eq(n, 11);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&pipe_fds[0]);
    vgd_fd_closep(&copy);
    for (int i = 0; i < 500 && open_fds_count() != fds_before; i++) {
        (void)usleep(10000); /* the thread closes its own */
    }
    cr_assert_eq(open_fds_count(), fds_before);
}

/* ---- full, gone, refused ---- */

static void ends_with(struct vgd_trace_writer *w, int error)
{
    static uint8_t data[100000];
    for (uint64_t i = 0; i < 2000; i++) {
        noise(data, sizeof(data), i);
        (void)put_bytes(w, i, data, sizeof(data));
        if (vgd_trace_writer_stats(w).state == VGD_TRACE_FAILED) {
            break;
        }
        (void)usleep(100);
    }
    cr_assert(vgd_trace_writer_wait(w, WAIT_MS), "it goes on");
    struct vgd_trace_writer_stats stats = vgd_trace_writer_stats(w);
    cr_assert(stats.state == VGD_TRACE_FAILED && stats.error == error, "%d: %s", stats.error,
              strerror(stats.error));
    cr_assert_not(put_bytes(w, 1, data, 1));
    vgd_trace_writer_stop(w); /* may be said */
    vgd_trace_writer_destroy(w);
}

Test(trace_writer, full_disk)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    cr_assert(fd >= 0);
    ends_with(writer_begin(&fd, 0), ENOSPC);
}

/* SIGXFSZ and SIGPIPE have their default actions here, which end a process. */
Test(trace_writer, limited_file)
{
    struct rlimit limit = {.rlim_cur = 300000, .rlim_max = RLIM_INFINITY};
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    cr_assert(fd >= 0);
    int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ends_with(writer_begin(&fd, 0), EFBIG);
    limit.rlim_cur = RLIM_INFINITY;
    (void)setrlimit(RLIMIT_FSIZE, &limit);
    /* What fitted can be read. */
    cr_assert_eq(file_size(kept), 300000);
    struct vgd_trace_reader *reader = reader_open(kept);
    struct vgd_trace_item item;
    enum vgd_status st;
    while ((st = vgd_trace_reader_next(reader, &item)) == VGD_OK) {
        free(item_data(reader, &item));
    }
    cr_assert_eq(st, VGD_TRUNCATED);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&kept);
}

Test(trace_writer, broken_pipe)
{
    int pipe_fds[2];
    cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    vgd_fd_closep(&pipe_fds[0]);
    ends_with(writer_begin(&pipe_fds[1], 0), EPIPE);
}

Test(trace_writer, not_writable)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ends_with(writer_begin(&fd, 0), EBADF);
}

/* Not written over, not appended to. */
Test(trace_writer, file_with_something_in_it)
{
    int fd = file_of((const uint8_t *)"a will", 6);
    int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    ends_with(writer_begin(&fd, 0), EEXIST);
    cr_assert_eq(file_size(kept), 6);
    vgd_fd_closep(&kept);
}

Test(trace_writer, resume_of_no_trace)
{
    int fd = file_of((const uint8_t *)"something else entirely", 23);
    struct vgd_trace_writer_config config = {.resume = true, .out = {.dedup_count = 16}};
    struct vgd_trace_writer *w = NULL;
    cr_assert_eq(vgd_trace_writer_create(&config, &fd, &w), VGD_OK);
    ends_with(w, EINVAL);
}

/* ---- not lost by a kill ---- */

/* A record is in the file soon, without a stop and without more records. */
Test(trace_writer, flushed_in_time, .timeout = 60)
{
    int fd = file_create();
    int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct vgd_trace_writer *w = writer_begin(&fd, 0);
    for (uint64_t i = 1; i <= 3; i++) {
        cr_assert(put_bytes(w, i, "x", 1));
        uint64_t n = 0;
        for (int turn = 0; turn < 1000 && n < i; turn++) {
            (void)usleep(10000);
            if (file_size(kept) < VGD_TRACE_FILE_HEADER_SIZE) {
                continue;
            }
            struct vgd_trace_reader *reader = reader_open(kept);
            struct vgd_trace_item item;
            for (n = 0; vgd_trace_reader_next(reader, &item) == VGD_OK; n++) {
            }
            vgd_trace_reader_close(reader);
        }
        cr_assert_eq(n, i);
    }
    (void)writer_end(w);
    vgd_fd_closep(&kept);
}

/* The next worker goes on where the dead one was. */
Test(trace_writer, resume)
{
    int fd = file_create();
    int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct vgd_trace_writer *w = writer_begin(&fd, 0);
    cr_assert(put_bytes(w, 1, "one", 3));
    (void)writer_end(w);
    fd = fcntl(kept, F_DUPFD_CLOEXEC, 0);
    struct vgd_trace_writer_config config = {.resume = true, .out = {.dedup_count = 16}};
    cr_assert_eq(vgd_trace_writer_create(&config, &fd, &w), VGD_OK);
    struct vgd_trace_record death = {.kind = VGD_TRACE_KIND_WORKER_DEATH,
                                     .as.worker_death = {.generation = 1, .signal = SIGKILL}};
    cr_assert(vgd_trace_writer_put(w, &death, NULL, 0, 0, 0));
    cr_assert(put_bytes(w, 2, "two", 3));
    (void)writer_end(w);
    const uint32_t want[] = {VGD_TRACE_KIND_COMMAND, VGD_TRACE_KIND_END,
                             VGD_TRACE_KIND_WORKER_DEATH, VGD_TRACE_KIND_COMMAND,
                             VGD_TRACE_KIND_END};
    struct vgd_trace_reader *reader = reader_open(kept);
    cr_assert_eq(vgd_trace_reader_info(reader).n_records, 5);
    struct vgd_trace_item item;
    uint64_t last_ns = 0;
    for (size_t i = 0; i < 5; i++) {
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        cr_assert(item.record.kind == want[i] && item.record.time_ns >= last_ns);
        last_ns = item.record.time_ns;
    }
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_CLOSED);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&kept);
}
