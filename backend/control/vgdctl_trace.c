/* SPDX-License-Identifier: MIT */
/*
 * vgdctl trace and log-level. The file of a recording is opened here, by the user who may write it:
 * vgd gets a descriptor and no name.
 */
#include "vgdctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "fd.h"
#include "record_file.h"

static void print_trace(struct json_object *trace)
{
    json_object_object_foreach(trace, name, member)
    {
        bool is_empty = json_object_is_type(member, json_type_string) &&
                        json_object_get_string_len(member) == 0;
        if (!is_empty) {
            vgdctl_print(name, member, 0);
        }
    }
}

static bool is_state(struct json_object *trace, const char *state)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(trace, "state", &value) &&
           json_object_is_type(value, json_type_string) &&
           strcmp(json_object_get_string(value), state) == 0;
}

/* Send @request, print what the recording is like, in a word if it has just begun. *@failed: it is
 * over, and not well. */
static bool ask_trace(int fd, const char *request, int file, bool as_json, bool *failed)
{
    struct json_object *whole = NULL;
    struct json_object *trace = vgdctl_ask(fd, request, file, "trace", NULL, &whole);
    bool ok = trace != NULL;
    if (ok && !json_object_is_type(trace, json_type_object)) {
        vgdctl_complain("the reply tells nothing of a recording");
        ok = false;
    } else if (ok && as_json) {
        (void)puts(json_object_to_json_string_ext(trace, JSON_C_TO_STRING_PLAIN));
    } else if (ok && file >= 0) {
        bool waits = is_state(trace, "waiting");
        (void)puts(waits ? "recording begins with the next worker" : "recording");
    } else if (ok) {
        print_trace(trace);
    }
    *failed = ok && is_state(trace, "failed");
    (void)json_object_put(whole);
    return ok && vgdctl_flush();
}

/* "picture_ms" and its value, or nothing; false and a complaint. */
static bool picture_member(const struct vgdctl_args *args, char *out, size_t out_bytes)
{
    out[0] = '\0';
    if (args->pictures == NULL) {
        return true;
    }
    if (strcmp(args->pictures, "none") == 0) {
        (void)snprintf(out, out_bytes, ",\"picture_ms\":\"none\"");
        return true;
    }
    char *end;
    errno = 0;
    unsigned long ms = strtoul(args->pictures, &end, 10);
    if (args->pictures[0] < '0' || args->pictures[0] > '9' || *end != '\0' || errno != 0 ||
        ms > VGD_CONTROL_PICTURE_MS_MAX) {
        vgdctl_complain("--pictures is a number of milliseconds from 0 to %u, or none, not '%s'",
                        VGD_CONTROL_PICTURE_MS_MAX, args->pictures);
        return false;
    }
    (void)snprintf(out, out_bytes, ",\"picture_ms\":%lu", ms);
    return true;
}

static bool trace_start(const struct vgdctl_args *args)
{
    const char *path = args->words[1];
    char member[32], request[96];
    const char *why = NULL;
    bool created = false, failed;
    if (!picture_member(args, member, sizeof(member))) {
        return false;
    }
    VGD_AUTO_FD fd = vgdctl_connect(args);
    if (fd < 0) {
        return false;
    }
    VGD_AUTO_FD file = vgd_record_file_open(path, &created, &why);
    if (file < 0) {
        vgdctl_complain("%s: %s", path, why);
        return false;
    }
    (void)snprintf(request, sizeof(request), "{\"v\":1,\"cmd\":\"trace-start\"%s}\n", member);
    bool ok = ask_trace(fd, request, file, args->json, &failed) && !failed;
    struct stat info;
    if (!ok && created && fstat(file, &info) == 0 && info.st_size == 0) {
        (void)unlink(path); /* nothing will come into it */
    }
    return ok;
}

static bool trace_stop(const struct vgdctl_args *args)
{
    VGD_AUTO_FD fd = vgdctl_connect(args);
    bool failed;
    if (fd < 0 || !ask_trace(fd, "{\"v\":1,\"cmd\":\"trace-stop\"}\n", -1, args->json, &failed)) {
        return false;
    }
    if (failed) {
        vgdctl_complain("the recording failed; what was written before can be read");
    }
    return !failed;
}

static bool trace_status(const struct vgdctl_args *args)
{
    VGD_AUTO_FD fd = vgdctl_connect(args);
    if (fd < 0) {
        return false;
    }
    struct json_object *whole = NULL, *trace = NULL;
    struct json_object *status =
        vgdctl_ask(fd, "{\"v\":1,\"cmd\":\"status\"}\n", -1, "status", NULL, &whole);
    bool ok = status != NULL;
    (void)(ok && json_object_object_get_ex(status, "trace", &trace));
    if (ok && args->json) {
        (void)puts(json_object_to_json_string_ext(trace, JSON_C_TO_STRING_PLAIN));
    } else if (ok && json_object_is_type(trace, json_type_object)) {
        print_trace(trace);
    } else if (ok) {
        (void)puts("state: none");
    }
    (void)json_object_put(whole);
    return ok && vgdctl_flush();
}

bool vgdctl_trace(const struct vgdctl_args *args)
{
    if (args->n_words == 2 && strcmp(args->words[0], "start") == 0) {
        return trace_start(args);
    }
    if (args->n_words == 1 && args->pictures == NULL) {
        if (strcmp(args->words[0], "stop") == 0) {
            return trace_stop(args);
        }
        if (strcmp(args->words[0], "status") == 0) {
            return trace_status(args);
        }
    }
    vgdctl_complain("it is: trace start FILE [--pictures MS|none], trace stop, or trace status");
    return false;
}

bool vgdctl_log_level(const struct vgdctl_args *args)
{
    char request[96];
    enum vgd_log_level level;
    if (!vgd_log_level_parse(args->words[0], &level)) {
        vgdctl_complain("LEVEL is error, warning, info or debug, not '%s'", args->words[0]);
        return false;
    }
    (void)snprintf(request, sizeof(request), "{\"v\":1,\"cmd\":\"log-level\",\"level\":\"%s\"}\n",
                   vgd_log_level_name(level));
    return vgdctl_show(args, request, "log_level");
}
