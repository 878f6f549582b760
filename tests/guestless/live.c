/* SPDX-License-Identifier: MIT */
/*
 * Watching, to the unit: a scripted guest keeps its own books of what it does; then vgdctl
 * counters, contexts, errors and top, and the page of vgd-exporter, say the same. Over a worker
 * that is killed with commands in its rings, and a reset of the guest.
 *
 *   live VGD VGDCTL [--exporter=PROGRAM] [--virgl]
 */
#include "live.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/vgd-live-XXXXXX";

/* --- deaths and a reset --- */

/* The worker is stopped, finds commands in its ring no more, and is killed: the next one carries
 * out what it can. */
static bool kill_with_work(void)
{
    struct vgd_guest_command *cmds[STOPPED_TRANSFERS + STOPPED_SUBMITS] = {0};
    struct vgd_guest_request reqs[STOPPED_TRANSFERS + STOPPED_SUBMITS];
    uint32_t n = 0;
    uint32_t nop = 0;
    pid_t worker = scene_worker(&scene, 0, 5000);
    (void)kill(worker, SIGSTOP);
    BODY_OF(transfer_to_host_2d, .rect = live_whole(), .resource_id = 1);
    for (; n < STOPPED_TRANSFERS; n++) {
        reqs[n] = live_request_of(VGD_CMD_TRANSFER_TO_HOST_2D, 0, true, body, &w);
        cmds[n] = vgd_guest_gpu_begin(scene.gpu, &reqs[n], true);
        books.transfers++;
        books.to_host_bytes += PICTURE_BYTES;
    }
    uint8_t submit_body[VGD_CMD_SUBMIT_3D_SIZE];
    for (uint32_t i = 0; has_3d && i < STOPPED_SUBMITS; i++, n++) {
        reqs[n] = vgd_guest_submit_request(ALPHA, &nop, 1, 0, submit_body);
        cmds[n] = vgd_guest_gpu_begin(scene.gpu, &reqs[n], true);
    }
    (void)kill(worker, SIGKILL);
    bool ok = worker > 0;
    for (uint32_t i = 0; i < n; i++) {
        if (cmds[i] == NULL || !vgd_guest_gpu_wait(scene.gpu, cmds[i], 10000)) {
            ok = false;
            continue;
        }
        uint32_t expect = i < STOPPED_TRANSFERS ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_UNSPEC;
        ok = cmds[i]->resp.type == expect && ok;
        live_book_answer(&reqs[i], cmds[i]->resp.type, cmds[i]->used_bytes);
        vgd_guest_gpu_end(scene.gpu, cmds[i]);
    }
    books.starts++;
    books.deaths++;
    books.contexts_lost = books.contexts;
    books.contexts_lost_ever += books.contexts;
    return ok;
}

/* All counters of @part together. */
static uint64_t sum_of(const char *part)
{
    struct json_object *counters = live_ask("counters --json") ? json_tokener_parse(text) : NULL;
    struct json_object *by_name = live_at(counters, part);
    uint64_t sum = 0;
    if (by_name != NULL) {
        json_object_object_foreach(by_name, name, count)
        {
            (void)name;
            sum += json_object_get_uint64(count);
        }
    }
    (void)json_object_put(counters);
    return sum;
}

/* A worker that dies at any moment: each command counts, and the one that it was just about to give
 * back may count twice. */
static bool kill_in_the_middle(void)
{
    uint64_t before = sum_of("commands");
    struct vgd_guest_command *cmds[IN_FLIGHT];
    BODY_OF(transfer_to_host_2d, .rect = live_whole(), .resource_id = 1);
    struct vgd_guest_request req = live_request_of(VGD_CMD_TRANSFER_TO_HOST_2D, 0, true, body, &w);
    uint32_t n = 0;
    pid_t worker = scene_worker(&scene, 0, 5000);
    while (n < IN_FLIGHT && (cmds[n] = vgd_guest_gpu_begin(scene.gpu, &req, true)) != NULL) {
        n++;
    }
    (void)kill(worker, SIGKILL);
    bool ok = n == IN_FLIGHT;
    for (uint32_t i = 0; i < n; i++) {
        ok = vgd_guest_gpu_wait(scene.gpu, cmds[i], 10000) && ok;
        vgd_guest_gpu_end(scene.gpu, cmds[i]);
    }
    uint64_t counted = sum_of("commands") - before;
    tap_note("%u commands, %" PRIu64 " counted", n, counted);
    struct json_object *counters = live_ask("counters --json") ? json_tokener_parse(text) : NULL;
    ok = live_is(counters, "fences/outstanding", 0) && ok;
    (void)json_object_put(counters);
    return ok && (counted == n || counted == n + 1) && sum_of("responses") == before + counted;
}

