/* SPDX-License-Identifier: MIT */
#include "trace_writer.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "fd.h"
#include "iov.h"
#include "log.h"

#define STACK_BYTES ((size_t)256 << 10)
/* Until there is this much, a thread that is waiting for its next flush is left asleep. */
#define WAKE_BYTES ((uint64_t)1 << 20)
#define ENTRY_ALIGN 8u

/* Who may be asleep, and what wakes it. */
enum sleep {
    AWAKE,
    UNTIL_FLUSH,  /* some records are in an open frame: only a lot more wakes it before that */
    UNTIL_RECORD, /* nothing to do: any record does */
};

/* In the buffer, in front of a record's data. */
struct entry {
    uint64_t entry_bytes; /* with this and padding */
    uint64_t data_bytes;
    struct vgd_trace_record record; /* time_ns is CLOCK_MONOTONIC */
    struct vgd_trace_gap lost;      /* all that was lost before it since the start; since_ns: the
                                       first one behind the entry before */
};

struct vgd_trace_writer {
    atomic_uint refs; /* the owner and the thread */
    int fd;           /* the thread's */
    int wake_fd;
    bool resume;
    uint32_t flush_ms;
    uint64_t start_realtime_ns, created_ns;
    struct vgd_trace_out *out; /* the thread's */
    size_t memory_bytes;

    /* The buffer: bytes [tail, head) modulo its size are whole entries. Producers move head, the
     * thread moves tail, neither waits for the other. */
    uint8_t *buffer;
    uint64_t buffer_bytes;
    _Atomic uint64_t head, tail;
    atomic_int sleep; /* enum sleep */
    atomic_bool stopping, over;
    _Atomic uint64_t lost_records, lost_bytes, lost_since_ns, peak_bytes;

    pthread_mutex_t put_lock; /* among producers, and whoever stops; the thread never takes it */
    bool refuse;              /* guarded by put_lock */
    bool lost_lately;         /* since the last entry; guarded by put_lock */

    pthread_mutex_t told_lock;
    pthread_cond_t told;
    struct vgd_trace_writer_stats stats; /* guarded by told_lock */

    /* The thread's alone. */
    uint64_t start_ns; /* what times count from */
    uint64_t open_since_ns;
    struct vgd_trace_gap gap_told;
};

/* ---- the buffer ---- */

static void ring_in(struct vgd_trace_writer *w, uint64_t at, const void *data, size_t n_bytes)
{
    uint64_t start = at % w->buffer_bytes;
    size_t first = n_bytes < w->buffer_bytes - start ? n_bytes : (size_t)(w->buffer_bytes - start);
    memcpy(w->buffer + start, data, first);
    memcpy(w->buffer, (const uint8_t *)data + first, n_bytes - first);
}

static void ring_out(const struct vgd_trace_writer *w, uint64_t at, void *out, size_t n_bytes)
{
    uint64_t start = at % w->buffer_bytes;
    size_t first = n_bytes < w->buffer_bytes - start ? n_bytes : (size_t)(w->buffer_bytes - start);
    memcpy(out, w->buffer + start, first);
    memcpy((uint8_t *)out + first, w->buffer, n_bytes - first);
}

/* What is missing in @iov becomes zeros. */
static void ring_in_iov(struct vgd_trace_writer *w, uint64_t at, const struct iovec *iov,
                        size_t n_iov, size_t offset_bytes, size_t n_bytes)
{
    while (n_bytes > 0) {
        uint64_t start = at % w->buffer_bytes;
        size_t span =
            n_bytes < w->buffer_bytes - start ? n_bytes : (size_t)(w->buffer_bytes - start);
        size_t copied = vgd_iov_copy_out(iov, n_iov, offset_bytes, w->buffer + start, span);
        memset(w->buffer + start + copied, 0, span - copied);
        at += span;
        offset_bytes += span;
        n_bytes -= span;
    }
}

static void wake_for_put(struct vgd_trace_writer *w, uint64_t used_bytes)
{
    int asleep = atomic_load(&w->sleep);
    if ((asleep == UNTIL_RECORD || (asleep == UNTIL_FLUSH && used_bytes >= WAKE_BYTES)) &&
        atomic_exchange(&w->sleep, AWAKE) != AWAKE) {
        vgd_eventfd_signal(w->wake_fd);
    }
}

