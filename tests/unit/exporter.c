/* SPDX-License-Identifier: MIT */
/* vgd-exporter as Prometheus and its enemies meet it: the program (VGD_EXPORTER names it) before
 * control sockets of ours, which answer, stall, lie or are not there. */
#include "display_fixture.h"

#include <arpa/inet.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"
#include "prometheus.h"

#define VMS_MAX 4u
#define TEXT_BYTES (1u << 20)
#define START_MS 5000u
#define PAGE_MS 120u /* a page is kept for 100 ms */

static const char good[] =
    "{\"v\":1,\"counters\":{\"uptime_ns\":1500000000,\"commands\":{\"SUBMIT_3D\":7,\"a\\\"b\":1},"
    "\"responses\":{\"OK_NODATA\":8},\"bytes\":{\"to_host\":18446744073709551615},"
    "\"flushes\":\"many\",\"worker\":{\"starts\":2,\"deaths\":1,\"pid\":77},"
    "\"submit_time\":{\"le_ns\":[1024,2048],\"counts\":[1,2,3],\"sum_ns\":5000000001},"
    "\"fence_latency\":{\"le_ns\":[1024],\"counts\":[1]}}}\n";

struct rig {
    char dir[32], where[64], name[VMS_MAX][64];
    pid_t vms[VMS_MAX]; /* a process for each control socket */
    size_t n_vms;
    pid_t exporter;
    char *text;
};

static void serve(int fd, const char *reply) __attribute__((noreturn));

static void serve(int fd, const char *reply)
{
    for (;;) {
        int client = accept(fd, NULL, NULL);
        char request[256];
        if (reply != NULL && recv(client, request, sizeof(request), 0) > 0) {
            (void)send(client, reply, strlen(reply), MSG_NOSIGNAL);
            (void)close(client);
        } /* else it stays open */
    }
}

/* A control socket at PATH/@name.sock that answers each request with @reply; NULL: never. */
static void vm_add(struct rig *rig, const char *name, const char *reply)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)snprintf(at.sun_path, sizeof(rig->name[0]), "%s/%s.sock", rig->dir, name);
    (void)strcpy(rig->name[rig->n_vms], at.sun_path);
    VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    cr_assert_eq(listen(fd, 64), 0);
    pid_t pid = fork();
    if (pid == 0) {
        serve(fd, reply);
    }
    rig->vms[rig->n_vms++] = pid;
}

static struct rig *rig_begin(void)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    (void)strcpy(rig->dir, "/tmp/vgd-exporter-XXXXXX");
    cr_assert_not_null(mkdtemp(rig->dir));
    (void)snprintf(rig->where, sizeof(rig->where), "%s/page", rig->dir);
    rig->text = malloc(TEXT_BYTES);
    return rig;
}

static void start(struct rig *rig, const char *listen_at)
{
    const char *program = getenv("VGD_EXPORTER");
    cr_assert_not_null(program, "VGD_EXPORTER has to name the program");
    const char *args[4 + 2 * VMS_MAX] = {program, "--listen", listen_at};
    for (size_t i = 0; i < rig->n_vms; i++) {
        args[3 + 2 * i] = "--control";
        args[4 + 2 * i] = rig->name[i];
    }
    rig->exporter = fork();
    if (rig->exporter == 0) {
        (void)execv(program, (char *const *)(uintptr_t)args);
        _exit(127);
    }
}

static void start_unix(struct rig *rig)
{
    char where[80];
    (void)snprintf(where, sizeof(where), "unix:%s", rig->where);
    start(rig, where);
}

static void rig_end(struct rig *rig)
{
    int status = -1;
    if (rig->exporter > 0) {
        (void)kill(rig->exporter, SIGTERM);
        (void)waitpid(rig->exporter, &status, 0);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
    }
    for (size_t i = 0; i < rig->n_vms; i++) {
        (void)kill(rig->vms[i], SIGKILL);
        (void)waitpid(rig->vms[i], NULL, 0);
        cr_assert_eq(unlink(rig->name[i]), 0);
    }
    cr_assert_eq(rmdir(rig->dir), 0, "its socket is removed");
    free(rig->text);
    free(rig);
}

