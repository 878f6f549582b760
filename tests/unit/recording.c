/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's side of a recording, between whoever asks for one and a scripted worker: what it
 * says of itself, when it dies, is replaced, or does not end.
 */
#include "display_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"
#include "record_file.h"
#include "recording.h"

#define MS 1000000ull
#define START_MS 200u
#define STOP_MS 200u

enum {
    RUNNING = VGD_LINK_WRITER_RUNNING,
    STOPPING = VGD_LINK_WRITER_STOPPING,
    ENDED = VGD_LINK_WRITER_ENDED,
    FAILED = VGD_LINK_WRITER_FAILED
};

struct rig {
    struct vgd_loop *loop;
    struct vgd_recording *r;
    bool worker; /* there is one that takes messages */
    uint32_t starts_count, stops_count, started_count, over_count;
    struct vgd_link_trace_start start; /* the last one */
    uint32_t over_count_before;        /* it was started */
    int file;                          /* the worker's */
};

static bool to_worker(void *user, enum vgd_link_type type, const void *payload, size_t n_bytes,
                      const int *fds, uint32_t n_fds)
{
    struct rig *rig = user;
    if (!rig->worker) {
        return false;
    }
    if (type == VGD_LINK_TRACE_START) {
        cr_assert(n_bytes == sizeof(rig->start) && n_fds == 1);
        memcpy(&rig->start, payload, n_bytes);
        rig->starts_count++;
        vgd_fd_closep(&rig->file);
        rig->file = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
        cr_assert_geq(rig->file, 0);
    } else {
        cr_assert(type == VGD_LINK_TRACE_STOP && n_bytes == 0 && n_fds == 0);
        rig->stops_count++;
    }
    return true;
}

static void on_started(void *user)
{
    struct rig *rig = user;
    rig->started_count++;
    cr_assert_eq(rig->over_count, rig->over_count_before, "before the end");
}

static void on_over(void *user)
{
    struct rig *rig = user;
    rig->over_count++;
}

/* Files are closed by threads: a test is over when they are. */
static uint32_t given_count;
static _Atomic uint32_t closed_count;

static void *close_file(void *fd)
{
    (void)close((int)(intptr_t)fd);
    closed_count++;
    return NULL;
}

static struct rig *rig_begin(void)
{
    given_count = 0;
    closed_count = 0;
    struct rig *rig = calloc(1, sizeof(*rig));
    rig->loop = vgd_loop_create();
    rig->file = -1;
    rig->worker = true;
    rig->r = vgd_recording_create(&(struct vgd_recording_config){.loop = rig->loop,
                                                                 .start_ms = START_MS,
                                                                 .stop_ms = STOP_MS,
                                                                 .to_worker = to_worker,
                                                                 .on_started = on_started,
                                                                 .on_over = on_over,
                                                                 .close_file = close_file,
                                                                 .user = rig});
    cr_assert_not_null(rig->r);
    return rig;
}

static void rig_end(struct rig *rig)
{
    vgd_recording_destroy(rig->r);
    while (closed_count < given_count) {
        (void)usleep(1000);
    }
    vgd_loop_destroy(rig->loop);
    vgd_fd_closep(&rig->file);
    free(rig);
}

static int empty_file(void)
{
    int fd = memfd_create("trace", MFD_CLOEXEC); /* a regular file, for all that is asked of it */
    cr_assert_geq(fd, 0);
    return fd;
}

static enum vgd_status begin(struct rig *rig, int fd)
{
    const char *why = NULL;
    uint32_t started_count = rig->started_count;
    rig->over_count_before = rig->over_count;
    enum vgd_status st =
        vgd_recording_start(rig->r, &fd, VGD_RECORDING_PICTURE_MS, rig->worker, &why);
    cr_assert_eq(fd, -1, "it is taken");
    bool begun = st == VGD_OK || st == VGD_AGAIN;
    cr_assert_eq(begun, why == NULL);
    given_count += begun;
    cr_assert(!begun || (st == VGD_AGAIN) == rig->worker,
              "a worker has to answer, if there is one");
    cr_assert_eq(rig->started_count, started_count, "not from inside");
    return begun ? VGD_OK : st;
}

