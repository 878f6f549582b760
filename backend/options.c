/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "log.h"

#define MIN_HOSTMEM_BYTES 4096ull /* a page */

static const char usage_text[] =
    "usage: vgd (--socket-path=PATH | --fd=FDNUM) [OPTION]...\n"
    "       vgd --probe [--json] [--venus] [--render-node=PATH] [--render-server=PATH]\n"
    "                   [--require-hardware]\n"
    "       vgd --print-capabilities\n"
    "\n"
    "A vhost-user-gpu backend: the process behind a QEMU guest's virtio-gpu device.\n"
    "\n"
    "  --socket-path=PATH    listen on PATH for the VMM's connection\n"
    "  --fd=FDNUM            use this connected socket\n"
    "  --virgl               give the guest OpenGL (virgl); without --virgl or --venus it is 2D\n"
    "  --venus               give the guest Vulkan (venus), and the memory window that it needs;\n"
    "                        the VMM's device has to pass both on: docs/guide-frontends.md\n"
    "  --hostmem=SIZE        size of that window: address space of the guest, not memory\n"
    "                        (default 8G; K, M, G or T; rounded up to a power of two)\n"
    "  --render-server=PATH  virgl_render_server, if it is not where distributions put it\n"
    "  --render-node=PATH    use this DRM render node and open no other\n"
    "  --require-hardware    software OpenGL or Vulkan is an error\n"
    "  --strict              refuse OpenGL commands of the guest that are newer than this program\n"
    "  --control-path=PATH   control socket for vgdctl (default: vgd/PID.sock in "
    "$XDG_RUNTIME_DIR)\n"
    "  --no-control          no control socket\n"
    "  --log-level=LEVEL     error, warning, info (default) or debug\n"
    "  --restart-window=SEC  a worker's death this long after it became ready does not count\n"
    "                        towards back-off (default 10)\n"
    "  --print-capabilities  print this program's capabilities for management software\n"
    "  --probe [--json]      print what this host can do, and which way vgd would go; exit status "
    "1\n"
    "                        if what was asked for (GPU, hardware, --venus) cannot be had\n"
    "  --version, --help\n";

/* libvirt asks for a node of the host's wherever "render-node" is printed, and does not start the
 * guest on a host that has none: so it is printed where there is one. */
static void print_capabilities(void)
{
    glob_t nodes;
    bool has_node = glob("/dev/dri/renderD*", 0, NULL, &nodes) == 0;
    (void)printf("{\n  \"type\": \"gpu\",\n  \"features\": [\n%s    \"virgl\"\n  ]\n}\n",
                 has_node ? "    \"render-node\",\n" : "");
    globfree(&nodes);
}

static bool parse_number(const char *text, long max, long *out)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 0 || value > max) {
        return false;
    }
    *out = value;
    return true;
}

/* A number of bytes, with K, M, G or T behind it, rounded up to a power of two: a PCI BAR has such
 * sizes only, and the VMM makes one of it. */
static bool parse_size(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || text[0] == '-' || text[0] == '+') {
        return false;
    }
    const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
    unsigned shift = unit != NULL ? 10u * (unsigned)(unit - units + 1) : 0;
    if ((*end != '\0' && (unit == NULL || end[1] != '\0')) ||
        value > VGD_HOSTMEM_MAX_BYTES >> shift || value << shift < MIN_HOSTMEM_BYTES) {
        return false;
    }
    uint64_t bytes = MIN_HOSTMEM_BYTES;
    while (bytes < value << shift) {
        bytes <<= 1;
    }
    *out = bytes;
    return true;
}

