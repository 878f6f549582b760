/* SPDX-License-Identifier: MIT */
#include "exporter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "control.h"
#include "fd.h"
#include "log.h"

/* What one who connects may take. */
#define CLIENTS_MAX 16u
#define CLIENT_BYTES_MAX 16384u /* of a request's head */
#define CLIENT_IDLE_S 5u
#define BACKLOG 16
/* A page is kept this long: however often it is asked for, each vgd is asked ten times a second at
 * most. */
#define PAGE_NS 100000000u
#define TEXT_BYTES_MAX 256

static const char help[] =
    "Usage: vgd-exporter --listen unix:PATH|127.0.0.1:PORT|[::1]:PORT [--control PATH]...\n"
    "       vgd-exporter --help | --version\n"
    "\n"
    "Metrics of running vgd for Prometheus, at http://ADDRESS/metrics.\n"
    "\n"
    "  -l, --listen ADDRESS  where to listen: a unix socket, or loopback only (port 0: any)\n"
    "  -c, --control PATH    the control socket of a vgd to ask; may stand more than once.\n"
    "                        Default: all in $XDG_RUNTIME_DIR/vgd (root: or else /run/vgd)\n";

struct exporter {
    struct exporter_targets targets;
    /* The last page. Only libmicrohttpd's thread, which is one, touches it. */
    char *page; /* owned; NULL: none yet */
    size_t page_bytes;
    uint64_t page_ns;
};

static bool make_page(struct exporter *e)
{
    static struct exporter_vm vms[EXPORTER_VMS_MAX];
    char *page = NULL;
    size_t page_bytes = 0;
    FILE *to = open_memstream(&page, &page_bytes);
    if (to == NULL) {
        return false;
    }
    size_t n = exporter_ask(&e->targets, vms);
    exporter_text(to, vms, n);
    exporter_ask_end(vms, n);
    if (fclose(to) != 0) {
        free(page);
        return false;
    }
    free(e->page);
    e->page = page;
    e->page_bytes = page_bytes;
    e->page_ns = vgd_now_ns();
    return true;
}

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *type,
                             void *text, size_t n_bytes, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(n_bytes, text, mode);
    if (response == NULL) {
        return MHD_NO;
    }
    enum MHD_Result result = MHD_NO;
    if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES &&
        (status != MHD_HTTP_METHOD_NOT_ALLOWED ||
         MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD") == MHD_YES)) {
        result = MHD_queue_response(connection, status, response);
    }
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *text)
{
    return reply(connection, status, "text/plain; charset=utf-8", (void *)(uintptr_t)text,
                 strlen(text), MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result serve(void *user, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_bytes, void **state)
{
    (void)version;
    (void)upload;
    (void)upload_bytes;
    (void)state;
    struct exporter *e = user;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
    }
    if (strcmp(url, "/metrics") != 0) {
        return refuse(connection, MHD_HTTP_NOT_FOUND, "vgd-exporter: it is /metrics\n");
    }
    if ((e->page == NULL || vgd_now_ns() - e->page_ns > PAGE_NS) && !make_page(e)) {
        return refuse(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
    }
    return reply(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", e->page,
                 e->page_bytes, MHD_RESPMEM_MUST_COPY);
}

/* --- where to listen --- */

/* "[HOST]:PORT" or "HOST:PORT" of loopback; false: it is something else. */
static bool loopback_parse(const char *text, struct sockaddr_storage *out, socklen_t *out_bytes)
{
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 2];
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host) || colon[1] < '0' ||
        colon[1] > '9') {
        return false;
    }
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    size_t n = (size_t)(colon - text);
    memcpy(host, text, n);
    host[n] = '\0';
    if (*end != '\0' || port > UINT16_MAX) {
        return false;
    }
    *out = (struct sockaddr_storage){0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *out_bytes = sizeof(*v4);
        return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    if (n < 2 || host[0] != '[' || host[n - 1] != ']') {
        return false;
    }
    host[n - 1] = '\0';
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    *out_bytes = sizeof(*v6);
    return inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1 &&
           IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static int listen_loopback(const char *text, char *out_name, size_t name_bytes)
{
    struct sockaddr_storage address;
    socklen_t n_bytes = 0;
    if (!loopback_parse(text, &address, &n_bytes)) {
        vgd_log(VGD_LOG_ERROR, "listen",
                "'%s': it is unix:PATH, 127.0.0.1:PORT or [::1]:PORT. The page needs no password, "
                "so it stays on this machine; a web server before it can ask for one",
                text);
        return -1;
    }
    VGD_AUTO_FD fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(fd, (const struct sockaddr *)&address, n_bytes) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &n_bytes) != 0) {
        vgd_log(VGD_LOG_ERROR, "listen", "%s: %s", text, strerror(errno));
        return -1;
    }
    uint16_t port = address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
                                                 : ((struct sockaddr_in6 *)&address)->sin6_port;
    (void)snprintf(out_name, name_bytes, "%.*s:%u", (int)(strrchr(text, ':') - text), text,
                   ntohs(port));
    return vgd_fd_take(&fd);
}