static void lose_locked(struct vgd_trace_writer *w, uint64_t data_bytes, uint64_t now_ns)
{
    if (!w->lost_lately) {
        w->lost_lately = true;
        atomic_store(&w->lost_since_ns, now_ns);
    }
    (void)atomic_fetch_add(&w->lost_bytes, data_bytes);
    (void)atomic_fetch_add(&w->lost_records, 1); /* last: who sees it sees the others */
}

static bool put_locked(struct vgd_trace_writer *w, const struct vgd_trace_record *record,
                       const struct iovec *iov, size_t n_iov, size_t offset_bytes,
                       size_t data_bytes)
{
    if (w->refuse || atomic_load(&w->over)) {
        return false;
    }
    uint64_t now_ns = record->time_ns != 0 ? record->time_ns : vgd_now_ns();
    uint64_t head = atomic_load_explicit(&w->head, memory_order_relaxed);
    uint64_t used_bytes = head - atomic_load_explicit(&w->tail, memory_order_acquire);
    uint64_t free_bytes = w->buffer_bytes - used_bytes;
    if (data_bytes > VGD_TRACE_DATA_MAX || free_bytes < sizeof(struct entry) ||
        data_bytes + ENTRY_ALIGN > free_bytes - sizeof(struct entry)) {
        lose_locked(w, data_bytes, now_ns);
        wake_for_put(w, used_bytes);
        return false;
    }
    struct entry e = {
        .entry_bytes = (sizeof(e) + data_bytes + ENTRY_ALIGN - 1) / ENTRY_ALIGN * ENTRY_ALIGN,
        .data_bytes = data_bytes,
        .record = *record,
        .lost = {.lost_records = atomic_load(&w->lost_records),
                 .lost_bytes = atomic_load(&w->lost_bytes),
                 .since_ns = atomic_load(&w->lost_since_ns)},
    };
    e.record.time_ns = now_ns;
    ring_in(w, head, &e, sizeof(e));
    ring_in_iov(w, head + sizeof(e), iov, n_iov, offset_bytes, data_bytes);
    w->lost_lately = false;
    used_bytes += e.entry_bytes;
    if (used_bytes > atomic_load_explicit(&w->peak_bytes, memory_order_relaxed)) {
        atomic_store_explicit(&w->peak_bytes, used_bytes, memory_order_relaxed);
    }
    /* Sequentially consistent, as is the look at @sleep: either we see that the thread sleeps, or
     * it sees what came before it does. */
    atomic_store(&w->head, head + e.entry_bytes);
    wake_for_put(w, used_bytes);
    return true;
}

bool vgd_trace_writer_put(struct vgd_trace_writer *w, const struct vgd_trace_record *record,
                          const struct iovec *iov, size_t n_iov, size_t offset_bytes,
                          size_t data_bytes)
{
    assert(vgd_trace_kind_known(record->kind));
    assert(data_bytes == 0 || vgd_trace_kind_has_data(record->kind));
    (void)pthread_mutex_lock(&w->put_lock);
    bool taken = put_locked(w, record, iov, n_iov, offset_bytes, data_bytes);
    (void)pthread_mutex_unlock(&w->put_lock);
    return taken;
}

void vgd_trace_writer_lose(struct vgd_trace_writer *w, uint64_t data_bytes)
{
    (void)pthread_mutex_lock(&w->put_lock);
    if (!w->refuse && !atomic_load(&w->over)) {
        lose_locked(w, data_bytes, vgd_now_ns());
    }
    (void)pthread_mutex_unlock(&w->put_lock);
}

size_t vgd_trace_writer_room_bytes(struct vgd_trace_writer *w)
{
    uint64_t tail = atomic_load(&w->tail); /* first: head can only run away from it */
    uint64_t used_bytes = atomic_load(&w->head) - tail;
    uint64_t overhead_bytes = sizeof(struct entry) + ENTRY_ALIGN;
    if (used_bytes + overhead_bytes >= w->buffer_bytes) {
        return 0;
    }
    uint64_t room_bytes = w->buffer_bytes - used_bytes - overhead_bytes;
    return room_bytes < VGD_TRACE_DATA_MAX ? (size_t)room_bytes : VGD_TRACE_DATA_MAX;
}

/* ---- the thread ---- */

struct ring_source {
    const struct vgd_trace_writer *writer;
    uint64_t at;
};

static bool from_ring(void *user, uint64_t offset_bytes, void *out, size_t n_bytes)
{
    const struct ring_source *source = user;
    ring_out(source->writer, source->at + offset_bytes, out, n_bytes);
    return true;
}

