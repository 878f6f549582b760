/* SPDX-License-Identifier: MIT */
/*
 * vgd-trace cut: some of a trace as a trace of its own, which can be played. What is known of the
 * host and the device before the cut comes first, then a state that makes what the guest had made;
 * data that lie in frames before it are copied. Times and the start stay those of the original.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cut.h"
#include "fd.h"

#define ABOUT_MAX 128u /* facts, capsets, scanouts; what is beyond is left out, and said */

/* Records about the host and the device before the cut: the newest of each. */
struct about {
    struct {
        uint32_t kind, key;
        uint64_t number;
    } entries[ABOUT_MAX];
    uint32_t n;
    bool overflow;
};

struct copy {
    struct tool *tool;
    struct vgd_trace_out *out;
    const struct vgd_trace_data *data; /* of the record that is being put */
    uint64_t lost_data_count;          /* records whose data could not be read */
};

static bool from_item(void *user, uint64_t offset_bytes, void *out, size_t n_bytes)
{
    struct copy *copy = user;
    if (vgd_trace_reader_data(copy->tool->reader, copy->data, offset_bytes, out, n_bytes) ==
        VGD_OK) {
        return true;
    }
    copy->lost_data_count++;
    return false;
}

static bool put(struct copy *copy, const struct vgd_trace_item *item)
{
    uint32_t fact = item->record.as.fact.fact;
    if (copy->tool->anonymous && item->record.kind == VGD_TRACE_KIND_FACT &&
        (fact == VGD_TRACE_FACT_KERNEL || fact == VGD_TRACE_FACT_GUEST ||
         fact == VGD_TRACE_FACT_NOTE)) {
        return true;
    }
    copy->data = &item->data;
    return vgd_trace_out_put(copy->out, &item->record, from_item, copy, item->data.total_bytes) ==
           VGD_OK;
}

static bool is_about(const struct vgd_trace_record *record, uint32_t *out_key)
{
    switch (record->kind) {
    case VGD_TRACE_KIND_FACT:
        *out_key = record->as.fact.fact;
        return true;
    case VGD_TRACE_KIND_DEVICE:
        *out_key = 0;
        return true;
    case VGD_TRACE_KIND_CAPSET:
        *out_key = record->as.capset.capset_id << 16 ^ record->as.capset.version;
        return true;
    case VGD_TRACE_KIND_SCANOUT:
        *out_key = record->as.scanout.scanout_id;
        return true;
    default:
        return false;
    }
}

static void remember(struct about *about, const struct vgd_trace_item *item)
{
    uint32_t key;
    if (!is_about(&item->record, &key)) {
        return;
    }
    uint32_t i = 0;
    while (i < about->n &&
           (about->entries[i].kind != item->record.kind || about->entries[i].key != key)) {
        i++;
    }
    if (i == ABOUT_MAX) {
        about->overflow = true;
        return;
    }
    about->n = i == about->n ? i + 1 : about->n;
    about->entries[i].kind = item->record.kind;
    about->entries[i].key = key;
    about->entries[i].number = item->number;
}

/* Everything about the host and the device from before the range. */
static bool copy_about(struct copy *copy)
{
    struct tool *tool = copy->tool;
    struct tool_filter range = tool->filter;
    static struct about about;
    struct vgd_trace_item item;
    tool->filter = (struct tool_filter){.to_ns = UINT64_MAX, .last_record = UINT64_MAX};
    while (tool_next(tool, &item) &&
           (item.number < range.first_record || item.record.time_ns < range.from_ns)) {
        remember(&about, &item);
    }
    tool->filter = range;
    if (about.overflow) {
        tool_complain("more than %u facts before the cut: the rest is left out", ABOUT_MAX);
    }
    for (uint32_t i = 0; i < about.n; i++) {
        if (vgd_trace_reader_seek_number(tool->reader, about.entries[i].number) != VGD_OK ||
            vgd_trace_reader_next(tool->reader, &item) != VGD_OK || !put(copy, &item)) {
            return false;
        }
    }
    return true;
}

static void say_missing(const struct copy *copy, const struct cut_missing *missing,
                        const struct replay *r)
{
    if (missing->contents != 0) {
        tool_complain(
            "%llu resources of OpenGL come without what was in them: only a backend knows; "
            "see --exec",
            (unsigned long long)missing->contents);
    }
    if (missing->unread != 0) {
        tool_complain(
            "%llu resources or levels come without what was in them: the backend does not "
            "give it",
            (unsigned long long)missing->unread);
    }
    if (missing->contexts != 0) {
        tool_complain("%llu contexts come without what they had made: it was too much",
                      (unsigned long long)missing->contexts);
    }
    if (r->after_gap || r->model.overflow_count != 0) {
        tool_complain("what was made before the cut is not all known");
    }
    (void)copy;
}

