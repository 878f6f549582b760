/* SPDX-License-Identifier: MIT */
/* vgd-probe: does a vhost-user-gpu backend do what QEMU and a guest's driver expect of it? */
#include "probe.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fd.h"
#include "guest_venus.h"
#include "log.h"

#define PICTURE_DEADLINE_NS (3 * UINT64_C(1000000000))

static void append_note(struct probe *p, const char *prefix, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

static void append_note(struct probe *p, const char *prefix, const char *format, va_list args)
{
    char line[512];
    (void)vsnprintf(line, sizeof(line), format, args);
    for (char *at = line; *at != '\0'; at++) {
        if (*at == '\n') {
            *at = ' ';
        }
    }
    size_t used = strlen(p->notes);
    (void)snprintf(p->notes + used, sizeof(p->notes) - used, "# %s%s\n", prefix, line);
}

void probe_fail(struct probe *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    append_note(p, "failed: ", format, args);
    va_end(args);
    p->failed = true;
}

void probe_note(struct probe *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    append_note(p, "", format, args);
    va_end(args);
}

void probe_skip(struct probe *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(p->notes, sizeof(p->notes), format, args);
    va_end(args);
    p->skipped = true;
}

int probe_connect(struct probe *p)
{
    if (p->exec == NULL) {
        int fd = vgd_guest_connect(p->socket_path);
        if (fd < 0) {
            probe_fail(p, "cannot connect to %s", p->socket_path);
        }
        return fd;
    }
    enum vgd_status st = vgd_guest_process_start(p->exec, p->log_fd, &p->process);
    if (st != VGD_OK) {
        probe_fail(p, "the backend does not start: %s", vgd_status_text(st));
        return -1;
    }
    return vgd_fd_take(&p->process.socket);
}

bool probe_open(struct probe *p, const struct vgd_guest_gpu_config *config)
{
    VGD_AUTO_FD fd = probe_connect(p);
    if (fd < 0) {
        return false;
    }
    struct vgd_guest_gpu_config adapted = *config;
    /* A test of blobs needs a device that has them; which one is the caller's choice. */
    if (adapted.frontend.profile == VGD_GUEST_QEMU_11_1 ||
        (adapted.frontend.profile == VGD_GUEST_QEMU_11_2 && p->profile == VGD_GUEST_QEMU_GENERIC)) {
        adapted.frontend.profile = p->profile;
    }
    enum vgd_status st;
    p->gpu = vgd_guest_gpu_open_raw(&fd, &adapted, &st);
    if (p->gpu == NULL) {
        probe_fail(p, "no guest: %s", vgd_status_text(st));
        return false;
    }
    st = vgd_guest_gpu_start(p->gpu);
    if (st != VGD_OK) {
        const char *why = st == VGD_AGAIN    ? "not answered"
                          : st == VGD_CLOSED ? "the backend closed the connection"
                                             : "answered with a failure, or not as it has to be";
        probe_fail(p, "the device does not start: %s: %s",
                   vgd_guest_frontend_last_request(vgd_guest_gpu_frontend(p->gpu)), why);
        return false;
    }
    return true;
}

static void check_exit(struct probe *p)
{
    int status = p->process.wait_status;
    if (WIFSIGNALED(status)) {
        probe_fail(p, "the backend died of signal %d (%s)", WTERMSIG(status),
                   strsignal(WTERMSIG(status)));
    }
}

void probe_close(struct probe *p)
{
    bool was_alive = p->exec == NULL || vgd_guest_process_alive(&p->process);
    vgd_guest_gpu_close(p->gpu);
    p->gpu = NULL;
    if (p->exec == NULL) {
        return;
    }
    if (!was_alive) {
        check_exit(p);
        if (!p->failed && !p->lost_ring_allowed) {
            probe_fail(p, "the backend ended during the test");
        }
    } else if (!vgd_guest_process_stop(&p->process)) {
        probe_fail(p, "the backend did not end after its socket closed and SIGTERM");
    }
    (void)vgd_guest_process_stop(&p->process);
    p->process = (struct vgd_guest_process){.socket = -1};
}

uint32_t probe_id(struct probe *p)
{
    return ++p->next_id;
}

bool probe_resp(struct probe *p, const char *what, uint32_t got, uint32_t want)
{
    if (got != want) {
        probe_fail(p, "%s: got %s (0x%x), wanted %s", what,
                   got == 0 ? "no answer" : vgd_resp_name(got), got, vgd_resp_name(want));
    }
    return got == want;
}

bool probe_err(struct probe *p, const char *what, uint32_t got)
{
    bool is_error = got >= VGD_RESP_ERR_UNSPEC && got <= VGD_RESP_ERR_INVALID_PARAMETER;
    if (!is_error) {
        probe_fail(p, "%s: got %s (0x%x), wanted an error", what,
                   got == 0 ? "no answer" : vgd_resp_name(got), got);
    }
    return is_error;
}

bool probe_goes_on(struct probe *p)
{
    /* Turning off a scanout that is off is answered by every backend without help from outside. */
    uint32_t got = vgd_guest_set_scanout(p->gpu, 0, 0, (struct vgd_rect){0});
    return probe_resp(p, "the next valid command (scanout off)", got, VGD_RESP_OK_NODATA);
}

uint32_t probe_pixel(uint32_t seed, uint32_t x_px, uint32_t y_px)
{
    uint32_t mixed = (seed * 2654435761u) ^ (x_px * 0x01000193u) ^ (y_px * 0x00010f0fu);
    return (mixed ^ mixed >> 15) & 0xffffff;
}

void probe_image_paint(struct probe *p, struct probe_image *img, uint32_t seed)
{
    for (uint32_t y = 0; y < img->h_px; y++) {
        for (uint32_t x = 0; x < img->w_px; x++) {
            img->pixels[(size_t)y * img->w_px + x] = probe_pixel(seed, x, y);
        }
    }
    vgd_guest_backing_write(p->gpu, &img->backing, 0, img->pixels,
                            (uint64_t)img->w_px * img->h_px * 4);
}

bool probe_image_create(struct probe *p, struct probe_image *img, uint32_t format, uint32_t w_px,
                        uint32_t h_px, uint32_t n_entries, uint32_t seed)
{
    *img = (struct probe_image){.res_id = probe_id(p), .w_px = w_px, .h_px = h_px};
    uint64_t n_bytes = (uint64_t)w_px * h_px * 4;
    img->pixels = calloc(n_bytes, 1);
    if (img->pixels == NULL ||
        !vgd_guest_backing_create(p->gpu, n_bytes, n_entries, &img->backing)) {
        probe_fail(p, "no room for a picture of %ux%u", w_px, h_px);
        free(img->pixels);
        img->pixels = NULL;
        return false;
    }
    probe_image_paint(p, img, seed);
    return probe_resp(p, "RESOURCE_CREATE_2D",
                      vgd_guest_create_2d(p->gpu, img->res_id, format, w_px, h_px),
                      VGD_RESP_OK_NODATA) &&
           probe_resp(
               p, "ATTACH_BACKING",
               vgd_guest_attach(p->gpu, img->res_id, img->backing.entries, img->backing.n_entries),
               VGD_RESP_OK_NODATA);
}

void probe_image_forget(struct probe *p, struct probe_image *img)
{
    vgd_guest_backing_destroy(p->gpu, &img->backing);
    free(img->pixels);
    img->pixels = NULL;
}

void probe_image_destroy(struct probe *p, struct probe_image *img)
{
    (void)probe_resp(p, "RESOURCE_UNREF", vgd_guest_unref(p->gpu, img->res_id), VGD_RESP_OK_NODATA);
    probe_image_forget(p, img);
}

struct vgd_rect probe_whole(const struct probe_image *img)
{
    return (struct vgd_rect){.w_px = img->w_px, .h_px = img->h_px};
}

bool probe_image_show(struct probe *p, const struct probe_image *img, struct vgd_rect rect)
{
    uint64_t offset = ((uint64_t)rect.y_px * img->w_px + rect.x_px) * 4;
    return probe_resp(p, "TRANSFER_TO_HOST_2D",
                      vgd_guest_transfer_2d(p->gpu, img->res_id, rect, offset),
                      VGD_RESP_OK_NODATA) &&
           probe_resp(p, "RESOURCE_FLUSH", vgd_guest_flush(p->gpu, img->res_id, rect),
                      VGD_RESP_OK_NODATA);
}

bool probe_expect_picture(struct probe *p, uint32_t idx, const struct probe_image *img,
                          struct vgd_rect rect)
{
    if (p->profile == VGD_GUEST_QEMU_GENERIC) {
        return true; /* nobody can see it there */
    }
    struct vgd_guest_display *d = vgd_guest_gpu_display(p->gpu);
    uint64_t deadline_ns = vgd_now_ns() + PICTURE_DEADLINE_NS;
    uint64_t wrong;
    for (;;) {
        wrong = vgd_guest_display_compare(
            d, idx, rect, img->pixels + (size_t)rect.y_px * img->w_px + rect.x_px, img->w_px, 0);
        if (wrong == 0 || vgd_now_ns() >= deadline_ns) {
            break;
        }
        vgd_guest_gpu_turn(p->gpu, 5);
    }
    if (wrong == 0) {
        return true;
    }
    if (vgd_guest_display_is_opaque(d, idx)) {
        probe_skip(p, "the scanout is a dma-buf that cannot be mapped here");
        return false;
    }
    uint32_t w_px;
    uint32_t h_px;
    bool on = vgd_guest_display_scanout(d, idx, &w_px, &h_px);
    probe_fail(p, "picture: %llu of %llu pixels differ in %ux%u+%u+%u (scanout %u is %s, %ux%u)",
               (unsigned long long)wrong, (unsigned long long)rect.w_px * rect.h_px, rect.w_px,
               rect.h_px, rect.x_px, rect.y_px, idx, on ? "on" : "off", w_px, h_px);
    for (uint32_t y = rect.y_px, shown = 0; on && y < rect.y_px + rect.h_px && shown == 0; y++) {
        for (uint32_t x = rect.x_px; x < rect.x_px + rect.w_px && shown == 0; x++) {
            uint32_t have = vgd_guest_display_pixel(d, idx, x, y) & 0xffffff;
            uint32_t want = img->pixels[(size_t)y * img->w_px + x] & 0xffffff;
            if (have != want) {
                probe_note(p, "first at %u,%u: %06x instead of %06x", x, y, have, want);
                shown = 1;
            }
        }
    }
    return false;
}

/* What has to hold after every test. */
static void check_afterwards(struct probe *p, unsigned needs)
{
    if (p->gpu == NULL) {
        return;
    }
    if (vgd_guest_frontend_is_closed(vgd_guest_gpu_frontend(p->gpu))) {
        if (!p->lost_ring_allowed) {
            probe_fail(p, "the backend closed the connection");
        }
        return;
    }
    struct vgd_guest_display_counters display;
    vgd_guest_display_counters(vgd_guest_gpu_display(p->gpu), &display);
    if (display.violations != 0) {
        char text[160];
        vgd_guest_display_violation(vgd_guest_gpu_display(p->gpu), text, sizeof(text));
        probe_fail(p, "%llu display messages that QEMU would not take, the last: %s",
                   (unsigned long long)display.violations, text);
    }
    for (uint32_t i = 0; i < VGD_GUEST_QUEUES_COUNT; i++) {
        uint32_t n = vgd_guest_queue_spurious_count(vgd_guest_gpu_queue(p->gpu, i));
        if (n != 0 && !p->lost_ring_allowed) {
            probe_fail(p, "queue %u: %u used entries name no chain in flight", i, n);
        }
    }
    uint64_t missed = vgd_guest_gpu_counters(p->gpu).missed_calls;
    if (missed != 0) {
        probe_fail(p, "%llu answers came without an interrupt", (unsigned long long)missed);
    }
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(p->gpu);
    uint64_t violations = vgd_guest_frontend_counters(fe).violations;
    if (violations != 0) {
        char text[160];
        vgd_guest_frontend_violation(fe, text, sizeof(text));
        probe_fail(p, "%llu requests on the backend channel that break its rules, the last: %s",
                   (unsigned long long)violations, text);
    }
    uint32_t maps = vgd_guest_window_maps_count(p->gpu);
    if (maps != p->maps_before && (needs & PROBE_BAD_VMM) == 0) {
        probe_fail(p, "%u mappings at the end, %u at the beginning", maps, p->maps_before);
    }
}

/* Why @needs are not met here; NULL: they are. */
static const char *unmet_need(const struct probe *p, unsigned needs)
{
    if (p->gpu == NULL) {
        return NULL;
    }
    uint64_t acked = vgd_guest_frontend_acked_features(vgd_guest_gpu_frontend(p->gpu));
    if ((needs & PROBE_3D) != 0 && !vgd_guest_gpu_has_3d(p->gpu)) {
        return "the backend offers no 3D";
    }
    if ((needs & PROBE_BLOB) != 0 && (acked & UINT64_C(1) << VGD_F_RESOURCE_BLOB) == 0) {
        return "no blobs are negotiated";
    }
    if ((needs & PROBE_WINDOW) != 0 && vgd_guest_window_bytes(p->gpu) == 0) {
        return "there is no host-visible region";
    }
    if ((needs & PROBE_VENUS) != 0 && !vgd_venus_is_offered(p->gpu)) {
        return "Vulkan is not offered";
    }
    if ((needs & PROBE_DISPLAY) != 0 && p->profile == VGD_GUEST_QEMU_GENERIC) {
        return "this profile has no display";
    }
    return NULL;
}

static void run_test(struct probe *p, const struct probe_test *test)
{
    p->failed = p->skipped = false;
    p->lost_ring_allowed = (test->needs & PROBE_HOSTILE) != 0;
    p->notes[0] = '\0';
    if ((test->needs & (PROBE_EXEC | PROBE_RAW | PROBE_HOSTILE)) != 0 && p->exec == NULL) {
        probe_skip(p, "needs --exec");
        return;
    }
    if ((test->needs & PROBE_RAW) == 0 && p->gpu == NULL && !probe_open(p, &test->config)) {
        probe_close(p);
        return;
    }
    const char *unmet = unmet_need(p, test->needs);
    if (unmet != NULL) {
        probe_skip(p, "%s", unmet);
    } else {
        p->maps_before = p->gpu == NULL ? 0 : vgd_guest_window_maps_count(p->gpu);
        test->run(p);
        check_afterwards(p, test->needs);
    }
    /* --socket-path: the one connection goes on, as long as it works. */
    if (p->exec != NULL || p->gpu == NULL ||
        vgd_guest_frontend_is_closed(vgd_guest_gpu_frontend(p->gpu))) {
        probe_close(p);
    }
}

static const struct probe_suite *const suites[] = {
    &probe_2d,    &probe_errors,           &probe_3d,      &probe_streams, &probe_streams_work,
    &probe_blob,  &probe_window,           &probe_venus,   &probe_bad_vmm, &probe_control,
    &probe_rings, &probe_hostile_frontend, &probe_hostile,
};

/* What --hostile runs: all that comes from outside and is wrong, then the attacks. */
#define HOSTILE_WORDS                                                                              \
    "errors/,rings/,frontend/,vmm/,blob/,window/,venus/,-errors,3d/bad-streams,3d/foreign-"        \
    "resource,streams/,2d/edid-bad-scanout,2d/unref-while-shown,2d/flush-unshown,"                 \
    "2d/cursor-bad,2d/cursor-resource-freed,2d/display-,control/reset,control/pause,hostile/"
#define HOSTILE_SECONDS 60u

static const char usage[] =
    "usage: vgd-probe --socket-path=PATH | --exec='BACKEND ARGS with {fd} or {socket}'\n"
    "                 [--profile=qemu-11.1|qemu-10.0|qemu-11.2|qemu-generic] [--log=FILE]\n"
    "                 [--filter=WORD[,WORD...]] [--skip=WORD[,WORD...]] [--list]\n"
    "                 [--hostile [--seconds=N] [--seed=N]]\n"
    "Runs a conformance test of a vhost-user-gpu backend and prints TAP. With --exec each test\n"
    "gets a fresh backend; leading NAME=VALUE words of the command go to its environment.\n"
    "--hostile: only what is wrong on purpose, then attacks at random for N seconds (60).\n";

static bool matches(const char *words, const char *name)
{
    char copy[512];
    (void)snprintf(copy, sizeof(copy), "%s", words);
    char *state = NULL;
    for (char *word = strtok_r(copy, ",", &state); word != NULL;
         word = strtok_r(NULL, ",", &state)) {
        if (strstr(name, word) != NULL) {
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket-path", required_argument, NULL, 's'},
        {"exec", required_argument, NULL, 'e'},
        {"filter", required_argument, NULL, 'f'},
        {"skip", required_argument, NULL, 'x'},
        {"log", required_argument, NULL, 'l'},
        {"list", no_argument, NULL, 'L'},
        {"profile", required_argument, NULL, 'p'},
        {"hostile", no_argument, NULL, 'H'},
        {"seconds", required_argument, NULL, 'S'},
        {"seed", required_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct probe p = {.log_fd = -1, .process = {.socket = -1}};
    const char *filter = NULL;
    const char *skip = NULL;
    bool list = false;
    bool hostile = false;
    p.seconds = HOSTILE_SECONDS;
    p.seed = vgd_now_ns() & 0xffffffff;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            p.socket_path = optarg;
            break;
        case 'e':
            p.exec = optarg;
            break;
        case 'f':
            filter = optarg;
            break;
        case 'x':
            skip = optarg;
            break;
        case 'l':
            p.log_fd = open(optarg, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
            if (p.log_fd < 0) {
                perror(optarg);
                return 1;
            }
            break;
        case 'p':
            if (!vgd_guest_profile_named(optarg, &p.profile)) {
                (void)fputs(usage, stderr);
                return 2;
            }
            break;
        case 'L':
            list = true;
            break;
        case 'H':
            hostile = true;
            break;
        case 'S':
            p.seconds = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            p.seed = strtoull(optarg, NULL, 0);
            break;
        default:
            (void)fputs(usage, option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : 2;
        }
    }
    if (!list && (p.exec == NULL) == (p.socket_path == NULL)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    if (hostile && filter == NULL) {
        filter = HOSTILE_WORDS;
    }
    if (hostile && p.log_fd < 0) {
        p.log_fd = memfd_create("log", MFD_CLOEXEC); /* how much is written to it is looked at */
        (void)fcntl(p.log_fd, F_SETFL, O_APPEND);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    /* Each mapping of the host-visible region is a descriptor here, too. */
    vgd_guest_raise_files();
    (void)setvbuf(stdout, NULL, _IOLBF, 0);

    uint32_t n_wanted = 0;
    for (int pass = 0; pass < 2; pass++) {
        uint32_t n = 0;
        uint32_t n_failed = 0;
        uint32_t n_skipped = 0;
        if (pass == 1 && !list) {
            (void)printf("TAP version 13\n1..%u\n", n_wanted);
            if (hostile) {
                (void)printf("# --seed=%llu --seconds=%u\n", (unsigned long long)p.seed, p.seconds);
            }
        }
        for (size_t s = 0; s < sizeof(suites) / sizeof(suites[0]); s++) {
            for (uint32_t t = 0; t < suites[s]->n_tests; t++) {
                const struct probe_test *test = &suites[s]->tests[t];
                if ((suites[s] == &probe_hostile && !hostile) ||
                    (filter != NULL && !matches(filter, test->name)) ||
                    (skip != NULL && matches(skip, test->name))) {
                    continue;
                }
                n++;
                if (pass == 0) {
                    p.attacks_count += suites[s] == &probe_hostile;
                    continue;
                }
                if (list) {
                    (void)puts(test->name);
                    continue;
                }
                run_test(&p, test);
                n_failed += p.failed;
                if (p.failed) {
                    (void)printf("not ok %u - %s\n%s", n, test->name, p.skipped ? "" : p.notes);
                } else if (p.skipped) {
                    n_skipped++;
                    (void)printf("ok %u - %s # SKIP %s\n", n, test->name, p.notes);
                } else {
                    (void)printf("ok %u - %s\n%s", n, test->name, p.notes);
                }
            }
        }
        n_wanted = n;
        if (pass == 1 && !list) {
            probe_close(&p);
            (void)printf("# %u passed, %u failed, %u skipped\n", n - n_failed - n_skipped, n_failed,
                         n_skipped);
            return n_failed == 0 ? 0 : 1;
        }
    }
    return 0;
}