static uint64_t since_start(const struct vgd_trace_writer *w, uint64_t time_ns)
{
    return time_ns > w->start_ns ? time_ns - w->start_ns : 0;
}

static void tell_stats(struct vgd_trace_writer *w)
{
    (void)pthread_mutex_lock(&w->told_lock);
    w->stats.out = vgd_trace_out_stats(w->out);
    (void)pthread_mutex_unlock(&w->told_lock);
}

/* @lost: totals so far. A GAP record for what no record has told yet. */
static enum vgd_status tell_gap(struct vgd_trace_writer *w, const struct vgd_trace_gap *lost,
                                uint64_t now_ns)
{
    if (lost->lost_records <= w->gap_told.lost_records) {
        return VGD_OK;
    }
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_GAP,
        .time_ns = since_start(w, now_ns),
        .as.gap = {.lost_records = lost->lost_records - w->gap_told.lost_records,
                   .lost_bytes = lost->lost_bytes - w->gap_told.lost_bytes,
                   .since_ns = since_start(w, lost->since_ns)},
    };
    w->gap_told = *lost;
    enum vgd_status st = vgd_trace_out_put(w->out, &record, NULL, NULL, 0);
    if (st == VGD_OK) {
        (void)pthread_mutex_lock(&w->told_lock);
        w->stats.gaps++;
        (void)pthread_mutex_unlock(&w->told_lock);
    }
    return st;
}

static struct vgd_trace_gap lost_so_far(struct vgd_trace_writer *w)
{
    struct vgd_trace_gap lost = {.lost_records = atomic_load(&w->lost_records)};
    lost.lost_bytes = atomic_load(&w->lost_bytes);
    lost.since_ns = atomic_load(&w->lost_since_ns);
    return lost;
}

/* Everything in the buffer into frames. */
static enum vgd_status drain(struct vgd_trace_writer *w)
{
    uint64_t tail = atomic_load_explicit(&w->tail, memory_order_relaxed);
    while (tail != atomic_load(&w->head)) {
        struct entry e;
        ring_out(w, tail, &e, sizeof(e));
        enum vgd_status st = tell_gap(w, &e.lost, e.record.time_ns);
        if (st != VGD_OK) {
            return st;
        }
        struct ring_source source = {.writer = w, .at = tail + sizeof(e)};
        e.record.time_ns = since_start(w, e.record.time_ns);
        uint64_t frames = vgd_trace_out_stats(w->out).frames;
        bool was_empty = vgd_trace_out_pending_bytes(w->out) == 0;
        st = vgd_trace_out_put(w->out, &e.record, from_ring, &source, e.data_bytes);
        if (st != VGD_OK) {
            return st;
        }
        if (was_empty || vgd_trace_out_stats(w->out).frames != frames) {
            w->open_since_ns = vgd_now_ns();
            tell_stats(w);
        }
        tail += e.entry_bytes;
        atomic_store_explicit(&w->tail, tail, memory_order_release);
    }
    return VGD_OK;
}

static void rest(struct vgd_trace_writer *w, enum sleep how, int timeout_ms)
{
    uint64_t tail = atomic_load_explicit(&w->tail, memory_order_relaxed);
    atomic_store(&w->sleep, how);
    uint64_t used_bytes = atomic_load(&w->head) - tail;
    bool untold = atomic_load(&w->lost_records) != w->gap_told.lost_records;
    if (!atomic_load(&w->stopping) && !untold &&
        (used_bytes == 0 || (how == UNTIL_FLUSH && used_bytes < WAKE_BYTES))) {
        struct pollfd p = {.fd = w->wake_fd, .events = POLLIN};
        (void)poll(&p, 1, timeout_ms);
    }
    atomic_store(&w->sleep, AWAKE);
    vgd_eventfd_clear(w->wake_fd);
}