static int reach(const struct rig *rig)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)strcpy(to.sun_path, rig->where);
    for (uint32_t ms = 0; ms < START_MS; ms += 10) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0) {
            return fd;
        }
        (void)close(fd);
        (void)usleep(10000);
    }
    cr_assert_fail("the exporter is not there");
    return -1;
}

/* All that comes after @request, in rig->text; how many bytes. */
static size_t exchange(struct rig *rig, int fd, const char *request)
{
    size_t n = 0;
    ssize_t got = send(fd, request, strlen(request), MSG_NOSIGNAL);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    while (got > 0 && n < TEXT_BYTES - 1 && poll(&wait, 1, 20000) == 1 &&
           (got = recv(fd, rig->text + n, TEXT_BYTES - 1 - n, 0)) > 0) {
        n += (size_t)got;
    }
    rig->text[n] = '\0';
    return n;
}

static unsigned status_of(const struct rig *rig)
{
    unsigned status = 0;
    (void)sscanf(rig->text, "HTTP/1.%*u %u ", &status);
    return status;
}

static unsigned ask(struct rig *rig, const char *request)
{
    VGD_AUTO_FD fd = reach(rig);
    (void)exchange(rig, fd, request);
    return status_of(rig);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void read_page(struct rig *rig, struct prom_page *page)
{
    const char *why = NULL;
    (void)usleep(PAGE_MS * 1000);
    cr_assert_eq(ask(rig, GET("/metrics")), 200, "%s", rig->text);
    cr_assert_not_null(strstr(rig->text, "Content-Type: text/plain; version=0.0.4"));
    const char *body = strstr(rig->text, "\r\n\r\n");
    cr_assert_not_null(body);
    cr_assert(prom_read(body + 4, page, &why), "%s", why);
}

#define assert_value(page, series, expect)                                                         \
    do {                                                                                           \
        const char *value_ = prom_value(page, series);                                             \
        cr_assert(value_ != NULL && strcmp(value_, expect) == 0, "%s is %s", series,               \
                  value_ != NULL ? value_ : "not there");                                          \
    } while (0)

TIDY_TEST(exporter, a_page_of_several)
{
    static struct prom_page page;
    struct rig *rig = rig_begin();
    vm_add(rig, "one", good);
    vm_add(rig, "two", good);
    start_unix(rig);
    read_page(rig, &page);
    assert_value(&page, "vgd_up{vm=\"one\"}", "1");
    assert_value(&page, "vgd_up{vm=\"two\"}", "1");
    assert_value(&page, "vgd_uptime_seconds{vm=\"one\"}", "1.500000000");
    assert_value(&page, "vgd_commands_total{vm=\"two\",command=\"SUBMIT_3D\"}", "7");
    assert_value(&page, "vgd_commands_total{vm=\"two\",command=\"a\\\"b\"}", "1");
    assert_value(&page, "vgd_bytes_total{vm=\"one\",direction=\"to_host\"}",
                 "18446744073709551615");
    assert_value(&page, "vgd_worker_running{vm=\"one\"}", "1");
    assert_value(&page, "vgd_submit_time_seconds_bucket{vm=\"one\",le=\"0.000001024\"}", "1");
    assert_value(&page, "vgd_submit_time_seconds_bucket{vm=\"one\",le=\"0.000002048\"}", "3");
    assert_value(&page, "vgd_submit_time_seconds_bucket{vm=\"one\",le=\"+Inf\"}", "6");
    assert_value(&page, "vgd_submit_time_seconds_count{vm=\"one\"}", "6");
    assert_value(&page, "vgd_submit_time_seconds_sum{vm=\"one\"}", "5.000000001");
    cr_assert_null(prom_value(&page, "vgd_flushes_total{vm=\"one\"}"), "that is no number");
    cr_assert_null(prom_value(&page, "vgd_fence_latency_seconds_count{vm=\"one\"}"));
    prom_finish(&page);
    struct stat info;
    cr_assert(stat(rig->where, &info) == 0 && (info.st_mode & 0777) == 0600);
    rig_end(rig);
}

TIDY_TEST(exporter, who_does_not_answer_is_down)
{
    static struct prom_page page;
    struct rig *rig = rig_begin();
    char *endless = malloc(200001);
    memset(endless, 'x', 200000);
    endless[200000] = '\0';
    vm_add(rig, "good", good);
    vm_add(rig, "silent", NULL);
    vm_add(rig, "endless", endless);
    vm_add(rig, "liar", "{\"v\":1,\"counters\":[]}\n");
    start_unix(rig);
    uint64_t begin_ns = vgd_now_ns();
    read_page(rig, &page);
    uint64_t took_ms = (vgd_now_ns() - begin_ns) / 1000000;
    cr_assert(took_ms >= 1000 && took_ms < 5000, "%u ms", (unsigned)took_ms);
    assert_value(&page, "vgd_up{vm=\"good\"}", "1");
    assert_value(&page, "vgd_up{vm=\"silent\"}", "0");
    assert_value(&page, "vgd_up{vm=\"endless\"}", "0");
    assert_value(&page, "vgd_up{vm=\"liar\"}", "0");
    cr_assert_null(prom_value(&page, "vgd_uptime_seconds{vm=\"silent\"}"));
    prom_finish(&page);
    free(endless);
    rig_end(rig);
}

TIDY_TEST(exporter, http_that_is_wrong_and_clients_that_stall)
{
    static struct prom_page page;
    struct rig *rig = rig_begin();
    vm_add(rig, "one", good);
    start_unix(rig);
    cr_assert_eq(ask(rig, GET("/")), 404);
    cr_assert_eq(ask(rig, GET("/metrics/../etc/passwd")), 404);
    cr_assert_eq(ask(rig, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                          "Content-Length: 3\r\n\r\nabc"),
                 405);
    cr_assert_eq(ask(rig, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 200);
    cr_assert_eq(strstr(rig->text, "\r\n\r\n")[4], '\0');
    char *head = malloc(100001);
    memset(head, 'a', 100000);
    head[100000] = '\0';
    memcpy(head, "GET /metrics HTTP/1.1\r\nX: ", 26);
    unsigned status = ask(rig, head);
    cr_assert(status == 0 || status >= 400, "%u", status);
    free(head);
    (void)ask(rig, "\x16\x03\x01\x02 no HTTP at all\r\n\r\n");

    /* More than it takes, which say nothing: they are dropped, and the page is there again. */
    int stalled[40];
    for (unsigned i = 0; i < 40; i++) {
        stalled[i] = reach(rig);
        (void)!send(stalled[i], "GET /metr", 9, MSG_NOSIGNAL);
    }
    uint64_t begin_ns = vgd_now_ns();
    read_page(rig, &page);
    cr_assert_lt((vgd_now_ns() - begin_ns) / 1000000000, 15);
    assert_value(&page, "vgd_up{vm=\"one\"}", "1");
    prom_finish(&page);
    for (unsigned i = 0; i < 40; i++) {
        (void)close(stalled[i]);
    }
    rig_end(rig);
}

/* "--listen @address" ends with 1; NULL: without --listen. */
static void assert_refused(const char *address)
{
    const char *program = getenv("VGD_EXPORTER");
    pid_t pid = fork();
    if (pid == 0) {
        (void)execl(program, program, "--control", "/nowhere", address != NULL ? "--listen" : NULL,
                    address, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    for (uint32_t ms = 0; ms < START_MS && waitpid(pid, &status, WNOHANG) == 0; ms += 10) {
        (void)usleep(10000);
    }
    if (status == -1) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        cr_assert_fail("it listens on %s", address);
    }
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "%s: %x", address, (unsigned)status);
}

TIDY_TEST(exporter, only_this_machine_may_ask)
{
    static const char *const addresses[] = {
        NULL,
        "",
        "0.0.0.0:9400",
        "[::]:9400",
        "192.0.2.1:9400",
        "10.0.0.1:80",
        ":9400",
        "9400",
        "localhost:80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "[::1]",
        "::1:80",
        "[::ffff:0.0.0.0]:80",
        "unix:",
        "unix:/nowhere/at/all",
        "127.0.0.1:-1",
        "128.0.0.1:0",
    };
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        assert_refused(addresses[i]);
    }
    /* Something else at the path of its socket is left alone. */
    assert_refused("unix:/dev/null");
}

TIDY_TEST(exporter, loopback)
{
    struct rig *rig = rig_begin();
    vm_add(rig, "one", good);
    /* A port that is free: the kernel's choice for a socket of ours, which goes. */
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t at_bytes = sizeof(at);
    int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(probe, (const struct sockaddr *)&at, sizeof(at)), 0);
    cr_assert_eq(getsockname(probe, (struct sockaddr *)&at, &at_bytes), 0);
    (void)close(probe);
    char where[64];
    (void)snprintf(where, sizeof(where), "127.0.0.1:%u", ntohs(at.sin_port));
    start(rig, where);
    VGD_AUTO_FD fd = -1;
    for (uint32_t ms = 0; ms < START_MS; ms += 10) {
        vgd_fd_closep(&fd);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0) {
            break;
        }
        (void)usleep(10000);
    }
    (void)exchange(rig, fd, GET("/metrics"));
    cr_assert_eq(status_of(rig), 200);
    cr_assert_not_null(strstr(rig->text, "vgd_up{vm=\"one\"} 1\n"));
    rig_end(rig);
}

