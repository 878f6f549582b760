/* SPDX-License-Identifier: MIT */
/*
 * The host-visible region between a hostile worker, a guest that stops and resets at any moment,
 * and a VMM that answers well, late, with errors, with rubbish or not at all: the input is the list
 * of what happens.
 *
 * Properties: each request is answered once; what the VMM is asked to map never overlaps what it
 * has mapped, and what it is asked to unmap is something that it was asked to map; one request at a
 * time; a request whose first byte is read while the device is stopped is none; when all is quiet,
 * table and VMM agree, what a worker was told is mapped is there, and nothing but that and what
 * dead workers left; every fd is closed in the end.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "../unit/shmem_fixture.h"
#include "log.h"
#include "open_fds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#define OPS_MAX 200u
#define MAPS_MAX 12u
#define PLACES 16u
#define SLOTS_MAX 64u

struct range {
    uint64_t offset, len;
};

static struct {
    const uint8_t *pos, *end;
    int file;                      /* that all maps are of */
    struct range slots[SLOTS_MAX]; /* what the VMM has */
    unsigned n_slots;
    struct range told[OPS_MAX + 1]; /* what the worker was told is mapped */
    unsigned n_told;
    struct range left[OPS_MAX + 1]; /* what dead workers were told */
    unsigned n_left;
    struct range asks[OPS_MAX + 1]; /* by token */
    bool unmaps[OPS_MAX + 1];
    uint64_t first_token; /* not looked at yet */
    bool lost;            /* the VMM refused what was to come back, or took it along */
    struct vmm_message asked;
    bool has_asked, stopped, parking;
    bool barrier_due; /* a map is done and answered, what followed it is not */
    bool lied;        /* the VMM did what no VMM would: the two need not agree any more */
} z;

static uint8_t u8(void)
{
    return z.pos < z.end ? *z.pos++ : 0;
}

static bool remove_equal(struct range *list, unsigned *n, struct range r)
{
    for (unsigned i = 0; i < *n; i++) {
        if (list[i].offset == r.offset && list[i].len == r.len) {
            list[i] = list[--*n];
            return true;
        }
    }
    return false;
}

/* What answers mean to the worker. @is_last: it dies with what is not answered. */
static void look_at_answers(bool is_last)
{
    for (; z.first_token < f.next_token; z.first_token++) {
        uint64_t t = z.first_token;
        struct range r = z.asks[t];
        if (f.answers[t] == -1 && !is_last) {
            break; /* in the order in which they were asked for */
        }
        if (z.unmaps[t] && f.answers[t] != VGD_RANGE) {
            (void)remove_equal(z.told, &z.n_told, r);
        } else if (!z.unmaps[t] && f.answers[t] == VGD_OK) {
            z.told[z.n_told++] = r;
        }
    }
}

static void worker_dies(void)
{
    vgd_shmem_worker_gone(f.sh);
    look_at_answers(true);
    for (; z.n_told > 0; z.n_told--) {
        if (z.n_left < OPS_MAX) {
            z.left[z.n_left++] = z.told[z.n_told - 1];
        }
    }
}

static unsigned find_slot(uint64_t offset, uint64_t len)
{
    unsigned i = 0;
    while (i < z.n_slots && (z.slots[i].offset != offset || z.slots[i].len != len)) {
        i++;
    }
    return i;
}

/* Carry out what is asked, as QEMU does: an error for what cannot be. */
static uint64_t carry_out(const struct vmm_message *m)
{
    uint64_t offset = m->map.shm_offset_bytes, len = m->map.len_bytes;
    if (m->hdr.request == VGD_VU_BACKEND_SHMEM_UNMAP) {
        unsigned i = find_slot(offset, len);
        if (i == z.n_slots) {
            return 1;
        }
        z.slots[i] = z.slots[--z.n_slots];
        return 0;
    }
    assert(m->fd >= 0 && offset % PAGE == 0 && len % PAGE == 0 && len != 0);
    assert(offset <= WINDOW && len <= WINDOW - offset);
    for (unsigned i = 0; i < z.n_slots; i++) {
        bool apart =
            offset + len <= z.slots[i].offset || z.slots[i].offset + z.slots[i].len <= offset;
        assert(apart || z.lied);
        if (!apart) {
            return 1;
        }
    }
    assert(z.n_slots < SLOTS_MAX);
    z.slots[z.n_slots].offset = offset;
    z.slots[z.n_slots++].len = len;
    return 0;
}

static void forget_asked(void)
{
    if (z.has_asked && z.asked.fd >= 0) {
        (void)close(z.asked.fd);
    }
    z.has_asked = false;
    z.barrier_due = false;
}

/* Read a request, if there is one and none is being worked on. */
static void vmm_look(void)
{
    if (z.has_asked || !vmm_begin(&z.asked)) {
        return;
    }
    bool stopped = z.stopped && !z.parking;
    vmm_finish(&z.asked);
    bool real = z.asked.hdr.request < 0x100;
    assert(!real || !stopped); /* QEMU would be dead */
    assert(real == ((z.asked.hdr.flags & VGD_VU_FLAG_NEED_REPLY) != 0));
    z.has_asked = true;
    if (!real) {
        forget_asked();
    }
}