static enum vgd_status says_all(struct rig *rig, const struct vgd_link_trace_state *m)
{
    static struct vgd_link_message msg;
    msg = (struct vgd_link_message){.type = VGD_LINK_TRACE_STATE, .payload_bytes = sizeof(*m)};
    memcpy(msg.payload, m, sizeof(*m));
    return vgd_recording_worker_state(rig->r, &msg);
}

static enum vgd_status says(struct rig *rig, uint32_t state, int error, uint64_t records)
{
    struct vgd_link_trace_state m = {.state = state,
                                     .error = error,
                                     .records = records,
                                     .bytes_in = records * 100,
                                     .bytes_out = records * 10,
                                     .memory_bytes = 4096};
    return says_all(rig, &m);
}

static void dies(struct rig *rig, const struct vgd_worker_end *end)
{
    rig->worker = false;
    vgd_recording_worker_gone(rig->r, end);
}

static void comes(struct rig *rig)
{
    rig->worker = true;
    vgd_recording_worker_told(rig->r);
}

static struct vgd_recording_status status(struct rig *rig)
{
    struct vgd_recording_status st;
    vgd_recording_get_status(rig->r, &st);
    return st;
}

static void written(struct rig *rig)
{
    cr_assert_eq(write(rig->file, "a trace", 7), 7);
}

static const struct vgd_worker_end killed = {.generation = 3, .signal = SIGSEGV};
static const struct vgd_worker_end replaced = {
    .replaced = true, .generation = 3, .signal = SIGKILL};

/* ---- its life ---------------------------------------------------------------------------------
 */

TIDY_TEST(recording, from_start_to_end)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(status(rig).state, VGD_RECORDING_NONE);
    cr_assert_not(vgd_recording_stop(rig->r), "nothing to stop");
    int fd = empty_file();
    struct stat ours, theirs;
    cr_assert_eq(fstat(fd, &ours), 0);
    cr_assert_eq(lseek(fd, 1000, SEEK_SET), 1000);
    cr_assert_eq(begin(rig, fd), VGD_OK);
    cr_assert_eq(rig->starts_count, 1);
    cr_assert_eq(rig->start.why, VGD_LINK_TRACE_NEW);
    cr_assert_eq(rig->start.picture_ms, VGD_RECORDING_PICTURE_MS);
    cr_assert_eq(fstat(rig->file, &theirs), 0);
    cr_assert_eq(ours.st_ino, theirs.st_ino);
    cr_assert_eq(lseek(rig->file, 0, SEEK_CUR), 0, "from the file's start on");
    cr_assert_eq(begin(rig, empty_file()), VGD_LIMIT, "one at a time");
    vgd_recording_worker_told(rig->r);
    cr_assert_eq(rig->starts_count, 1, "it has it already");

    cr_assert_eq(says(rig, RUNNING, 0, 5), VGD_OK);
    struct vgd_recording_status st = status(rig);
    cr_assert(st.state == VGD_RECORDING_RUNNING && st.records == 5 && st.bytes_in == 500 &&
              st.bytes_out == 50 && st.memory_bytes == 4096);
    cr_assert_str_eq(st.name, "running");
    cr_assert(vgd_recording_stop(rig->r));
    cr_assert(vgd_recording_stop(rig->r), "twice is once");
    cr_assert_eq(rig->stops_count, 1);
    cr_assert_eq(says(rig, STOPPING, 0, 6), VGD_OK);
    cr_assert_eq(rig->over_count, 0);
    cr_assert_eq(says(rig, ENDED, 0, 7), VGD_OK);
    cr_assert_eq(rig->over_count, 1);
    st = status(rig);
    cr_assert(st.state == VGD_RECORDING_ENDED && st.records == 7 && st.memory_bytes == 0);
    cr_assert_str_eq(st.why, "");
    cr_assert_eq(says(rig, ENDED, 0, 7), VGD_OK, "said again: nothing");
    cr_assert_not(vgd_recording_stop(rig->r));

    cr_assert_eq(begin(rig, empty_file()), VGD_OK, "another one");
    cr_assert_eq(rig->start.why, VGD_LINK_TRACE_NEW);
    cr_assert_eq(status(rig).records, 0, "counted anew");
    cr_assert_eq(rig->over_count, 1);
    rig_end(rig);
}