/* The range itself, from @item on; then from @first_record if @item is NULL. */
static bool copy_range(struct copy *copy, const struct vgd_trace_item *item)
{
    struct vgd_trace_item next;
    if (item != NULL && !put(copy, item)) {
        return false;
    }
    while (tool_next(copy->tool, &next)) {
        if (!put(copy, &next)) {
            return false;
        }
    }
    return true;
}

/* Play up to the range, put what is there then, and copy the rest. */
static bool copy_from_state(struct copy *copy)
{
    struct tool *tool = copy->tool;
    struct vgd_trace_item item;
    bool more = false;
    struct replay *r =
        replay_create(tool, tool->replay.exec == NULL && tool->replay.socket_path == NULL);
    if (r == NULL) {
        return false;
    }
    r->follows = true;
    struct cut_missing missing = {0};
    bool ok = replay_until(r, &item, &more);
    if (ok && more && r->state_number != 0) {
        /* In the middle of a state: all of it is in the cut, and nothing before counts. */
        ok = vgd_trace_reader_seek_number(tool->reader, r->state_number) == VGD_OK &&
             vgd_trace_reader_next(tool->reader, &item) == VGD_OK;
        tool->filter.from_ns = 0;
    } else if (ok && more && r->heap != NULL) {
        ok = cut_put_state(r, copy->out, item.record.time_ns, &missing);
        say_missing(copy, &missing, r);
        /* Data of the present record are borrowed; a state may have read others. */
        ok = ok && vgd_trace_reader_seek_number(tool->reader, item.number) == VGD_OK &&
             vgd_trace_reader_next(tool->reader, &item) == VGD_OK;
    }
    replay_destroy(r);
    return ok && (!more || copy_range(copy, &item));
}

/* What lies in the range, with what it needs from before. */
static bool copy_part(struct copy *copy)
{
    struct tool *tool = copy->tool;
    if (tool->filter.from_ns == 0 && tool->filter.first_record == 0) {
        return !tool_begin(tool) || copy_range(copy, NULL); /* tool_end says why */
    }
    if (!copy_about(copy)) {
        return false;
    }
    return tool->bare ? !tool_begin(tool) || copy_range(copy, NULL) : copy_from_state(copy);
}

/* The file to write, or -1 and a complaint. */
static int create_out(const struct tool *tool, struct stat *out_info)
{
    struct stat in_info;
    VGD_AUTO_FD fd = -1;
    /* Not truncated before we know that it is another one than we read. */
    fd = open(tool->out_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || fstat(fd, out_info) != 0) {
        tool_complain("%s: %s", tool->out_path, strerror(errno));
        return -1;
    }
    if (stat(tool->path, &in_info) == 0 && in_info.st_dev == out_info->st_dev &&
        in_info.st_ino == out_info->st_ino) {
        tool_complain("%s is the file to be cut", tool->out_path);
        return -1;
    }
    if (S_ISREG(out_info->st_mode) && ftruncate(fd, 0) != 0) {
        tool_complain("%s: %s", tool->out_path, strerror(errno));
        return -1;
    }
    return vgd_fd_take(&fd);
}

bool tool_cut(struct tool *tool)
{
    tool->streams = false; /* they are copied as they are */
    struct vgd_trace_info info = vgd_trace_reader_info(tool->reader);
    struct stat out_info;
    VGD_AUTO_FD fd = create_out(tool, &out_info);
    if (fd < 0) {
        return false;
    }
    struct vgd_trace_out_config config = {.level = TOOL_CUT_LEVEL};
    struct copy copy = {.tool = tool, .out = vgd_trace_out_create(&config)};
    if (copy.out == NULL) {
        tool_complain("no memory");
        return false;
    }
    bool written = vgd_trace_out_begin(copy.out, fd, info.header.start_realtime_ns,
                                       info.header.start_monotonic_ns) == VGD_OK &&
                   copy_part(&copy) && vgd_trace_out_finish(copy.out) == VGD_OK;
    int error = vgd_trace_out_error(copy.out);
    vgd_trace_out_destroy(copy.out);
    bool read = tool_end(tool);
    if (copy.lost_data_count > 0) {
        tool_complain("%llu pieces of data could not be read: they are zeros in the cut",
                      (unsigned long long)copy.lost_data_count);
    }
    if (error == 0 && close(vgd_fd_take(&fd)) != 0) {
        error = errno;
    }
    if (error != 0) {
        tool_complain("%s: %s", tool->out_path, strerror(error));
        if (S_ISREG(out_info.st_mode)) {
            (void)unlink(tool->out_path); /* half of it would look like a cut */
        }
    }
    return written && read && error == 0 && copy.lost_data_count == 0;
}