/* --- main --- */

static void no_log(void *user, const char *format, va_list args)
{
    (void)user;
    (void)format;
    (void)args; /* what a client gets wrong is nothing to fill a log with */
}

/* Takes *@fd. */
static int run(struct exporter *e, int *fd, const char *name)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL); /* for libmicrohttpd's thread, too */
    (void)signal(SIGPIPE, SIG_IGN);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG, 0, NULL, NULL, serve, e,
        MHD_OPTION_EXTERNAL_LOGGER, no_log, NULL, MHD_OPTION_LISTEN_SOCKET, *fd,
        MHD_OPTION_CONNECTION_LIMIT, CLIENTS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, CLIENT_IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CLIENT_BYTES_MAX, MHD_OPTION_END);
    if (daemon == NULL) {
        vgd_log(VGD_LOG_ERROR, "listen", "libmicrohttpd does not start: %s", strerror(errno));
        return EXIT_FAILURE;
    }
    (void)vgd_fd_take(fd); /* libmicrohttpd closes it */
    vgd_log(VGD_LOG_INFO, "listen", "metrics at %s, /metrics", name);
    int signal_number = 0;
    (void)sigwait(&signals, &signal_number);
    MHD_stop_daemon(daemon);
    vgd_log(VGD_LOG_INFO, "listen", "ended by signal %d", signal_number);
    return EXIT_SUCCESS;
}

static int listen_and_run(struct exporter *e, const char *where)
{
    static const char unix_word[] = "unix:";
    char name[TEXT_BYTES_MAX];
    VGD_AUTO_FD fd = -1;
    if (strncmp(where, unix_word, sizeof(unix_word) - 1) != 0) {
        fd = listen_loopback(where, name, sizeof(name));
        return fd >= 0 ? run(e, &fd, name) : EXIT_FAILURE;
    }
    struct vgd_control_place place;
    if (vgd_control_listen(where + sizeof(unix_word) - 1, "listen", BACKLOG, &place, &fd) !=
        VGD_OK) {
        return EXIT_FAILURE;
    }
    int rc = run(e, &fd, where);
    vgd_control_unlink(&place);
    return rc;
}

static int wrong(const char *what)
{
    vgd_log(VGD_LOG_ERROR, "options", "%s; see --help", what);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"listen", required_argument, NULL, 'l'},
        {"control", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    static const char *paths[EXPORTER_VMS_MAX];
    struct exporter e = {.targets.paths = paths};
    const char *where = NULL;
    vgd_log_setup("vgd-exporter", VGD_LOG_INFO);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int option;
    while ((option = getopt_long(argc, argv, "l:c:hV", longs, NULL)) != -1) {
        switch (option) {
        case 'l':
            where = optarg;
            break;
        case 'c':
            if (e.targets.n_paths == EXPORTER_VMS_MAX) {
                return wrong("--control stands too often");
            }
            paths[e.targets.n_paths++] = optarg;
            break;
        case 'h':
            (void)fputs(help, stdout);
            return EXIT_SUCCESS;
        case 'V':
            (void)puts("vgd-exporter " VGD_VERSION);
            return EXIT_SUCCESS;
        default:
            return EXIT_FAILURE; /* getopt has said why */
        }
    }
    if (optind != argc || where == NULL) {
        return wrong(where == NULL ? "where is it to listen? --listen" : "a word too many");
    }
    char dir[4096];
    if (e.targets.n_paths == 0 && vgd_control_dir(dir, sizeof(dir)) != VGD_OK) {
        return wrong("XDG_RUNTIME_DIR is not set; name the sockets with --control");
    }
    int rc = listen_and_run(&e, where);
    free(e.page);
    return rc;
}
