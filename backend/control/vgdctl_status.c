/* SPDX-License-Identifier: MIT */
/* vgdctl status, and what else is asked for and printed as it comes. */
#include "vgdctl.h"

#include "fd.h"

/* NOLINTNEXTLINE(misc-no-recursion): json-c parses no more than 32 levels */
void vgdctl_print(const char *name, struct json_object *value, int depth)
{
    (void)printf("%*s", depth * 2, "");
    vgdctl_put_clean(stdout, name);
    (void)putchar(':');
    if (json_object_is_type(value, json_type_object)) {
        (void)putchar('\n');
        json_object_object_foreach(value, key, member)
        {
            vgdctl_print(key, member, depth + 1);
        }
    } else if (json_object_is_type(value, json_type_array)) {
        (void)puts(json_object_array_length(value) == 0 ? " none" : "");
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            char number[24];
            (void)snprintf(number, sizeof(number), "%zu", i);
            vgdctl_print(number, json_object_array_get_idx(value, i), depth + 1);
        }
    } else {
        (void)putchar(' ');
        vgdctl_put_clean(stdout, value != NULL ? json_object_get_string(value) : "none");
        (void)putchar('\n');
    }
}

bool vgdctl_show(const struct vgdctl_args *args, const char *request, const char *key)
{
    VGD_AUTO_FD fd = vgdctl_connect(args);
    if (fd < 0) {
        return false;
    }
    struct json_object *whole = NULL;
    struct json_object *value = vgdctl_ask(fd, request, -1, key, NULL, &whole);
    bool ok = value != NULL;
    if (ok && args->json) {
        (void)puts(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
    } else if (ok && json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, name, member)
        {
            vgdctl_print(name, member, 0);
        }
    } else if (ok) {
        vgdctl_print(key, value, 0);
    }
    (void)json_object_put(whole);
    return ok && vgdctl_flush();
}

bool vgdctl_status(const struct vgdctl_args *args)
{
    return vgdctl_show(args, "{\"v\":1,\"cmd\":\"status\"}\n", "status");
}
