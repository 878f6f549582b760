/* SPDX-License-Identifier: MIT */
/* What the VMM is asked on the backend channel, and the memory table that it makes of it. Order and
 * habits are QEMU 11.1's: a request is answered before its effect on the memory table is announced,
 * and nothing is read from the channel while the VMM waits for a reply of the back-end. */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "fd.h"
#include "guest_frontend_priv.h"
#include "log.h"
#include "virtio_gpu.h"

#define SLOTS_MAX 512u           /* QEMU 11.1 aborts at this many regions (D2) */
#define COMMIT_NS 1000000u       /* from a map's answer to its effect, with nothing else to do */
#define SHM_CONFIG_MIN_BYTES 24u /* two sizes: QEMU takes a short answer */

static void violation(struct vgd_guest_frontend *fe, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void violation(struct vgd_guest_frontend *fe, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(fe->violation, sizeof(fe->violation), format, args);
    va_end(args);
    fe->counters.violations++;
}

void vgd_guest_frontend_violation(const struct vgd_guest_frontend *fe, char *out, size_t max_bytes)
{
    (void)snprintf(out, max_bytes, "%s", fe->violation);
}

enum vgd_status frontend_ask_shm(struct vgd_guest_frontend *fe)
{
    struct vgd_vu_message reply;
    enum vgd_status st =
        vgd_guest_frontend_ask(fe, VGD_VU_GET_SHMEM_CONFIG, false, NULL, 0, NULL, 0, &reply);
    if (st != VGD_OK) {
        return st;
    }
    uint8_t whole[VGD_VU_SHMEM_CONFIG_SIZE] = {0};
    uint32_t n_bytes = reply.hdr.size_bytes;
    if (n_bytes < SHM_CONFIG_MIN_BYTES || n_bytes > sizeof(whole)) {
        vgd_vu_message_finish(&reply);
        return VGD_RANGE;
    }
    memcpy(whole, reply.payload, n_bytes);
    vgd_vu_message_finish(&reply);
    struct vgd_reader r = vgd_reader_of(whole, sizeof(whole));
    struct vgd_vu_shmem_config config;
    st = vgd_vu_shmem_config_decode(&r, &config);
    uint32_t n_regions = 0;
    for (uint32_t i = 0; st == VGD_OK && i < VGD_VU_MAX_SHMEM_REGIONS; i++) {
        n_regions += config.sizes_bytes[i] != 0;
    }
    if (st != VGD_OK || n_regions != config.nregions) {
        return VGD_RANGE;
    }
    uint64_t size = config.sizes_bytes[VGD_SHM_ID_HOST_VISIBLE];
    if (size == 0 || fe->shm != NULL) {
        return VGD_OK;
    }
    fe->shm = vgd_guest_shm_create(size);
    return fe->shm != NULL ? VGD_OK : VGD_RANGE;
}

/* Does this VMM take what is mapped for guest RAM? */
static bool announces(const struct vgd_guest_frontend *fe)
{
    return fe->config.announce_maps == VGD_GUEST_ANNOUNCE_ALWAYS ||
           (fe->config.announce_maps == VGD_GUEST_ANNOUNCE_DEFAULT &&
            fe->config.profile == VGD_GUEST_QEMU_GENERIC);
}

static bool has_slots(const struct vgd_guest_frontend *fe)
{
    return (fe->acked_protocol & BIT(VGD_VU_F_CONFIGURE_MEM_SLOTS)) != 0;
}

static struct vgd_vu_mem_region region_of_ram(const struct vgd_guest_region *region)
{
    return (struct vgd_vu_mem_region){
        .gpa = region->gpa,
        .size_bytes = region->size_bytes,
        .user_addr = (uint64_t)(uintptr_t)region->map,
        .mmap_offset_bytes = region->file_offset,
    };
}

static struct vgd_vu_mem_region region_of_map(const struct vgd_guest_frontend *fe, uint64_t offset,
                                              uint64_t len, uint64_t file_offset)
{
    return (struct vgd_vu_mem_region){
        .gpa = VGD_GUEST_SHM_GPA + offset,
        .size_bytes = len,
        .user_addr = (uint64_t)(uintptr_t)(vgd_guest_shm_base(fe->shm) + offset),
        .mmap_offset_bytes = file_offset,
    };
}

static enum vgd_status send_slot(struct vgd_guest_frontend *fe, uint32_t request,
                                 const struct vgd_vu_mem_region *region, const int *fd)
{
    uint8_t payload[VGD_VU_MEM_SLOT_SIZE];
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    vgd_vu_mem_slot_encode(&w, &(struct vgd_vu_mem_slot){.region = *region});
    return frontend_say(fe, request, true, payload, (uint32_t)vgd_writer_used(&w), fd,
                        fd != NULL ? 1 : 0);
}

static enum vgd_status send_slots(struct vgd_guest_frontend *fe)
{
    enum vgd_status st = VGD_OK;
    uint32_t n = vgd_guest_ram_region_count(fe->ram);
    for (uint32_t i = 0; i < n && !fe->slots_sent && st == VGD_OK; i++) {
        const struct vgd_guest_region *ram = vgd_guest_ram_region(fe->ram, i);
        struct vgd_vu_mem_region region = region_of_ram(ram);
        st = send_slot(fe, VGD_VU_ADD_MEM_REG, &region, &ram->fd);
    }
    fe->slots_sent = fe->slots_sent || st == VGD_OK;
    return st;
}

enum vgd_status frontend_send_memory(struct vgd_guest_frontend *fe)
{
    if (has_slots(fe)) {
        return send_slots(fe);
    }
    uint32_t n_ram = vgd_guest_ram_region_count(fe->ram);
    uint32_t n_maps = fe->shm != NULL && announces(fe) ? vgd_guest_shm_count(fe->shm) : 0;
    if (n_ram + n_maps > VGD_VU_MAX_MEM_REGIONS) {
        return VGD_LIMIT; /* QEMU: "No buffer space available (105)" */
    }
    uint8_t payload[VGD_VU_MEM_TABLE_SIZE + VGD_VU_MAX_MEM_REGIONS * VGD_VU_MEM_REGION_SIZE];
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    int fds[VGD_VU_MAX_MEM_REGIONS];
    vgd_vu_mem_table_encode(&w, &(struct vgd_vu_mem_table){.nregions = n_ram + n_maps});
    for (uint32_t i = 0; i < n_ram; i++) {
        const struct vgd_guest_region *ram = vgd_guest_ram_region(fe->ram, i);
        struct vgd_vu_mem_region region = region_of_ram(ram);
        vgd_vu_mem_region_encode(&w, &region);
        fds[i] = ram->fd;
    }
    for (uint32_t i = 0; i < n_maps; i++) {
        const struct vgd_guest_shm_map *map = vgd_guest_shm_at(fe->shm, i);
        struct vgd_vu_mem_region region =
            region_of_map(fe, map->offset_bytes, map->len_bytes, map->file_offset_bytes);
        vgd_vu_mem_region_encode(&w, &region);
        fds[n_ram + i] = map->fd;
    }
    return frontend_say(fe, VGD_VU_SET_MEM_TABLE, true, payload, (uint32_t)vgd_writer_used(&w), fds,
                        n_ram + n_maps);
}

/* After the answer to a map (@file_fd) or unmap (-1): the memory table as QEMU has it now. */
static void announce(struct vgd_guest_frontend *fe, const struct vgd_vu_shmem_map *map, int file_fd)
{
    if (!fe->running || !announces(fe)) {
        return;
    }
    enum vgd_status st;
    if (has_slots(fe)) {
        uint32_t n = vgd_guest_ram_region_count(fe->ram) + vgd_guest_shm_count(fe->shm);
        if (n >= SLOTS_MAX) {
            violation(fe, "%u regions with CONFIGURE_MEM_SLOTS: QEMU 11.1 aborts (D2)", n);
        }
        struct vgd_vu_mem_region region =
            region_of_map(fe, map->shm_offset_bytes, map->len_bytes, map->fd_offset_bytes);
        st = send_slot(fe, file_fd >= 0 ? VGD_VU_ADD_MEM_REG : VGD_VU_REM_MEM_REG, &region,
                       file_fd >= 0 ? &file_fd : NULL);
    } else {
        st = frontend_send_memory(fe);
    }
    if (st != VGD_OK && st != VGD_LIMIT) { /* beyond the limit QEMU only complains */
        violation(fe, "the memory table with what is mapped is not taken: %s", vgd_status_text(st));
    }
}

void frontend_shm_reset(struct vgd_guest_frontend *fe)
{
    if (fe->shm == NULL) {
        return;
    }
    if (vgd_guest_shm_count(fe->shm) > 0 && has_slots(fe) && announces(fe)) {
        violation(fe, "a reset while something is mapped, with CONFIGURE_MEM_SLOTS: QEMU 11.1 "
                      "crashes (D3)");
    }
    fe->commit_at_ns = 0;
    vgd_guest_shm_reset(fe->shm);
}

static uint32_t bytes_waiting(const struct vgd_guest_frontend *fe)
{
    int n = 0;
    if (fe->backend == NULL || ioctl(vgd_channel_fd(fe->backend), FIONREAD, &n) != 0) {
        return 0;
    }
    return (uint32_t)n;
}

static void reply_u64(struct vgd_guest_frontend *fe, const struct vgd_vu_message *msg,
                      uint64_t value)
{
    if ((msg->hdr.flags & VGD_VU_FLAG_NEED_REPLY) != 0) {
        (void)frontend_send_all(fe, fe->backend, msg->hdr.request,
                                VGD_VU_FLAG_VERSION | VGD_VU_FLAG_REPLY, &value, sizeof(value),
                                NULL, 0);
    }
}

static void reply_rubbish(struct vgd_guest_frontend *fe)
{
    static const uint8_t few[3] = {0xff, 0xfe, 0xfd};
    (void)frontend_send_all(fe, fe->backend, 0x7f, VGD_VU_FLAG_VERSION | VGD_VU_FLAG_REPLY, few,
                            sizeof(few), NULL, 0);
}

static bool is_map(const struct vgd_vu_message *msg)
{
    return msg->hdr.request == VGD_VU_BACKEND_SHMEM_MAP;
}

/* Carry out a SHMEM_MAP or _UNMAP and answer. */
static void do_map(struct vgd_guest_frontend *fe, struct vgd_vu_message *msg,
                   enum vgd_guest_answer answer)
{
    struct vgd_vu_shmem_map map = {0};
    struct vgd_reader r = vgd_reader_of(msg->payload, msg->hdr.size_bytes);
    const char *why = "";
    enum vgd_status st = vgd_vu_shmem_map_decode(&r, &map);
    if (st != VGD_OK || vgd_reader_finish(&r) != VGD_OK) {
        st = VGD_RANGE;
        why = "not the size of its message";
    } else if (answer == VGD_GUEST_ANSWER_REFUSE) {
        st = VGD_HOST_FAILED;
    } else if (is_map(msg)) {
        st = vgd_guest_shm_map(fe->shm, &map, &msg->fds[0], &why);
    } else {
        st = vgd_guest_shm_unmap(fe->shm, &map, &why);
    }
    if (st == VGD_RANGE) {
        violation(fe, "%s of region %u, [%#llx, +%#llx), file offset %#llx: %s",
                  is_map(msg) ? "SHMEM_MAP" : "SHMEM_UNMAP", map.shmid,
                  (unsigned long long)map.shm_offset_bytes, (unsigned long long)map.len_bytes,
                  (unsigned long long)map.fd_offset_bytes, why);
    }
    fe->counters.maps += st == VGD_OK && is_map(msg);
    fe->counters.unmaps += st == VGD_OK && !is_map(msg);
    fe->counters.refused += st != VGD_OK;
    if (bytes_waiting(fe) > 0) {
        violation(fe, "a second request before the answer to the first (D4)");
    }
    switch (answer) {
    case VGD_GUEST_ANSWER_RUBBISH:
        reply_rubbish(fe);
        break;
    case VGD_GUEST_ANSWER_LOSE:
        break;
    case VGD_GUEST_ANSWER_CLOSE:
        vgd_channel_destroy(fe->backend);
        fe->backend = NULL;
        break;
    default:
        reply_u64(fe, msg, st == VGD_OK ? 0 : 1);
    }
    if (st == VGD_OK && is_map(msg)) {
        fe->commit_at_ns = vgd_now_ns() + COMMIT_NS;
    }
    if (st == VGD_OK) {
        const struct vgd_guest_shm_map *placed =
            is_map(msg) ? vgd_guest_shm_find(fe->shm, map.shm_offset_bytes) : NULL;
        announce(fe, &map, placed != NULL ? placed->fd : -1);
    }
}

/* What the test wants done with this request. */
static enum vgd_guest_answer take_trouble(struct vgd_guest_frontend *fe,
                                          const struct vgd_vu_message *msg)
{
    uint32_t *left = is_map(msg) ? &fe->trouble.n_maps : &fe->trouble.n_unmaps;
    if (*left == 0) {
        return VGD_GUEST_ANSWER_WELL;
    }
    (*left)--;
    return fe->trouble.answer;
}

/* A stop leaves QEMU 11.1's vhost device without its virtio device, and both requests look there.
 * When the stop began does not matter: a request that it overtook is read afterwards, too. */
static void check_moment(struct vgd_guest_frontend *fe, const struct vgd_vu_message *msg)
{
    if (!fe->running && !fe->half_started) {
        violation(fe, "%s while the device is stopped: QEMU 11.1 crashes (D6)",
                  vgd_vu_backend_request_name(msg->hdr.request));
    }
}

static void handle(struct vgd_guest_frontend *fe, struct vgd_vu_message *msg)
{
    fe->counters.backend_messages++;
    bool maps = msg->hdr.request == VGD_VU_BACKEND_SHMEM_MAP ||
                msg->hdr.request == VGD_VU_BACKEND_SHMEM_UNMAP;
    if (!maps || fe->shm == NULL) {
        if (maps) {
            violation(fe, "%s, but there is no region",
                      vgd_vu_backend_request_name(msg->hdr.request));
        }
        reply_u64(fe, msg, 1);
        vgd_vu_message_finish(msg);
        return;
    }
    check_moment(fe, msg);
    if ((msg->hdr.flags & VGD_VU_FLAG_NEED_REPLY) == 0) {
        violation(fe, "%s without NEED_REPLY: nobody knows when it is done",
                  vgd_vu_backend_request_name(msg->hdr.request));
    }
    enum vgd_guest_answer answer = take_trouble(fe, msg);
    if (answer == VGD_GUEST_ANSWER_LATE || answer == VGD_GUEST_ANSWER_NEVER) {
        fe->held = *msg;
        fe->is_held = true;
        fe->held_answer = VGD_GUEST_ANSWER_WELL;
        fe->held_until_ns = answer == VGD_GUEST_ANSWER_NEVER
                                ? UINT64_MAX
                                : vgd_now_ns() + (uint64_t)fe->trouble.late_ms * 1000000;
        return;
    }
    do_map(fe, msg, answer);
    vgd_vu_message_finish(msg);
}

static void finish_held(struct vgd_guest_frontend *fe)
{
    fe->is_held = false;
    do_map(fe, &fe->held, fe->held_answer);
    vgd_vu_message_finish(&fe->held);
}

void vgd_guest_frontend_trouble(struct vgd_guest_frontend *fe,
                                const struct vgd_guest_trouble *trouble)
{
    fe->trouble = *trouble;
}

bool vgd_guest_frontend_is_holding(const struct vgd_guest_frontend *fe)
{
    return fe->is_held;
}

void vgd_guest_frontend_release(struct vgd_guest_frontend *fe)
{
    fe->trouble = (struct vgd_guest_trouble){0};
    if (fe->is_held && fe->backend != NULL) {
        finish_held(fe);
    }
}

int vgd_guest_frontend_backend_fd(const struct vgd_guest_frontend *fe)
{
    return fe->backend == NULL || fe->is_held ? -1 : vgd_channel_fd(fe->backend);
}

void frontend_commit(struct vgd_guest_frontend *fe)
{
    if (fe->commit_at_ns != 0) {
        fe->commit_at_ns = 0;
        vgd_guest_shm_commit(fe->shm);
    }
}

int vgd_guest_frontend_service_in_ms(const struct vgd_guest_frontend *fe)
{
    uint64_t due_ns = fe->is_held ? fe->held_until_ns : UINT64_MAX;
    if (fe->commit_at_ns != 0 && fe->commit_at_ns < due_ns) {
        due_ns = fe->commit_at_ns;
    }
    if (due_ns == UINT64_MAX) {
        return -1;
    }
    uint64_t now_ns = vgd_now_ns();
    return now_ns >= due_ns ? 0 : (int)((due_ns - now_ns) / 1000000) + 1;
}

bool vgd_guest_frontend_mapped_early(struct vgd_guest_frontend *fe, uint64_t offset_bytes)
{
    const struct vgd_guest_shm_map *map =
        fe->shm == NULL ? NULL : vgd_guest_shm_find(fe->shm, offset_bytes);
    if (map != NULL && map->committed) {
        return false;
    }
    violation(fe, "the guest was told of a map at %#llx that is not there yet (D7)",
              (unsigned long long)offset_bytes);
    return true;
}

static bool is_readable(const struct vgd_guest_frontend *fe)
{
    struct pollfd p = {.fd = vgd_channel_fd(fe->backend), .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* Once a message has begun, QEMU's main loop does nothing else until it is whole. */
static enum vgd_status read_whole(struct vgd_guest_frontend *fe, struct vgd_vu_message *out)
{
    uint64_t start_ns = vgd_now_ns();
    for (;;) {
        enum vgd_status st = vgd_channel_read(fe->backend, out);
        uint64_t took_ns = vgd_now_ns() - start_ns;
        if (took_ns > fe->counters.longest_read_ns) {
            fe->counters.longest_read_ns = took_ns;
        }
        if (st != VGD_AGAIN) {
            return st;
        }
        if (took_ns > (uint64_t)fe->config.reply_timeout_ms * 1000000) {
            violation(fe, "half a message freezes the VMM");
            return VGD_RANGE;
        }
        struct pollfd p = {.fd = vgd_channel_fd(fe->backend), .events = POLLIN};
        (void)poll(&p, 1, 10);
    }
}

void vgd_guest_frontend_service(struct vgd_guest_frontend *fe)
{
    if (fe->commit_at_ns != 0 && vgd_now_ns() >= fe->commit_at_ns) {
        frontend_commit(fe);
    }
    while (fe->backend != NULL) {
        if (fe->is_held) {
            if (vgd_now_ns() < fe->held_until_ns) {
                return;
            }
            finish_held(fe);
            continue;
        }
        struct vgd_vu_message msg;
        if (bytes_waiting(fe) == 0 && !is_readable(fe)) {
            return;
        }
        frontend_commit(fe); /* the handler of the request before is done */
        enum vgd_status st = read_whole(fe, &msg);
        if (st != VGD_OK) {
            vgd_channel_destroy(fe->backend);
            fe->backend = NULL;
            return;
        }
        handle(fe, &msg);
    }
}