/* Whoever began it is told once, whatever comes of it. */
TIDY_TEST(recording, has_started_with_the_first_news)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    cr_assert_eq(says(rig, RUNNING, 0, 0), VGD_OK);
    cr_assert_eq(rig->started_count, 1, "the worker's first word");
    cr_assert_eq(says(rig, RUNNING, 0, 1), VGD_OK);
    cr_assert_eq(says(rig, FAILED, EIO, 1), VGD_OK);
    cr_assert_eq(rig->started_count, 1);

    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    cr_assert_eq(says(rig, FAILED, ENOMEM, 0), VGD_OK);
    cr_assert_eq(rig->started_count, 2, "which may be its last");
    cr_assert_eq(status(rig).state, VGD_RECORDING_FAILED);

    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    dies(rig, &killed);
    cr_assert_eq(rig->started_count, 3, "it waits for another worker");
    cr_assert_eq(status(rig).state, VGD_RECORDING_WAITING);
    comes(rig);
    cr_assert_eq(says(rig, RUNNING, 0, 0), VGD_OK);
    cr_assert_eq(rig->started_count, 3);
    cr_assert(vgd_recording_stop(rig->r));
    cr_assert_eq(says(rig, ENDED, 0, 1), VGD_OK);

    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    cr_assert(vgd_recording_stop(rig->r), "before it has answered");
    dies(rig, &killed);
    cr_assert_eq(rig->started_count, 4);
    comes(rig);

    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    uint64_t start_ns = vgd_now_ns();
    while (rig->started_count == 4 && vgd_now_ns() - start_ns < 20000 * MS) {
        vgd_loop_turn(rig->loop, 10);
    }
    cr_assert_geq(vgd_now_ns() - start_ns, START_MS * MS);
    cr_assert_eq(rig->started_count, 5, "a worker that says nothing");
    cr_assert_eq(status(rig).state, VGD_RECORDING_RUNNING);
    cr_assert_eq(says(rig, RUNNING, 0, 0), VGD_OK);
    cr_assert_eq(rig->started_count, 5);
    rig_end(rig);
}

TIDY_TEST(recording, begins_with_the_next_worker_if_there_is_none)
{
    struct rig *rig = rig_begin();
    rig->worker = false;
    int fd = empty_file(), ours = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    cr_assert_eq(begin(rig, fd), VGD_OK);
    cr_assert_eq(status(rig).state, VGD_RECORDING_WAITING);
    cr_assert_eq(rig->starts_count, 0);
    cr_assert_eq(write(ours, "x", 1), 1); /* of somebody else: still nothing to go on with */
    vgd_fd_closep(&ours);
    comes(rig);
    cr_assert_eq(rig->starts_count, 1);
    cr_assert_eq(rig->start.why, VGD_LINK_TRACE_NEW);
    cr_assert_eq(status(rig).state, VGD_RECORDING_RUNNING);
    rig_end(rig);
}

TIDY_TEST(recording, stopped_before_there_is_a_worker)
{
    struct rig *rig = rig_begin();
    rig->worker = false;
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    cr_assert(vgd_recording_stop(rig->r));
    cr_assert_eq(rig->over_count, 1);
    cr_assert_eq(status(rig).state, VGD_RECORDING_FAILED, "an empty file is no recording");
    comes(rig);
    cr_assert_eq(rig->starts_count, 0);
    rig_end(rig);
}

TIDY_TEST(recording, goes_on_after_a_death_and_after_a_reset)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    written(rig);
    cr_assert_eq(says(rig, RUNNING, 0, 5), VGD_OK);
    dies(rig, &killed);
    cr_assert_eq(status(rig).state, VGD_RECORDING_WAITING);
    comes(rig);
    cr_assert_eq(rig->starts_count, 2);
    cr_assert_eq(rig->start.why, VGD_LINK_TRACE_AFTER_DEATH);
    cr_assert(rig->start.generation == 3 && rig->start.signal == SIGSEGV &&
              rig->start.exit_status == 0);
    cr_assert_eq(says(rig, RUNNING, 0, 2), VGD_OK);
    cr_assert_eq(status(rig).records, 7, "of both");
    dies(rig, &replaced);
    comes(rig);
    cr_assert_eq(rig->start.why, VGD_LINK_TRACE_AFTER_RESET);
    cr_assert(vgd_recording_stop(rig->r));
    cr_assert_eq(says(rig, ENDED, 0, 1), VGD_OK);
    cr_assert_eq(status(rig).state, VGD_RECORDING_ENDED);
    cr_assert_eq(status(rig).records, 8);
    dies(rig, &killed);
    comes(rig);
    cr_assert_eq(rig->starts_count, 3, "it is over");
    rig_end(rig);
}

