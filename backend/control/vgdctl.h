/* SPDX-License-Identifier: MIT */
/*
 * vgdctl: what its commands share. A command checks its words, connects, asks, and prints. What vgd
 * sends is checked like any input: it may have been taken over by its guest.
 * Thread: there is one.
 */
#ifndef VGDCTL_H
#define VGDCTL_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The command line: words, and the options that stood somewhere between them. */
struct vgdctl_args {
    const char *control_path; /* NULL: the only live socket; strings are argv's */
    bool json;
    const char *pictures, *interval; /* NULL: not said */
    bool once;
    const char *const *words; /* behind the command's own name */
    int n_words;
};

/** A line on standard error, with our name before it. */
void vgdctl_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Called before a complaint is printed: who has the terminal to himself gives it back. NULL: nobody
 * has. */
extern void (*vgdctl_before_complaint)(void);
/** @text without what a terminal would act on. */
void vgdctl_put_clean(FILE *to, const char *text);

/** Connected to the vgd that @args names, or -1 and a complaint. The caller closes it. */
int vgdctl_connect(const struct vgdctl_args *args);
/**
 * The value under @key of the reply to @request (a line), or NULL and a complaint.
 *
 * @send_fd  goes with the request's first byte; -1: none. The caller keeps it
 * @passed   a descriptor that came along replaces *@passed; NULL: none is wanted
 * @whole    the caller puts *@whole, which holds the value, in each case
 */
struct json_object *vgdctl_ask(int fd, const char *request, int send_fd, const char *key,
                               int *passed, struct json_object **whole);
/** The whole number under @key, or -1. */
int64_t vgdctl_number(struct json_object *object, const char *key);
/** False and a complaint: what was printed did not arrive. */
bool vgdctl_flush(void);
/** Print a member of a reply as lines, indented. */
void vgdctl_print(const char *name, struct json_object *value, int depth);
/** What "status" and its like are: ask for @request, print what is under @key. */
bool vgdctl_show(const struct vgdctl_args *args, const char *request, const char *key);

/* The commands. False: it failed, and all is said. */
bool vgdctl_status(const struct vgdctl_args *args);
bool vgdctl_counters(const struct vgdctl_args *args);
bool vgdctl_contexts(const struct vgdctl_args *args);
bool vgdctl_errors(const struct vgdctl_args *args);
bool vgdctl_screenshot(const struct vgdctl_args *args);
bool vgdctl_trace(const struct vgdctl_args *args);
bool vgdctl_log_level(const struct vgdctl_args *args);
bool vgdctl_top(const struct vgdctl_args *args);

/** What a context is for, by the id of its capset: a name, or "capset N" of at most @out_bytes in
 * @out. One without an id is OpenGL's, as before there were ids. */
const char *vgdctl_kind(uint64_t capset_id, char *out, size_t out_bytes);

#endif
