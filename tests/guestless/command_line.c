/* SPDX-License-Identifier: MIT */
/*
 * What vgd says to a user: about wrong options, by --probe, and when the render server that Vulkan
 * needs is absent or of another version.
 *
 *   command_line VGD
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "scene.h"

#define ARGS_MAX 8u
#define TEXT_BYTES 65536u
#define READY_WITHIN_MS 60000
#define PROBE_WITHIN_MS 120000
#define LOOK_EVERY_MS 50u

static char text[TEXT_BYTES];

/* What has been written to the file behind @fd, into text. */
static void read_all(int fd)
{
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
}

/* Exit status of "@vgd @args"; its output is in text. -1: it did not end by itself. */
static int run(const char *vgd, const char *const *args)
{
    VGD_AUTO_FD out = memfd_create("output", MFD_CLOEXEC);
    pid_t pid = fork();
    if (pid == 0) {
        const char *argv[ARGS_MAX + 2] = {vgd};
        for (unsigned i = 0; i < ARGS_MAX && args[i] != NULL; i++) {
            argv[i + 1] = args[i];
        }
        (void)dup2(out, STDOUT_FILENO);
        (void)dup2(out, STDERR_FILENO);
        (void)execv(vgd, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status = 0;
    pid_t ended = 0;
    for (unsigned ms = 0; ended == 0 && ms < PROBE_WITHIN_MS; ms += LOOK_EVERY_MS) {
        ended = waitpid(pid, &status, WNOHANG);
        if (ended == 0) {
            sleep_ms(LOOK_EVERY_MS);
        }
    }
    if (ended == 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    read_all(out);
    return ended == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void options(const char *vgd)
{
    static const struct {
        const char *name;
        int status;
        const char *said; /* some of it */
        const char *args[ARGS_MAX];
    } cases[] = {
        {"--help", 0, "--hostmem=SIZE", {"--help"}},
        {"neither socket nor descriptor", 1, "give either --socket-path", {"--venus"}},
        {"a window without Vulkan",
         1,
         "give --venus too",
         {"--virgl", "--hostmem=1G", "--socket-path=/nonexistent/s"}},
        {"a render server without Vulkan",
         1,
         "give --venus too",
         {"--virgl", "--render-server=/bin/true", "--socket-path=/nonexistent/s"}},
        {"a window of no size", 1, "from 4K to 1T", {"--venus", "--hostmem=0", "--fd=0"}},
        {"a window larger than any", 1, "from 4K to 1T", {"--venus", "--hostmem=2T", "--fd=0"}},
        {"a window of so many apples", 1, "from 4K to 1T", {"--venus", "--hostmem=8X", "--fd=0"}},
        {"pictures of no recording", 1, "give --record too", {"--record-pictures=5", "--fd=0"}},
        {"pictures as often as nobody looks",
         1,
         "0 to 3600000 milliseconds, or none",
         {"--record=/tmp/never", "--record-pictures=3600001", "--fd=0"}},
        {"a recording over a file that is not empty",
         1,
         "--record=/proc/self/exe: it is not empty",
         {"--record=/proc/self/exe", "--fd=0"}},
        {"a recording into a folder", 1, "--record=/tmp: ", {"--record=/tmp", "--fd=0"}},
        {"a recording into nothing that is there",
         1,
         "--record=/nonexistent/r: No such file",
         {"--record=/nonexistent/r", "--fd=0"}},
        {"hardware for nothing",
         1,
         "give --virgl or --venus too",
         {"--require-hardware", "--fd=0"}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int status = run(vgd, cases[i].args);
        (void)tap_ok(status == cases[i].status && strstr(text, cases[i].said) != NULL,
                     cases[i].name, "status %d: %s", status, text);
    }
}

/* --probe passes on what it is asked about Vulkan: without Vulkan asked for, its absence is none.
 */
static void probe(const char *vgd)
{
    static const char *const plain[ARGS_MAX] = {"--probe", "--render-server=/nonexistent/server"};
    static const char *const asked[ARGS_MAX] = {"--probe", "--venus",
                                                "--render-server=/nonexistent/server"};
    static const char server[] = "render server       /nonexistent/server\n";
    int status = run(vgd, plain);
    (void)tap_ok(status == 0 && strstr(text, server) != NULL, "--probe names the render server",
                 "status %d: %s", status, text);
    status = run(vgd, asked);
    (void)tap_ok(status == 1 && strstr(text, server) != NULL &&
                     strstr(text, "Vulkan for the guest: none\n  because ") != NULL,
                 "--probe --venus fails without it", "status %d: %s", status, text);
}

/* vgd with @server for a render server comes up all the same, and says @why, once. */
static void no_server(const char *vgd, const char *name, const char *server, const char *why)
{
    char command[1024];
    struct vgd_guest_process p;
    VGD_AUTO_FD log = memfd_create("log", MFD_CLOEXEC);
    (void)snprintf(command, sizeof(command),
                   "'%s' --no-control --venus --render-server=%s --socket-path={socket}", vgd,
                   server);
    if (vgd_guest_process_start(command, log, &p) != VGD_OK) {
        read_all(log);
        (void)tap_ok(false, name, "it does not start: %s", text);
        return;
    }
    for (int ms = 0; ms < READY_WITHIN_MS; ms += (int)LOOK_EVERY_MS) {
        read_all(log);
        if (strstr(text, "no Vulkan for the guest: ") != NULL || !vgd_guest_process_alive(&p)) {
            break;
        }
        sleep_ms(LOOK_EVERY_MS);
    }
    const char *said = strstr(text, "no Vulkan for the guest: ");
    bool alive = vgd_guest_process_alive(&p);
    bool ended = vgd_guest_process_stop(&p);
    if (said != NULL && strstr(said, "render server") == NULL && strstr(said, "context") == NULL) {
        tap_skip(name, "this host has no Vulkan to begin with");
        return;
    }
    (void)tap_ok(alive && ended && said != NULL && strstr(said, why) != NULL &&
                     strstr(said + 1, "no Vulkan for the guest: ") == NULL,
                 name, "%s", text);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: command_line VGD\n");
        return 2;
    }
    options(argv[1]);
    probe(argv[1]);
    no_server(argv[1], "no render server", "/nonexistent/server",
              "/nonexistent/server cannot be run: No such file");
    no_server(argv[1], "a render server that is none", "/etc/passwd", "cannot be run: ");
    no_server(argv[1], "a render server that ends at once", "/bin/true", "of the same version");
    return tap_done();
}