TIDY_TEST(recording, a_worker_that_died_before_its_first_byte)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    dies(rig, &killed);
    comes(rig);
    cr_assert_eq(rig->start.why, VGD_LINK_TRACE_AFTER_DEATH, "the writer sees what is in it");
    rig_end(rig);
}

/* A start that the dying worker does not take any more goes to the next one. */
TIDY_TEST(recording, a_worker_that_is_dying)
{
    struct rig *rig = rig_begin();
    const char *why = NULL;
    int fd = empty_file();
    given_count++;
    rig->worker = false; /* and nobody knows */
    cr_assert_eq(vgd_recording_start(rig->r, &fd, 0, true, &why), VGD_OK);
    cr_assert_eq(status(rig).state, VGD_RECORDING_WAITING);
    vgd_recording_worker_gone(rig->r, &killed);
    comes(rig);
    cr_assert_eq(rig->start.why, VGD_LINK_TRACE_NEW);
    cr_assert_eq(rig->start.picture_ms, 0);
    rig_end(rig);
}

TIDY_TEST(recording, a_pipe_ends_with_its_worker)
{
    struct rig *rig = rig_begin();
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(begin(rig, ends[1]), VGD_OK);
    cr_assert_eq(says(rig, RUNNING, 0, 5), VGD_OK);
    dies(rig, &killed);
    struct vgd_recording_status st = status(rig);
    cr_assert_eq(st.state, VGD_RECORDING_FAILED);
    cr_assert_not_null(strstr(st.why, "regular file"), "%s", st.why);
    cr_assert_eq(st.records, 5);
    vgd_fd_closep(&rig->file);
    char byte;
    cr_assert_eq(read(ends[0], &byte, 1), 0, "its reader knows");
    comes(rig);
    cr_assert_eq(rig->starts_count, 1);
    vgd_fd_closep(&ends[0]);
    rig_end(rig);
}

TIDY_TEST(recording, a_worker_that_dies_instead_of_ending_it)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    written(rig);
    cr_assert(vgd_recording_stop(rig->r));
    dies(rig, &killed);
    cr_assert_eq(rig->over_count, 1);
    cr_assert_eq(status(rig).state, VGD_RECORDING_FAILED);
    comes(rig);
    cr_assert_eq(rig->starts_count, 1);

    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    written(rig);
    dies(rig, &killed);
    cr_assert(vgd_recording_stop(rig->r), "between two workers");
    cr_assert_eq(status(rig).state, VGD_RECORDING_ENDED, "it is good to its last frame");
    comes(rig);
    cr_assert_eq(rig->starts_count, 2);
    rig_end(rig);
}

/* A worker that a call of the kernel holds may be in the middle of writing to the file. */
TIDY_TEST(recording, a_worker_that_is_left_behind)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    cr_assert_eq(says(rig, RUNNING, 0, 1), VGD_OK);
    written(rig);
    dies(rig, &(struct vgd_worker_end){.left_behind = true, .generation = 3, .signal = SIGKILL});
    cr_assert_eq(status(rig).state, VGD_RECORDING_FAILED);
    cr_assert_eq(rig->over_count, 1);
    comes(rig);
    cr_assert_eq(status(rig).state, VGD_RECORDING_FAILED, "two would write to it");
    rig_end(rig);
}