/* What was counted stays, what there was is gone. */
static bool reset_keeps_counters(void)
{
    uint64_t before = sum_of("commands");
    struct json_object *counters = NULL;
    bool ok = vgd_guest_gpu_reset(scene.gpu) == VGD_OK && scene_worker(&scene, 0, 5000) > 0;
    ok = live_unref(900) == VGD_RESP_ERR_INVALID_RESOURCE_ID && ok;
    ok = sum_of("commands") == before + 1 && ok;
    counters = live_ask("counters --json") ? json_tokener_parse(text) : NULL;
    ok = live_is(counters, "live/resources", 0) && live_is(counters, "live/contexts", 0) &&
         live_is(counters, "live/contexts_lost", 0) &&
         live_is(counters, "memory/resources_2d", 0) && live_is(counters, "memory/backing", 0) &&
         ok;
    (void)json_object_put(counters);
    return live_ask("contexts --json") && strcmp(text, "[]\n") == 0 && ok;
}

/* RATED commands in an interval of 2 seconds are half as many in one. */
static bool top_rates_are_right(void)
{
    char command[1024];
    (void)snprintf(command, sizeof(command), "'%s' -c '%s' top --once --interval 2 2>&1", vgdctl,
                   control);
    FILE *from = popen(command, "re");
    sleep_ms(500);
    bool ok = from != NULL;
    for (uint32_t i = 0; i < RATED; i++) {
        ok = live_get_display_info() == VGD_RESP_OK_DISPLAY_INFO && ok;
    }
    size_t n = from != NULL ? fread(text, 1, sizeof(text) - 1, from) : 0;
    text[n] = '\0';
    ok = from != NULL && pclose(from) == 0 && ok;
    const char *line = strstr(text, "commands ");
    double rate = 0;
    ok = ok && line != NULL && sscanf(line, "commands %lf/s (%*u), errors 0/s", &rate) == 1;
    if (!ok || rate < RATED / 2.5 || rate > RATED / 2.0) { /* the machine may be busy */
        tap_note("%u commands in 2 s: %s", RATED, text);
        return false;
    }
    return true;
}

static pid_t start_exporter(const char *program)
{
    char where[96];
    (void)snprintf(where, sizeof(where), "unix:%s", page_socket);
    pid_t pid = fork();
    if (pid == 0) {
        (void)execl(program, program, "--listen", where, "--control", control, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void play(bool has_exporter)
{
    (void)tap_ok(live_do_2d(), "2D and its errors", NULL);
    if (has_3d) {
        (void)tap_ok(live_do_3d(), "contexts, streams and their errors", NULL);
    } else {
        tap_skip("contexts, streams and their errors", "no 3D");
    }
    live_all_are_right("after the script", has_exporter);
    (void)tap_ok(live_errors_are_right(0), "errors after the script", NULL);
    if (has_3d) {
        (void)tap_ok(live_contexts_are_right(false), "contexts after the script", NULL);
    }
    (void)tap_ok(live_top_is_right(), "top after the script", NULL);
    (void)tap_ok(kill_with_work(), "a worker is killed with commands in its ring", NULL);
    live_all_are_right("after the death", has_exporter);
    (void)tap_ok(live_errors_are_right(has_3d ? STOPPED_SUBMITS : 0), "errors after the death",
                 NULL);
    if (has_3d) {
        (void)tap_ok(live_contexts_are_right(true), "contexts after the death", NULL);
    }
    (void)tap_ok(live_top_is_right(), "top after the death", NULL);
    (void)tap_ok(top_rates_are_right(), "top's rates", NULL);
    (void)tap_ok(kill_in_the_middle(), "a worker is killed while it works", NULL);
    (void)tap_ok(reset_keeps_counters(), "a reset of the guest keeps what was counted", NULL);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"virgl", no_argument, NULL, 'v'},
        {"exporter", required_argument, NULL, 'e'},
        {NULL, 0, NULL, 0},
    };
    const char *exporter = NULL;
    bool virgl = false;
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (option == '?') {
            return 1;
        }
        virgl = virgl || option == 'v';
        exporter = option == 'e' ? optarg : exporter;
    }
    if (argc - optind != 2 || mkdtemp(dir) == NULL) {
        return 1;
    }
    vgdctl = argv[optind + 1];
    (void)snprintf(control, sizeof(control), "%s/c.sock", dir);
    (void)snprintf(page_socket, sizeof(page_socket), "%s/page.sock", dir);
    books.commands = json_object_new_object();
    books.responses = json_object_new_object();
    books.starts = 1;

    char words[128];
    (void)snprintf(words, sizeof(words), "--control-path=%s %s", control, virgl ? "--virgl" : "");
    pid_t exporter_pid = exporter != NULL ? start_exporter(exporter) : 0;
    if (scene_open(&scene, argv[optind], words, "start")) {
        has_3d = vgd_guest_gpu_has_3d(scene.gpu);
        play(exporter_pid > 0);
        (void)tap_ok(scene_close(&scene), "the end", NULL);
    }
    if (exporter_pid > 0) {
        int status = 0;
        (void)kill(exporter_pid, SIGTERM);
        (void)waitpid(exporter_pid, &status, 0);
        (void)tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the exporter ends", NULL);
    }
    (void)json_object_put(books.commands);
    (void)json_object_put(books.responses);
    (void)tap_ok(rmdir(dir) == 0, "no socket is left", NULL);
    return tap_done();
}