int vgd_options_parse(int argc, char **argv, struct vgd_options *o)
{
    enum {
        FD = 256,
        SOCKET,
        CAPABILITIES,
        NODE,
        VIRGL,
        VENUS,
        HOSTMEM,
        SERVER,
        HARDWARE,
        STRICT,
        PROBE,
        JSON,
        CONTROL,
        NO_CONTROL,
        LEVEL,
        WINDOW,
        VERSION,
        HELP
    };
    static const struct option longs[] = {
        {"fd", required_argument, NULL, FD},
        {"socket-path", required_argument, NULL, SOCKET},
        {"print-capabilities", no_argument, NULL, CAPABILITIES},
        {"render-node", required_argument, NULL, NODE},
        {"virgl", no_argument, NULL, VIRGL},
        {"venus", no_argument, NULL, VENUS},
        {"hostmem", required_argument, NULL, HOSTMEM},
        {"render-server", required_argument, NULL, SERVER},
        {"require-hardware", no_argument, NULL, HARDWARE},
        {"strict", no_argument, NULL, STRICT},
        {"probe", no_argument, NULL, PROBE},
        {"json", no_argument, NULL, JSON},
        {"control-path", required_argument, NULL, CONTROL},
        {"no-control", no_argument, NULL, NO_CONTROL},
        {"log-level", required_argument, NULL, LEVEL},
        {"restart-window", required_argument, NULL, WINDOW},
        {"version", no_argument, NULL, VERSION},
        {"help", no_argument, NULL, HELP},
        {0},
    };
    int c;
    long number;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case FD:
            if (!parse_number(optarg, 1 << 20, &number)) {
                vgd_log(VGD_LOG_ERROR, "vgd", "--fd=%s: give the number of an open descriptor",
                        optarg);
                return EXIT_FAILURE;
            }
            o->fd = (int)number;
            break;
        case SOCKET:
            o->socket_path = optarg;
            break;
        case CAPABILITIES:
            print_capabilities();
            return EXIT_SUCCESS;
        case NODE:
            if (strlen(optarg) >= VGD_PATH_BYTES) {
                vgd_log(VGD_LOG_ERROR, "vgd", "--render-node: longer than %u bytes",
                        VGD_PATH_BYTES - 1);
                return EXIT_FAILURE;
            }
            o->render_node = optarg;
            break;
        case VIRGL:
            o->virgl = true;
            break;
        case VENUS:
            o->venus = true;
            break;
        case HOSTMEM:
            if (!parse_size(optarg, &o->hostmem_bytes)) {
                vgd_log(VGD_LOG_ERROR, "vgd",
                        "--hostmem=%s: give a size from 4K to 1T, such as 512M or 8G", optarg);
                return EXIT_FAILURE;
            }
            break;
        case SERVER:
            if (optarg[0] == '\0') {
                vgd_log(VGD_LOG_ERROR, "vgd", "--render-server: give the path of the program");
                return EXIT_FAILURE;
            }
            o->render_server = optarg;
            break;
        case HARDWARE:
            o->require_hardware = true;
            break;
        case STRICT:
            o->strict = true;
            break;
        case PROBE:
            o->probe = true;
            break;
        case JSON:
            o->json = true;
            break;
        case CONTROL:
            o->control_path = optarg;
            break;
        case NO_CONTROL:
            o->no_control = true;
            break;
        case LEVEL:
            if (!vgd_log_level_parse(optarg, &o->log_level)) {
                vgd_log(VGD_LOG_ERROR, "vgd", "--log-level=%s: give error, warning, info or debug",
                        optarg);
                return EXIT_FAILURE;
            }
            break;
        case WINDOW:
            if (!parse_number(optarg, 3600, &number)) {
                vgd_log(VGD_LOG_ERROR, "vgd", "--restart-window=%s: give 0 to 3600 seconds",
                        optarg);
                return EXIT_FAILURE;
            }
            o->restart_window_ms = (uint32_t)number * 1000;
            break;
        case VERSION:
            (void)printf("vgd %s\n", VGD_VERSION);
            return EXIT_SUCCESS;
        case HELP:
            (void)fputs(usage_text, stdout);
            return EXIT_SUCCESS;
        default: /* getopt has said what is wrong */
            return EXIT_FAILURE;
        }
    }
    if (optind < argc) {
        vgd_log(VGD_LOG_ERROR, "vgd", "%s: not an option; see --help", argv[optind]);
        return EXIT_FAILURE;
    }
    if (!o->probe && (o->fd >= 0) == (o->socket_path != NULL)) {
        vgd_log(VGD_LOG_ERROR, "vgd", "give either --socket-path=PATH or --fd=FDNUM; see --help");
        return EXIT_FAILURE;
    }
    if (o->require_hardware && !o->virgl && !o->venus && !o->probe) {
        vgd_log(VGD_LOG_ERROR, "vgd",
                "--require-hardware is about 3D: give --virgl or --venus too");
        return EXIT_FAILURE;
    }
    if (!o->venus && !o->probe && (o->hostmem_bytes != 0 || o->render_server != NULL)) {
        vgd_log(VGD_LOG_ERROR, "vgd",
                "--hostmem and --render-server are about Vulkan: give "
                "--venus too");
        return EXIT_FAILURE;
    }
    if (o->hostmem_bytes == 0) {
        o->hostmem_bytes = VGD_HOSTMEM_DEFAULT_BYTES;
    }
    return -1;
}