static void vmm_reply(uint8_t how)
{
    if (!z.has_asked) {
        return;
    }
    if (z.barrier_due) {
        z.barrier_due = false;
        vmm_answer_barrier();
    } else if (how >= 0x50 && how < 0x70 && z.asked.barrier) {
        uint64_t value = carry_out(&z.asked); /* answered, and not quite done */
        vmm_say(z.asked.hdr.request, 5, &value, sizeof(value));
        z.barrier_due = true;
        return;
    } else if (how < 0xc0) {
        vmm_answer(&z.asked, how < 0x90 ? carry_out(&z.asked) : 1);
        z.asked.fd = -1;
        z.lost |= how >= 0x90;
        if (how >= 0x90 && z.asked.hdr.request == VGD_VU_BACKEND_SHMEM_UNMAP) {
            z.lied = true; /* refused, and still mapped */
        }
    } else {
        static const uint8_t junk[40] = {1, 2, 3};
        z.lied = true;
        vmm_say(how < 0xe0 ? z.asked.hdr.request : how, how & 0x1f, junk, how % 41u);
    }
    forget_asked();
}

/* A new channel: what the old one was asked is lost, or was done without saying. */
static void vmm_reconnect(uint8_t how)
{
    if (z.has_asked && (how & 1) != 0 && !z.barrier_due) {
        (void)carry_out(&z.asked);
    }
    z.lost |= z.has_asked;
    forget_asked();
    fix_channel();
}

static void worker_asks(bool unmap)
{
    uint8_t place = u8(), shape = u8();
    uint64_t offset = (place % PLACES) * PAGE, len = (1 + shape % 4u) * PAGE;
    if (place >= 0xf0) {
        offset = place >= 0xf8 ? UINT64_MAX - PAGE + 1 : WINDOW - PAGE;
    }
    if (shape >= 0xf0) {
        len = shape >= 0xf8 ? UINT64_MAX - offset + 1 : shape;
    }
    z.unmaps[f.next_token] = unmap;
    z.asks[f.next_token] = (struct range){offset, len};
    if (unmap) {
        (void)fix_unmap(offset, len);
    } else {
        int fd = shape == 0xe0 ? eventfd(0, EFD_CLOEXEC) : fcntl(z.file, F_DUPFD_CLOEXEC, 0);
        (void)fix_map_file(offset, len, (shape & 0x10) != 0 ? PAGE : 0, fd);
    }
}

static void step(uint8_t what)
{
    switch (what % 16) {
    case 0:
    case 1:
    case 2:
        worker_asks(false);
        break;
    case 3:
    case 4:
        worker_asks(true);
        break;
    case 5:
    case 6:
        vmm_look();
        break;
    case 7:
    case 8:
        vmm_reply(u8());
        break;
    case 9:
        /* As QEMU: with a request read, it is worked on before anything else. */
        z.stopped = true;
        z.parking = false;
        vgd_shmem_hold(f.sh);
        break;
    case 10:
        z.stopped = false;
        z.parking = false;
        vgd_shmem_release(f.sh);
        break;
    case 11:
        worker_dies();
        break;
    case 12:
        if (z.stopped) { /* a reset: the VMM drops all maps */
            vgd_shmem_forget(f.sh);
            look_at_answers(false);
            z.n_slots = 0;
            z.n_told = 0;
            z.n_left = 0;
        }
        break;
    case 13:
        if (z.stopped) {
            z.parking = true;
            vgd_shmem_park(f.sh, u8() % 8u);
        }
        break;
    case 14:
        vmm_reconnect(u8());
        break;
    default:
        (void)vgd_shmem_is_ours(f.sh, (1 + u8() % 4u) * PAGE, 0, z.file);
        fix_turn();
        break;
    }
    look_at_answers(false);
}

/* The worker's picture and the VMM's. */
static void compare(void)
{
    look_at_answers(false);
    for (unsigned i = 0; i < z.n_told; i++) {
        assert(find_slot(z.told[i].offset, z.told[i].len) < z.n_slots); /* the guest looks at it */
    }
    for (unsigned i = 0; i < z.n_slots; i++) {
        bool wanted = remove_equal(z.told, &z.n_told, z.slots[i]) ||
                      remove_equal(z.left, &z.n_left, z.slots[i]);
        assert(wanted); /* nobody's, and nobody could ever map anything there */
    }
}

/* All is well from here on: everything is asked for, done and answered. */
static void settle_all(void)
{
    forget_asked();
    if (!fix_status().usable || z.lied) { /* it may owe an answer */
        fix_channel();
    }
    vgd_shmem_release(f.sh);
    z.stopped = false;
    for (unsigned i = 0; i < 500; i++) {
        vmm_look();
        if (!z.has_asked && fix_status().waiting_count == 0) {
            vmm_look();
            if (!z.has_asked) {
                break;
            }
        }
        vmm_reply(0);
    }
    struct vgd_shmem_status st = fix_status();
    assert(st.waiting_count == 0 && st.quarantined_count == 0 && st.parked_count == 0);
    assert(st.live_count <= MAPS_MAX);
    assert(st.live_count == z.n_slots || z.lied);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    vgd_log_setup("fuzz", VGD_LOG_ERROR);
    uint64_t fds_before = open_fds();
    memset(&z, 0, sizeof(z));
    z.pos = data;
    z.end = data + len_bytes;
    z.file = fix_file(16 * PAGE);
    fix_start(MAPS_MAX, 0);
    z.first_token = f.next_token;
    for (unsigned i = 0; i < OPS_MAX && z.pos < z.end; i++) {
        step(u8());
    }
    if (z.has_asked) { /* asked and not answered: the channel's end is its answer */
        z.lied = true;
        vmm_reconnect(0);
    }
    settle_all();
    if (!z.lied && !z.lost) {
        compare();
    }
    vgd_shmem_worker_gone(f.sh);
    fix_end();
    vgd_fd_closep(&z.file);
    assert(open_fds() == fds_before);
    return 0;
}
