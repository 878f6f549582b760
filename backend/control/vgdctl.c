/* SPDX-License-Identifier: MIT */
/*
 * vgdctl: asks a running vgd through its control socket. One request, one reply; exit status 0, or
 * 1 and one line on standard error. What vgd sends is checked like any input: it may have been
 * taken over by its guest.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <json-c/json.h>
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "control.h"
#include "fd.h"

#define REPLY_TIMEOUT_S 10 /* longer than a screenshot may take */
#define SOCKETS_MAX 64u
#define SIDE_PX_MAX 16384
#define PIXEL_BYTES 4u

static const char help[] =
    "Usage: vgdctl [--control PATH] status [--json]\n"
    "       vgdctl [--control PATH] screenshot SCANOUT FILE.png\n"
    "       vgdctl --help | --version\n"
    "\n"
    "  status       what this virtual GPU is and does; --json as one line of JSON\n"
    "  screenshot   write what the guest shows on SCANOUT (0, 1, ...) to FILE.png\n"
    "\n"
    "  -c, --control PATH  the control socket of the vgd to ask. Default: the only live\n"
    "                      socket in $XDG_RUNTIME_DIR/vgd (root: or else /run/vgd)\n"
    "  -j, --json          print the status as JSON\n";

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fputs("vgdctl: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
}

/* @text without what a terminal would act on. */
static void put_clean(FILE *to, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        bool is_c1 = at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0; /* in UTF-8 */
        at += is_c1;
        (void)fputc(is_c1 || *at < ' ' || *at == 0x7f ? '?' : *at, to);
    }
}

/* --- Which vgd? --- */