static enum vgd_status begin(struct vgd_trace_writer *w)
{
    struct stat info;
    /* Whoever had the file before may have died before its first byte. */
    if (!w->resume || (fstat(w->fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size == 0)) {
        w->start_ns = w->created_ns;
        return vgd_trace_out_begin(w->out, w->fd, w->start_realtime_ns, w->created_ns);
    }
    return vgd_trace_out_resume(w->out, w->fd, &w->start_ns);
}

static enum vgd_status end(struct vgd_trace_writer *w)
{
    struct vgd_trace_gap lost = lost_so_far(w);
    enum vgd_status st = tell_gap(w, &lost, vgd_now_ns());
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_END,
        .time_ns = since_start(w, vgd_now_ns()),
        .as.end = {.reason = VGD_TRACE_END_STOPPED,
                   .bytes_in = vgd_trace_out_stats(w->out).bytes_in,
                   .lost_records = lost.lost_records,
                   .lost_bytes = lost.lost_bytes},
    };
    st = vgd_trace_out_put(w->out, &record, NULL, NULL, 0);
    return st == VGD_OK ? vgd_trace_out_finish(w->out) : st;
}

static enum vgd_status record_until_stopped(struct vgd_trace_writer *w)
{
    enum vgd_status st = begin(w);
    while (st == VGD_OK) {
        bool stopping = atomic_load(&w->stopping); /* before draining: then nothing comes after */
        st = drain(w);
        if (st == VGD_OK && stopping) {
            return end(w);
        }
        struct vgd_trace_gap lost = lost_so_far(w);
        if (st == VGD_OK && atomic_load(&w->tail) == atomic_load(&w->head)) {
            /* Looked at after the losses: with nothing in the buffer, they are what comes next. */
            st = tell_gap(w, &lost, vgd_now_ns());
        }
        bool open = vgd_trace_out_pending_bytes(w->out) != 0;
        uint64_t open_ms = open ? (vgd_now_ns() - w->open_since_ns) / 1000000u : 0;
        if (st == VGD_OK && open_ms >= w->flush_ms) {
            st = vgd_trace_out_flush(w->out);
            open = false;
        }
        tell_stats(w);
        if (st == VGD_OK) {
            rest(w, open ? UNTIL_FLUSH : UNTIL_RECORD, open ? (int)(w->flush_ms - open_ms) : -1);
        }
    }
    return st;
}

static void release(struct vgd_trace_writer *w)
{
    if (atomic_fetch_sub(&w->refs, 1) != 1) {
        return;
    }
    vgd_trace_out_destroy(w->out);
    vgd_fd_closep(&w->fd);
    vgd_fd_closep(&w->wake_fd);
    if (w->buffer != NULL) {
        (void)munmap(w->buffer, w->buffer_bytes);
    }
    (void)pthread_mutex_destroy(&w->put_lock);
    (void)pthread_mutex_destroy(&w->told_lock);
    (void)pthread_cond_destroy(&w->told);
    free(w);
}

static void *thread_main(void *user)
{
    struct vgd_trace_writer *w = user;
    enum vgd_status st = record_until_stopped(w);
    int error = st == VGD_OK ? 0 : vgd_trace_out_error(w->out);
    if (st != VGD_OK && error == 0) {
        error = st == VGD_NO_MEMORY ? ENOMEM : EINVAL;
    }
    /* What a network file system could not write may be told only now. */
    if (close(vgd_fd_take(&w->fd)) != 0 && error == 0) {
        error = errno;
    }
    atomic_store(&w->over, true);
    (void)pthread_mutex_lock(&w->told_lock);
    w->stats.out = vgd_trace_out_stats(w->out);
    w->stats.error = error;
    w->stats.state = error == 0 ? VGD_TRACE_ENDED : VGD_TRACE_FAILED;
    (void)pthread_cond_broadcast(&w->told);
    (void)pthread_mutex_unlock(&w->told_lock);
    release(w);
    return NULL;
}

/* ---- from outside ---- */

/* With every signal blocked: SIGPIPE and SIGXFSZ go to the thread that writes, and none of the
 * process's own is to be handled there. */
static bool start_thread(struct vgd_trace_writer *w)
{
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    bool made = pthread_create(&thread, &attr, thread_main, w) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    return made;
}