/* The strict reader of the tests is strict. */
TIDY_TEST(exporter, the_reader_of_pages_refuses)
{
#define HEAD(name, type) "# HELP " name " Text.\n# TYPE " name " " type "\n"
    static const char *const wrong[] = {
        "",
        "a 1\n",
        HEAD("a", "gauge") "a 1",
        HEAD("a", "gauge") "b 1\n",
        HEAD("a", "gauge") "a x\n",
        HEAD("a", "gauge") "a\n",
        HEAD("a", "gauge") "a{} 1\n",
        HEAD("a", "gauge") "a{b=\"c} 1\n",
        HEAD("a", "gauge") "a{b=\"\\c\"} 1\n",
        HEAD("a", "gauge") "a{1b=\"c\"} 1\n",
        HEAD("a", "gauge") "a 1\na 2\n",
        HEAD("a", "counter") "a 1\n",
        HEAD("a_total", "counter") "a_total -1\n",
        HEAD("a_total", "gauge") "a_total 1\n",
        HEAD("a", "summary") "a 1\n",
        "# HELP a Text.\na 1\n",
        "# TYPE a gauge\na 1\n",
        HEAD("a", "gauge") "a 1\n" HEAD("b", "gauge") HEAD("a", "gauge"),
        HEAD("h", "histogram") "h_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n",
        HEAD("h",
             "histogram") "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
        HEAD("h", "histogram") "h_bucket{le=\"2\"} 1\nh_bucket{le=\"1\"} 1\n",
        HEAD("h", "histogram") "h_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n",
        HEAD("h", "histogram") "h_bucket{le=\"+Inf\"} 1\nh_sum 1\n",
    };
    static struct prom_page page;
    const char *why;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        cr_assert(!prom_read(wrong[i], &page, &why), "%s", wrong[i]);
        cr_assert_not_null(why);
    }
    static const char right[] =
        HEAD("a_total", "counter") "a_total{b=\"c\\\"\\\\\",d=\"\"} 1\na_total 2e3\n" HEAD(
            "h", "histogram") "h_bucket{x=\"1\",le=\"0.5\"} 1\nh_bucket{x=\"1\",le=\"+Inf\"} 2\n"
                              "h_sum{x=\"1\"} 7\nh_count{x=\"1\"} 2\n";
    cr_assert(prom_read(right, &page, &why), "%s", why);
    assert_value(&page, "a_total", "2e3");
    prom_finish(&page);
}