/* Connected to @path, or -1 with errno. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval timeout = {.tv_sec = REPLY_TIMEOUT_S};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return -1;
    }
    return vgd_fd_take(&fd);
}

static bool ends_in_sock(const char *name)
{
    size_t len = strlen(name);
    return len > 5 && strcmp(name + len - 5, ".sock") == 0;
}

/* Connected to the only live socket of the folder, or -1 and a complaint. */
static int connect_to_only(void)
{
    char dir_path[4096];
    if (vgd_control_dir(dir_path, sizeof(dir_path)) != VGD_OK) {
        complain("XDG_RUNTIME_DIR is not set; name the socket with --control PATH");
        return -1;
    }
    VGD_AUTO_FD found = -1;
    char *names[SOCKETS_MAX]; /* owned */
    size_t n_live = 0;
    DIR *dir = opendir(dir_path);
    struct dirent *entry;
    while (dir != NULL && n_live < SOCKETS_MAX && (entry = readdir(dir)) != NULL) {
        char path[sizeof(dir_path) + sizeof(entry->d_name) + 2];
        (void)snprintf(path, sizeof(path), "%s/%s", dir_path, entry->d_name);
        VGD_AUTO_FD fd = ends_in_sock(entry->d_name) ? connect_to(path) : -1;
        if (fd < 0) {
            continue; /* something else, or left by a vgd that was killed */
        }
        names[n_live] = strdup(path);
        if (names[n_live] == NULL) {
            break;
        }
        if (n_live++ == 0) {
            found = vgd_fd_take(&fd);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    if (n_live == 0) {
        complain("no vgd has a live control socket in %s; name one with --control PATH", dir_path);
    } else if (n_live > 1) {
        complain("several vgd are running; name one with --control PATH:");
    }
    for (size_t i = 0; i < n_live; i++) {
        if (n_live > 1) {
            (void)fprintf(stderr, "  %s\n", names[i]);
        }
        free(names[i]);
    }
    return n_live == 1 ? vgd_fd_take(&found) : -1;
}

/* --- One request and its reply. --- */

static bool send_line(int fd, const char *line)
{
    size_t left = strlen(line);
    while (left > 0) {
        ssize_t n = send(fd, line, left, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        line += n;
        left -= (size_t)n;
    }
    return true;
}

/* One recvmsg into @out; a descriptor that comes along replaces *@passed. */
static ssize_t receive(int fd, void *out, size_t out_bytes, int *passed)
{
    struct iovec iov = {.iov_base = out, .iov_len = out_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n;
    do {
        n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
        head->cmsg_len == CMSG_LEN(sizeof(int))) {
        vgd_fd_closep(passed);
        memcpy(passed, CMSG_DATA(head), sizeof(int));
    }
    return n;
}

/* The object under @key of the reply to @request, or NULL and a complaint. *@passed: a descriptor
 * that came along. The caller puts *@whole, which holds the object. */
static struct json_object *ask(int fd, const char *request, const char *key, int *passed,
                               struct json_object **whole)
{
    static char reply[VGD_CONTROL_REPLY_BYTES_MAX + 1];
    size_t n_bytes = 0;
    if (!send_line(fd, request)) {
        complain("cannot send the request: %s", strerror(errno));
        return NULL;
    }
    do {
        ssize_t n = n_bytes < sizeof(reply) - 1
                        ? receive(fd, reply + n_bytes, sizeof(reply) - 1 - n_bytes, passed)
                        : 0;
        if (n <= 0) {
            complain("no reply: %s", n == 0 ? "vgd closed the connection" : strerror(errno));
            return NULL;
        }
        n_bytes += (size_t)n;
    } while (memchr(reply, '\n', n_bytes) == NULL);

    reply[n_bytes] = '\0';
    *whole = json_tokener_parse(reply);
    struct json_object *version = NULL, *value = NULL;
    if (!json_object_is_type(*whole, json_type_object) ||
        !json_object_object_get_ex(*whole, "v", &version) ||
        json_object_get_int64(version) != VGD_CONTROL_VERSION) {
        complain("the reply is not of version %d of the protocol", VGD_CONTROL_VERSION);
        return NULL;
    }
    if (json_object_object_get_ex(*whole, "error", &value)) {
        (void)fputs("vgdctl: vgd says: ", stderr);
        put_clean(stderr, json_object_get_string(value));
        (void)fputc('\n', stderr);
        return NULL;
    }
    if (!json_object_object_get_ex(*whole, key, &value) ||
        !json_object_is_type(value, json_type_object)) {
        complain("the reply has no \"%s\"", key);
        return NULL;
    }
    return value;
}

/* --- status --- */

/* NOLINTNEXTLINE(misc-no-recursion): json-c parses no more than 32 levels */
static void print_value(const char *name, struct json_object *value, int depth)
{
    (void)printf("%*s", depth * 2, "");
    put_clean(stdout, name);
    (void)putchar(':');
    if (json_object_is_type(value, json_type_object)) {
        (void)putchar('\n');
        json_object_object_foreach(value, key, member)
        {
            print_value(key, member, depth + 1);
        }
    } else if (json_object_is_type(value, json_type_array)) {
        (void)puts(json_object_array_length(value) == 0 ? " none" : "");
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            char number[24];
            (void)snprintf(number, sizeof(number), "%zu", i);
            print_value(number, json_object_array_get_idx(value, i), depth + 1);
        }
    } else {
        (void)putchar(' ');
        put_clean(stdout, value != NULL ? json_object_get_string(value) : "none");
        (void)putchar('\n');
    }
}

static bool status_command(int fd, bool as_json)
{
    VGD_AUTO_FD passed = -1;
    struct json_object *whole = NULL;
    struct json_object *status =
        ask(fd, "{\"v\":1,\"cmd\":\"status\"}\n", "status", &passed, &whole);
    if (status != NULL && as_json) {
        (void)puts(json_object_to_json_string_ext(status, JSON_C_TO_STRING_PLAIN));
    } else if (status != NULL) {
        json_object_object_foreach(status, key, member)
        {
            print_value(key, member, 0);
        }
    }
    (void)json_object_put(whole);
    if (status != NULL && fflush(stdout) != 0) {
        complain("cannot write: %s", strerror(errno));
        return false;
    }
    return status != NULL;
}

/* --- screenshot --- */

/* @pixels: @h_px rows of @w_px * 4 bytes, B G R x. */
static bool write_png(FILE *file, const uint8_t *pixels, uint32_t w_px, uint32_t h_px)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
    if (info == NULL || setjmp(png_jmpbuf(png)) != 0) {
        png_destroy_write_struct(&png, &info);
        return false;
    }
    png_init_io(png, file);
    png_set_IHDR(png, info, w_px, h_px, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    png_set_filler(png, 0, PNG_FILLER_AFTER);
    png_set_bgr(png);
    for (uint32_t y_px = 0; y_px < h_px; y_px++) {
        png_write_row(png, pixels + (size_t)y_px * w_px * PIXEL_BYTES);
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return true;
}

static bool save_png(const char *path, const uint8_t *pixels, uint32_t w_px, uint32_t h_px)
{
    FILE *file = fopen(path, "wbe");
    if (file == NULL) {
        complain("%s: %s", path, strerror(errno));
        return false;
    }
    bool ok = write_png(file, pixels, w_px, h_px);
    ok = fclose(file) == 0 && ok;
    if (!ok) {
        complain("%s: cannot write the picture: %s", path, strerror(errno));
        struct stat info;
        if (lstat(path, &info) == 0 && S_ISREG(info.st_mode)) {
            (void)unlink(path); /* half a picture is worse than none */
        }
    }
    return ok;
}

static int64_t number_of(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(object, key, &value) &&
                   json_object_is_type(value, json_type_int)
               ? json_object_get_int64(value)
               : -1;
}

static bool screenshot_command(int fd, uint32_t scanout_idx, const char *path)
{
    VGD_AUTO_FD passed = -1;
    struct json_object *whole = NULL;
    char request[64];
    (void)snprintf(request, sizeof(request), "{\"v\":1,\"cmd\":\"screenshot\",\"scanout\":%u}\n",
                   scanout_idx);
    struct json_object *shot = ask(fd, request, "screenshot", &passed, &whole);
    int64_t w_px = shot != NULL ? number_of(shot, "w") : -1;
    int64_t h_px = shot != NULL ? number_of(shot, "h") : -1;
    bool asked = shot != NULL;
    (void)json_object_put(whole);
    if (!asked) {
        return false;
    }
    struct stat info;
    int seals = passed >= 0 ? fcntl(passed, F_GET_SEALS) : -1;
    if (w_px < 1 || h_px < 1 || w_px > SIDE_PX_MAX || h_px > SIDE_PX_MAX || seals < 0 ||
        (seals & F_SEAL_SHRINK) == 0 || fstat(passed, &info) != 0 ||
        w_px * h_px > info.st_size / (int64_t)PIXEL_BYTES) {
        complain("the reply holds no picture");
        return false;
    }
    size_t n_bytes = (size_t)w_px * (size_t)h_px * PIXEL_BYTES;
    void *pixels = mmap(NULL, n_bytes, PROT_READ, MAP_SHARED, passed, 0);
    if (pixels == MAP_FAILED) {
        complain("cannot map the picture: %s", strerror(errno));
        return false;
    }
    bool ok = save_png(path, pixels, (uint32_t)w_px, (uint32_t)h_px);
    (void)munmap(pixels, n_bytes);
    return ok;
}

/* --- Command line. --- */

static bool parse_scanout(const char *text, uint32_t *out)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > 15) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

static bool run(int argc, char **argv)
{
    static const struct option options[] = {
        {"control", required_argument, NULL, 'c'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    const char *path = NULL;
    bool as_json = false;
    int option;
    while ((option = getopt_long(argc, argv, "c:jhV", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 'j':
            as_json = true;
            break;
        case 'h':
            (void)fputs(help, stdout);
            return true;
        case 'V':
            (void)puts("vgdctl " VGD_VERSION);
            return true;
        default:
            return false; /* getopt has said why */
        }
    }
    const char *const *words = (const char *const *)argv + optind;
    int n_words = argc - optind;
    bool is_status = n_words == 1 && strcmp(words[0], "status") == 0;
    bool is_screenshot = n_words == 3 && strcmp(words[0], "screenshot") == 0;
    uint32_t scanout_idx = 0;
    if ((!is_status && !is_screenshot) || (is_screenshot && as_json)) {
        complain("what is to be done? status, or screenshot SCANOUT FILE.png; see --help");
        return false;
    }
    if (is_screenshot && !parse_scanout(words[1], &scanout_idx)) {
        complain("SCANOUT is a number from 0 to 15, not '%s'", words[1]);
        return false;
    }
    VGD_AUTO_FD fd = path != NULL ? connect_to(path) : connect_to_only();
    if (fd < 0) {
        if (path != NULL) {
            complain("%s: %s", path, strerror(errno));
        }
        return false;
    }
    return is_status ? status_command(fd, as_json) : screenshot_command(fd, scanout_idx, words[2]);
}

int main(int argc, char **argv)
{
    return run(argc, argv) ? 0 : 1;
}