TIDY_TEST(recording, workers_that_die_of_it)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    for (uint32_t i = 0; i < VGD_RECORDING_UNHEARD_MAX + 2; i++) {
        cr_assert_eq(says(rig, RUNNING, 0, 1), VGD_OK); /* one that has spoken does not count */
        dies(rig, &killed);
        comes(rig);
    }
    cr_assert_eq(status(rig).state, VGD_RECORDING_RUNNING);
    for (uint32_t i = 0; i < VGD_RECORDING_UNHEARD_MAX + 2; i++) {
        dies(rig, &replaced); /* nor does a reset of the guest */
        comes(rig);
    }
    cr_assert_eq(status(rig).state, VGD_RECORDING_RUNNING);
    for (uint32_t i = 1; i < VGD_RECORDING_UNHEARD_MAX; i++) {
        dies(rig, &killed);
        cr_assert_eq(status(rig).state, VGD_RECORDING_WAITING);
        comes(rig);
    }
    dies(rig, &killed);
    cr_assert_eq(status(rig).state, VGD_RECORDING_FAILED);
    cr_assert_eq(rig->over_count, 1);
    uint32_t starts_count = rig->starts_count;
    comes(rig);
    cr_assert_eq(rig->starts_count, starts_count, "the guest goes on without");
    rig_end(rig);
}

TIDY_TEST(recording, a_file_that_takes_nothing)
{
    static const struct {
        int error;
        const char *text;
    } cases[] = {
        {ENOSPC, "full"},     {EPIPE, "nobody"}, {EFBIG, "grow"},   {EIO, "nput/output error"},
        {EOPNOTSUPP, "zstd"}, {0, "not say"},    {4000, "not say"},
    };
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(begin(rig, empty_file()), VGD_OK);
        cr_assert_eq(says(rig, FAILED, cases[i].error, 3), VGD_OK);
        struct vgd_recording_status st = status(rig);
        cr_assert_eq(st.state, VGD_RECORDING_FAILED);
        cr_assert_not_null(strstr(st.why, cases[i].text), "%s", st.why);
        cr_assert_eq(rig->over_count, i + 1);
        cr_assert_eq(rig->stops_count, 0);
    }
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    cr_assert_eq(says(rig, ENDED, 0, 3), VGD_OK);
    cr_assert_eq(status(rig).state, VGD_RECORDING_FAILED, "nobody had told it to end");
    rig_end(rig);
}

TIDY_TEST(recording, a_file_that_never_ends)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    cr_assert(vgd_recording_stop(rig->r));
    uint64_t start_ns = vgd_now_ns();
    while (rig->over_count == 0 && vgd_now_ns() - start_ns < 20000 * MS) {
        cr_assert_eq(says(rig, STOPPING, 0, 5), VGD_OK);
        vgd_loop_turn(rig->loop, 10);
    }
    cr_assert_geq(vgd_now_ns() - start_ns, STOP_MS * MS);
    cr_assert_eq(rig->over_count, 1);
    cr_assert_eq(status(rig).state, VGD_RECORDING_FAILED);
    cr_assert_eq(begin(rig, empty_file()), VGD_LIMIT, "the worker still has the last one");
    cr_assert_eq(says(rig, ENDED, 0, 6), VGD_OK);
    cr_assert_eq(status(rig).state, VGD_RECORDING_ENDED, "late, and whole");
    cr_assert_eq(rig->over_count, 1);
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);

    cr_assert(vgd_recording_stop(rig->r));
    while (rig->over_count == 1) {
        vgd_loop_turn(rig->loop, 10);
    }
    dies(rig, &killed);
    comes(rig);
    cr_assert_eq(begin(rig, empty_file()), VGD_OK, "another worker has not");
    rig_end(rig);
}

/* ---- a file that takes its time ---- */

static int slow_gate[2]; /* a pipe: the file is closed when it ends */

static void *close_slowly(void *fd)
{
    char byte;
    (void)!read(slow_gate[0], &byte, 1);
    (void)close((int)(intptr_t)fd);
    (void)close(slow_gate[0]);
    return NULL;
}