static bool locks_init(struct vgd_trace_writer *w)
{
    pthread_condattr_t attr;
    bool ok = pthread_mutex_init(&w->put_lock, NULL) == 0 &&
              pthread_mutex_init(&w->told_lock, NULL) == 0 && pthread_condattr_init(&attr) == 0;
    if (ok) {
        (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        ok = pthread_cond_init(&w->told, &attr) == 0;
        (void)pthread_condattr_destroy(&attr);
    }
    return ok;
}

enum vgd_status vgd_trace_writer_create(const struct vgd_trace_writer_config *config, int *fd,
                                        struct vgd_trace_writer **out)
{
    size_t memory_max =
        config->memory_max_bytes != 0 ? config->memory_max_bytes : VGD_TRACE_MEMORY_DEFAULT_BYTES;
    if (memory_max > VGD_TRACE_MEMORY_MAX_BYTES || config->flush_ms > INT32_MAX) {
        return VGD_RANGE;
    }
    struct vgd_trace_writer *w = calloc(1, sizeof(*w));
    if (w == NULL || !locks_init(w)) {
        free(w);
        return VGD_NO_MEMORY;
    }
    atomic_init(&w->refs, 1);
    w->fd = -1;
    w->resume = config->resume;
    w->flush_ms = config->flush_ms != 0 ? config->flush_ms : VGD_TRACE_FLUSH_MS_DEFAULT;
    w->wake_fd = vgd_eventfd_create();
    w->out = vgd_trace_out_create(&config->out);
    enum vgd_status st = w->out == NULL ? VGD_RANGE : VGD_OK;
    if (st == VGD_OK) {
        size_t others = sizeof(*w) + STACK_BYTES + vgd_trace_out_memory_bytes(w->out);
        if (memory_max < others + VGD_TRACE_BUFFER_MIN_BYTES) {
            st = VGD_RANGE;
        } else {
            w->buffer_bytes = (memory_max - others) / 4096u * 4096u;
            w->memory_bytes = others + w->buffer_bytes;
            void *buffer = mmap(NULL, w->buffer_bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            w->buffer = buffer != MAP_FAILED ? buffer : NULL;
            st = w->buffer != NULL ? VGD_OK : VGD_NO_MEMORY;
        }
    }
    if (st == VGD_OK) {
        struct timespec now;
        (void)clock_gettime(CLOCK_REALTIME, &now);
        w->start_realtime_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        w->created_ns = vgd_now_ns();
        w->fd = *fd;
        atomic_store(&w->refs, 2);
        if (w->wake_fd < 0 || !start_thread(w)) {
            atomic_store(&w->refs, 1);
            w->fd = -1; /* still the caller's */
            st = VGD_HOST_FAILED;
        }
    }
    if (st != VGD_OK) {
        release(w);
        return st;
    }
    *fd = -1;
    *out = w;
    return VGD_OK;
}

struct vgd_trace_writer_stats vgd_trace_writer_stats(struct vgd_trace_writer *w)
{
    (void)pthread_mutex_lock(&w->told_lock);
    struct vgd_trace_writer_stats stats = w->stats;
    (void)pthread_mutex_unlock(&w->told_lock);
    if (stats.state == VGD_TRACE_RUNNING && atomic_load(&w->stopping)) {
        stats.state = VGD_TRACE_STOPPING;
    }
    stats.lost_bytes = atomic_load(&w->lost_bytes);
    stats.lost_records = atomic_load(&w->lost_records);
    stats.memory_bytes = w->memory_bytes;
    stats.buffer_bytes = w->buffer_bytes;
    uint64_t tail = atomic_load(&w->tail);
    stats.buffer_used_bytes = (size_t)(atomic_load(&w->head) - tail);
    stats.buffer_peak_bytes = (size_t)atomic_load(&w->peak_bytes);
    return stats;
}

void vgd_trace_writer_stop(struct vgd_trace_writer *w)
{
    (void)pthread_mutex_lock(&w->put_lock);
    w->refuse = true; /* whoever is behind us in the queue for the lock comes too late */
    (void)pthread_mutex_unlock(&w->put_lock);
    atomic_store(&w->stopping, true);
    atomic_store(&w->sleep, AWAKE);
    vgd_eventfd_signal(w->wake_fd);
}

bool vgd_trace_writer_wait(struct vgd_trace_writer *w, uint32_t timeout_ms)
{
    uint64_t until_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000u;
    struct timespec until = {
        .tv_sec = (time_t)(until_ns / 1000000000u),
        .tv_nsec = (long)(until_ns % 1000000000u),
    };
    (void)pthread_mutex_lock(&w->told_lock);
    int rc = 0;
    while (w->stats.state < VGD_TRACE_ENDED && rc == 0) {
        rc = pthread_cond_timedwait(&w->told, &w->told_lock, &until);
    }
    bool over = w->stats.state >= VGD_TRACE_ENDED;
    (void)pthread_mutex_unlock(&w->told_lock);
    return over;
}

void vgd_trace_writer_destroy(struct vgd_trace_writer *w)
{
    if (w != NULL) {
        vgd_trace_writer_stop(w);
        release(w);
    }
}