TIDY_TEST(recording, a_file_that_is_slow_to_close)
{
    struct rig *rig = rig_begin();
    int ends[2];
    char byte;
    vgd_recording_destroy(rig->r);
    rig->r = vgd_recording_create(&(struct vgd_recording_config){.loop = rig->loop,
                                                                 .to_worker = to_worker,
                                                                 .on_started = on_started,
                                                                 .on_over = on_over,
                                                                 .close_file = close_slowly,
                                                                 .user = rig});
    cr_assert_eq(pipe2(slow_gate, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(begin(rig, ends[1]), VGD_OK);
    cr_assert_eq(says(rig, RUNNING, 0, 5), VGD_OK);
    cr_assert(vgd_recording_stop(rig->r));
    cr_assert_eq(says(rig, ENDED, 0, 5), VGD_OK);
    cr_assert_eq(rig->over_count, 1, "nobody waits for it");
    cr_assert_eq(status(rig).state, VGD_RECORDING_ENDED);
    cr_assert_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    vgd_fd_closep(&rig->file);
    cr_assert_eq(read(ends[0], &byte, 1), -1, "it is still open");
    given_count = 0; /* nor who ends */
    rig_end(rig);
    cr_assert_eq(fcntl(ends[0], F_SETFL, 0), 0);
    (void)close(slow_gate[1]);
    cr_assert_eq(read(ends[0], &byte, 1), 0, "and then it is not");
    while (fcntl(slow_gate[0], F_GETFD) >= 0) {
        (void)usleep(1000);
    }
    vgd_fd_closep(&ends[0]);
}

TIDY_TEST(recording, a_worker_that_cannot_be_believed)
{
    struct rig *rig = rig_begin();
    static struct vgd_link_message msg;
    cr_assert_eq(says(rig, RUNNING, 0, 1), VGD_RANGE, "it was given nothing");
    cr_assert_eq(begin(rig, empty_file()), VGD_OK);
    cr_assert_eq(says(rig, FAILED + 1, 0, 1), VGD_RANGE);
    cr_assert_eq(says(rig, UINT32_MAX, 0, 1), VGD_RANGE);
    cr_assert_eq(says(rig, FAILED, -1, 1), VGD_RANGE);
    cr_assert_eq(says(rig, FAILED, 4096, 1), VGD_RANGE);
    msg.payload_bytes = sizeof(struct vgd_link_trace_state) - 1;
    cr_assert_eq(vgd_recording_worker_state(rig->r, &msg), VGD_RANGE);
    msg.payload_bytes++;
    msg.n_fds = 1;
    cr_assert_eq(vgd_recording_worker_state(rig->r, &msg), VGD_RANGE);
    cr_assert_eq(status(rig).state, VGD_RECORDING_RUNNING, "all that did nothing");
    cr_assert_eq(status(rig).records, 0);
    struct vgd_link_trace_state huge;
    memset(&huge, 0xff, sizeof(huge));
    huge.state = RUNNING;
    huge.error = 0;
    cr_assert_eq(says_all(rig, &huge), VGD_OK);
    dies(rig, &killed);
    comes(rig);
    cr_assert_eq(says_all(rig, &huge), VGD_OK, "sums may wrap: they are shown, no more");
    dies(rig, &killed);
    cr_assert(vgd_recording_stop(rig->r));
    comes(rig);
    cr_assert_eq(says(rig, RUNNING, 0, 1), VGD_RANGE, "this one was given nothing");
    rig_end(rig);
}

/* ---- the file ---------------------------------------------------------------------------------
 */

TIDY_TEST(recording, what_may_be_recorded_into)
{
    char dir[] = "/tmp/vgd-recording-XXXXXX";
    char path[64];
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/file", dir);
    int pipes[2], stream[2], packets[2], sealed = empty_file();
    cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packets), 0);
    cr_assert_eq(write(sealed, "x", 1), 1);
    const struct {
        const char *name;
        int fd;
        bool ok, resume;
    } cases[] = {
        {"a new file", open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), true, true},
        {"appending", open(path, O_RDWR | O_APPEND | O_CLOEXEC), true, true},
        {"write only", open(path, O_WRONLY | O_CLOEXEC), false, false},
        {"read only", open(path, O_RDONLY | O_CLOEXEC), false, false},
        {"only a path", open(path, O_PATH | O_CLOEXEC), false, false},
        {"something in it", fcntl(sealed, F_DUPFD_CLOEXEC, 0), false, false},
        {"a folder", open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), false, false},
        {"a folder's path", open(dir, O_PATH | O_CLOEXEC), false, false},
        {"pipe, written", fcntl(pipes[1], F_DUPFD_CLOEXEC, 0), true, false},
        {"pipe, read", fcntl(pipes[0], F_DUPFD_CLOEXEC, 0), false, false},
        {"stream socket", fcntl(stream[0], F_DUPFD_CLOEXEC, 0), true, false},
        {"packet socket", fcntl(packets[0], F_DUPFD_CLOEXEC, 0), false, false},
        {"/dev/null", open("/dev/null", O_WRONLY | O_CLOEXEC), true, false},
        {"/dev/null, read", open("/dev/null", O_RDONLY | O_CLOEXEC), false, false},
        {"/dev/zero", open("/dev/zero", O_RDWR | O_CLOEXEC), false, false},
        {"/dev/full", open("/dev/full", O_RDWR | O_CLOEXEC), false, false},
        {"an eventfd", vgd_eventfd_create(), false, false},
    };
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig *rig = rig_begin();
        bool resume = false;
        const char *why = NULL;
        cr_assert_geq(cases[i].fd, 0, "%s", cases[i].name);
        cr_assert_eq(vgd_record_file_check(cases[i].fd, &resume, &why), cases[i].ok, "%s: %s",
                     cases[i].name, why);
        cr_assert_eq(resume, cases[i].resume, "%s", cases[i].name);
        cr_assert_eq(why == NULL, cases[i].ok);
        cr_assert_eq(begin(rig, cases[i].fd), cases[i].ok ? VGD_OK : VGD_RANGE);
        cr_assert_eq(status(rig).state, cases[i].ok ? VGD_RECORDING_RUNNING : VGD_RECORDING_NONE);
        rig_end(rig);
    }
    struct rig *rig = rig_begin();
    cr_assert_eq(begin(rig, -1), VGD_RANGE, "no descriptor at all");
    cr_assert_eq(fcntl(pipes[1], F_SETFL, O_NONBLOCK), 0);
    cr_assert_eq(begin(rig, fcntl(pipes[1], F_DUPFD_CLOEXEC, 0)), VGD_RANGE, "not blocking");
    rig_end(rig);
    vgd_fds_close(pipes, 2);
    vgd_fds_close(stream, 2);
    vgd_fds_close(packets, 2);
    vgd_fd_closep(&sealed);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(rmdir(dir), 0);
}

TIDY_TEST(recording, files_by_their_name)
{
    char dir[] = "/tmp/vgd-recording-XXXXXX";
    char path[64], fifo[64];
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/file", dir);
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
    bool created = false;
    const char *why = NULL;
    mode_t mask = umask(0);
    int fd = vgd_record_file_open(path, &created, &why);
    (void)umask(mask);
    struct stat info;
    cr_assert(fd >= 0 && created, "%s", why);
    cr_assert_eq(fstat(fd, &info), 0);
    cr_assert_eq(info.st_mode & 07777, 0600, "others need not see it");
    vgd_fd_closep(&fd);

    fd = vgd_record_file_open(path, &created, &why);
    cr_assert(fd >= 0 && !created, "it is there, and empty");
    cr_assert_eq(write(fd, "precious", 8), 8);
    vgd_fd_closep(&fd);
    cr_assert_eq(vgd_record_file_open(path, &created, &why), -1);
    cr_assert_not_null(strstr(why, "not empty"), "%s", why);
    cr_assert(stat(path, &info) == 0 && info.st_size == 8, "untouched");

    cr_assert_eq(vgd_record_file_open(dir, &created, &why), -1);
    cr_assert_eq(vgd_record_file_open("/nowhere/at/all", &created, &why), -1);
    cr_assert_str_eq(why, "No such file or directory");
    cr_assert_eq(vgd_record_file_open("/dev/full", &created, &why), -1);
    fd = vgd_record_file_open("/dev/null", &created, &why);
    cr_assert(fd >= 0 && !created);
    vgd_fd_closep(&fd);

    cr_assert_eq(mkfifo(fifo, 0600), 0);
    cr_assert_eq(vgd_record_file_open(fifo, &created, &why), -1, "and it does not wait");
    cr_assert_str_eq(why, "nobody reads from it");
    int reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    fd = vgd_record_file_open(fifo, &created, &why);
    cr_assert(fd >= 0 && !created, "%s", why);
    cr_assert_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    vgd_fd_closep(&fd);
    vgd_fd_closep(&reader);
    cr_assert_eq(unlink(fifo), 0);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(rmdir(dir), 0);
}
